"""What one exchange leaves behind: its outcome and verdicts, counted once, beside its way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from guardproxy.core.content import Request, Segment
from guardproxy.core.gate import channel_of
from guardproxy.core.judge import judge_guards
from guardproxy.core.verdict import Action, Stage, Verdict
from guardproxy.detectors.base import Content, Memo
from guardproxy.detectors.observe import observe
from guardproxy.images.reader import Reading
from guardproxy.keys import Client
from guardproxy.outward import Plan
from guardproxy.record import Entry, record_of
from guardproxy.telemetry.audit import AuditLog
from guardproxy.telemetry.metrics import Metrics
from guardproxy.telemetry.tracing import NO_TRACE, Trace

log = logging.getLogger("guardproxy.exchange")
REFUSAL = "refusal"
PROBLEMS = ("guard_unavailable", "upstream_error", "shutdown", "error")
"""Outcomes that are somebody's fault, and logged."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Where an exchange is told: in a trace and in the audit record, if anywhere."""

    trace: Trace = NO_TRACE
    audit: AuditLog | None = None


class Account:
    """Counts one exchange.

    Args:
        metrics: Where it is counted.
        plan: Of the policy that serves it.
        client: Who sent it.
        entry: What is known of it so far.
        beside: Where it is told beside the metrics.
    """

    def __init__(self, metrics: Metrics, plan: Plan, client: Client, entry: Entry, beside: Beside) -> None:
        self.metrics = metrics
        self.client = client
        self.trace = beside.trace
        self.timed = metrics.timed if self.trace is NO_TRACE else self._traced
        self.entry = entry
        self.strictest = Action.ALLOW
        self.has_released = False
        self.memo: Memo = {}
        self.hits: set[str] = set()
        self.reviews: set[str] = set()
        self.reading: Reading | None = None
        self._plan = plan
        self._audit = beside.audit
        self._started = self._mark = perf_counter()
        metrics.in_flight.inc()

    def requested(self, request: Request, segments: tuple[Segment, ...]) -> None:
        """The request is canonical and about to be judged."""
        self.entry.request, self.entry.segments = request, segments
        for name in request.dropped:
            self.metrics.fields_dropped.labels(name).inc()
        self.entry.unjudged.update({s.kind for s in segments} - self._plan.looked_at_input)

    def redacted(self, request: Request) -> None:
        """The request lost what guards found in it."""
        self.entry.request, self.entry.segments = request, request.segments()

    def content(self, request: Request) -> Content:
        """What guards of the input are asked to look at."""
        reading = self.reading
        is_known = self.entry.request is request
        return Content(
            self.entry.segments if is_known else request.segments(),
            request.question,
            memo=self.memo,
            read=None if reading is None else reading.segments,
            tenant=self.client.name,
        )

    def judged(self, stage: Stage, verdict: Verdict) -> None:
        """A verdict came in."""
        self.strictest = max(self.strictest, verdict.action)
        self.hits.update(verdict.hits)
        self.reviews.update(verdict.reviews)
        for one in verdict.guards:
            self.entry.observed.add(stage, one)

    def _traced(self, detector: str, seconds: float) -> None:
        self.metrics.timed(detector, seconds)
        self.trace.detector(detector, seconds)

    def asking(self) -> bytes:
        """The model is asked: from now on time is its own. Gives header lines for it."""
        self.entry.times.overhead += perf_counter() - self._mark
        self._mark = 0.0
        return self.trace.ask()

    def answered(self) -> None:
        """The model has said all it will say."""
        self.trace.answered()
        self._mark = perf_counter()

    def released(self, waited_s: float) -> None:
        """Text went to the client, which had waited so long for its verdict."""
        self.entry.times.held = max(self.entry.times.held, waited_s)
        if not self.has_released:
            self.has_released = True
            self.entry.times.first_text = perf_counter() - self._started
            self.metrics.ttft_seconds.observe(self.entry.times.first_text)

    @contextmanager
    def repairing(self, how: str) -> Iterator[Callable[[], None]]:
        """Count a repair: sent if what this gives is called, else failed."""
        results = ["failed"]
        began = perf_counter()
        try:
            yield partial(results.append, "sent")
        finally:
            self.metrics.repair_seconds.observe(perf_counter() - began)
            self.metrics.repairs.labels(self.entry.policy.name, how, results[-1]).inc()

    def asked_again(self, usage: Mapping[str, object] | None) -> None:
        """The model was asked once more, for a repair."""
        self.metrics.repair_calls.labels(self.entry.policy.name).inc()
        tokens = (usage or {}).get("total_tokens")
        if isinstance(tokens, int):
            self.metrics.repair_tokens.labels(self.entry.policy.name).inc(tokens)

    def exposed(self, characters: Iterable[int]) -> None:
        """Choices were cut after so many characters of each had been released."""
        for count in characters:
            self.metrics.exposed_characters.observe(count)

    def end(self, outcome: str, error: str | None = None) -> None:
        """How the exchange ended, and the code of the fault if one ended it; the first word counts."""
        if self.entry.outcome is None:
            self.entry.outcome, self.entry.error = outcome, error

    @property
    def unjudged(self) -> set[str]:
        """Kinds of content that no guard looks at."""
        return self.entry.unjudged

    @property
    def closes_at_once(self) -> bool:
        """Whether `close` never waits: all guards that only watch answer in place."""
        return self._plan.watches_inline and self.reading is None

    async def close(self) -> None:
        """Judge with the guards that only watch, then count and record everything once."""
        metrics, entry, times = self.metrics, self.entry, self.entry.times
        policy = entry.policy
        now = perf_counter()
        times.total = now - self._started
        times.overhead += now - self._mark if self._mark else 0.0
        outcome = entry.outcome = entry.outcome or "error"
        self._log(outcome)
        metrics.in_flight.dec()
        metrics.bound(metrics.exchanges, policy.name, policy.version, entry.model, outcome).inc()
        metrics.bound(metrics.key_exchanges, self.client.name, outcome).inc()
        metrics.overhead_seconds.observe(times.overhead)
        metrics.held_back_seconds.observe(times.held)
        try:
            await self._watch()
        finally:
            if self.reading is not None:
                self.reading.close()
                entry.segments = self.reading.request.segments()
            self._count()
            self._end_trace(outcome)
            if self._audit is not None:
                self._audit.write(record_of(entry, self._audit.text_hash))

    def _end_trace(self, outcome: str) -> None:
        if self.trace is not NO_TRACE:
            entry = self.entry
            told = {
                "request_id": entry.request_id, "key": entry.key, "model": entry.model,
                "policy": entry.policy.name, "version": entry.policy.version, "outcome": outcome,
            }  # fmt: skip
            self.trace.end(told, failed=outcome in PROBLEMS)

    def _log(self, outcome: str) -> None:
        level = logging.WARNING if outcome in PROBLEMS else logging.INFO
        if log.isEnabledFor(level):
            entry = self.entry
            more = {
                "request_id": entry.request_id, "key": entry.key, "model": entry.model,
                "policy": entry.policy.name, "version": entry.policy.version, "outcome": outcome,
                "error": entry.error, "ms": round(entry.times.total * 1000, 3),
            }  # fmt: skip
            log.log(level, "exchange", extra=more)

    def _count(self) -> None:
        policy, observed = self.entry.policy, self.entry.observed
        for (stage, guard), (action, wanted) in observed.verdicts.items():
            self.metrics.bound(
                self.metrics.verdicts,
                policy.name,
                policy.version,
                stage.value,
                guard,
                action.label,
                wanted.label,
            ).inc()
        for _, guard, reason in observed.failures:
            self.metrics.guard_failures.labels(policy.name, guard, reason).inc()
        for guard in self.reviews:
            self.metrics.bound(self.metrics.reviews, policy.name, guard).inc()
        for what in self.entry.unjudged:
            self.metrics.bound(self.metrics.unjudged, what).inc()

    async def _watch(self) -> None:
        request, policy, timed = self.entry.request, self.entry.policy, self.timed
        if request is None:
            return
        self.trace.begin("watch")
        watching = self._plan.watching[Stage.INPUT] if self.entry.segments else ()
        if watching:
            observed = await observe(watching, self._plan.detectors, self.content(request), timed)
            self.judged(Stage.INPUT, judge_guards(policy, watching, observed, self.hits))
        texts = self.entry.texts
        if not texts:
            return
        watching = self._plan.watching[Stage.OUTPUT]
        if watching:
            segments = tuple(
                Segment(channel_of(lane), f"choices[{i}].{lane}", "".join(t), untrusted=True)
                for (i, lane), t in texts.items()
            )
            observed = await observe(
                watching,
                self._plan.detectors,
                Content(segments, request.question, memo=self.memo),
                timed,
            )
            verdict = judge_guards(policy, watching, observed, self.hits)
            self.judged(Stage.OUTPUT, verdict)
        else:
            verdict = Verdict()
        self._count_refusal(verdict, any(lane == "refusal" for _, lane in texts))

    def _count_refusal(self, verdict: Verdict, said_so: bool) -> None:
        policy = self.entry.policy
        guards = {g.name: g for g in policy.guards}
        declined = said_so or any(
            f.score >= guards[one.guard].threshold
            for one in verdict.guards
            if one.guard in guards and guards[one.guard].detector == REFUSAL
            for f in one.findings
        )
        if declined:
            self.metrics.refusals.labels(policy.name, policy.version, self.entry.model).inc()
