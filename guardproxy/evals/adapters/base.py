"""What adapters share: rows of a table that know their line, pictures beside it, cases out of both."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from guardproxy.errors import SuiteError
from guardproxy.evals.case import Case, Expectation, Picture, Turn

COMPLY = Expectation.COMPLY
DECLINE = Expectation.REFUSE_OR_BLOCK
EITHER = Expectation.EITHER

csv.field_size_limit(10_000_000)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a published table.

    Attributes:
        place: `file:line`, or the data set and row, for errors.
    """

    fields: Mapping[str, Any]
    place: str

    def text(self, column: str) -> str:
        """A field as text, stripped; empty where there is none."""
        value = self.fields.get(column)
        return "" if value is None else str(value).strip()

    def needed(self, column: str) -> str:
        """A field that must not be empty.

        Raises:
            SuiteError: It is.
        """
        value = self.text(column)
        if not value:
            raise self.error(f"{column}: expected a text, got nothing")
        return value

    def error(self, message: str) -> SuiteError:
        """An error that says where."""
        return SuiteError(f"{self.place}: {message}")


@dataclass(frozen=True, slots=True)
class Told:
    """What an adapter says of a row, beside its prompt and expectation."""

    category: str
    group: str | None = None
    pictures: tuple[Picture, ...] = ()
    language: str = "en"
    twin: str | None = None
    turns: tuple[Turn, ...] = ()


Hub = Callable[[str, str | None, str], Iterable[Row]]
"""Data set, configuration and split on a hub → its rows."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One public set.

    Attributes:
        read: From where its authors' tree was copied to.
        read_hub: Through the `datasets` library, where it is published as a table.
    """

    name: str
    licence: str
    description: str
    read: Callable[[Path], Iterable[Case]]
    read_hub: Callable[[Hub], Iterable[Case]] | None = None


def case(row: Row, name: str, prompt: str, expect: Expectation, told: Told) -> Case:
    """A case, or an error that says which row cannot be one.

    Raises:
        SuiteError: Neither text nor picture.
    """
    try:
        return Case(
            name,
            prompt,
            expect,
            told.category,
            told.language,
            told.group or name,
            told.pictures,
            told.turns,
            told.twin,
        )
    except ValueError as error:
        raise row.error(str(error)) from None


def find(root: Path, *places: str) -> Path:
    """The first of these files or folders that is there; the root itself where it is a file.

    Raises:
        SuiteError: None is; says which were looked for.
    """
    found = find_all(root, *places)
    if not found:
        raise SuiteError(f"{root}: not the published layout: expected {' or '.join(places)}")
    return found[0]


def find_all(root: Path, *places: str) -> list[Path]:
    """Those of these files or folders that are there; the root itself where it is a file."""
    if root.is_file():
        return [root]
    return [root / place for place in places if (root / place).exists()]


def table(path: Path, *columns: str) -> Iterator[Row]:
    """The rows of a CSV file.

    Args:
        path: The file.
        columns: That it must have.

    Raises:
        SuiteError: It is not a table with these columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            missing = [c for c in columns if c not in (reader.fieldnames or ())]
            if missing:
                there = ", ".join(reader.fieldnames or ()) or "no header"
                raise SuiteError(f"{path}:1: expected the column {', '.join(missing)}; there is {there}")
            for fields in reader:
                yield Row(fields, f"{path}:{reader.line_num}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise SuiteError(f"{path}: not a CSV file in UTF-8: {error}") from None


def decoded(path: Path) -> Any:
    """A JSON file's content.

    Raises:
        SuiteError: It is no JSON.
    """
    try:
        return msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: not valid JSON: {error}") from None


def entries(path: Path) -> Iterator[tuple[str, Row]]:
    """The entries of a JSON object of objects (or of a list), each with its key (or number).

    Raises:
        SuiteError: The file holds something else.
    """
    content = decoded(path)
    items = list(enumerate(content)) if isinstance(content, list) else None
    if isinstance(content, dict):
        items = list(content.items())
    if not items:
        raise SuiteError(f"{path}: expected an object or a list of objects, got nothing of the kind")
    for key, fields in items:
        if not isinstance(fields, dict):
            raise SuiteError(f"{path}: {key}: expected an object, got {type(fields).__name__}")
        yield str(key), Row(fields, f"{path}: {key}")


def picture(row: Row, root: Path, *names: str) -> Path:
    """The first of these pictures that is there.

    Raises:
        SuiteError: None is, or it lies outside the set.
    """
    for name in names:
        path = root / name
        if not path.resolve().is_relative_to(root.resolve()):
            raise row.error(f"expected a picture inside {root}, got {name!r}")
        if path.is_file():
            return path
    raise row.error(f"no such picture: {root / names[0]}")
