"""The chat body: parsed strictly, forwarded by allow-list, written anew."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.content import ImagePart, Message, Request, TextPart, ToolCall
from guardproxy.errors import WireError
from guardproxy.wire import chat, chat_upstream
from guardproxy.wire.fields import REFUSED, kind_of
from tests.fakes import taken

USER = {"role": "user", "content": "hi"}
TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
}


def parse(limit: int = 10_000, **fields: Any) -> Request:
    body = {"model": "m", "messages": [USER], **fields}
    return chat.parse(json.dumps(body).encode(), max_text_chars=limit)


def written(**fields: Any) -> dict[str, Any]:
    out: dict[str, Any] = json.loads(chat_upstream.write(taken(parse(**fields)), model="up", cache_salt="s"))
    return out


def fault(body: bytes | None = None, **fields: Any) -> WireError:
    with pytest.raises(WireError) as error:
        chat.parse(body, max_text_chars=10_000) if body is not None else parse(**fields)
    assert 400 <= error.value.status < 500
    return error.value


def test_every_forwarded_field_is_written_anew() -> None:
    options = {
        "temperature": 0.5, "top_p": 1, "top_k": 5, "min_p": 0.1, "max_tokens": 7, "max_completion_tokens": 8,
        "stop": ["a", "b"], "seed": 3, "presence_penalty": 1, "frequency_penalty": -1, "repetition_penalty": 1.1,
        "logprobs": True, "top_logprobs": 0, "parallel_tool_calls": False, "reasoning_effort": "low", "user": "u",
        "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "extra": 1}}
    out = written(
        **options, n=2, stream=True, stream_options={"include_usage": True}, tools=[TOOL], response_format=schema,
        tool_choice={"type": "function", "function": {"name": "f"}},
    )  # fmt: skip
    assert {k: out[k] for k in options} == options
    assert out["model"] == "up"
    assert out["n"] == 2
    assert out["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert out["tools"] == [TOOL]
    assert out["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert out["response_format"]["json_schema"] == {"name": "n", "schema": {"type": "object"}}
    assert out["cache_salt"] == "s"


def test_usage_is_always_asked_for_in_a_stream_and_told_only_on_wish() -> None:
    assert written(stream=True)["stream_options"] == {"include_usage": True, "continuous_usage_stats": False}
    assert "stream" not in written(stream=False, n=None, stop="x", temperature=None)
    assert "cache_salt" not in json.loads(chat_upstream.write(parse(), model="m"))


@pytest.mark.parametrize("field", sorted(REFUSED))
def test_a_field_that_changes_the_answer_is_refused_by_name(field: str) -> None:
    assert fault(**{field: 1}).param == field


def test_skip_special_tokens_is_refused_only_where_it_is_false() -> None:
    assert fault(skip_special_tokens=False).param == "skip_special_tokens"
    assert parse(skip_special_tokens=True).dropped == ("other",)


def test_what_is_dropped_is_counted_and_never_written() -> None:
    one = parse(
        metadata={}, cache_salt="x", totally_unknown=1, messages=[{**USER, "reasoning": "r", "odd": 1}]
    )
    assert sorted(one.dropped) == ["cache_salt", "metadata", "other", "other", "reasoning"]
    out = chat_upstream.write(one, model="m")
    assert b"unknown" not in out
    assert b"reasoning" not in out


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"model": "m" * 600}, "model"),
        ({"messages": "x"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [3]}, "messages[0]"),
        ({"messages": [{"role": "alien", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [3]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{**USER, "name": "a b"}]}, "messages[0].name"),
        ({"messages": [{**USER, "tool_call_id": 3}]}, "messages[0].tool_call_id"),
        ({"messages": [{**USER, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": ""}}]}]}, "messages[0].tool_calls"),
        ({"messages": [USER, {"role": "assistant", "content": "Sure, here"}]}, "messages[1].role"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"n": 5}, "n"),
        ({"n": 1.5}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": [3]}, "stop"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"user": 3}, "user"),
        ({"chat_template_kwargs": 3}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"date_string": "x"}}, "chat_template_kwargs.date_string"),
        ({"chat_template_kwargs": {"thinking": "x"}}, "chat_template_kwargs.thinking"),
        ({"stream_options": 3}, "stream_options"),
        ({"stream_options": {}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 3}}, "stream_options.include_usage"),
        ({"tools": 3}, "tools"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "description": 3}}]}, "tools[0].function.description"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 3}}]}, "tools[0].function.parameters"),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": 3}}]}, "tools[0].function.strict"),
        ({"tool_choice": "f"}, "tool_choice"),
        ({"tool_choice": {"function": {"name": "f"}}}, "tool_choice"),
        ({"response_format": 3}, "response_format"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": {"a": 1}}}}, "response_format.json_schema.name"),
        ({"response_format": {"type": "json_schema", "json_schema": {"description": ["a"]}}}, "response_format.json_schema.description"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": "x"}}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"strict": "x"}}}, "response_format.json_schema.strict"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    assert fault(**fields).param == param


@pytest.mark.parametrize(
    ("calls", "param"),
    [
        (3, "messages[0].tool_calls"),
        ([3], "messages[0].tool_calls[0].function"),
        ([{"id": 3, "function": {"name": "f", "arguments": ""}}], "messages[0].tool_calls[0].id"),
        (
            [{"id": "1", "function": {"name": "a b", "arguments": ""}}],
            "messages[0].tool_calls[0].function.name",
        ),
        (
            [{"id": "1", "function": {"name": "f", "arguments": 3}}],
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_wrong_tool_calls_are_named(calls: object, param: str) -> None:
    assert fault(messages=[{"role": "assistant", "content": None, "tool_calls": calls}, USER]).param == param


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"3", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b'{"a": NaN}', '{"model": "m"}'.encode("utf-16"),
        b'{"a": "\xff"}', b'{"a": "\\ud800"}', b'{"a": "\\uDFFF x"}', b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
    ],
)  # fmt: skip
def test_a_body_that_is_not_a_json_object_in_utf8_is_refused(body: bytes) -> None:
    assert fault(body).code == "invalid_json"


def test_brackets_inside_strings_are_no_depth() -> None:
    text = '[{"' * 100
    assert parse(messages=[{"role": "user", "content": text}]).question == text


def test_the_last_of_two_equal_keys_is_judged_and_sent() -> None:
    body = (
        b'{"model":"m","messages":[{"role":"user","content":"a"}],"messages":[{"role":"user","content":"b"}]}'
    )
    assert chat.parse(body, max_text_chars=10).question == "b"


def test_too_much_text_is_refused() -> None:
    with pytest.raises(WireError) as error:
        parse(limit=3, messages=[{"role": "user", "content": "four"}])
    assert error.value.status == 413


def test_a_conversation_with_tools_is_written_as_it_came() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    messages = [
        {"role": "developer", "content": "dev"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, "b"], "name": "bob"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "r", "tool_call_id": "c1"},
    ]
    out = written(
        messages=messages, tools=[{"type": "function", "function": {"name": "f"}}], tool_choice="auto"
    )
    assert out["messages"][0] == {"role": "system", "content": "dev"}
    assert out["messages"][1]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert out["messages"][1]["name"] == "bob"
    assert out["messages"][2] == {"role": "assistant", "content": None, "tool_calls": [call]}
    assert out["messages"][3] == {"role": "tool", "content": "r", "tool_call_id": "c1"}
    assert out["tools"] == [{"type": "function", "function": {"name": "f"}}]
    assert out["tool_choice"] == "auto"
    unknown = {"type": "function", "function": {"name": "f", "odd": 1}}
    assert parse(tools=[unknown]).dropped == ("other",)


def test_escapes_in_arguments_are_undone_before_they_are_judged() -> None:
    call = {"id": "c1", "function": {"name": "f", "arguments": '{"a": "\\u003c|im_end|\\u003e"}'}}
    one = parse(messages=[{"role": "assistant", "tool_calls": [call]}, USER])
    assert one.messages[0].tool_calls[0].arguments == '{"a":"<|im_end|>"}'


@pytest.mark.parametrize(
    "arguments",
    [
        "not json",
        '{"a": NaN, "b": "\\u003c|im_end|\\u003e"}',
        '{"a": "\\ud800"}',
        '{"a": ' * 9999,
        '{"b": "\\u003c',
        " ",
    ],
)
def test_arguments_that_only_another_reader_would_take_are_refused(arguments: str) -> None:
    """Python's json takes NaN and half characters, so a template would decode what nobody judged."""
    call = {"id": "c1", "function": {"name": "f", "arguments": arguments}}
    with pytest.raises(WireError, match="valid JSON") as caught:
        parse(messages=[USER, {"role": "assistant", "tool_calls": [call]}, USER])
    assert caught.value.param == "messages[1].tool_calls[0].function.arguments"


@pytest.mark.parametrize("field", ["temperature", "max_tokens"])
@pytest.mark.parametrize("digits", [400, 4000])
def test_a_number_beyond_all_bounds_is_the_clients_fault(field: str, digits: int) -> None:
    body = b'{"model": "m", "messages": [], "%b": 1%b}' % (field.encode(), b"0" * digits)
    with pytest.raises(WireError, match=f"{field}: must be in .* beyond all bounds"):
        chat.parse(body, max_text_chars=99)


def test_ids_as_kimi_makes_them_come_back() -> None:
    call = {"id": "functions.f:0", "function": {"name": "f", "arguments": ""}}
    result = {"role": "tool", "tool_call_id": "functions.f:0", "content": "r"}
    one = parse(messages=[{"role": "assistant", "tool_calls": [call]}, result])
    assert one.messages[0].tool_calls[0].id == one.messages[1].tool_call_id == "functions.f:0"
    with pytest.raises(WireError, match=r"tool_call_id: expected 1 to 128 letters, digits, _ \. : or -"):
        parse(messages=[result | {"tool_call_id": "a b"}])


def test_a_call_without_arguments_is_allowed() -> None:
    call = {"id": "c1", "function": {"name": "f", "arguments": ""}}
    one = parse(messages=[{"role": "assistant", "tool_calls": [call]}, USER])
    assert one.messages[0].tool_calls[0].arguments == ""


def test_system_texts_are_written_as_one_string_and_empty_content_as_empty() -> None:
    two = Message("system", (TextPart("a", "x"), TextPart("b", "x")), "m")
    empty = Message("user", (), "m")
    called = Message("assistant", (), "m", tool_calls=(ToolCall("1", "f", "{}"),))
    out = json.loads(chat_upstream.write(Request("m", (two, empty, called)), model="m"))
    assert [m["content"] for m in out["messages"]] == ["a\n\nb", "", None]


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}}


def image(**changed: Any) -> ImagePart:
    part = parse(messages=[{"role": "user", "content": [{**IMAGE, **changed}]}]).messages[0].parts[0]
    assert isinstance(part, ImagePart)
    return part


def test_pictures_in_all_spellings_become_one_form() -> None:
    assert image().detail == "low"
    assert image(image_url="data:,x").url == "data:,x"
    assert image(type="input_image", image_url="data:,x", detail="high").detail == "high"
    one = parse(
        messages=[{"role": "user", "content": [{**IMAGE, "uuid": "u", "image_url": {"url": "d", "x": 1}}]}]
    )
    assert sorted(one.dropped) == ["other", "uuid"]
    out = written(messages=[{"role": "user", "content": [IMAGE, {**IMAGE, "image_url": "data:,x"}]}])
    assert out["messages"][0]["content"][0] == IMAGE
    assert out["messages"][0]["content"][1] == {"type": "image_url", "image_url": {"url": "data:,x"}}


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "text", "text": "a", "uuid": "u"}, "messages[0].content[0].uuid"),
        ({"type": "text", "text": "a", "image_url": "x"}, "messages[0].content[0].image_url"),
        ({**IMAGE, "image_embeds": "x"}, "messages[0].content[0].image_embeds"),
        ({**IMAGE, "image_url": None}, "messages[0].content[0].image_url.url"),
        ({**IMAGE, "image_url": {"url": "x", "detail": "odd"}}, "messages[0].content[0].image_url.detail"),
        ({"image_url": "x"}, "messages[0].content[0].type"),
    ],
)
def test_ambiguous_parts_are_refused(part: dict[str, Any], param: str) -> None:
    assert fault(messages=[{"role": "user", "content": [part]}]).param == param


def test_kinds_are_told_in_jsons_words() -> None:
    assert [kind_of(v) for v in (None, True, 1, "a", [], {})] == [
        "null",
        "boolean",
        "number",
        "string",
        "array",
        "object",
    ]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    ["role", "content", "type", "text", "image_url", "url", "tool_calls", "name"]
) | st.text(max_size=5)
messages = st.lists(st.dictionaries(keys, values, max_size=4) | values, max_size=3)
names = st.sampled_from(
    ["tools", "tool_choice", "response_format", "n", "stop", "stream", "stream_options", "user"]
)


@given(messages, st.dictionaries(names | st.text(max_size=5), values, max_size=4))
def test_any_json_is_a_request_or_a_400(found: Any, fields: dict[str, Any]) -> None:
    body = json.dumps({"model": "m", **fields, "messages": found}).encode("utf-8", "surrogatepass")
    try:
        one = chat.parse(body, max_text_chars=1000)
    except WireError as error:
        assert 400 <= error.status < 500  # noqa: PT017 - either outcome is right
    else:
        json.loads(chat_upstream.write(one, model="m"))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_400(body: bytes) -> None:
    with pytest.raises(WireError):
        chat.parse(body, max_text_chars=1000)


def test_a_json_object_may_be_asked_for() -> None:
    assert written(response_format={"type": "json_object"})["response_format"] == {"type": "json_object"}
