"""Answers and streams: only named fields, every channel as text, written anew."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.gate import Event
from guardproxy.errors import UpstreamError
from guardproxy.wire import chat, chat_answer, chat_choice, fault_body, sse
from guardproxy.wire.reading import counts
from tests.fakes import answer, chunk


def events_of(choices: list[dict[str, Any]], key: str = "message") -> list[Event]:
    answer = chat_answer.read(json.dumps({"choices": choices}).encode())
    return chat_choice.Choices(9).events(answer.choices or (), is_whole=key == "message")


def event(message: dict[str, Any], key: str = "message") -> Event:
    return events_of([{"index": 0, key: message, "finish_reason": None, "logprobs": {"content": []}}], key)[0]


FULL = {
    "content": "c", "reasoning": "r1", "reasoning_content": "r2", "refusal": "n",
    "tool_calls": [{"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}, {"index": 1}],
    "function_call": {"arguments": "x"},
}  # fmt: skip


def test_every_channel_is_text_for_the_gate() -> None:
    assert event(FULL).texts == (
        ("content", "c"), ("reasoning", "r1"), ("reasoning#content", "r2"), ("refusal", "n"),
        ("tool_arguments", "1\n"), ("tool_arguments", "f\n{}"), ("tool_arguments#function", "x"),
    )  # fmt: skip
    assert event({}, "delta").texts == ()


def test_what_a_client_reads_apart_is_judged_apart() -> None:
    """A client joins calls by their index, and each name of the thinking for itself."""
    choices = chat_choice.Choices(1)

    def take(**delta: Any) -> tuple[tuple[str, str], ...]:
        answer = chat_answer.read(json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode())
        return choices.events(answer.choices or ())[0].texts

    def call(index: int, **function: str) -> dict[str, Any]:
        return {"index": index, "id": "id", "type": "odd words", "function": function}

    assert take(tool_calls=[call(0, name="f", arguments="{")]) == (
        ("tool_arguments", "id\n"),
        ("tool_arguments", "f\n{"),
    )
    assert take(tool_calls=[call(1, name="g"), call(0, arguments="}")]) == (
        ("tool_arguments#1", "id\n"), ("tool_arguments#1", "g\n"), ("tool_arguments", "}"),
    )  # fmt: skip
    assert take(tool_calls=[call(1, name=" of a longer name")]) == (("tool_arguments#1", ""),)
    assert take(function_call={"name": "h"}) == (("tool_arguments#function", "h\n"),)
    assert take(function_call={"name": "more"}) == (("tool_arguments#function", ""),)


def test_what_no_gate_sees_is_a_word_of_ours() -> None:
    both = {"index": 0, "delta": {"role": "odd words", "content": "a"}, "message": {"content": "b"}}
    call = {"index": 7, "id": "odd", "type": "odd words", "function": {"name": "f", "arguments": ""}}
    for key, text in (("delta", {"role": "assistant", "content": "a"}), ("message", {"content": "b"})):
        (one,) = events_of([both], key)
        assert json.loads(msgspec.json.encode(chat_choice.rewritten(one))) == {"index": 0, key: text}
    (one,) = events_of([{"index": 0, "message": {"tool_calls": [call]}}])
    told = json.loads(msgspec.json.encode(chat_choice.rewritten(one)))["message"]["tool_calls"]
    assert told == [{"id": "odd", "type": "function", "function": {"name": "f", "arguments": ""}}]


@pytest.mark.parametrize("numbers", [[-1], [9], [0, 0]])
def test_a_choice_that_nobody_asked_for_is_refused(numbers: list[int]) -> None:
    with pytest.raises(UpstreamError):
        events_of([{"index": i, "message": {"content": "a"}} for i in numbers])


def test_a_head_holds_words_and_no_text() -> None:
    request = chat.parse(b'{"model":"m","messages":[{"role":"user","content":"hi"}]}', max_text_chars=9)
    one = chat_answer.ChatAnswer(request, "no")
    texts = dict.fromkeys(("id", "object", "service_tier", "system_fingerprint"), "odd words")
    choice = {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}
    usage = {
        "prompt_tokens": "odd words",
        "prompt_tokens_details": {"odd words": 1, "cached_tokens": 2, "x": "odd words"},
    }
    data = json.dumps({**texts, "choices": [choice], "usage": usage})
    out = one.body(list(one.take_body(data.encode())), (), {})
    assert b"odd words" not in out
    assert json.loads(out)["object"] == "chat.completion"
    assert json.loads(out)["usage"] == {"prompt_tokens_details": {"cached_tokens": 2}}


def test_redactions_are_put_back_into_their_channel() -> None:
    one = event(FULL)
    one.altered, one.texts = True, tuple((c, f"{t}!") for c, t in one.texts)
    text = json.loads(msgspec.json.encode(chat_choice.rewritten(one)))
    message = text["message"]
    assert message["content"] == "c!"
    assert (message["reasoning"], message["reasoning_content"], message["refusal"]) == ("r1!", "r2!", "n!")
    assert message["tool_calls"][0]["id"] == "1\n!"
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}!"}
    assert message["function_call"] == {"arguments": "x!"}
    assert text["logprobs"] is None


def test_a_redacted_event_without_text_or_logprobs_stays_as_it_is() -> None:
    (one,) = events_of([{"index": 0}])
    one.altered = True
    assert json.loads(msgspec.json.encode(chat_choice.rewritten(one))) == {"index": 0}
    named = event({"tool_calls": [{"function": {"name": "f"}}]})
    named.altered = True
    assert chat_choice.rewritten(named).message


def test_an_untouched_event_is_written_as_it_came() -> None:
    data = chunk({"content": "hi"}).removeprefix(b"data: ").strip()
    head = chat_answer.read(data)
    (one,) = chat_choice.Choices(1).events(head.choices or ())
    out = json.loads(chat_answer.chunk(head, [chat_choice.rewritten(one)], "m").removeprefix(b"data: "))
    assert out["choices"] == [
        {"index": 0, "delta": {"content": "hi"}, "logprobs": None, "finish_reason": None}
    ]
    assert out["id"] == "chatcmpl-1"


def test_what_is_not_named_is_left_behind() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    request = chat.parse(json.dumps(body).encode(), max_text_chars=99)
    one = chat_answer.ChatAnswer(request, "no")
    told = json.dumps(answer("hi") | {"moderation": {"input": "the server's own"}})
    out = one.body(list(one.take_body(told.encode())), (), {"action": "allow"})
    for name in (b"prompt_token_ids", b"kv_transfer_params", b"moderation"):
        assert name not in out
    assert json.loads(out)["guardproxy"] == {"action": "allow"}
    two = chat_answer.ChatAnswer(request, "no")
    bare = b'{"id":"x","choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}]}'
    assert "usage" not in json.loads(two.body(list(two.take_body(bare)), (), {}))


def test_usage_holds_only_the_known_counts() -> None:
    assert chat_answer.scrubbed_usage({"prompt_tokens": 1, "odd": 2}) == {"prompt_tokens": 1}
    assert chat_answer.scrubbed_usage(None) is None


@pytest.mark.parametrize("include_usage", [False, True])
def test_an_input_block_can_be_told_as_an_answer(include_usage: bool) -> None:
    def told(stream: bool) -> bytes:
        options = {"stream_options": {"include_usage": include_usage}} if stream else {}
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "n": 2, "stream": stream}
        request = chat.parse(json.dumps(body | options).encode(), max_text_chars=99)
        return chat_answer.ChatAnswer(request, "no").blocked({"action": "block"}, 1, "x")

    whole = json.loads(told(stream=False))
    assert [c["finish_reason"] for c in whole["choices"]] == ["content_filter"] * 2
    events = sse.Decoder().receive(told(stream=True))
    assert events[-1] == b"[DONE]"
    last = json.loads(events[-2])
    assert last["guardproxy"] == {"action": "block"}
    assert ("usage" in last) is include_usage


@given(
    st.lists(st.text(max_size=20).map(lambda t: t.replace("\r", "").replace("\n", "")), max_size=5), st.data()
)
def test_events_are_the_same_for_any_chunking(texts: list[str], data: st.DataObject) -> None:
    whole = b"".join(b"data: " + t.encode("utf-8", "replace") + b"\n\n" for t in texts if t)
    decoder, found, at = sse.Decoder(), [], 0
    while at < len(whole):
        size = data.draw(st.integers(1, 9))
        found += decoder.receive(whole[at : at + size])
        at += size
    assert found == [t.encode("utf-8", "replace") for t in texts if t]
    assert not decoder.unfinished


def test_other_legal_spellings_of_events() -> None:
    decoder = sse.Decoder()
    assert decoder.receive(b": comment\n\ndata:x\r\n\r") == []
    assert decoder.receive(b"\nevent: e\ndata: a\ndata: b\n\n\n\n") == [b"x", b"a\nb"]
    decoder.receive(b"data: half")
    assert decoder.unfinished


def test_an_endless_event_is_refused() -> None:
    with pytest.raises(sse.EventTooLong):
        sse.Decoder(max_event_bytes=10).receive(b"x" * 11)
    decoder = sse.Decoder(max_event_bytes=10)
    assert decoder.receive(b"x" * 11 + b"\r") == []
    with pytest.raises(sse.EventTooLong):
        decoder.receive(b"x\r")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            b'{"error": {"message": "no file /models/secret/x.bin here", "param": "p"}}',
            ("no file [path] here", "p"),
        ),
        (b'{"error": "Unauthorized"}', ("Unauthorized", None)),
        (b'{"detail": "Not Found"}', ("Not Found", None)),
        (b'{"error": {"message": 3, "param": 3}}', ("The model server answered with an error", None)),
        (b'{"error": 3}', ("The model server answered with an error", None)),
        (b"<html>", ("The model server answered with an error", None)),
        (b"[]", ("The model server answered with an error", None)),
    ],
)
def test_upstream_errors_of_any_shape_are_read(body: bytes, said: tuple[str, str | None]) -> None:
    assert fault_body.upstream_message(body) == said


def test_error_types_follow_the_status() -> None:
    assert fault_body.type_for(429) == "rate_limit_error"
    assert fault_body.type_for(418) == "invalid_request_error"
    assert fault_body.type_for(503) == "server_error"


def test_an_error_is_told_in_openais_envelope() -> None:
    body = json.loads(fault_body.error_body("m", type_="t", code="c", param="p"))
    assert body == {"error": {"message": "m", "type": "t", "param": "p", "code": "c"}}


@pytest.mark.parametrize(
    ("content", "tokens", "kept"),
    [
        ("Hi you", ["Hi", " you"], ["Hi", " you"]),
        ("Hi", ["Hi", "<|im_end|>"], ["Hi"]),
        (None, ["<tool_call>", "secret"], []),
        ("Hi", ["secret"], []),
        ("Hi", [], []),
    ],
)
@pytest.mark.parametrize("key", ["delta", "message"])
def test_logprobs_leave_only_as_far_as_they_spell_their_text(
    key: str, content: str | None, tokens: list[str], kept: list[str]
) -> None:
    """A tool call's raw text comes as logprobs of empty chunks: it must not pass beside the gate."""
    spelled = [
        {"token": t, "logprob": 0.0, "bytes": [1], "top_logprobs": [{"token": "secret", "logprob": -1.0}]}
        for t in tokens
    ]
    choice = {"index": 0, key: {"content": content}, "logprobs": {"content": spelled}}
    said = events_of([choice, {"index": 1, "logprobs": {"content": spelled}}], key)
    one, bare = (json.loads(msgspec.json.encode(chat_choice.rewritten(e))) for e in said)
    assert [t["token"] for t in one["logprobs"]["content"]] == kept
    assert "secret" not in json.dumps(one)
    assert bare["logprobs"] == {"content": []}
    assert events_of([{"index": 0, "logprobs": {"content": None}}])


def test_the_servers_own_words_reach_no_client() -> None:
    """A finish reason and a stop reason are told by the server: neither is a way round the gate."""
    request = chat.parse(
        json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stop": "x"}).encode(),
        max_text_chars=99,
    )
    for reason, told in (("x", "x"), ("words", None), (7, 7)):
        choice = {
            "index": 0,
            "message": {"content": "hi"},
            "finish_reason": "odd words",
            "stop_reason": reason,
        }
        one = chat_answer.ChatAnswer(request, "no")
        out = json.loads(one.body(list(one.take_body(json.dumps({"choices": [choice]}).encode())), (), {}))
        assert out["choices"][0]["finish_reason"] == "stop"
        assert out["choices"][0].get("stop_reason") == told
    assert chat_answer.stops_of(replace(request, options={"stop": ["a", "b"]})) == ("a", "b")
    assert chat_answer.stops_of(replace(request, options={})) == ()


def test_a_count_that_is_no_number_is_none() -> None:
    """`true` is an int to Python: told as one it was a fault of the proxy's own."""
    told = counts({"a": True, "b": 2}, "a", "b")
    assert told == {"prompt_tokens": 0, "completion_tokens": 2, "total_tokens": 2}
