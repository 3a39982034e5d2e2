"""ORDER: what happens to one request and its answer on their way through. Read this file first.

    images → judge input → harden → ask the model → gate → client

No other file knows this order. Nothing here decides (core), measures (detectors) or formats (wire).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from time import perf_counter, time

from guardproxy.account import Account
from guardproxy.core.canonical import SpecialTokens, canonical
from guardproxy.core.content import Request, Segment
from guardproxy.core.gate import Event
from guardproxy.core.harden import harden, language_of
from guardproxy.core.judge import judge_guards
from guardproxy.core.policy import Bilingual, Policy
from guardproxy.core.verdict import ALLOWED, Action, Stage, Verdict
from guardproxy.detectors.base import Content
from guardproxy.detectors.observe import observe
from guardproxy.errors import UpstreamError, UpstreamTimeout, WireError
from guardproxy.images.intake import Intake
from guardproxy.inbox import Inbox
from guardproxy.outward import Outward, Plan
from guardproxy.telemetry.metrics import Metrics
from guardproxy.upstream import Fleet, Response
from guardproxy.wire import sse
from guardproxy.wire.dialect import Answer, Dialect, Json
from guardproxy.wire.upstream_fault import told_of


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: text waits `hold_s` for its window to fill; held streams show life every `keep_alive_s`.

    An upstream may be silent for `answer_s` within a buffered answer, for `idle_s` within a stream; after `total_s` any
    answer must be whole.
    """

    hold_s: float = 0.3
    keep_alive_s: float = 10.0
    answer_s: float = 600.0
    idle_s: float = 120.0
    total_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What every exchange uses; built once by app."""

    fleet: Fleet
    intake: Intake
    tokens: SpecialTokens
    metrics: Metrics
    times: Times
    max_answer_bytes: int = 64_000_000
    max_held_chars: int = 4_000_000
    cache_salt: bool = True


DROP_THE_TURN = Bilingual(
    "The application should drop this turn from the conversation.",
    "この発言は会話の履歴から取り除いてください。",
)


ENDLESS = "The model server did not end its answer in time"


class Blocked(Exception):
    """The request was stopped before the model was asked."""

    def __init__(self, verdict: Verdict, message: str) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.message = message


class Exchange:
    """One request and its answer.

    Args:
        parts: What every exchange uses.
        plan: Of the policy in force when the request came.
        dialect: Of the request and its answer.
        request: Parsed.
        account: Where this exchange is counted.
    """

    def __init__(
        self,
        parts: Parts,
        plan: Plan,
        dialect: Dialect,
        request: Request,
        account: Account,
    ) -> None:
        self._parts = parts
        self._plan = plan
        self._policy: Policy = plan.policy
        self._dialect = dialect
        self.request = request
        self.account = account
        self._response: Response | None = None
        self._message = plan.policy.block.message.get(language_of(request))
        self._answer: Answer = dialect.answer(request, self._message)

    # The way in.

    async def ask(self) -> None:
        """Steps 1 to 4: after it, the model server has begun its answer.

        Raises:
            WireError: A picture is not acceptable.
            Blocked: The policy stops the request, or a closed guard could not look.
            UpstreamError: The model server has no answer.
        """
        parts, policy = self._parts, self._policy
        block = policy.block.message
        request = canonical(self.request, parts.tokens, (block.en, block.ja))
        trace = self.account.trace
        trace.begin("intake")
        request = await parts.intake.take(request, policy.images)
        self.request = request
        segments = request.segments()
        self.account.requested(request, segments)
        self._refuse_unjudged(segments)
        trace.begin("judge_input")
        verdict = await self._judge_input(Content(segments, request.question, memo=self.account.memo))
        if verdict.action is Action.BLOCK:
            raise Blocked(verdict, self._message)
        if policy.hardening and self._dialect.hardens:
            trace.begin("harden")
            request = harden(policy, request, model=self.request.model, nonce=secrets.token_hex(4))
        salt = self.account.client.cache_salt if parts.cache_salt else None
        dialect = self._dialect
        response = await parts.fleet.ask(
            request.model,
            dialect.path,
            lambda model: dialect.write(request, model=model, cache_salt=salt),
            self.account.asking(),
        )
        self._response = response
        if response.status != 200:
            raise await self._refused(response)

    def _refuse_unjudged(self, segments: tuple[Segment, ...]) -> None:
        plan = self._plan
        if not plan.refuses_unjudged:
            return
        for segment in segments:
            if segment.kind not in plan.looked_at_input:
                self.account.end("blocked_input", "unjudged_content")
                raise WireError(
                    f"{segment.place}: this service's policy has no guard for content of kind {segment.kind}",
                    param=segment.place, code="unjudged_content",
                )  # fmt: skip

    async def _judge_input(self, content: Content) -> Verdict:
        policy = self._policy
        guards = self._plan.acting_input
        if not guards:
            return ALLOWED
        observed = await observe(guards, self._plan.detectors, content, self.account.timed)
        verdict = judge_guards(policy, guards, observed)
        self.account.judged(Stage.INPUT, verdict)
        return verdict

    async def _refused(self, response: Response) -> UpstreamError:
        body = await response.read_all(64_000, self._parts.times.idle_s)
        response.close()
        return told_of(response.status, response.headers, body, {response.model: self.request.model})

    # The way out.

    def _outward(self, wake: Callable[[], None]) -> Outward:
        self.account.trace.begin("judge_output")
        return Outward(
            self._plan,
            Content((), self.request.question, memo=self.account.memo),
            timed=self.account.timed,
            record=lambda verdict: self.account.judged(Stage.OUTPUT, verdict),
            wake=wake,
        )

    async def buffered(self) -> bytes:
        """Step 5 for an answer in one piece: the body for the client.

        Raises:
            Blocked: A closed guard could not look at any choice.
            UpstreamError: The answer broke off or cannot be read.
        """
        response = self._response
        assert response is not None
        times = self._parts.times
        try:
            async with asyncio.timeout(times.total_s):
                data = await response.read_all(self._parts.max_answer_bytes, times.answer_s)
        except TimeoutError:
            raise UpstreamTimeout(ENDLESS) from None
        finally:
            response.close()
        self.account.answered()
        arrived = self._answer.take_body(data)
        outward = self._outward(lambda: None)
        try:
            for event in arrived:
                outward.receive(event)
            outward.receive_end()
            await outward.judge()
            await outward.settle()
            released = outward.release()
        finally:
            outward.close()
        if outward.unavailable and outward.unavailable >= set(outward.gates):
            raise Blocked(Verdict(Action.BLOCK, Action.BLOCK, unavailable=True), self._message)
        self._finished(outward, {e.choice for e in released if e.altered})
        return self._answer.body(released, outward.cut_choices, self._note(outward))

    async def streamed(self) -> AsyncGenerator[bytes, None]:
        """Step 5 for a stream: bytes of server-sent events for the client.

        Faults after the first byte become an error event; the stream never just ends.
        """
        response = self._response
        assert response is not None
        outward = self._outward(response.wake)
        inbox = Inbox(outward, self._answer, self._parts.max_held_chars)
        altered: set[int] = set()
        try:
            async for events in self._judged(response, outward, inbox):
                if events is None:
                    yield sse.KEEP_ALIVE
                    continue
                altered.update(e.choice for e in events if e.altered)
                note = self._note(outward) if outward.gates and outward.is_told else None
                piece = self._answer.write(events, outward.cut_choices, note)
                if came := [e.at for e in events if e.texts]:
                    self.account.released(perf_counter() - min(came))
                if piece:
                    yield piece
            self._finished(outward, altered)
            yield self._answer.end(self._note(outward))
        except UpstreamError as error:
            self.account.end("upstream_error", error.code)
            yield self._answer.broken(str(error), error.code)
        finally:
            outward.close()
            response.close()
            self.account.entry.texts = outward.texts

    async def _judged(
        self, response: Response, outward: Outward, inbox: Inbox
    ) -> AsyncGenerator[list[Event] | None, None]:
        """Batches of events that may go out; None when only a sign of life is due."""
        times = self._parts.times
        began = spoke = inbox.last_bytes
        cuts = 0
        response.listen(inbox.take)
        while not inbox.is_done:
            inbox.is_armed = outward.waiting and not outward.in_flight
            patience = inbox.patience(times.hold_s) if inbox.is_armed else times.keep_alive_s
            data = await response.read(min(patience, times.idle_s))
            now = perf_counter()
            silent_s = now - inbox.last_bytes
            if data:
                inbox.take(data)
            elif data is not None:
                inbox.take_end()
            elif silent_s > times.idle_s:
                raise UpstreamTimeout("The model server stopped in the middle of its answer")
            elif now - began > times.total_s:
                raise UpstreamTimeout(ENDLESS)
            if inbox.fault is not None:
                raise inbox.fault
            await outward.judge(early=data is None and silent_s >= times.hold_s)
            outward.raise_faults()
            events = outward.release()
            if events or outward.cuts > cuts:
                spoke, cuts = now, outward.cuts
                yield events
                if cuts == len(outward.gates):
                    return
            elif now - spoke >= times.keep_alive_s:
                spoke = now
                yield None
        self.account.answered()
        outward.receive_end()
        await outward.judge()
        await outward.settle()
        yield outward.release()

    def _finished(self, outward: Outward, altered: set[int]) -> None:
        account = self.account
        account.entry.texts = outward.texts
        account.unjudged.update(outward.unjudged())
        account.entry.usage = self._answer.usage
        account.exposed(outward.exposed)
        if outward.unavailable:
            account.end("guard_unavailable")
        elif outward.cuts:
            account.end("cut" if self.request.stream and account.has_released else "blocked_output")
        else:
            account.end("redacted" if altered else "answered")

    def _note(self, outward: Outward) -> Json:
        unjudged = self.account.unjudged | outward.unjudged()
        action, code = "allow", None
        if outward.cuts:
            action, code = "block", "guard_unavailable" if outward.unavailable else "content_filter"
        elif self.account.strictest is Action.REDACT:
            action = "redact"
        return note(action, unjudged, code)

    @property
    def block_error(self) -> str:
        """What a client is told with a 400: the block message, and what to do with the turn."""
        return f"{self._message} {DROP_THE_TURN.get(language_of(self.request))}"

    @property
    def tells_block_as_error(self) -> bool:
        """Whether the policy answers an input block with a 400."""
        return self._policy.block.input == "error"

    def block_body(self, note: Json) -> bytes:
        """The 200 answer, or the stream, that tells an input block as a message."""
        return self._answer.blocked(note, int(time()), secrets.token_hex(12))

    def abort(self) -> None:
        """The client is gone: so is the request to the model."""
        if self._response is not None:
            self._response.close()


def note(action: str, unjudged: set[str], code: str | None) -> Json:
    """The `guardproxy` key of an answer."""
    return {"action": action, "unjudged": sorted(unjudged), "code": code}
