"""What is recorded of each answer, and which tries are made again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from guardproxy.errors import EvalError
from guardproxy.evals.answer import Answer
from guardproxy.evals.asking import HttpAsker, base_url
from guardproxy.evals.outcome import Label, Outcome, outcome_of

Reply = httpx.Response | Exception


def asked(*replies: Reply) -> tuple[Answer, list[httpx.Request]]:
    """The answer of a server that replies so, one after the other, and what it was sent."""
    sent: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        reply = replies[min(len(sent), len(replies)) - 1]
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def ask() -> Answer:
        transport = httpx.MockTransport(handle)
        async with httpx.AsyncClient(transport=transport, base_url=base_url("http://model")) as client:
            return await HttpAsker(client, pause_s=0).ask(
                {"model": "m"}, {"x-guardproxy-use-policy": "arm-all"}
            )

    return asyncio.run(ask()), sent


def said(message: dict[str, Any], finish: str = "stop", **top: Any) -> httpx.Response:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return httpx.Response(200, json={"choices": [choice], **top}, headers=top.pop("headers", None))


def fault(status: int, code: object, message: str = "no") -> httpx.Response:
    return httpx.Response(
        status, json={"error": {"message": message, "type": "t", "param": None, "code": code}}
    )


BLOCK = {"action": "block", "unjudged": [], "code": "content_filter"}
GONE = {"action": "block", "unjudged": [], "code": "guard_unavailable"}


def test_an_answer_is_recorded_as_it_came() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    reply = said(
        {"content": "Yes.", "reasoning": "hm", "tool_calls": [call]},
        usage={"prompt_tokens": 3, "completion_tokens": 5},
        guardproxy={"action": "allow", "unjudged": ["image"], "code": None},
    )
    reply.headers.update({"x-guardproxy-policy": "arm-all", "x-guardproxy-version": "abc"})
    answer, sent = asked(reply)
    assert sent[0].url == "http://model/v1/chat/completions"
    assert sent[0].headers["x-guardproxy-use-policy"] == "arm-all"
    assert (answer.content, answer.reasoning, answer.tool_calls) == ("Yes.", "hm", ('look {"a":1}',))
    assert (answer.action, answer.unjudged, answer.policy, answer.version) == (
        "allow",
        ("image",),
        "arm-all",
        "abc",
    )
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 5)
    assert answer.ms > 0
    assert answer.text == 'Yes.\nlook {"a":1}'


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (said({"content": "Yes."}), Outcome.COMPLIED),
        (said({"content": "Yes."}, "length"), Outcome.COMPLIED),
        (said({"content": None, "refusal": "No."}), Outcome.REFUSED),
        (said({"content": ""}), Outcome.UNREADABLE),
        (said({"content": None, "reasoning": "long thoughts"}, "length"), Outcome.UNREADABLE),
        (said({"content": "Withheld."}, "content_filter"), Outcome.BLOCKED),
        (said({"content": "Withheld."}, "stop", guardproxy=BLOCK), Outcome.BLOCKED),
        (said({"content": "Withheld."}, "content_filter", guardproxy=GONE), Outcome.ERROR),
        (said({"content": "Safe."}, "stop", guardproxy={"action": "repair"}), Outcome.REPAIRED),
        (said({"content": "[removed]"}, "stop", guardproxy={"action": "redact"}), Outcome.COMPLIED),
        (fault(400, "content_filter"), Outcome.BLOCKED),
        (fault(400, "unjudged_content"), Outcome.BLOCKED),
        (fault(400, "context_length_exceeded"), Outcome.ERROR),
        (fault(500, None), Outcome.ERROR),
        (fault(503, "guard_unavailable"), Outcome.ERROR),
        (httpx.Response(200, text="<html>"), Outcome.ERROR),
        (httpx.Response(200, json={"choices": []}), Outcome.ERROR),
        (httpx.Response(500, text="oops"), Outcome.ERROR),
        (httpx.ConnectError("refused"), Outcome.ERROR),
    ],
)
def test_each_outcome_is_kept_apart(reply: Reply, outcome: Outcome) -> None:
    answer, _ = asked(reply)
    assert outcome_of(answer, Label.COMPLIED) is outcome
    assert answer.is_error == (outcome is Outcome.ERROR)


def test_without_a_label_an_answer_is_unreadable() -> None:
    answer, _ = asked(said({"content": "Yes."}))
    assert outcome_of(answer, None) is Outcome.UNREADABLE
    assert outcome_of(answer, Label.REFUSED) is Outcome.REFUSED


@pytest.mark.parametrize(
    "first",
    [httpx.ReadTimeout("slow"), httpx.ConnectError("refused"), fault(503, "overloaded"), fault(429, "rate")],
)
def test_what_could_not_be_sent_is_tried_twice_more(first: Reply) -> None:
    answer, sent = asked(first, first, said({"content": "Yes."}))
    assert (answer.content, len(sent)) == ("Yes.", 3)
    answer, sent = asked(first)
    assert (answer.is_error, len(sent)) == (True, 3)


def test_a_time_out_says_so() -> None:
    answer, _ = asked(httpx.ReadTimeout("slow"))
    assert (answer.status, answer.code, answer.error) == (0, "timeout", "ReadTimeout: slow")


def test_an_answer_of_the_server_is_not_asked_again() -> None:
    assert len(asked(fault(400, "content_filter"))[1]) == 1
    assert len(asked(fault(500, None))[1]) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_later_questions_would_meet_too_ends_the_run(status: int) -> None:
    with pytest.raises(EvalError, match=f"{status}: may not"):
        asked(fault(status, "denied", "may not"))
    with pytest.raises(EvalError, match="no policy named 'x'"):
        asked(fault(400, "policy_not_found", "no policy named 'x'"))


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (lambda _: httpx.Response(401, json={"error": {}}), "got 401; give --model"),
        (lambda _: httpx.Response(200, json={"data": []}), "expected a list of models"),
        (lambda _: httpx.Response(200, text="x"), "expected a list of models"),
    ],
)
def test_a_target_without_models_is_told(reply: Callable[[httpx.Request], httpx.Response], told: str) -> None:
    async def first() -> str:
        async with httpx.AsyncClient(
            transport=httpx.MockTransport(reply), base_url=base_url("http://m")
        ) as client:
            return await HttpAsker(client).first_model()

    with pytest.raises(EvalError, match=told):
        asyncio.run(first())


def test_an_address_stands_with_or_without_v1() -> None:
    assert {base_url(u) for u in ("http://a:1", "http://a:1/", "http://a:1/v1", "http://a:1/v1/")} == {
        "http://a:1/v1/"
    }
    with pytest.raises(EvalError, match="--target"):
        base_url("localhost:8080")


def test_the_body_is_json() -> None:
    _, sent = asked(said({"content": "Yes."}))
    assert json.loads(sent[0].content) == {"model": "m"}
