"""One case of a suite: an input with what is expected of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Expectation(Enum):
    """What a good service does: answer, decline (itself or by a guard), or either."""

    COMPLY = "comply"
    REFUSE_OR_BLOCK = "refuse_or_block"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture that is drawn when the suite is loaded: `kind` names how, `options` what.

    Attributes:
        kind: One of `evals.drawings.KINDS`.
        options: Of that kind, such as its text, font size in pixels, rotation in degrees.
    """

    kind: str
    options: Mapping[str, object]


Picture = Path | Drawing


@dataclass(frozen=True, slots=True)
class Turn:
    """One message before the last: `role` is `system`, `user` or `assistant`."""

    role: str
    text: str
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One input with its expectation.

    Attributes:
        id: Unique in its suite.
        prompt: The last user turn's text; may be empty where a picture says all.
        pictures: Of the last user turn.
        turns: What came before it.
        category: What it is about, in the suite's own bounded set of words.
        language: BCP 47, such as `en` or `ja`.
        group: Wordings of one item share a group: statistics are clustered by it. Its own id where alone.
        twin: Id of the benign neighbour of an attack (or the attack of a benign neighbour).
    """

    id: str
    prompt: str
    expect: Expectation
    category: str
    language: str
    group: str
    pictures: tuple[Picture, ...] = ()
    turns: tuple[Turn, ...] = ()
    twin: str | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("id: expected a name, got nothing")
        if not self.prompt.strip() and not self.pictures:
            raise ValueError(f"case {self.id}: prompt: expected a text or a picture, got neither")


@dataclass(frozen=True, slots=True)
class Suite:
    """Cases that are asked together.

    Attributes:
        version: Content hash over the cases and their pictures.
        licence: Of the cases, as their origin states it.
    """

    name: str
    version: str
    cases: tuple[Case, ...]
    description: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        ids = [c.id for c in self.cases]
        twice = sorted({i for i in ids if ids.count(i) > 1}) if len(set(ids)) < len(ids) else []
        if twice:
            raise ValueError(f"suite {self.name}: case ids must be unique, got twice: {', '.join(twice[:5])}")
