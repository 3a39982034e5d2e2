"""Responses: parsed strictly, written anew for the model, read from any upstream's events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guardproxy.core.content import ImagePart, Request
from guardproxy.core.gate import Event
from guardproxy.errors import UpstreamError, WireError
from guardproxy.wire import responses
from guardproxy.wire.responses_answer import ResponsesAnswer
from tests.dialects import CALL_ID, responses_stream, whole
from tests.fakes import taken

TOOL = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
USER = {"role": "user", "content": "hi"}


def parse(**fields: Any) -> Request:
    body = {"model": "m", "input": "hi", **fields}
    return responses.parse(json.dumps(body).encode(), max_text_chars=1000)


def written(**fields: Any) -> dict[str, Any]:
    out: dict[str, Any] = json.loads(responses.write(taken(parse(**fields)), model="up", cache_salt="s"))
    return out


def fault(**fields: Any) -> WireError:
    with pytest.raises(WireError) as error:
        parse(**fields)
    assert 400 <= error.value.status < 500
    return error.value


def test_a_whole_conversation_is_written_anew() -> None:
    turns = [
        {"role": "developer", "content": "be kind"},
        {"type": "message", "role": "user", "id": "x", "status": "in_progress", "content": [
            {"type": "input_text", "text": "look"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"},
        ]},
        {"type": "reasoning", "id": "rs", "summary": [], "content": [{"type": "reasoning_text", "text": "secret"}]},
        {"type": "message", "role": "assistant", "status": "incomplete", "content": [
            {"type": "output_text", "text": "one", "annotations": []}, {"type": "refusal", "refusal": "two"},
        ]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a": "\\u0041"}'},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "done"}]},
        {"type": "function_call_output", "call_id": "c1", "output": [
            {"type": "input_image", "image_url": "data:image/png;base64,BB"}]},
    ]  # fmt: skip
    request = parse(input=turns, instructions="Be brief.", cache_salt="client's")
    assert request.dropped == ("cache_salt", "reasoning")
    assert [m.role for m in request.messages] == [
        "system", "system", "user", "assistant", "assistant", "tool", "tool",
    ]  # fmt: skip
    assert [s.place for s in request.segments()][:3] == [
        "instructions",
        "input[0].content",
        "input[1].content[0].text",
    ]
    image = request.messages[2].parts[1]
    assert isinstance(image, ImagePart)
    assert (image.place, image.detail) == ("input[1].content[1].image_url", "low")
    merged = request.with_messages((request.messages[0], *request.messages[2:]))
    body = json.loads(responses.write(taken(merged), model="up", cache_salt=None))
    assert body["instructions"] == "Be brief."
    assert body["store"] is False
    assert body["input"] == [
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "look"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"}]},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": [
            {"type": "output_text", "text": "one\ntwo", "annotations": []}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":"A"}', "status": "completed"},
        {"type": "function_call_output", "call_id": "c1", "output": "done"},
        {"type": "function_call_output", "call_id": "c1", "output": [
            {"type": "input_image", "image_url": "data:image/png;base64,BB", "detail": "auto"}]},
    ]  # fmt: skip
    assert "secret" not in json.dumps(body)


def test_options_tools_and_formats_are_forwarded_typed() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True, "odd": 1}
    body = written(
        tools=[TOOL], tool_choice={"type": "function", "name": "f"}, text={"format": schema, "verbosity": "low"},
        reasoning={"effort": "low", "summary": "auto"}, max_output_tokens=5, temperature=0.5, stream=True, user="u",
        store=True, include=["reasoning.encrypted_content"], background=False, truncation="auto", metadata={"a": "b"},
    )  # fmt: skip
    assert body["tools"] == [TOOL]
    assert body["tool_choice"] == {"type": "function", "name": "f"}
    assert body["text"] == {"format": {k: v for k, v in schema.items() if k != "odd"}}
    assert body["reasoning"] == {"effort": "low"}
    assert (body["max_output_tokens"], body["temperature"], body["stream"], body["user"]) == (
        5,
        0.5,
        True,
        "u",
    )
    assert (body["store"], body["truncation"], body["cache_salt"]) == (False, "disabled", "s")
    assert body.keys() == {
        "model", "input", "store", "truncation", "tools", "tool_choice", "text", "reasoning", "max_output_tokens",
        "temperature", "stream", "user", "cache_salt",
    }  # fmt: skip
    plain = written(text={"format": {"type": "text"}}, tool_choice="none", tools=None)
    assert plain["tool_choice"] == "none"
    assert "text" not in plain
    assert "text" not in written(text={"verbosity": "low"}, reasoning={"effort": None})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "r"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"conversation": "c"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"enable_response_messages": True}, "enable_response_messages"),
        ({"kv_transfer_params": {}}, "kv_transfer_params"),
        ({"model": None}, "model"),
        ({"instructions": 1}, "instructions"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [1]}, "input[0]"),
        ({"input": [{"type": "reasoning"}]}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
        ({"input": [USER, {"role": "assistant", "content": "Sure, here"}]}, "input[1].role"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 1}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [1]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
         "input[0].content[0].image_url"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x", "detail": 3}]}]},
         "input[0].content[0].detail"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f"}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f f", "arguments": "{}"}]}, "input[0].name"),
        ({"input": "x" * 1001}, "input"),
        ({"tools": [{"type": "mcp", "server_url": "x"}]}, "tools[0].type"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
        ({"text": 1}, "text"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": {"echo": 1}}}}, "text.format.name"),
        ({"reasoning": 1}, "reasoning"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"top_logprobs": 3}, "top_logprobs"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(fields: dict[str, Any], param: str) -> None:
    assert fault(**fields).param == param


def heard(answer: ResponsesAnswer, data: bytes) -> list[Event]:
    block = data.decode().partition("data: ")[2].strip()
    return list(answer.take(block.encode()))


def test_text_comes_once_whatever_the_upstream_repeats() -> None:
    said = [("reasoning", "think"), ("content", "hello"), ("refusal", "no"), ("tool", 'f {"a":1}')]
    answer = ResponsesAnswer(parse(), "blocked")
    events = [e for data in responses_stream(said, 2) for e in heard(answer, data)]
    texts = [t for e in events for t in e.texts]
    joined = {c: "".join(t for ch, t in texts if ch == c) for c, _ in texts}
    assert joined == {
        "reasoning": "think",
        "content": "hello",
        "refusal": "no",
        "tool_arguments": 'f\n{"a":1}',
    }
    assert answer.is_done
    assert answer.usage == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def test_text_that_only_stands_at_the_end_is_not_lost() -> None:
    """Some servers send a call's arguments, or a short text, only with the item's end."""
    said = [("content", "hello"), ("tool", 'f {"a":1}')]
    answer = ResponsesAnswer(parse(), "blocked")
    kept = [d for d in responses_stream(said, 2) if b".delta" not in d]
    texts = [t for data in kept for e in heard(answer, data) for t in e.texts]
    assert texts == [("content", "hello"), ("tool_arguments", "f\n"), ("tool_arguments", '{"a":1}')]


def test_a_summary_of_reasoning_is_reasoning() -> None:
    answer = ResponsesAnswer(parse(), "blocked")
    delta = {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "so"}
    item = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]}
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    events = [e for d in (delta, done) for e in answer.take(json.dumps(d).encode())]
    assert [e.texts for e in events] == [(("reasoning", "so"),)]
    assert (
        list(answer.take(b'{"type":"response.output_item.done","output_index":1,"item":{"type":"odd"}}'))
        == []
    )
    assert list(answer.take(b'{"type":"response.created","response":null}')) == []


def test_a_cut_of_the_upstreams_own_is_told() -> None:
    answer = ResponsesAnswer(parse(), "blocked")
    body = json.loads(whole("responses", [("content", "hel")]))
    body |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "usage": None}
    told = json.loads(answer.body(list(answer.take_body(json.dumps(body).encode())), (), {}))
    assert (told["status"], told["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert told["usage"] is None
    assert told["output"][0]["content"][0]["text"] == "hel"
    assert "hardened" not in json.dumps(told)
    assert "temperature" in told


def test_a_call_cut_off_before_its_end_is_marked() -> None:
    answer = ResponsesAnswer(parse(), "blocked")
    events = [e for d in responses_stream([("tool", 'f {"a":1}')], 3)[:4] for e in heard(answer, d)]
    out = answer.write(events, (), None) + answer.write((), (0,), None) + answer.end({})
    done = [json.loads(b.rpartition(b"data: ")[2]) for b in out.split(b"\n\n") if b"output_item.done" in b]
    assert done[0]["item"]["status"] == "incomplete"
    assert done[0]["item"]["call_id"] == CALL_ID
    assert done[1]["item"]["content"][0]["text"] == "blocked"


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense", b'{"type":"response.function_call_arguments.delta","output_index":3,"delta":"x"}', b"[]", b'{"type":"response.failed"}', b'{"type":"error","message":"x"}',
        b'{"type":"response.output_text.delta","delta":"x"}',
        b'{"type":"response.output_text.delta","output_index":0,"delta":1}',
        b'{"type":"response.output_item.added","output_index":0,"item":1}',
        b'{"type":"response.output_item.added","output_index":0,"item":{"type":"message","content":[1]}}',
        b'{"type":"response.completed"}', b'{"type":{"a":1}}', b'{"type":["response.completed"]}',
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_fault(data: bytes) -> None:
    with pytest.raises(UpstreamError):
        list(ResponsesAnswer(parse(), "blocked").take(data))


def test_a_failed_answer_is_a_fault() -> None:
    for body in (b'{"status":"failed"}', b'{"error":{"message":"x"}}'):
        with pytest.raises(UpstreamError):
            ResponsesAnswer(parse(), "blocked").take_body(body)


def test_the_block_message_follows_what_was_released() -> None:
    answer = ResponsesAnswer(parse(), "blocked")
    events = [e for d in responses_stream([("content", "hello world")], 3)[:5] for e in heard(answer, d)]
    out = answer.write(events, (), None) + answer.write((), (0,), None) + answer.end({})
    last = json.loads(out.rpartition(b"data: ")[2])["response"]
    assert last["output"][0]["content"][0]["text"] == "hello \n\nblocked"
    assert last["incomplete_details"] == {"reason": "content_filter"}
