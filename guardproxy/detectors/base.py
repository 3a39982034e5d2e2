"""The one shape every detector has."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Protocol, TypeVar

from guardproxy.core.content import Segment
from guardproxy.core.value import value
from guardproxy.core.verdict import Finding
from guardproxy.detectors.backends import Backends
from guardproxy.detectors.offload import Offload

Memo = dict[object, object]
T = TypeVar("T")


@value
class Content:
    """What a detector is asked to look at.

    Attributes:
        segments: Texts and images to look at. For an answer: one segment, whose text starts at
            character `offset` of its channel.
        context: The question, when an answer is looked at.
        offset: Characters of the channel that come before the segment's text.
        fresh: Index into the text of the first character not looked at before.
        final: Whether nothing more will follow.
        memo: What detectors worked out about texts of this exchange, for each other: it ends with it, since
            it holds content, and the time that a shared one saves would tell what others asked.
        hidden: The policy's own texts in the request, when an answer is looked at: what it must not tell.
        read: Reads the texts in the pictures, and gives all segments with them; None where there are none.
        tenant: Whose content it is: what is cached for one is not found by another.
        deadline: When the guard's budget is over, in seconds of `time.perf_counter`.
        matters_from: The lowest score that decides anything. A detector may give any lower score for one that is
            sure to be lower; at 0.0 every score is exact.
    """

    segments: tuple[Segment, ...]
    context: str = ""
    offset: int = 0
    fresh: int = 0
    final: bool = True
    memo: Memo = field(default_factory=dict, compare=False)
    hidden: str = ""
    read: Callable[[], Awaitable[tuple[Segment, ...]]] | None = field(default=None, compare=False)
    tenant: str = ""
    deadline: float = math.inf
    matters_from: float = 0.0


class Detector(Protocol):
    """Looks at content and reports what it sees.

    A detector holds no threshold and knows no action: both belong to the policy.
    """

    name: str
    version: str
    inline: bool
    """True when `detect` never waits and takes well under a millisecond: it is then awaited in place."""

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """Report every finding, however low its score.

        Raises:
            DetectorError: The detector could not look. Never an empty tuple instead: nothing
                found and not looked are different.
        """


class Kept(Protocol):
    """Where what was worked out about pictures is kept, bounded in bytes; see `images.cache.Cache`."""

    def get(self, key: tuple[str, Hashable], kind: type[T]) -> T | None:
        """The value of a key, if it is still there."""

    def put(self, key: tuple[str, Hashable], value: object, size: int, seconds: float) -> None:
        """Keep a value of so many bytes that took so many seconds."""


class NothingKept:
    """Keeps nothing."""

    def get(self, key: tuple[str, Hashable], kind: type[T]) -> T | None:
        """Nothing."""

    def put(self, key: tuple[str, Hashable], value: object, size: int, seconds: float) -> None:
        """Forget it."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What the detectors of one process share; built once by app, so that it outlives a reload.

    Attributes:
        offload: Where CPU work runs that is not `inline`.
        pictures: Where results about pictures are kept, by tenant, detector version and the picture's hash.
        leak_marker: Random, of this process: what hardening hides in the system text, and no answer may hold.
        backends: The servers of guard models; without settings, any name is taken and none can be asked.
    """

    offload: Offload = field(default_factory=Offload)
    pictures: Kept = field(default_factory=NothingKept)
    leak_marker: str = field(default_factory=lambda: f"gp{token_hex(8)}")
    backends: Backends = field(default_factory=Backends)


class DetectorFactory(Protocol):
    """Builds a detector from the parameters a guard gives it."""

    def __call__(self, parameters: Mapping[str, object], resources: Resources) -> Detector:
        """Build; raise `PolicyError` on parameters that cannot be used."""
