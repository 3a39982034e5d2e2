"""The directory of a run: what was asked, every answer as it came, labels, and nothing twice.

run.json        what is asked: suite, target, arms; a run is resumed only with the same
cases.jsonl     the suite's cases, without pictures: scoring needs no suite
answers.jsonl   append-only; an answer is on the disk before it counts
labels.jsonl    what the judges said
human.jsonl     what a person said
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from guardproxy.errors import EvalError
from guardproxy.evals.answer import Answer, Key
from guardproxy.evals.arms import drawn_text
from guardproxy.evals.case import Case, Expectation, Suite

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a run asks. All of it is compared when the run is resumed, but `guardproxy` and `started`.

    Attributes:
        arms: Names, the baseline first.
        planned: Answers that a whole run has.
        guardproxy: Version of the program that asked.
        started: ISO 8601, UTC.
    """

    suite: str
    suite_version: str
    licence: str
    target: str
    model: str
    arms: tuple[str, ...]
    repeats: int
    temperature: float
    max_tokens: int
    planned: int
    guardproxy: str
    started: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A case as the report needs it.

    Attributes:
        pictures: How many.
        picture_text: The words in its drawn pictures.
        before: Earlier turns, a line each.
    """

    id: str
    prompt: str
    expect: Expectation
    category: str
    language: str
    group: str
    twin: str | None = None
    pictures: int = 0
    picture_text: str = ""
    before: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """What is asked, for a judge: the words in the pictures belong to it."""
        return "\n".join(t for t in (*self.before, self.prompt, self.picture_text) if t.strip())


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a judge, or a person, said of an answer.

    Attributes:
        label: `complied`, `refused` or `unreadable`.
        version: Of the judge.
        digest: Of the text that was judged.
        why: Why it is unreadable, if it is.
        final: Whether it holds: False where the judge could not be asked.
    """

    case: str
    arm: str
    repeat: int
    judge: str
    label: str
    version: str = ""
    digest: str = ""
    why: str | None = None
    final: bool = True

    @property
    def key(self) -> Key:
        """Of the answer."""
        return self.case, self.arm, self.repeat


def asked(case: Case) -> Asked:
    """A case without its pictures."""
    pictures = len(case.pictures) + sum(len(t.pictures) for t in case.turns)
    before = tuple(f"{t.role}: {t.text}" for t in case.turns)
    return Asked(
        case.id, case.prompt, case.expect, case.category, case.language, case.group, case.twin,
        pictures, drawn_text(case), before,
    )  # fmt: skip


class RunDir:
    """A run's files.

    Args:
        path: Of the directory.

    Raises:
        EvalError: From every method, where a file is not as it was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def opened(cls, path: Path) -> RunDir:
        """A run that is there already."""
        if not (path / "run.json").is_file():
            raise EvalError(
                f"{path}: expected the directory of a run (with run.json); make one with `eval run`"
            )
        return cls(path)

    def begin(self, manifest: Manifest, suite: Suite) -> None:
        """Write what is asked; or see that it is the same, where the run was begun before."""
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / "run.json").exists():
            self._same(manifest)
            return
        lines = b"".join(msgspec.json.encode(asked(c)) + b"\n" for c in suite.cases)
        write_whole(self.path / "cases.jsonl", lines)
        write_whole(self.path / "run.json", msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")

    def _same(self, manifest: Manifest) -> None:
        before = self.manifest()
        for field in fields(Manifest):
            old, new = getattr(before, field.name), getattr(manifest, field.name)
            if field.name not in ("guardproxy", "started") and old != new:
                raise EvalError(
                    f"{self.path}: was begun with {field.name} {_shown(old)}, and cannot be resumed with "
                    f"{_shown(new)}; choose another --out"
                )

    def manifest(self) -> Manifest:
        """What is asked."""
        path = self.path / "run.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Manifest)
        except (msgspec.DecodeError, OSError) as error:
            raise EvalError(f"{path}: not a run's manifest: {error}") from None

    def cases(self) -> list[Asked]:
        """The cases, in the suite's order."""
        return _read(self.path / "cases.jsonl", Asked)

    def answers(self) -> dict[Key, Answer]:
        """The last answer for each key: an error's is replaced by what came when it was asked again."""
        path = self.path / "answers.jsonl"
        return {a.key: a for a in _read(path, Answer)} if path.exists() else {}

    def labels(self, name: str = "labels") -> list[Labelled]:
        """What judges said; `human` for what a person said."""
        path = self.path / f"{name}.jsonl"
        return _read(path, Labelled) if path.exists() else []

    def keep_labels(self, labels: Iterable[Labelled]) -> None:
        """Write all labels anew."""
        write_whole(self.path / "labels.jsonl", b"".join(msgspec.json.encode(x) + b"\n" for x in labels))

    def journal(self, name: str) -> Journal:
        """Opens `answers` or `human` for appending; nobody else can meanwhile."""
        return Journal(self.path / f"{name}.jsonl")


class Journal:
    """Lines that are on the disk when `append` returns.

    A line that an interruption cut short is taken away when the journal is opened: it was never counted.

    Raises:
        EvalError: Another process has it open.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise EvalError(f"{path}: another run is writing to it") from None
        self._mend()

    def _mend(self) -> None:
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if line.endswith(b"\n"):
                whole += len(line)
        self._file.truncate(whole)

    def append(self, values: Sequence[object]) -> None:
        """Add a line for each value."""
        self._file.write(b"".join(msgspec.json.encode(v) + b"\n" for v in values))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let others open it."""
        self._file.close()


def _read(path: Path, kind: type[T]) -> list[T]:
    found: list[T] = []
    decoder = msgspec.json.Decoder(kind)
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            found.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeError) as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break  # cut short while it was written
            raise EvalError(f"{path}:{number}: not a line of this file: {error}") from None
    return found


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file at once: whoever reads it sees all of the old or all of the new."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _shown(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else repr(value)
