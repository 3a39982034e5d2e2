"""YAML becomes `core.policy`. Errors name file, line and field, and what was meant perhaps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from guardproxy.core import policy as core
from guardproxy.core.verdict import Action, Stage
from guardproxy.yamldoc import Document, suggest

DEFAULT_MESSAGE = {
    "en": "This answer was withheld by this service's safety policy.",
    "ja": "この回答は、本サービスの安全ポリシーにより表示できません。",
}


NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Texts(_Model):
    """The same text in English and Japanese."""

    en: Annotated[str, Field(min_length=1, max_length=4000)]
    ja: Annotated[str, Field(min_length=1, max_length=4000)]


class ModelOverride(_Model):
    """Another slot for some models, or none."""

    slot: Literal["system", "user_prefix", "user_suffix", "sandwich", "none"]


class HardeningFile(_Model):
    """A text that is added to the request, and where."""

    use: Literal["vision_caution", "self_reminder", "goal_priority", "spotlight", "leak_marker"] | None = None
    text: Texts | None = None
    slot: Literal["system", "user_prefix", "user_suffix", "sandwich"] = "system"
    language: Literal["auto", "en", "ja"] = "auto"
    per_model: dict[str, ModelOverride] = {}


class ImagesFile(_Model):
    """Bounds of a request's pictures."""

    max_count: Annotated[int, Field(ge=0, le=64)] = 8
    max_pixels: Annotated[int, Field(ge=1, le=100_000_000)] = 12_000_000
    max_bytes: Annotated[int, Field(ge=1, le=100_000_000)] = 10_000_000
    remote: Literal["refuse", "inline"] = "refuse"
    allow_hosts: list[Annotated[str, Field(pattern=r"^(\*\.)?([a-z0-9-]+\.)+[a-z0-9-]+$")]] = []
    animated: Literal["first_frame", "refuse"] = "first_frame"


class DebounceFile(_Model):
    """A second, lower threshold that must hold on that many windows in a row."""

    threshold: Annotated[float, Field(ge=0, le=1, strict=False)]
    windows: Annotated[int, Field(ge=2, le=100)] = 2


class PatternFile(_Model):
    """Plain words (`text`, folded) or a regular expression (`regex`, RE2 syntax, on folded text)."""

    id: Annotated[str, Field(pattern=NAME)]
    text: str | None = None
    regex: str | None = None


class GuardFile(_Model):
    """A detector on one side of the model, and what a hit means. Further keys are the detector's own."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=NAME)]
    stage: Literal["input", "output"]
    detector: str
    looks_at: list[str] | None = None
    threshold: Annotated[float, Field(ge=0, le=1, strict=False)] = 0.5
    debounce: DebounceFile | None = None
    on_hit: Literal["allow", "redact", "repair", "block"] = "block"
    repair: Literal["caption_then_text", "rewrite", "template"] | None = None
    fail_mode: Literal["closed", "open"] = "closed"
    budget_ms: Annotated[int, Field(ge=1, le=600_000)] = 1000
    concurrent: bool = False
    mode: Literal["enforce", "monitor", "off"] = "enforce"
    controversial: Literal["hit", "ignore", "review"] = "hit"
    patterns: list[PatternFile] | None = None


class CombinationFile(_Model):
    """Several guards that act together: when so many of them hit in one exchange."""

    name: Annotated[str, Field(pattern=NAME)]
    at_least: Annotated[int, Field(ge=2)] = 2
    of: list[str]
    on_hit: Literal["repair", "block"] = "block"


class BlockFile(_Model):
    """How a block is told to the client."""

    input: Literal["error", "message"] = "error"
    message: Texts = Texts(**DEFAULT_MESSAGE)
    explain: Literal["none", "categories"] = "none"


class PolicyFile(_Model):
    """A guardproxy policy: what is allowed."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    name: Annotated[str, Field(pattern=NAME)]
    mode: Literal["enforce", "monitor"] = "enforce"
    gate: Literal["hold", "full", "async"] = "hold"
    unjudged: Literal["allow", "refuse"] = "allow"
    images: ImagesFile = ImagesFile()
    hardening: list[HardeningFile] = []
    guards: list[GuardFile] = []
    combine: list[CombinationFile] = []
    block: BlockFile = BlockFile()


class MatchFile(_Model):
    """Whom a rule is for; what is left out matches everybody. `*` and `?` stand for anything.

    Attributes:
        api_key: Name of the client key; `anonymous` where no keys are configured.
        model: Public name of the model.
    """

    api_key: str | None = None
    model: str | None = None


class RuleFile(_Model):
    """One rule of the routing table."""

    match: MatchFile = MatchFile()
    policy: str


class RoutingFile(_Model):
    """Which policy serves whom; the first match wins."""

    rules: Annotated[list[RuleFile], Field(min_length=1)]


def json_schema() -> dict[str, object]:
    """JSON Schema of a policy file, for editors."""
    return PolicyFile.model_json_schema(by_alias=True)


class Suits(Protocol):
    """What a policy file needs to know of a detector; see `detectors.registry.Entry`."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Keys that a guard may have for it."""

    @property
    def gives_spans(self) -> bool:
        """Whether its hits can be redacted."""

    def kinds(self, stage: Stage) -> tuple[str, ...]:
        """What it looks at by default; empty if it does not suit the stage."""


def parse_policy(text: str, path: Path, known: Mapping[str, Suits]) -> core.Policy:
    """Read one policy; its version covers its content only (the store adds the detectors').

    Args:
        text: YAML.
        path: Named in errors.
        known: The detectors by name.

    Raises:
        PolicyError: `file:line: field: what was expected and what came`.
    """
    document = Document(text, path)
    read = document.validate(PolicyFile)
    version = sha256(
        json.dumps(document.value, sort_keys=True, ensure_ascii=False, default=str).encode()
    ).hexdigest()[:12]
    hardening = tuple(document.build(_hardening, h, ("hardening", i)) for i, h in enumerate(read.hardening))
    guards = []
    for index, guard in enumerate(read.guards):
        where: tuple[str | int, ...] = ("guards", index)
        if guard.detector not in known:
            hint = suggest(guard.detector, known)
            raise document.error((*where, "detector"), f"unknown detector {guard.detector!r}{hint}")
        suits = known[guard.detector]
        if not suits.kinds(Stage(guard.stage)):
            raise document.error(
                (*where, "stage"), f"detector {guard.detector} does not suit stage {guard.stage}"
            )
        for key in _parameters(guard):
            if key not in suits.parameters:
                hint = suggest(key, (*GuardFile.model_fields, *suits.parameters))
                raise document.error((*where, key), f"unknown key for detector {guard.detector}{hint}")
        guards.append(document.build(partial(_guard, suits=suits), guard, where))
    place = ("combine",) if read.combine else ("guards",)
    return document.build(lambda r: _policy(r, version, hardening, tuple(guards)), read, place)


Rule = tuple[str, str, str]
"""Pattern of the key's name, pattern of the model, name of the policy."""


def parse_routing(text: str, path: Path, policies: Mapping[str, object]) -> tuple[Rule, ...]:
    """The rules in order.

    Raises:
        PolicyError: As `parse_policy`; also for a policy that does not exist, or if no rule matches everybody.
    """
    document = Document(text, path)
    read = document.validate(RoutingFile)
    rules = []
    for index, rule in enumerate(read.rules):
        if rule.policy not in policies:
            hint = suggest(rule.policy, policies)
            raise document.error(("rules", index, "policy"), f"no policy named {rule.policy!r}{hint}")
        rules.append((rule.match.api_key or "*", rule.match.model or "*", rule.policy))
    if rules[-1][:2] != ("*", "*"):
        raise document.error(("rules",), "the last rule must match everybody (match: {})")
    return tuple(rules)


def _hardening(read: HardeningFile) -> core.Hardening:
    if (read.use is None) == (read.text is None):
        raise ValueError("expected either use or text")
    per_model = {
        pattern: None if o.slot == "none" else core.Slot(o.slot) for pattern, o in read.per_model.items()
    }
    text = None if read.text is None else core.Bilingual(read.text.en, read.text.ja)
    return core.Hardening(read.use or "text", core.Slot(read.slot), text, read.language, per_model)


def _parameters(read: GuardFile) -> dict[str, object]:
    parameters = dict(read.model_extra or {})
    if read.patterns is not None:
        parameters["patterns"] = [p.model_dump(exclude_none=True) for p in read.patterns]
    return parameters


def _guard(read: GuardFile, suits: Suits) -> core.Guard:
    stage = Stage(read.stage)
    if read.on_hit == "redact" and not suits.gives_spans:
        raise ValueError(f"on_hit: redact needs a detector that says where; {read.detector} does not")
    if read.repair is not None and read.on_hit != "repair":
        raise ValueError(f"repair: says how a hit is repaired, and needs on_hit: repair, got {read.on_hit}")
    low = read.debounce
    debounce = None if low is None else core.Debounce(low.threshold, low.windows)
    return core.Guard(
        read.name,
        stage,
        read.detector,
        tuple(read.looks_at) if read.looks_at is not None else suits.kinds(stage),
        read.threshold,
        Action[read.on_hit.upper()],
        core.FailMode(read.fail_mode),
        read.budget_ms,
        core.Mode(read.mode),
        debounce,
        _parameters(read),
        read.concurrent,
        core.Controversial(read.controversial),
        core.Repair(read.repair or "template"),
    )


def _policy(
    read: PolicyFile, version: str, hardening: tuple[core.Hardening, ...], guards: tuple[core.Guard, ...]
) -> core.Policy:
    images = core.ImageLimits(
        read.images.max_count,
        read.images.max_pixels,
        read.images.max_bytes,
        read.images.animated,
        read.images.remote,
        tuple(read.images.allow_hosts),
    )
    combine = tuple(
        core.Combination(c.name, c.at_least, tuple(c.of), Action[c.on_hit.upper()]) for c in read.combine
    )
    message = core.Bilingual(read.block.message.en, read.block.message.ja)
    return core.Policy(
        read.name,
        version,
        core.Mode(read.mode),
        core.GateMode(read.gate),
        read.unjudged == "refuse",
        images,
        hardening,
        guards,
        core.Block(read.block.input, message, read.block.explain),
        combine,
    )
