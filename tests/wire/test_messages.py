"""Anthropic Messages: parsed strictly, written anew for the model, read from the upstream's events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guardproxy.core.content import Request
from guardproxy.core.gate import Event
from guardproxy.errors import UpstreamError, WireError
from guardproxy.wire import messages
from guardproxy.wire.messages_answer import MessagesAnswer, fault
from tests.dialects import messages_stream, whole
from tests.fakes import taken

TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}
USER = {"role": "user", "content": "hi"}


def parse(**fields: Any) -> Request:
    body = {"model": "m", "max_tokens": 9, "messages": [USER], **fields}
    return messages.parse(json.dumps(body).encode(), max_text_chars=1000)


def written(**fields: Any) -> dict[str, Any]:
    out: dict[str, Any] = json.loads(messages.write(taken(parse(**fields)), model="up", cache_salt="s"))
    return out


def test_a_whole_conversation_is_written_anew() -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "look", "cache_control": {}}, IMAGE]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "secret", "signature": "s"},
            {"type": "text", "text": "so"}, {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": "A"}}]},
        {"role": "user", "content": [
            {"type": "text", "text": "and?"},
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "done"}, IMAGE]},
            {"type": "tool_result", "tool_use_id": "t2", "content": "plain"},
            {"type": "tool_result", "tool_use_id": "t3"}]},
    ]  # fmt: skip
    request = parse(messages=turns, system=[{"type": "text", "text": "one"}, {"type": "text", "text": "two"}])
    assert [m.role for m in request.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "tool",
        "user",
    ]
    assert request.dropped == ("cache_control", "other")
    body = json.loads(messages.write(taken(request), model="up", cache_salt=None))
    assert body["system"] == "one\n\ntwo"
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "look"}, IMAGE]},
        {"role": "assistant", "content": [
            {"type": "text", "text": "so"}, {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": "A"}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "done"}, IMAGE]}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "plain"}]}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t3", "content": [{"type": "text", "text": ""}]}]},
        {"role": "user", "content": [{"type": "text", "text": "and?"}]},
    ]  # fmt: skip


def test_options_tools_and_formats_are_forwarded_typed() -> None:
    shape = {"type": "json_schema", "schema": {"type": "object"}}
    body = written(
        system="be kind", tools=[TOOL], tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        output_config={"effort": "low", "format": shape, "odd": 1}, thinking={"type": "enabled", "budget_tokens": 5},
        temperature=0.5, top_k=3, stop_sequences=["x"], stream=True, metadata={"user_id": "u"}, service_tier="auto",
    )  # fmt: skip
    assert body["tools"] == [TOOL]
    assert body["tool_choice"] == {"type": "tool", "name": "f", "disable_parallel_tool_use": True}
    assert body["output_config"] == {"effort": "low", "format": shape}
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 5}
    assert body["stop_sequences"] == ["x"]
    assert body.keys() == {
        "model", "messages", "max_tokens", "system", "tools", "tool_choice", "output_config", "thinking", "temperature",
        "top_k", "stop_sequences", "stream", "cache_salt",
    }  # fmt: skip
    for given, sent in (("auto", "auto"), ("any", "any"), ("none", "none")):
        assert written(tools=[{"name": "f", "input_schema": {}}], tool_choice={"type": given})[
            "tool_choice"
        ] == {"type": sent}
    assert written(thinking={"type": "adaptive"})["thinking"] == {"type": "adaptive"}
    assert written(output_config={"format": shape})["output_config"] == {"format": shape}
    assert written(output_config={"effort": "low"})["output_config"] == {"effort": "low"}
    assert "system" not in written(system=[])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"kv_transfer_params": {}}, "kv_transfer_params"),
        ({"chat_template_kwargs": {"date_string": "x"}}, "chat_template_kwargs.date_string"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": []}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [USER, {"role": "assistant", "content": "Sure, here"}]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [1]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "assistant", "content": [IMAGE]}, USER]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]}]},
         "messages[0].content[0].type"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f"}]}, USER]},
         "messages[0].content[0].input"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]},
         "messages[0].content[0].tool_use_id"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": 1}]}]},
         "messages[0].content[0].source"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]},
         "messages[0].content[0].source.type"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": 1}}]}]},
         "messages[0].content[0].source.url"),
        ({"messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "text/plain", "data": "AA"}}]}]},
         "messages[0].content[0].source.media_type"),
        ({"messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": 1}}]}]},
         "messages[0].content[0].source.data"),
        ({"system": 1}, "system"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "all"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool", "name": "g"}}, "tool_choice"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"stop_sequences": ["x"] * 5}, "stop_sequences"),
        ({"thinking": {"type": "odd"}}, "thinking.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"output_config": 1}, "output_config"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "text"}}}, "output_config.format"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(WireError) as error:
        parse(**fields)
    assert error.value.param == param
    assert 400 <= error.value.status < 500


def test_a_remote_picture_is_left_to_the_intake() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.org/x.png"}}
    request = parse(messages=[{"role": "user", "content": [image]}])
    assert request.segments()[0].image is not None


def heard(answer: MessagesAnswer, said: list[tuple[str, str]]) -> list[Event]:
    datas = [d.decode().partition("data: ")[2].strip().encode() for d in messages_stream(said, 2)]
    return [e for data in datas for e in answer.take(data)]


def test_blocks_are_read_apart_and_judged_apart() -> None:
    """A word does not go on from one block to the next, not even by way of a block of another kind."""
    answer = MessagesAnswer(parse(), "no")

    def begin(index: int, **block: Any) -> list[tuple[tuple[str, str], ...]]:
        data = {"type": "content_block_start", "index": index, "content_block": block}
        return [e.texts for e in answer.take(json.dumps(data).encode())]

    assert begin(0, type="text", text="a") == [(("content", "a"),)]
    assert begin(1, type="thinking", thinking="b") == [(("reasoning", "b"),)]
    assert begin(0, type="text", text="c") == [(("content", "\n"),), (("content", "c"),)]
    assert begin(2, type="text", text="") == [()]
    assert begin(2, type="text", text="d") == [(("content", "\n"),), (("content", "d"),)]
    assert begin(3, type="tool_use", id="", name="f", input="x") == [
        (("tool_arguments", "f\n"),),
        (("tool_arguments", '"x"'),),
    ]
    assert begin(4, type="tool_use", id="", name="g") == [(("tool_arguments#1", "g\n"),)]
    assert begin(3, type="tool_use", id="", name="f") == [(("tool_arguments", "f\n"),)]


def test_text_is_read_from_deltas_and_from_beginnings() -> None:
    answer = MessagesAnswer(parse(), "blocked")
    events = heard(answer, [("reasoning", "think"), ("content", "hello"), ("tool", 'f {"a":1}')])
    texts = [t for e in events for t in e.texts]
    joined = {c: "".join(t for ch, t in texts if ch == c) for c, _ in texts}
    assert joined == {"reasoning": "think", "content": "hello", "tool_arguments": 'f\n{"a":1}'}
    assert answer.is_done
    assert answer.usage == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    begun = b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"so"}}'
    assert [e.texts for e in MessagesAnswer(parse(), "no").take(begun)] == [(("content", "so"),)]
    odd = b'{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"x"}}'
    assert list(answer.take(odd)) == []


def test_a_stop_sequence_is_told_only_if_the_client_named_it() -> None:
    for sequences, told in ((["x"], "x"), (["y"], None), (None, None)):
        answer = MessagesAnswer(parse(**({"stop_sequences": sequences} if sequences else {})), "blocked")
        body = json.loads(whole("messages", [("content", "hi")]))
        body |= {"stop_reason": "stop_sequence", "stop_sequence": "x"}
        out = json.loads(answer.body(list(answer.take_body(json.dumps(body).encode())), (), {}))
        assert (out["stop_reason"], out["stop_sequence"]) == ("stop_sequence", told)


def test_an_unknown_reason_becomes_an_ordinary_end() -> None:
    answer = MessagesAnswer(parse(), "blocked")
    body = json.loads(whole("messages", [])) | {"stop_reason": "odd words", "usage": None}
    out = json.loads(answer.body(list(answer.take_body(json.dumps(body).encode())), (), {}))
    assert out["stop_reason"] == "end_turn"
    assert out["content"] == [{"type": "text", "text": ""}]


def test_an_answer_without_an_end_is_still_an_answer() -> None:
    assert b'"end_turn"' in MessagesAnswer(parse(), "blocked").end({})


def test_half_a_call_is_no_call() -> None:
    answer = MessagesAnswer(parse(), "blocked")
    events = heard(answer, [("tool", 'f {"a":1}')])[:3]
    out = json.loads(answer.body(events, (), {}))
    assert out["content"][0]["input"] == {}


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense", b'{"type":"error","error":{}}', b'{"type":"content_block_delta","index":0,"delta":1}',
        b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}',
        b'{"type":"content_block_start","index":0,"content_block":1}', b'{"type":"message_start","message":1}',
        b'{"type":"message_delta","delta":1}',
        b'{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"x"}}',
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_fault(data: bytes) -> None:
    with pytest.raises(UpstreamError):
        list(MessagesAnswer(parse(), "blocked").take(data))
    with pytest.raises(UpstreamError):
        MessagesAnswer(parse(), "blocked").take_body(b'{"type":"error"}')


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (404, "not_found_error"), (413, "request_too_large"),
     (415, "invalid_request_error"), (429, "rate_limit_error"), (500, "api_error"), (503, "overloaded_error")],
)  # fmt: skip
def test_faults_wear_anthropics_names(status: int, kind: str) -> None:
    body = json.loads(fault("m", status=status, code="c", param="p"))
    assert body == {"type": "error", "error": {"type": kind, "message": "m", "code": "c", "param": "p"}}


def test_after_thoughts_the_block_message_is_a_text_of_its_own() -> None:
    answer = MessagesAnswer(parse(), "blocked")
    events = heard(answer, [("reasoning", "think")])[:2]
    out = answer.write(events, (), None) + answer.write((), (0,), None) + answer.end({})
    blocks = [json.loads(b.partition(b"data: ")[2]) for b in out.split(b"\n\n") if b]
    assert [b["content_block"]["type"] for b in blocks if "content_block" in b] == ["thinking", "text"]
