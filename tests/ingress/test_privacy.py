"""Personal data and secrets over HTTP: what the model, the client and a tool get of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import Proxy, Script, Upstream, answer, chunk, raw
from tests.ingress.test_api import events, post, text_of

Start = Callable[..., Proxy]
BOTH = (
    "guards:\n"
    "  - {name: pii-in, stage: input, detector: pii, on_hit: redact, looks_at: [system, user, assistant, tool]}\n"
    "  - {name: secrets-in, stage: input, detector: secrets, on_hit: redact, looks_at: [system, user, assistant, tool]}\n"
    "  - {name: pii-out, stage: output, detector: pii, on_hit: redact}\n"
    "  - {name: secrets-out, stage: output, detector: secrets, on_hit: redact}\n"
)
TOKEN = "ghp_" + "a1B2c3D4e5F6" * 3


def letters(text: str) -> Script:
    """Say a text letter by letter, as bad as a stream can be cut."""

    async def script(up: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        if not body.get("stream"):
            await up.send(out, json.dumps(answer(text)).encode())
            return
        await up.start_stream(out)
        for index, letter in enumerate(text):
            await up.send_chunk(out, chunk({"content": letter}))
            if index % 40 == 39:
                await asyncio.sleep(0.02)
        await up.send_chunk(out, chunk({}, 0, "stop") + b"data: [DONE]\n\n")
        await up.send_chunk(out, b"")

    return script


def test_the_model_gets_none_of_what_people_wrote(proxy: Start) -> None:
    running = proxy(BOTH)
    tool = {"role": "tool", "tool_call_id": "1", "content": f'{{"key": "{TOKEN}"}}'}
    arguments = json.dumps({"to": "花子 <hanako@example.jp>"})
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    messages = [
        {"role": "system", "content": "担当: suzuki@example.jp"},
        {"role": "user", "content": "電話は０９０－１２３４－５６７８、マイナンバーは123456789018です。"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        tool,
    ]
    response = post(running, messages=messages)
    assert response.status_code == 200
    assert response.json()["guardproxy"]["action"] == "redact"
    sent = json.dumps(running.upstream.bodies[-1], ensure_ascii=False)
    assert "担当: [email]" in sent
    assert json.loads(
        running.upstream.bodies[-1]["messages"][2]["tool_calls"][0]["function"]["arguments"]
    ) == {"to": "花子 <[email]>"}
    assert "電話は[phone]、マイナンバーは[my_number]です。" in sent
    assert "[github_token]" in sent
    assert TOKEN not in sent


ANSWER = (
    f"ご連絡は taro@example.com か03-1234-5678へ。Token: {TOKEN}, card 4111 1111 1111 1111. Version 1.2.3.4."
)
REDACTED = "ご連絡は [email] か[phone]へ。Token: [github_token], card [card]. Version 1.2.3.4."


@pytest.mark.parametrize("stream", [False, True])
def test_the_client_gets_none_of_what_the_model_said(proxy: Start, stream: bool) -> None:
    response = post(proxy(BOTH, letters(ANSWER)), stream=stream)
    if stream:
        assert text_of(events(response)) == REDACTED
    else:
        assert response.json()["choices"][0]["message"]["content"] == REDACTED


def calling(arguments: str) -> Script:
    call = {"id": "1", "type": "function", "function": {"name": "send", "arguments": arguments}}
    body = answer("", tool_calls=[call])
    body["choices"][0]["finish_reason"] = "tool_calls"
    return raw(200, json.dumps(body).encode())


def test_a_string_in_a_tools_arguments_is_redacted_and_stays_json(proxy: Start) -> None:
    response = post(
        proxy(BOTH, calling('{"to": "taro@example.com", "n": [1, 2], "text": "電話 03-1234-5678"}'))
    )
    call = response.json()["choices"][0]["message"]["tool_calls"][0]["function"]
    assert json.loads(call["arguments"]) == {"to": "[email]", "n": [1, 2], "text": "電話 [phone]"}


def test_an_escape_in_a_tools_arguments_is_read_and_stays_whole(proxy: Start) -> None:
    said = {"text": "電話\n03-1234-5678\n<taro@example.com>", "quote": 'a "b" \\ taro@example.com'}
    response = post(proxy(BOTH, calling(json.dumps(said))))
    call = response.json()["choices"][0]["message"]["tool_calls"][0]["function"]
    assert json.loads(call["arguments"]) == {"text": "電話\n[phone]\n<[email]>", "quote": 'a "b" \\ [email]'}


@pytest.mark.parametrize(
    "arguments", ['{"card": 4111111111111111}', '{"card": 4111111111111111, "to": "taro\\u0040example.com"}']
)
def test_what_cannot_be_replaced_in_a_tools_arguments_blocks(proxy: Start, arguments: str) -> None:
    response = post(proxy(BOTH, calling(arguments)))
    choice = response.json()["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert "tool_calls" not in choice["message"]


def test_a_word_that_an_escape_hides_from_its_pattern_blocks(proxy: Start) -> None:
    policy = "guards:\n  - {name: w, stage: output, detector: patterns, on_hit: redact, patterns: [{id: w, text: blue heron}]}\n"
    blocked = post(proxy(policy, calling('{"a": "\\u0062lue heron"}'))).json()["choices"][0]
    assert blocked["finish_reason"] == "content_filter"
    redacted = post(proxy(policy, calling('{"a": "x\\t blue heron"}'))).json()["choices"][0]
    assert json.loads(redacted["message"]["tool_calls"][0]["function"]["arguments"]) == {"a": "x\t [w]"}
