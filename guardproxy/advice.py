"""Judges texts for another gateway, which then acts: the exchange without its model.

    pictures → judge → a block, redacted texts, or nothing to say

What such a gateway sends to its model is its own: nothing is hardened or made canonical here.
"""

from __future__ import annotations

from guardproxy.account import Account
from guardproxy.core.content import ImagePart, Request, Segment, TextPart
from guardproxy.core.harden import language_of
from guardproxy.core.judge import judge_guards
from guardproxy.core.redact import redact
from guardproxy.core.verdict import Action, Stage, Verdict
from guardproxy.detectors.base import Content
from guardproxy.detectors.observe import observe
from guardproxy.errors import WireError
from guardproxy.inward import Blocked, Inward
from guardproxy.outward import Plan, unescaped
from guardproxy.parts import Parts
from guardproxy.wire.guardrail import Advised, Consulted

NONE = Advised("NONE")
CANNOT_LOOK = "A guard of this service could not look"


class Advice:
    """One consultation.

    Args:
        parts: What every exchange uses.
        plan: Of the policy in force.
        account: Where it is counted.
    """

    def __init__(self, parts: Parts, plan: Plan, account: Account) -> None:
        self._plan = plan
        self._account = account
        self._inward = Inward(parts, plan, account)

    async def give(self, consulted: Consulted) -> Advised:
        """What the policy makes of it. What cannot be looked at is blocked."""
        try:
            if consulted.stage is Stage.INPUT:
                return await self._on_request(consulted.request)
            return await self._on_answer(consulted)
        except WireError as error:
            self._account.end("rejected", error.code)
            return Advised("BLOCKED", str(error))
        except Blocked as blocked:
            if blocked.verdict.unavailable:
                self._account.end("guard_unavailable")
                return Advised("BLOCKED", CANNOT_LOOK)
            self._account.end("blocked_input" if consulted.stage is Stage.INPUT else "blocked_output")
            return Advised("BLOCKED", self._plan.policy.block.message.get(language_of(consulted.request)))
        finally:
            if self._account.reading is not None:
                self._account.reading.close()

    async def _on_request(self, request: Request) -> Advised:
        admitted = await self._inward.admit(request)
        judged = await self._inward.judge(admitted)
        await self._inward.judge_beside(judged)
        texts, images = _texts(judged), _images(judged)
        were_texts, were_images = _texts(admitted), _images(admitted)
        if _calls(judged) != _calls(admitted):  # the other gateway takes no calls back
            raise Blocked(Verdict(Action.BLOCK, Action.BLOCK))
        if texts == were_texts and images == were_images:
            self._account.end("answered")
            return NONE
        self._account.end("redacted")
        return Advised("GUARDRAIL_INTERVENED", None, texts, () if images == were_images else images)

    async def _on_answer(self, consulted: Consulted) -> Advised:
        account, plan = self._account, self._plan
        account.requested(consulted.request, ())
        unjudged = {s.kind for s in consulted.answer} - plan.watched
        account.unjudged.update(unjudged)
        if unjudged and plan.refuses_unjudged:
            account.end("blocked_output", "unjudged_content")
            kinds = ", ".join(sorted(unjudged))
            raise WireError(f"this service's policy has no guard for content of kind {kinds}")
        texts = []
        for index, segment in enumerate(consulted.answer):
            account.entry.texts[index, segment.kind] = [segment.text]
            text = await self._judged(segment, consulted.request.question)
            if segment.kind == "content":
                texts.append(text)
        if texts == [s.text for s in consulted.answer if s.kind == "content"]:
            account.end("answered")
            return NONE
        account.end("redacted")
        return Advised("GUARDRAIL_INTERVENED", None, tuple(texts))

    async def _judged(self, segment: Segment, question: str) -> str:
        """The text as it may be told.

        Raises:
            Blocked: It may not.
        """
        plan, account = self._plan, self._account
        guards = plan.by_channel.get(segment.kind, ())
        shown = [segment]
        if segment.kind == "tool_arguments" and (decoded := unescaped(segment.text)):
            shown.append(Segment(segment.kind, f"{segment.place}.decoded", decoded, untrusted=True))
        content = Content(tuple(shown), question, memo=account.memo, tenant=account.client.name)
        observed = await observe(guards, plan.detectors, content, account.timed)
        verdict = judge_guards(plan.policy, guards, observed, account.hits)
        account.judged(Stage.OUTPUT, verdict)
        # There is no second answer to give here, and no way to give calls back.
        is_cut = verdict.action >= Action.REPAIR or (verdict.redactions and segment.kind != "content")
        if is_cut:
            raise Blocked(verdict)
        return redact(segment.text, verdict.redactions) if verdict.redactions else segment.text


def _texts(request: Request) -> tuple[str, ...]:
    return tuple(p.text for m in request.messages for p in m.parts if isinstance(p, TextPart))


def _images(request: Request) -> tuple[str, ...]:
    parts = (p for m in request.messages for p in m.parts if isinstance(p, ImagePart))
    return tuple(p.sent[1:-1].decode("ascii") for p in parts)


def _calls(request: Request) -> list[object]:
    return [call for m in request.messages for call in m.tool_calls]
