"""What every exchange uses, built once by app."""

from __future__ import annotations

from dataclasses import dataclass

from guardproxy.core.canonical import SpecialTokens
from guardproxy.images.intake import Intake
from guardproxy.images.reader import Reader
from guardproxy.telemetry.metrics import Metrics
from guardproxy.upstream import Fleet


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds.

    Attributes:
        hold_s: Text waits so long for its window to fill.
        keep_alive_s: Held streams show life so often.
        answer_s: An upstream may be silent so long within a buffered answer, `idle_s` within a stream.
        total_s: After it any answer must be whole.
        repair_s: Longest time that a repair may take.
    """

    hold_s: float = 0.3
    keep_alive_s: float = 10.0
    answer_s: float = 600.0
    idle_s: float = 120.0
    total_s: float = 3600.0
    repair_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What every exchange uses.

    Attributes:
        leak_marker: See `detectors.base.Resources`.
    """

    fleet: Fleet
    intake: Intake
    reader: Reader
    tokens: SpecialTokens
    metrics: Metrics
    times: Times
    max_answer_bytes: int = 64_000_000
    max_held_chars: int = 4_000_000
    cache_salt: bool = True
    leak_marker: str = ""
