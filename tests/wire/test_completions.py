"""Completions: one text prompt, and nothing that a guard cannot look at."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guardproxy.core.content import Request
from guardproxy.errors import UpstreamError, WireError
from guardproxy.wire import completions
from guardproxy.wire.completions_answer import CompletionAnswer
from tests.dialects import completions_stream


def parse(**fields: Any) -> Request:
    body = {"model": "m", "prompt": "hi", **fields}
    return completions.parse(json.dumps(body).encode(), max_text_chars=100)


def test_a_prompt_is_written_anew() -> None:
    request = parse(
        prompt=["hi"], n=2, stream=True, stream_options={"include_usage": True}, max_tokens=5, odd=1
    )
    assert request.dropped == ("other",)
    assert json.loads(completions.write(request, model="up", cache_salt="s")) == {
        "model": "up", "prompt": "hi", "n": 2, "stream": True, "max_tokens": 5, "cache_salt": "s",
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }  # fmt: skip
    assert json.loads(completions.write(parse(), model="up", cache_salt=None)) == {
        "model": "up",
        "prompt": "hi",
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": [1, 2]}, "prompt"), ({"prompt": ["a", "b"]}, "prompt"), ({"prompt": [[1]]}, "prompt"),
        ({"prompt": None}, "prompt"), ({"prompt": "x" * 101}, "prompt"), ({"echo": True}, "echo"),
        ({"prompt_embeds": "x"}, "prompt_embeds"), ({"suffix": "x"}, "suffix"), ({"best_of": 3}, "best_of"),
        ({"logprobs": 1}, "logprobs"), ({"n": 5}, "n"), ({"truncate_prompt_tokens": 3}, "truncate_prompt_tokens"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(WireError) as error:
        parse(**fields)
    assert error.value.param == param


def test_usage_and_ends_are_told_once() -> None:
    request = parse(stream=True, stream_options={"include_usage": True})
    answer = CompletionAnswer(request, "blocked")
    datas = [d.removeprefix(b"data: ").strip() for d in completions_stream([("content", "hello")], 2)]
    events = [e for d in datas for e in answer.take(d)]
    out = answer.write(events, (), {"a": 1}) + answer.end({"a": 1})
    chunks = [json.loads(b.removeprefix(b"data: ")) for b in out.split(b"\n\n") if b and b"[DONE]" not in b]
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None, None, None, "stop"]
    assert chunks[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    assert [c for c in chunks if "guardproxy" in c] == [chunks[-1]]


def test_an_answer_without_choices_or_with_an_error_is_a_fault() -> None:
    for body in (
        b'{"choices":[]}',
        b'{"error":{"message":"x"}}',
        b"no",
        b'{"choices":[{"text":1,"index":0}]}',
    ):
        with pytest.raises(UpstreamError):
            CompletionAnswer(parse(), "blocked").take_body(body)


def test_an_unknown_reason_becomes_an_ordinary_stop() -> None:
    answer = CompletionAnswer(parse(), "blocked")
    events = list(
        answer.take_body(b'{"id":"x","choices":[{"index":0,"text":"t","finish_reason":"odd words"}]}')
    )
    assert json.loads(answer.body(events, (), {}))["choices"][0]["finish_reason"] == "stop"


def test_a_cut_is_told_once() -> None:
    answer = CompletionAnswer(parse(stream=True), "blocked")
    assert b"blocked" in answer.write((), (0,), None)
    assert answer.write((), (0,), None) == b""
