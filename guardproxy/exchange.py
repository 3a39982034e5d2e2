"""ORDER: what happens to one request and its answer on their way through. Read this file first.

    images → judge input → harden → ask the model → gate → client

No other file knows this order. Nothing here decides (core), measures (detectors) or formats (wire).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Collection
from time import perf_counter, time

from guardproxy.account import Account
from guardproxy.core.content import Request
from guardproxy.core.gate import Event
from guardproxy.core.harden import added_text, harden, language_of
from guardproxy.core.policy import Bilingual, Policy
from guardproxy.core.verdict import Action, Verdict
from guardproxy.detectors.base import Content
from guardproxy.errors import UpstreamError, UpstreamTimeout
from guardproxy.inbox import Inbox
from guardproxy.inward import Blocked, Inward
from guardproxy.moderation import moderation
from guardproxy.outward import Outward, Plan
from guardproxy.parts import Parts
from guardproxy.repair import Flagged, second_answer
from guardproxy.upstream import ENDLESS, Response
from guardproxy.wire import sse
from guardproxy.wire.dialect import Answer, Dialect, Json
from guardproxy.wire.dialects import CHAT
from guardproxy.wire.upstream_fault import told_of

DROP_THE_TURN = Bilingual(
    "The application should drop this turn from the conversation.",
    "この発言は会話の履歴から取り除いてください。",
)


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
        self._hidden = ""
        self._is_repaired = False
        self._message = plan.policy.block.message.get(language_of(request))
        self._answer: Answer = dialect.answer(request, self._message)

    # The way in.

    async def ask(self) -> None:
        """Steps 1 to 4: after it, the model server has begun its answer.

        Raises:
            WireError: The request is not acceptable.
            Blocked: The policy stops the request, or a closed guard could not look.
            UpstreamError: The model server has no answer.
        """
        inward = Inward(self._parts, self._plan, self.account)
        trace = self.account.trace
        trace.begin("intake")
        request = await inward.take(self.request)
        trace.begin("judge_input")
        self.request = request = await inward.judge(request)
        if not inward.looks_beside:
            self._response = await self._send(request)
            return
        beside = asyncio.create_task(inward.judge_beside(request))
        asked = asyncio.create_task(self._send(request))
        try:
            await asyncio.wait((beside, asked), return_when=asyncio.FIRST_EXCEPTION)
            await beside  # a block is told before what the model server says
            self._response = await asked
        finally:
            await self._give_up(beside, asked)

    async def _give_up(self, beside: asyncio.Task[None], asked: asyncio.Task[Response]) -> None:
        """End what still runs, and an answer that nobody takes."""
        beside.cancel()
        asked.cancel()
        await asyncio.wait((beside, asked))
        if self._response is None and not asked.cancelled() and asked.exception() is None:
            asked.result().close()

    async def _send(self, request: Request) -> Response:
        """Steps 3 and 4."""
        parts, policy = self._parts, self._policy
        if policy.hardening and self._dialect.hardens:
            self.account.trace.begin("harden")
            request = self._harden(request)
            self._hidden = added_text(request)
        salt = self.account.client.cache_salt if parts.cache_salt else None
        dialect = self._dialect
        response = await parts.fleet.ask(
            request.model,
            dialect.path,
            lambda model: dialect.write(request, model=model, cache_salt=salt),
            self.account.asking(),
        )
        if response.status != 200:
            raise await self._refused(response)
        return response

    def _harden(self, request: Request) -> Request:
        return harden(
            self._policy, request, model=request.model, nonce=secrets.token_hex(4), marker=self._parts.leak_marker
        )  # fmt: skip

    async def _refused(self, response: Response) -> UpstreamError:
        try:
            body = await response.read_all(64_000, self._parts.times.idle_s)
        except UpstreamError:
            body = b""  # an echo of the request may be as long as the request: the status says enough
        finally:
            response.close()
        names = {response.model: self.request.model}
        return told_of(response.status, response.headers, body, names, self._hidden)

    # The way out.

    def _outward(self, wake: Callable[[], None]) -> Outward:
        self.account.trace.begin("judge_output")
        content = Content((), self.request.question, memo=self.account.memo, hidden=self._hidden)
        return Outward(self._plan, content, self.account, wake)

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
            data = await response.read_all(self._parts.max_answer_bytes, times.answer_s, times.total_s)
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
            if outward.repairs:
                await self._repair(outward)
        finally:
            outward.close()
        if outward.unavailable and outward.unavailable >= set(outward.gates):
            raise Blocked(Verdict(Action.BLOCK, Action.BLOCK, unavailable=True))
        self._finished(outward)
        self._explain()
        return self._answer.body(released, outward.cut_choices, self._note(outward))

    async def streamed(self) -> AsyncGenerator[bytes, None]:
        """Step 5 for a stream: bytes of server-sent events for the client.

        Faults after the first byte become an error event; the stream never just ends.
        """
        response = self._response
        assert response is not None
        outward = self._outward(response.wake)
        inbox = Inbox(outward, self._answer, self._parts.max_held_chars)
        try:
            async for events in self._judged(response, outward, inbox):
                if events is None:
                    yield sse.KEEP_ALIVE
                    continue
                if outward.repairs and not self._is_repaired:
                    async for sign_of_life in self._repair_alive(outward):
                        yield sign_of_life
                note = self._note(outward) if outward.gates and outward.is_told else None
                piece = self._answer.write(events, outward.cut_choices, note)
                if came := [e.at for e in events if e.texts]:
                    self.account.released(perf_counter() - min(came))
                if piece:
                    yield piece
            self._finished(outward)
            self._explain()
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

    async def _repair_alive(self, outward: Outward) -> AsyncGenerator[bytes, None]:
        """Repair, with signs of life for the client that waits."""
        repair = asyncio.create_task(self._repair(outward))
        try:
            while not (await asyncio.wait((repair,), timeout=self._parts.times.keep_alive_s))[0]:
                yield sse.KEEP_ALIVE
            repair.result()
        finally:
            repair.cancel()

    async def _repair(self, outward: Outward) -> None:
        """Say something safe in place of a flagged answer of which nothing has left; else the block stays."""
        if self.request.n > 1 or self._response is None:
            return
        self._response.close()
        ((choice, verdict),) = outward.repairs.items()
        how = self._plan.repair_of(verdict)
        draft = "".join(outward.texts.get((choice, "content"), ()))
        flagged = Flagged.by(verdict, self.request, draft)
        with self.account.repairing(how.value) as sent:
            text = await second_answer(
                how, flagged, self._ask_again, outward.clears, self._parts.times.repair_s
            )
            if text is not None:
                self._is_repaired = True
                self._answer.repaired(text)
                sent()

    async def _ask_again(self, request: Request) -> str:
        """What the model says to a further request of our own, hardened like the client's."""
        parts = self._parts
        request = self._harden(parts.tokens.neutralise_request(request))
        salt = self.account.client.cache_salt if parts.cache_salt else None
        response = await parts.fleet.ask(
            request.model, CHAT.path, lambda model: CHAT.write(request, model=model, cache_salt=salt)
        )
        try:
            data = await response.read_all(parts.max_answer_bytes, parts.times.answer_s)
        finally:
            response.close()
        if response.status != 200:
            raise UpstreamError(f"The model server answers a repair with status {response.status}")
        answer = CHAT.answer(request, "")
        texts = [
            text for event in answer.take_body(data) for channel, text in event.texts if channel == "content"
        ]
        self.account.asked_again(answer.usage)
        return "".join(texts)

    def _finished(self, outward: Outward) -> None:
        account = self.account
        account.entry.texts = outward.texts
        account.unjudged.update(outward.unjudged())
        account.entry.usage = self._answer.usage
        account.exposed(outward.exposed)
        if outward.unavailable:
            account.end("guard_unavailable")
        elif self._is_repaired:
            account.end("repaired")
        elif outward.cuts:
            account.end("cut" if self.request.stream and account.has_released else "blocked_output")
        else:
            account.end("redacted" if account.strictest is Action.REDACT else "answered")

    def _explain(self) -> None:
        if self._policy.block.explain == "categories":
            self._answer.moderation = moderation(self._policy, self.account.entry.observed.findings)

    def _note(self, outward: Outward) -> Json:
        unjudged = self.account.unjudged | outward.unjudged()
        action, code = "allow", None
        if self._is_repaired:
            action = "repair"
        elif outward.cuts:
            action, code = "block", "guard_unavailable" if outward.unavailable else "content_filter"
        elif self.account.strictest is Action.REDACT:
            action = "redact"
        return note(action, unjudged, code, self.account.reviews)

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
        self._explain()
        return self._answer.blocked(note, int(time()), secrets.token_hex(12))

    def abort(self) -> None:
        """The client is gone: so is the request to the model."""
        if self._response is not None:
            self._response.close()


def note(action: str, unjudged: set[str], code: str | None, reviews: Collection[str] = ()) -> Json:
    """The `guardproxy` key of an answer; `review` names the guards that leave it to people, if any."""
    told: Json = {"action": action, "unjudged": sorted(unjudged), "code": code}
    return told | {"review": sorted(reviews)} if reviews else told
