"""What was observed about content, and what a policy makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, IntEnum

from guardproxy.core.value import value


class Stage(Enum):
    """The side of the model on which a guard stands."""

    INPUT = "input"
    OUTPUT = "output"


class Action(IntEnum):
    """What to do with content; the strictest wins."""

    ALLOW = 0
    REDACT = 1
    REPAIR = 2
    BLOCK = 3

    @property
    def label(self) -> str:
        """The word used in YAML, metrics and records."""
        return self.name.lower()


@value
class Span:
    """Half-open range of characters `[start, end)` in the text of a segment or channel."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"span must satisfy 0 <= start <= end, got [{self.start}, {self.end})")


@value
class Finding:
    """One observation of a detector. No decision.

    Attributes:
        detector: Name of the detector that saw it.
        category: What was seen, in the detector's own bounded set of words.
        score: Risk in [0, 1], higher is riskier.
        place: Where the content stands, such as `messages[2].content[1].text`.
        span: Characters of that segment's or channel's text; `None` means all of it.
    """

    detector: str
    category: str
    score: float
    place: str
    span: Span | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"{self.detector}: score must be in [0, 1], got {self.score}")


@value
class Failure:
    """A detector gave no answer. Never "safe".

    Attributes:
        reason: One of `timeout`, `error`, `unreadable`, `missing`, `overloaded`.
    """

    detector: str
    reason: str


Observation = Sequence[Finding] | Failure


@value
class GuardVerdict:
    """What one guard contributed: the action taken and the one enforce mode would have taken."""

    guard: str
    action: Action
    wanted: Action
    findings: tuple[Finding, ...] = ()
    failure: Failure | None = None


@value
class Verdict:
    """A policy's answer about some content.

    Attributes:
        action: What is done.
        wanted: What enforce mode would have done.
        guards: One entry for each guard that stood on this side, in policy order.
        unavailable: Whether `action` is a block only because a closed guard could not look.
        redactions: Hits to replace when `action` is `REDACT`.
        hits: Names of the guards that hit, failures of closed ones among them.
        reviews: Names of the guards that leave it to people (`controversial: review`).
        suspects: Guards whose debounce threshold was reached, with the windows in a row they need.
    """

    action: Action = Action.ALLOW
    wanted: Action = Action.ALLOW
    guards: tuple[GuardVerdict, ...] = ()
    unavailable: bool = False
    redactions: tuple[Finding, ...] = ()
    suspects: tuple[tuple[str, int], ...] = ()
    hits: frozenset[str] = frozenset()
    reviews: tuple[str, ...] = ()


ALLOWED = Verdict()
