"""A suite on disk: `suite.yaml` and JSON lines become cases. Errors name file, line and field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guardproxy.errors import SuiteError
from guardproxy.evals.case import Case, Drawing, Expectation, Picture, Suite, Turn
from guardproxy.evals.drawings import options_of
from guardproxy.evals.version import version_of
from guardproxy.yamldoc import Document, spell, told

HEAD = "suite.yaml"
MAX_CASES = 200_000
MAX_LINE = 2_000_000

Short = Annotated[str, Field(min_length=1, max_length=200)]
PictureFile = str | dict[str, Any]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class HeadFile(_Model):
    """What `suite.yaml` says.

    Attributes:
        files: Of the cases, JSON lines, relative to it.
    """

    schema_: Annotated[Literal[1], Field(alias="schema")]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    description: str = ""
    licence: str = ""
    files: Annotated[list[Short], Field(min_length=1)]


class TurnFile(_Model):
    """A message before the last one."""

    role: Literal["system", "user", "assistant"]
    text: str = ""
    pictures: list[PictureFile] = []


class CaseFile(_Model):
    """A line of a suite. A picture is a path, or a drawing: `{"draw": KIND, …options}`."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,119}$")]
    prompt: str = ""
    expect: Literal["comply", "refuse_or_block", "either"]
    category: Short
    language: Annotated[str, Field(pattern=r"^[a-zA-Z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
    group: Short | None = None
    twin: Short | None = None
    pictures: Annotated[list[PictureFile], Field(max_length=16)] = []
    turns: Annotated[list[TurnFile], Field(max_length=64)] = []


@dataclass(frozen=True, slots=True)
class _Line:
    """Where a case stands."""

    path: Path
    number: int

    def error(self, message: str) -> SuiteError:
        return SuiteError(f"{self.path}:{self.number}: {message}")


def read(directory: Path) -> Suite:
    """The suite in a directory, or of a `suite.yaml` given itself.

    Raises:
        SuiteError: `file:line: field: what was expected and what came`.
    """
    head_path = directory if directory.is_file() else directory / HEAD
    try:
        text = head_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{head_path}: not a suite that can be read: {error}") from None
    document = Document(text, head_path, SuiteError)
    head = document.validate(HeadFile)
    root = head_path.parent
    cases: list[Case] = []
    for index, name in enumerate(head.files):
        path = root / name
        if not _inside(root, path) or not path.is_file():
            raise document.error(("files", index), f"expected a file in {root}, got {name!r}")
        cases.extend(read_cases(path, root))
    _refuse_twice(cases, head_path)
    return Suite(head.name, version_of(cases), tuple(cases), head.description, head.licence)


def read_cases(path: Path, root: Path) -> Iterator[Case]:
    """The cases of a file of JSON lines; empty lines are passed over.

    Args:
        path: The file.
        root: Pictures are relative to it and never outside.

    Raises:
        SuiteError: As `read`.
    """
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if number > MAX_CASES or len(raw) > MAX_LINE:
                raise SuiteError(f"{path}:{number}: at most {MAX_CASES} lines of {MAX_LINE} bytes")
            if raw.strip():
                yield _case(raw, root, _Line(path, number))


def _case(raw: bytes, root: Path, line: _Line) -> Case:
    try:
        read = CaseFile.model_validate(msgspec.json.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise line.error(f"not valid JSON: {error}") from None
    except ValidationError as error:
        details = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
        place = [step for step in details["loc"] if step not in ("str", "dict[str,any]")]
        raise line.error(f"{spell(tuple(place)) or 'case'}: {told(details, CaseFile)}") from None
    try:
        turns = tuple(
            Turn(t.role, t.text, _pictures(t.pictures, root, f"turns[{i}]."))
            for i, t in enumerate(read.turns)
        )
        return Case(
            read.id,
            read.prompt,
            Expectation(read.expect),
            read.category,
            read.language,
            read.group or read.id,
            _pictures(read.pictures, root),
            turns,
            read.twin,
        )
    except ValueError as error:
        raise line.error(str(error)) from None


def _pictures(listed: list[PictureFile], root: Path, where: str = "") -> tuple[Picture, ...]:
    found = []
    for index, one in enumerate(listed):
        try:
            found.append(_file(one, root) if isinstance(one, str) else _drawing(one))
        except ValueError as error:
            raise ValueError(f"{where}pictures[{index}].{error}") from None
    return tuple(found)


def _file(name: str, root: Path) -> Path:
    path = root / name
    if not _inside(root, path):
        raise ValueError(f"path: expected a picture inside {root}, got {name!r}")
    if not path.is_file():
        raise ValueError(f"path: no such file: {name!r}")
    return path


def _drawing(one: Mapping[str, object]) -> Drawing:
    kind = one.get("draw")
    if not isinstance(kind, str):
        raise ValueError("draw: required: the kind of drawing")
    drawing = Drawing(kind, {key: value for key, value in one.items() if key != "draw"})
    options_of(drawing)
    return drawing


def _inside(root: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _refuse_twice(cases: list[Case], path: Path) -> None:
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise SuiteError(f"{path}: case ids must be unique, got twice: {case.id}")
        seen.add(case.id)
