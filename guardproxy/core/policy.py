"""A policy: hardening, image limits, guards and block message, valid by construction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from guardproxy.core.verdict import Action, Stage

INPUT_KINDS = ("system", "user", "assistant", "tool", "tools", "image", "image_text")
OUTPUT_KINDS = ("content", "reasoning", "refusal", "tool_arguments")

T = TypeVar("T")


class Mode(Enum):
    """Whether a policy or guard acts or only watches."""

    ENFORCE = "enforce"
    MONITOR = "monitor"
    OFF = "off"


class FailMode(Enum):
    """What a failure means: `closed` blocks, `open` passes and is recorded."""

    CLOSED = "closed"
    OPEN = "open"


class GateMode(Enum):
    """How a streamed answer is held: until judged, whole, or not at all."""

    HOLD = "hold"
    FULL = "full"
    ASYNC = "async"


class Controversial(Enum):
    """What the middle answer of a three-state guard means: a hit, nothing, or a pass that people should look at."""

    HIT = "hit"
    IGNORE = "ignore"
    REVIEW = "review"


class Repair(Enum):
    """How a safe second answer is made.

    `caption_then_text`: from a description of the picture, without the picture (ECSO, ECCV 2024);
    `rewrite`: the model rewrites its own answer; `template`: a text of ours, by subject and language.
    """

    CAPTION_THEN_TEXT = "caption_then_text"
    REWRITE = "rewrite"
    TEMPLATE = "template"


class Slot(Enum):
    """Where a policy's rules are put into a request."""

    SYSTEM = "system"
    USER_PREFIX = "user_prefix"
    USER_SUFFIX = "user_suffix"
    SANDWICH = "sandwich"


@dataclass(frozen=True, slots=True)
class Bilingual(Generic[T]):
    """The same thing in English and Japanese."""

    en: T
    ja: T

    def get(self, language: str) -> T:
        """In `ja` if that was asked for, else in English."""
        return self.ja if language == "ja" else self.en


@dataclass(frozen=True, slots=True)
class Hardening:
    """One text of a policy and where it goes.

    Attributes:
        use: Name of a shipped text, `spotlight`, or `text` for a free one.
        text: The free text; None unless `use` is `text`.
        language: `auto` (the conversation's), `en` or `ja`.
        per_model: Pattern of a model's name to a slot; None switches the text off for it.
    """

    use: str
    slot: Slot = Slot.SYSTEM
    text: Bilingual[str] | None = None
    language: str = "auto"
    per_model: Mapping[str, Slot | None] = field(default_factory=dict)

    def slot_for(self, model: str) -> Slot | None:
        """The slot for this model; the first matching pattern decides."""
        for pattern, slot in self.per_model.items():
            if fnmatchcase(model, pattern):
                return slot
        return self.slot


@dataclass(frozen=True, slots=True)
class Debounce:
    """A second, lower threshold that must hold on that many windows in a row."""

    threshold: float
    windows: int

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"debounce.threshold must be in [0, 1], got {self.threshold}")
        if self.windows < 2:
            raise ValueError(f"debounce.windows must be at least 2, got {self.windows}")


@dataclass(frozen=True, slots=True)
class Guard:
    """One line of a policy: detector, stage, what it looks at, threshold, action.

    Attributes:
        parameters: What is handed to the detector, such as its patterns.
        budget_ms: Longest time an answer may take, its wait in a queue included.
        repair: How, where `on_hit` is a repair.
        concurrent: Input only: judged while the model begins its answer, of which nothing leaves before the verdict.
    """

    name: str
    stage: Stage
    detector: str
    looks_at: tuple[str, ...]
    threshold: float
    on_hit: Action
    fail_mode: FailMode = FailMode.CLOSED
    budget_ms: int = 1000
    mode: Mode = Mode.ENFORCE
    debounce: Debounce | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    concurrent: bool = False
    controversial: Controversial = Controversial.HIT
    repair: Repair = Repair.TEMPLATE

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}")
        if self.budget_ms <= 0:
            raise ValueError(f"budget_ms must be above 0, got {self.budget_ms}")
        kinds = INPUT_KINDS if self.stage is Stage.INPUT else OUTPUT_KINDS
        for kind in self.looks_at:
            if kind not in kinds:
                raise ValueError(f"looks_at: {kind!r} is not one of {', '.join(kinds)} ({self.stage.value})")
        if self.debounce and (self.stage is Stage.INPUT or self.debounce.threshold > self.threshold):
            raise ValueError("debounce is for output guards, with a threshold not above the guard's own")
        if self.stage is Stage.INPUT and self.on_hit is Action.REPAIR:
            raise ValueError(
                "on_hit: repair is for output guards: before the model there is no answer to repair"
            )
        if self.concurrent and (self.stage is Stage.OUTPUT or self.on_hit is Action.REDACT):
            raise ValueError(
                "concurrent is for input guards that do not redact: the model has the request by then"
            )

    @property
    def acts(self) -> bool:
        """Whether this guard can change an exchange at all; others are judged beside it."""
        return self.mode is Mode.ENFORCE and self.on_hit is not Action.ALLOW


@dataclass(frozen=True, slots=True)
class Combination:
    """Several guards that act together: the device against over-refusal (two-signal rule, ETA, ICLR 2025).

    Attributes:
        name: In metrics and records.
        at_least: So many of the guards must have hit, on whichever side, in one exchange.
        of: Names of guards.
    """

    name: str
    at_least: int
    of: tuple[str, ...]
    on_hit: Action

    def __post_init__(self) -> None:
        if not 2 <= self.at_least <= len(set(self.of)):
            raise ValueError(
                f"at_least must be from 2 to the number of different guards ({len(set(self.of))}), got {self.at_least}"
            )
        if self.on_hit not in (Action.REPAIR, Action.BLOCK):
            raise ValueError(f"on_hit must be repair or block, got {self.on_hit.label}")


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Bounds of a request's pictures.

    Attributes:
        max_pixels: Of one picture.
        max_bytes: Of one picture's file.
        remote: `refuse`, or `inline`: the proxy fetches it once and sends its bytes.
        allow_hosts: From where, by name or `*.DOMAIN`; empty: from any public host.
    """

    max_count: int = 8
    max_pixels: int = 12_000_000
    max_bytes: int = 10_000_000
    animated: str = "first_frame"
    remote: str = "refuse"
    allow_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """How a block is told.

    Attributes:
        input: An input block is a 400 (`error`) or a 200 with the text (`message`).
        explain: `categories`: every answer tells what was found, in OpenAI's `moderation` field; or `none`.
    """

    input: str
    message: Bilingual[str]
    explain: str = "none"


@dataclass(frozen=True, slots=True)
class Policy:
    """A named, versioned document of what is allowed.

    Attributes:
        version: Content hash of the policy and its detectors' versions.
        unjudged_refused: Whether a channel that no guard looks at is refused.
    """

    name: str
    version: str
    mode: Mode
    gate: GateMode
    unjudged_refused: bool
    images: ImageLimits
    hardening: tuple[Hardening, ...]
    guards: tuple[Guard, ...]
    block: Block
    combine: tuple[Combination, ...] = ()

    def __post_init__(self) -> None:
        names = [*(g.name for g in self.guards), *(c.name for c in self.combine)]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"guard names must be unique, got twice: {', '.join(twice)}")
        watching = {g.name for g in self.guards if g.mode is not Mode.ENFORCE}
        for name in (name for c in self.combine for name in c.of):
            if name not in names or name in watching:
                raise ValueError(f"{name} is no guard of this policy that enforces")

    def acting(self, stage: Stage) -> tuple[Guard, ...]:
        """Guards of a stage that can change the exchange."""
        if self.mode is not Mode.ENFORCE:
            return ()
        return tuple(g for g in self.guards if g.stage is stage and self.is_acting(g))

    def is_acting(self, guard: Guard) -> bool:
        """Whether a guard can change an exchange, alone or together with others."""
        return guard.acts or any(guard.name in c.of for c in self.combine)

    def watching(self, stage: Stage) -> tuple[Guard, ...]:
        """Guards of a stage that are judged beside the exchange and only recorded."""
        acting = self.acting(stage)
        return tuple(
            g for g in self.guards if g.stage is stage and g.mode is not Mode.OFF and g not in acting
        )

    def looked_at(self, stage: Stage) -> frozenset[str]:
        """Kinds of content that at least one guard of the stage looks at, acting or watching."""
        return frozenset(
            kind for g in self.guards if g.stage is stage and g.mode is not Mode.OFF for kind in g.looks_at
        )
