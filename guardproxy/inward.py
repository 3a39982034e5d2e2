"""The way in: pictures made canonical, the request judged, and what guards found taken out of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from guardproxy.account import Account
from guardproxy.core.canonical import canonical
from guardproxy.core.content import Request, Segment
from guardproxy.core.judge import judge_guards
from guardproxy.core.policy import Guard
from guardproxy.core.redact import redact_request
from guardproxy.core.verdict import ALLOWED, Action, Stage, Verdict
from guardproxy.detectors.observe import IMAGE_TEXT, observe
from guardproxy.errors import WireError
from guardproxy.images.reader import Reading, pictures_of
from guardproxy.outward import Plan
from guardproxy.parts import Parts


class Blocked(Exception):
    """The exchange is stopped, and nothing of an answer leaves."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__("blocked")
        self.verdict = verdict


class Inward:
    """The way in of one request.

    Args:
        parts: What every exchange uses.
        plan: Of the policy that the exchange started with.
        account: Told what is observed.
    """

    def __init__(self, parts: Parts, plan: Plan, account: Account) -> None:
        self._parts = parts
        self._plan = plan
        self._account = account

    async def take(self, request: Request) -> Request:
        """The request as it will be judged and sent.

        Raises:
            WireError: Nothing is left to answer, a picture is not acceptable, or the policy refuses what nobody
                would look at.
        """
        block = self._plan.policy.block.message
        return await self.admit(canonical(request, self._parts.tokens, (block.en, block.ja)))

    async def admit(self, request: Request) -> Request:
        """The second half of `take`, for a request whose texts are left as they are."""
        tenant = self._account.client.name
        request = await self._parts.intake.take(request, self._plan.policy.images, tenant)
        if self._plan.reads_pictures and pictures_of(request):
            self._account.reading = Reading(request, partial(self._parts.reader.read, tenant=tenant))
        segments = request.segments()
        self._account.requested(request, segments)
        self._refuse_unjudged(segments)
        return request

    async def judge(self, request: Request) -> Request:
        """Ask the guards that stand before the model; gives the request without what they want out of it.

        Raises:
            Blocked: The policy stops the request, or a closed guard could not look.
        """
        verdict = await self._judge(self._plan.acting_input, request)
        reading = self._account.reading
        if reading is not None:
            request = reading.request  # with what was read, if it was
        return await self._redacted(request, verdict) if verdict.redactions else request

    @property
    def looks_beside(self) -> bool:
        """Whether a guard that is asked while the model begins has anything to look at."""
        account = self._account
        kinds = {s.kind for s in account.entry.segments}
        if account.reading is not None:
            kinds.add(IMAGE_TEXT)
        return any(kinds.intersection(g.looks_at) for g in self._plan.concurrent_input)

    async def judge_beside(self, request: Request) -> None:
        """Ask the guards that look while the model begins its answer; raises as `judge`."""
        await self._judge(self._plan.concurrent_input, request)

    async def _judge(self, guards: tuple[Guard, ...], request: Request) -> Verdict:
        if not guards:
            return ALLOWED
        plan, account = self._plan, self._account
        observed = await observe(guards, plan.detectors, account.content(request), account.timed)
        verdict = judge_guards(plan.policy, guards, observed, account.hits)
        account.judged(Stage.INPUT, verdict)
        if verdict.action is Action.BLOCK:
            raise Blocked(verdict)
        return verdict

    async def _redacted(self, request: Request, verdict: Verdict) -> Request:
        found = redact_request(request, verdict.redactions)
        if found is None:
            raise Blocked(replace(verdict, action=Action.BLOCK))
        request, boxes = found
        request = await self._parts.intake.paint(request, boxes) if boxes else request
        if self._account.reading is not None:
            self._account.reading = self._account.reading.of(request)
        self._account.redacted(request)
        return request

    def _refuse_unjudged(self, segments: tuple[Segment, ...]) -> None:
        plan = self._plan
        if not plan.refuses_unjudged:
            return
        for segment in segments:
            if segment.kind not in plan.looked_at_input:
                self._account.end("blocked_input", "unjudged_content")
                raise WireError(
                    f"{segment.place}: this service's policy has no guard for content of kind {segment.kind}",
                    param=segment.place, code="unjudged_content",
                )  # fmt: skip
