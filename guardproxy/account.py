"""What one exchange leaves behind: its outcome and verdicts, counted once, beside its way."""

from __future__ import annotations

from time import perf_counter

from guardproxy.core.content import Request, Segment
from guardproxy.core.judge import judge_guards
from guardproxy.core.policy import Policy
from guardproxy.core.verdict import Action, GuardVerdict, Stage, Verdict
from guardproxy.detectors.base import Content
from guardproxy.detectors.observe import observe
from guardproxy.keys import Client
from guardproxy.outward import Plan
from guardproxy.telemetry.metrics import Metrics

REFUSAL = "refusal"


class Account:
    """Counts one exchange.

    Args:
        metrics: Where it is counted.
        plan: Of the policy that serves it.
        model: The public name, or `unknown`.
        client: Who sent it.
    """

    def __init__(self, metrics: Metrics, plan: Plan, model: str, client: Client) -> None:
        self.metrics = metrics
        self.client = client
        self.outcome: str | None = None
        self.texts: dict[tuple[int, str], list[str]] = {}
        self.unjudged: set[str] = set()
        self.usage: dict[str, object] | None = None
        self.strictest = Action.ALLOW
        self.has_released = False
        self._plan = plan
        self._model = model
        self._request: Request | None = None
        self._verdicts: dict[tuple[Stage, str], tuple[Action, Action]] = {}
        self._failures: set[tuple[str, str]] = set()
        self._started = self._mark = perf_counter()
        self._own = 0.0
        self._held_since = 0.0
        self._longest_hold = 0.0
        metrics.in_flight.inc()

    def requested(self, request: Request, policy: Policy) -> None:
        """The request is canonical and about to be judged."""
        self._request = request
        for field in request.dropped:
            self.metrics.fields_dropped.labels(field).inc()
        looked_at = policy.looked_at(Stage.INPUT)
        self.unjudged.update({s.kind for s in request.segments()} - looked_at)

    def judged(self, stage: Stage, verdict: Verdict) -> None:
        """A verdict came in; of each guard the strictest counts."""
        self.strictest = max(self.strictest, verdict.action)
        for one in verdict.guards:
            self._one(stage, one)

    def _one(self, stage: Stage, one: GuardVerdict) -> None:
        key = (stage, one.guard)
        action, wanted = self._verdicts.get(key, (Action.ALLOW, Action.ALLOW))
        self._verdicts[key] = (max(action, one.action), max(wanted, one.wanted))
        if one.failure is not None:
            self._failures.add((one.guard, one.failure.reason))

    def asking(self) -> None:
        """The model is asked: from now on time is its own."""
        self._own += perf_counter() - self._mark
        self._mark = 0.0

    def answered(self) -> None:
        """The model has said all it will say."""
        self._mark = perf_counter()

    def released(self) -> None:
        """Text went to the client."""
        if not self.has_released:
            self.has_released = True
            self.metrics.ttft_seconds.observe(perf_counter() - self._started)

    def held(self, chars: int, now: float) -> None:
        """So much text is held back at this time."""
        if not chars:
            self._held_since = 0.0
        elif not self._held_since:
            self._held_since = now
        else:
            self._longest_hold = max(self._longest_hold, now - self._held_since)

    def end(self, outcome: str) -> None:
        """How the exchange ended; the first word counts."""
        if self.outcome is None:
            self.outcome = outcome

    async def close(self) -> None:
        """Judge with the guards that only watch, then count everything once."""
        metrics, policy = self.metrics, self._plan.policy
        metrics.in_flight.dec()
        metrics.exchanges.labels(policy.name, policy.version, self._model, self.outcome or "error").inc()
        metrics.key_exchanges.labels(self.client.name, self.outcome or "error").inc()
        metrics.overhead_seconds.observe(self._own + (perf_counter() - self._mark if self._mark else 0.0))
        metrics.held_back_seconds.observe(self._longest_hold)
        try:
            await self._watch()
        finally:
            self._count()

    def _count(self) -> None:
        policy = self._plan.policy
        for (stage, guard), (action, wanted) in self._verdicts.items():
            self.metrics.verdicts.labels(
                policy.name, policy.version, stage.value, guard, action.label, wanted.label
            ).inc()
        for guard, reason in self._failures:
            self.metrics.guard_failures.labels(policy.name, guard, reason).inc()
        for what in self.unjudged:
            self.metrics.unjudged.labels(what).inc()

    async def _watch(self) -> None:
        request, policy, timed = self._request, self._plan.policy, self.metrics.timed
        if request is None:
            return
        watching = policy.watching(Stage.INPUT)
        if watching:
            content = Content(request.segments(), request.question)
            observed = await observe(watching, self._plan.detectors, content, timed)
            self.judged(Stage.INPUT, judge_guards(policy, watching, observed))
        texts = self.texts
        if not texts:
            return
        watching = policy.watching(Stage.OUTPUT)
        if watching:
            segments = tuple(
                Segment(c, f"choices[{i}].{c}", "".join(t), untrusted=True) for (i, c), t in texts.items()
            )
            observed = await observe(
                watching, self._plan.detectors, Content(segments, request.question), timed
            )
            verdict = judge_guards(policy, watching, observed)
            self.judged(Stage.OUTPUT, verdict)
        else:
            verdict = Verdict()
        self._count_refusal(verdict, any(channel == "refusal" for _, channel in texts))

    def _count_refusal(self, verdict: Verdict, said_so: bool) -> None:
        policy = self._plan.policy
        guards = {g.name: g for g in policy.guards}
        declined = said_so or any(
            f.score >= guards[one.guard].threshold
            for one in verdict.guards
            if guards[one.guard].detector == REFUSAL
            for f in one.findings
        )
        if declined:
            self.metrics.refusals.labels(policy.name, policy.version, self._model).inc()
