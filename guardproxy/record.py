"""One exchange as its audit record: who, when, what was decided and why. Never a word of its content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from guardproxy.core.content import Request, Segment
from guardproxy.core.gate import channel_of
from guardproxy.core.policy import Guard, Policy
from guardproxy.core.verdict import Action, Finding, GuardVerdict, Span, Stage

TextHash = Callable[[str], str]
_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")


MAX_FINDINGS = 256
"""Findings that are recorded of one exchange; a long stream has a score for each window."""


@dataclass(slots=True)
class Times:
    """Seconds since the exchange began, None where it did not come so far; `overhead` is the proxy's own."""

    first_text: float | None = None
    overhead: float = 0.0
    held: float = 0.0
    total: float = 0.0


@dataclass(slots=True)
class Observed:
    """What the guards of one exchange said: of each its strictest verdict, of each place its highest score."""

    verdicts: dict[tuple[Stage, str], tuple[Action, Action]] = field(default_factory=dict)
    failures: set[tuple[Stage, str, str]] = field(default_factory=set)
    findings: dict[tuple[Stage, str, str, str, Span | None], Finding] = field(default_factory=dict)
    is_cut_short: bool = False

    def add(self, stage: Stage, one: GuardVerdict) -> None:
        """Take one guard's verdict about one piece of content."""
        action, wanted = self.verdicts.get((stage, one.guard), (Action.ALLOW, Action.ALLOW))
        self.verdicts[stage, one.guard] = (max(action, one.action), max(wanted, one.wanted))
        if one.failure is not None:
            self.failures.add((stage, one.guard, one.failure.reason))
        for finding in one.findings:
            place = (stage, one.guard, finding.category, finding.place, finding.span)
            before = self.findings.get(place)
            if before is None and len(self.findings) >= MAX_FINDINGS:
                self.is_cut_short = True
            elif before is None or finding.score > before.score:
                self.findings[place] = finding


@dataclass(slots=True)
class Entry:
    """Everything that is known of one exchange. Holds content: only `record_of` may leave the process.

    Attributes:
        began: Seconds since 1970.
        request: Canonical, once it is; `segments` is all that the model reads of it.
        outcome: How it ended; `error` the code of the fault, if one ended it.
        texts: What the model said, by choice and lane.
        usage: As the model server counted.
    """

    request_id: str
    began: float
    key: str
    policy: Policy
    model: str
    request: Request | None = None
    segments: tuple[Segment, ...] = ()
    outcome: str | None = None
    error: str | None = None
    texts: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    unjudged: set[str] = field(default_factory=set)
    usage: Mapping[str, object] | None = None
    observed: Observed = field(default_factory=Observed)
    times: Times = field(default_factory=Times)


def record_of(entry: Entry, text_hash: TextHash) -> Mapping[str, object]:
    """The record, as JSON values. Offsets and lengths are in characters, times in milliseconds."""
    observed, policy, times = entry.observed, entry.policy, entry.times
    guards = {g.name: g for g in policy.guards}
    verdicts = observed.verdicts
    record: dict[str, object] = {
        "request_id": entry.request_id,
        "time": _utc(entry.began),
        "key": entry.key,
        "policy": policy.name,
        "version": policy.version,
        "model": entry.model,
        "outcome": entry.outcome,
        "error": entry.error,
        "action": max((a for a, _ in verdicts.values()), default=Action.ALLOW).label,
        "wanted": max((w for _, w in verdicts.values()), default=Action.ALLOW).label,
        "stream": entry.request.stream if entry.request else None,
        "segments": [_segment(s, text_hash) for s in entry.segments],
        "answer": [
            _text(channel_of(lane), f"choices[{choice}].{lane}", "".join(pieces), text_hash)
            for (choice, lane), pieces in entry.texts.items()
        ],
        "verdicts": [
            {"stage": stage.value, "guard": guard, "action": action.label, "wanted": wanted.label}
            for (stage, guard), (action, wanted) in verdicts.items()
        ],
        "findings": [
            _finding(stage, guards[guard], finding)
            for (stage, guard, *_), finding in observed.findings.items()
        ],
        "failures": [
            {"stage": stage.value, "guard": guard, "detector": guards[guard].detector, "reason": reason}
            for stage, guard, reason in sorted(observed.failures, key=str)
        ],
        "unjudged": sorted(entry.unjudged),
        "dropped_fields": list(entry.request.dropped) if entry.request else [],
        "tokens": {n: entry.usage[n] for n in _TOKENS if n in entry.usage} if entry.usage else None,
        "ms": {
            "total": _ms(times.total),
            "overhead": _ms(times.overhead),
            "first_text": None if times.first_text is None else _ms(times.first_text),
            "held_back": _ms(times.held),
        },
    }
    if observed.is_cut_short:
        record["findings_cut_short"] = True
    return record


def _segment(segment: Segment, text_hash: TextHash) -> Mapping[str, object]:
    image = segment.image
    if image is None or segment.kind != "image":
        return _text(segment.kind, segment.place, segment.text, text_hash)
    return {
        "kind": segment.kind,
        "place": segment.place,
        "sha256": image.sha256,
        "width": image.width,
        "height": image.height,
    }


def _text(kind: str, place: str, text: str, text_hash: TextHash) -> Mapping[str, object]:
    return {"kind": kind, "place": place, "sha256": text_hash(text), "chars": len(text)}


def _finding(stage: Stage, guard: Guard, finding: Finding) -> Mapping[str, object]:
    return {
        "stage": stage.value,
        "guard": guard.name,
        "detector": finding.detector,
        "category": finding.category,
        "score": round(finding.score, 6),
        "hit": finding.score >= guard.threshold and finding.detector == guard.detector,
        "place": finding.place,
        "span": _span(finding.span),
    }


def _span(span: Span | None) -> list[int] | None:
    return None if span is None else [span.start, span.end]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
