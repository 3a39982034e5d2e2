"""One thing that `guardproxy doctor` saw, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How bad it is; `DANGER` means that something gets past the guards."""

    OK = 0
    NOTE = 1
    WARNING = 2
    DANGER = 3


@dataclass(frozen=True, slots=True)
class Sign:
    """What was seen.

    Attributes:
        what: The subject, a word or two.
        advice: What to do about it; empty where nothing is to be done.
    """

    level: Level
    what: str
    text: str
    advice: str = ""
