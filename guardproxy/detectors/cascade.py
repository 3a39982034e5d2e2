"""A cheap detector first, the next only where the one before is in doubt.

The rule: a text keeps its first score unless that lies in the band `when` of the next stage; then the next stage's
score takes its place, and so on. The findings named `cascade` hold what came out of it and are the only ones that a
policy decides by; beside them stand the findings of every stage that was asked, for the record.
After arXiv 2601.04603: the expensive classifier sees only the share of traffic that the cheap one cannot settle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from guardproxy.core.content import Segment
from guardproxy.core.verdict import Finding, Stage
from guardproxy.detectors import registry
from guardproxy.detectors.base import Content, Detector, Resources
from guardproxy.detectors.given import Given
from guardproxy.errors import PolicyError
from guardproxy.yamldoc import suggest

NAME = "cascade"
MAX_STAGES = 5

_BAND = re.compile(r"\s*([01]|[01]?\.\d+)\s*\.\.\s*([01]|[01]?\.\d+)\s*")


@dataclass(frozen=True, slots=True)
class Step:
    """One stage and the band of the score before, both ends included, in which it is asked."""

    detector: Detector
    low: float = 0.0
    high: float = 1.0

    def is_for(self, score: float) -> bool:
        """Whether the stage before is in doubt."""
        return self.low <= score <= self.high


class Cascade:
    """Asks its stages in order, each about the texts that are in doubt.

    Args:
        steps: At least two.
        stages: Sides of the model that all of them suit.
        version: Of all of them.
    """

    name = NAME

    def __init__(self, steps: Sequence[Step], stages: frozenset[Stage], version: str) -> None:
        self._steps = tuple(steps)
        self.stages = stages
        self.version = version
        detectors = [step.detector for step in steps]
        self.inline = all(d.inline for d in detectors)
        self.longest = max(getattr(d, "longest", 0) for d in detectors)
        self.backends = tuple(b for d in detectors for b in getattr(d, "backends", ()))
        self._suffixes = [s for d in detectors if (s := getattr(d, "held_suffix", None)) is not None]

    def held_suffix(self, text: str, fresh: int) -> int:
        """As `Patterns.held_suffix`: the longest that any stage wants held."""
        return max((suffix(text, fresh) for suffix in self._suffixes), default=0)

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """The outcome and what each stage saw. A stage that cannot look fails the whole: it was needed."""
        seen: list[Finding] = []
        outcome: list[Finding] = []
        content = replace(content, matters_from=0.0)  # a band of doubt may begin below the threshold
        doubtful = content.segments
        for number, step in enumerate(self._steps):
            if number:
                doubtful = tuple(s for s in content.segments if step.is_for(_score(outcome, s)))
            if not doubtful:
                continue
            asked = content if doubtful == content.segments else replace(content, segments=doubtful)
            found = await step.detector.detect(asked)
            seen.extend(found)
            places = {s.place for s in doubtful}
            outcome = [f for f in outcome if f.place not in places] + list(found)
        return (*seen, *(replace(f, detector=NAME) for f in outcome))


def _score(outcome: Sequence[Finding], segment: Segment) -> float:
    """The highest at this place. A detector that joins texts names the first one's: then all share its score."""
    own = [f.score for f in outcome if f.place == segment.place]
    return max(own or [f.score for f in outcome], default=0.0)


def build(parameters: Mapping[str, object], resources: Resources) -> Detector:
    """Key: `of`, a list of detectors: a name, or a mapping with `detector`, `when: LOW..HIGH` and its own keys.

    Raises:
        PolicyError: The list is no cascade, or one of its detectors cannot be built.
    """
    listed = parameters.get("of")
    if not isinstance(listed, (list, tuple)) or not 2 <= len(listed) <= MAX_STAGES:
        raise PolicyError(f"of: expected a list of 2 to {MAX_STAGES} detectors, got {str(listed)[:60]}")
    steps, suited, versions = [], set(Stage), []
    for index, one in enumerate(listed):
        try:
            name, step = _step(one, resources, is_first=index == 0)
        except PolicyError as error:
            raise PolicyError(f"of[{index}]: {error}") from None
        steps.append(step)
        suited &= {stage for stage in Stage if registry.DETECTORS[name].kinds(stage)}
        versions.append(f"{name}={step.detector.version}")
    if not suited:
        raise PolicyError("of: its detectors have no stage in common")
    return Cascade(steps, frozenset(suited), Given(parameters, NAME).version(1, *versions))


def _step(one: object, resources: Resources, *, is_first: bool) -> tuple[str, Step]:
    keys: dict[str, object] = {"detector": one} if isinstance(one, str) else {}
    if isinstance(one, Mapping):
        keys = {str(k): v for k, v in one.items()}
    name = keys.pop("detector", None)
    if not isinstance(name, str):
        raise PolicyError(f"expected a detector's name or a mapping with detector, got {str(one)[:60]}")
    if name == NAME or name not in registry.DETECTORS:
        known = [n for n in registry.DETECTORS if n != NAME]
        raise PolicyError(f"detector: {name!r} cannot be a stage{suggest(name, known)}")
    when = keys.pop("when", None)
    if is_first != (when is None):
        raise PolicyError(
            "when: the first stage is always asked" if is_first else "when: expected LOW..HIGH, got nothing"
        )
    allowed = registry.DETECTORS[name].parameters
    for key in keys:
        if key not in allowed:
            raise PolicyError(f"{key}: unknown key for detector {name}{suggest(key, (*allowed, 'when'))}")
    low, high = (0.0, 1.0) if when is None else _band(when)
    return name, Step(registry.build(name, keys, resources), low, high)


def _band(when: object) -> tuple[float, float]:
    match = _BAND.fullmatch(when) if isinstance(when, str) else None
    low, high = (float(match[1]), float(match[2])) if match else (1.0, 0.0)
    if not 0.0 <= low < high <= 1.0:
        raise PolicyError(
            f"when: expected LOW..HIGH with 0 <= LOW < HIGH <= 1, such as 0.2..0.9, got {when!r}"
        )
    return low, high
