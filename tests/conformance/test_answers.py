"""Checklist 28 to 42: what a client is given, whole and streamed, allowed, blocked and broken."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance.proxies import DIALECTS, PATHS, POLICY, RULES, SECRET, ask, asks, by_path, settled
from tests.dialects import STREAMS, hear
from tests.fakes import MODEL, USAGE, Proxy, Script, Upstream, answer, chunk, raw
from tests.ingress.test_api import events, text_of

Start = Callable[..., Proxy]
streams = pytest.mark.parametrize("stream", [False, True])
dialects = pytest.mark.parametrize("dialect", DIALECTS)
CUT = {"chat": "content_filter", "completions": "content_filter", "responses": "content_filter", "messages": "refusal"}  # fmt: skip
NOTICE = "This answer was withheld by this service's safety policy."


@dialects
@streams
def test_28_an_input_block_is_one_400(standing: Proxy, dialect: str, *, stream: bool) -> None:
    blocked = ask(standing, dialect, "open sesame", stream=stream)
    assert blocked.status_code == 400
    error = blocked.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "content_filter", None)
    assert NOTICE in error["message"]
    assert blocked.headers["x-request-id"]
    assert standing.upstream.bodies == []


def test_28_the_sdk_does_not_try_again(standing: Proxy) -> None:
    """Of every SDK: `test_sdks`."""
    seen: list[httpx.Request] = []
    hooks: dict[str, Any] = {"request": [seen.append]}
    with httpx.Client(event_hooks=hooks) as http:
        client = openai.OpenAI(base_url=f"{standing.url}/v1", api_key="x", http_client=http, max_retries=2)
        with pytest.raises(openai.BadRequestError) as error:
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "open sesame"}])
    assert error.value.code == "content_filter"
    assert len(seen) == 1


@dialects
def test_29_an_output_block_is_an_answer(standing: Proxy, dialect: str) -> None:
    said = [("content", f"It is the {SECRET}.")]
    if dialect != "completions":
        said = [("reasoning", "Let me think."), *said, ("tool", 'weather {"city": "Rome"}')]
    standing.upstream.script = by_path(said)
    blocked = ask(standing, dialect)
    assert blocked.status_code == 200
    heard = hear(dialect, blocked.content, stream=False)
    assert heard.copies == {"content": [NOTICE]}
    assert heard.why == CUT[dialect]
    assert heard.usage
    assert heard.note is not None
    assert (heard.note["action"], heard.note["code"]) == ("block", "content_filter")
    if dialect == "chat":
        (choice,) = blocked.json()["choices"]
        assert choice["message"] == {"role": "assistant", "content": NOTICE, "refusal": None}
        assert choice["logprobs"] is None


def captured(proxy: Proxy, dialect: str, **fields: Any) -> bytes:
    """Every byte on the wire of one streamed answer."""
    body = json.dumps(asks(dialect, stream=True, **fields)).encode()
    head = f"POST {PATHS[dialect]} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as sock:
        sock.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        return sock.makefile("rb").read()


@dialects
def test_30_no_byte_of_a_blocked_window_is_on_the_wire(standing: Proxy, dialect: str) -> None:
    before, after = "One harmless sentence stands here, it is long enough. ", "And the rest is never said."

    async def endless(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        pieces = STREAMS[dialect]([("content", f"{before}Then the {SECRET}. {after}")], 3)
        await up.start_stream(out)
        for piece in pieces[:-3]:
            await up.send_chunk(out, piece)
        await asyncio.sleep(30)  # it would go on: the block must stop it

    standing.upstream.script = endless
    aborted = standing.upstream.aborted
    asked = {"stream_options": {"include_usage": True}} if dialect in ("chat", "completions") else {}
    wire = captured(standing, dialect, **asked)
    plain = re.sub(rb"\r\n[0-9a-f]+\r\n", b"", wire)
    for word in (b"heron", b"blue", b"Then", b"never", b"rest"):
        assert word not in plain
    assert settled(lambda: standing.upstream.running == 0, 1.0)
    assert standing.upstream.aborted == aborted + 1
    body = httpx.Response(200, content=dechunked(wire)).content
    heard = hear(dialect, body, stream=True)
    assert heard.text("content") == f"{before.rstrip()}\n\n{NOTICE}" or heard.text("content").endswith(NOTICE)
    assert before.startswith(heard.text("content").removesuffix(NOTICE).removesuffix("\n\n"))
    assert heard.why == CUT[dialect]
    if dialect in ("chat", "completions"):
        blocks = body.decode().strip().split("\n\n")
        assert blocks[-1] == "data: [DONE]"
        assert json.loads(blocks[-2][6:])["choices"] == []
        assert json.loads(blocks[-3][6:])["choices"][0]["finish_reason"] == "content_filter"


def dechunked(wire: bytes) -> bytes:
    """The body of a chunked answer (RFC 9112, 7.1)."""
    rest, out = wire.partition(b"\r\n\r\n")[2], b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        out, rest = out + rest[:length], rest[length + 2 :]
        if not length:
            break
    return out


def test_31_no_verdict_in_the_moderation_field_unasked(standing: Proxy) -> None:
    assert "moderation" not in ask(standing, moderation={"model": "m"}).json()
    standing.upstream.script = by_path([("content", f"It is the {SECRET}.")])
    for stream in (False, True):
        assert "moderation" not in ask(standing, stream=stream).text


@streams
def test_31_the_verdict_parses_as_the_sdks_moderation(proxy: Start, *, stream: bool) -> None:
    running = proxy(POLICY + "block: {explain: categories}\n", by_path([("content", f"It is the {SECRET}.")]))
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="x")
    asked: Any = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hi"}], stream=stream
    )
    told = next(c for c in asked if getattr(c, "moderation", None)) if stream else asked
    assert told.moderation.output.results[0].flagged
    assert "words-out" not in told.model_dump_json()
    assert "heron" not in told.model_dump_json()


KINDS = {"chat": ("content", "reasoning", "refusal", "tool"), "responses": ("content", "reasoning", "refusal", "tool"),
         "messages": ("content", "reasoning", "tool"), "completions": ("content",)}  # fmt: skip


@streams
@pytest.mark.parametrize(("dialect", "kind"), [(d, k) for d, kinds in KINDS.items() for k in kinds])
def test_32_blocked_text_stands_nowhere(
    standing: Proxy, dialect: str, kind: str, caplog: pytest.LogCaptureFixture, *, stream: bool
) -> None:
    text = f'f {{"a": "{SECRET}"}}' if kind == "tool" else f"It is the {SECRET}, as said."
    standing.upstream.script = by_path([(kind, text)])
    with caplog.at_level(logging.DEBUG):
        told = ask(standing, dialect, stream=stream)
    assert "heron" not in told.text
    assert "heron" not in str(told.headers)
    assert "heron" not in caplog.text
    assert hear(dialect, told.content, stream=stream).why == CUT[dialect]


@streams
def test_32_logprobs_leave_only_with_their_text(standing: Proxy, *, stream: bool) -> None:
    """In a stream vLLM spells tool calls in the logprobs of chunks without text, and alternatives beside each token."""
    tokens = [{"token": t, "logprob": -1.0, "bytes": list(t.encode()), "top_logprobs": [{"token": "heron", "logprob": -2.0}]}
              for t in ("It is", " the", " blue", " heron")]  # fmt: skip

    async def script(up: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        if body.get("stream"):
            pieces = [chunk({"content": str(t["token"])}) for t in tokens]
            for index, token in enumerate(tokens):
                data = json.loads(pieces[index][6:])
                data["choices"][0]["logprobs"] = {"content": [token]}
                pieces[index] = b"data: " + json.dumps(data).encode() + b"\n\n"
            await up.send(
                out, b"".join([*pieces, chunk({}, 0, "stop"), b"data: [DONE]\n\n"]), "text/event-stream"
            )
        else:
            told = answer("".join(str(t["token"]) for t in tokens))
            told["choices"][0]["logprobs"] = {"content": tokens}
            await up.send(out, json.dumps(told).encode())

    standing.upstream.script = script
    assert "heron" not in ask(standing, logprobs=True, stream=stream).text


@streams
def test_33_one_bad_choice_of_three(standing: Proxy, *, stream: bool) -> None:
    good = "A long and harmless text about the weather. " * 6
    texts = [good, f"Then the {SECRET} comes. " * 6, good]

    async def script(up: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        if not body.get("stream"):
            await up.send(out, json.dumps(answer(*texts)).encode())
            return
        pieces = [
            chunk({"content": t[a : a + 9]}, i)
            for a in range(0, len(good), 9)
            for i, t in enumerate(texts)
            if t[a : a + 9]
        ]
        ends = [chunk({}, i, "stop") for i in range(3)]
        await up.send(out, b"".join([*pieces, *ends, b"data: [DONE]\n\n"]), "text/event-stream")

    standing.upstream.script = script
    told = ask(standing, n=3, stream=stream)
    if stream:
        found = events(told)
        heard = [text_of(found, i) for i in range(3)]
        why = {c["index"]: c["finish_reason"] for e in found for c in e["choices"] if c["finish_reason"]}
    else:
        heard = [c["message"]["content"] for c in told.json()["choices"]]
        why = {c["index"]: c["finish_reason"] for c in told.json()["choices"]}
    assert heard[0] == heard[2] == good
    assert heard[1].endswith(NOTICE)
    assert "heron" not in told.text
    assert why == {0: "stop", 1: "content_filter", 2: "stop"}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("offset", range(1, 30, 2))
def test_34_a_hit_split_at_any_offset_never_leaks(standing: Proxy, dialect: str, offset: int) -> None:
    """Over all chunkings, choices, channels and windows: `tests/test_outward.py`."""
    text = f"The name is {SECRET}, as said."
    pieces = [text[:offset], text[offset : offset + 3], text[offset + 3 :]]

    async def script(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        whole = STREAMS[dialect]([("content", "".join(pieces))], 1)
        await up.send(out, b"".join(whole), "text/event-stream")

    standing.upstream.script = script
    heard = hear(dialect, ask(standing, dialect, stream=True).content, stream=True).text("content")
    assert "The name is ".startswith(heard.removesuffix(NOTICE).removesuffix("\n\n"))


@streams
def test_35_framing(standing: Proxy, *, stream: bool) -> None:
    standing.upstream.script = by_path([("content", "日本語の文章です。🙂 " * 12)])
    wire = captured(standing, "chat") if stream else b""
    if not stream:
        assert ask(standing).json()["choices"]
        return
    body = dechunked(wire)
    lines = body.decode("utf-8").split("\n")
    assert all(not line or line.startswith(("data: ", ":")) for line in lines)
    blocks = body.decode().split("\n\n")
    assert blocks[-1] == ""
    assert blocks[-2] == "data: [DONE]"
    assert body.count(b"[DONE]") == 1
    for block in blocks[:-2]:
        assert block.startswith(":") or json.loads(block[6:])


@streams
def test_37_usage_is_told_to_those_who_asked(standing: Proxy, *, stream: bool) -> None:
    for dialect in ("chat", "completions"):
        if not stream:
            assert ask(standing, dialect).json()["usage"] == USAGE
            continue
        assert '"usage"' not in ask(standing, dialect, stream=True).text
        told = ask(standing, dialect, stream=True, stream_options={"include_usage": True})
        with_usage = [e for e in events(told) if e.get("usage")]
        assert len(with_usage) == 1
        assert with_usage[0]["choices"] == []
        assert with_usage[0]["usage"] == USAGE
        sent = standing.upstream.bodies[-1]["stream_options"]
        assert sent == {"include_usage": True, "continuous_usage_stats": True}


LEAKS = {
    "prompt_token_ids": [1, 2], "prompt_text": f"system\n{RULES}", "prompt_logprobs": [{"1": {"decoded_token": RULES}}],
    "kv_transfer_params": {"prompt_token_ids": [1]}, "ec_transfer_params": {"x": RULES}, "metrics": {"x": RULES},
    "input_messages": [RULES], "output_messages": [RULES], "routed_experts": [1], "token_ids": [1], "prompt": RULES,
}  # fmt: skip


@dialects
@streams
def test_38_what_holds_the_prompt_is_never_told(standing: Proxy, dialect: str, *, stream: bool) -> None:
    said: list[tuple[str, str]] = [("content", "All is well.")]

    def leaking(data: Any) -> Any:
        if isinstance(data, dict):
            return {k: leaking(v) for k, v in data.items()} | LEAKS
        return [leaking(v) for v in data] if isinstance(data, list) else data

    async def script(up: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        from tests.dialects import whole

        if not stream:
            await up.send(out, json.dumps(leaking(json.loads(whole(dialect, said)))).encode())
            return
        pieces = b""
        for block in b"".join(STREAMS[dialect](said, 5)).split(b"\n\n"):
            head, _, data = block.rpartition(b"data: ")
            leaked = data if not data or data == b"[DONE]" else json.dumps(leaking(json.loads(data))).encode()
            pieces += head + b"data: " + leaked + b"\n\n" if data else b""
        await up.send(out, pieces, "text/event-stream")

    standing.upstream.script = script
    told = ask(standing, dialect, stream=stream)
    assert hear(dialect, told.content, stream=stream).text("content") == "All is well."
    assert RULES not in told.text
    for field in LEAKS:
        assert f'"{field}"' not in told.text


SHAPES = {
    "vllm": b'{"error":{"message":"No such thing in /opt/models/x.py","type":"BadRequestError","param":"p","code":400}}',
    "detail": b'{"detail":"Not Found"}', "string": b'{"error":"Unauthorized"}', "html": b"<html><body>nginx</body></html>", "empty": b"",
    "list": b"[]", "trace": b'{"error":{"message":"Traceback (most recent call last): /srv/app/serve.py line 3"}}',
    "pydantic": b'{"detail":[{"loc":["body"],"msg":"field required"}]}', "anthropic": b'{"type":"error","error":{"type":"x","message":"m"}}',
}  # fmt: skip
STATUSES = {400: 400, 404: 404, 413: 413, 422: 422, 429: 429, 503: 503, 401: 502, 403: 502, 500: 502, 502: 502, 405: 502, 504: 504, 302: 502}  # fmt: skip


ERRORS = [("chat", status, shape) for status in STATUSES for shape in SHAPES]
ERRORS += [(dialect, status, "vllm") for dialect in DIALECTS[1:] for status in STATUSES]


@pytest.mark.parametrize(("dialect", "status", "shape"), ERRORS)
def test_39_upstream_errors_keep_their_meaning_in_one_shape(
    standing: Proxy, status: int, shape: str, dialect: str
) -> None:
    kind = "text/html" if shape == "html" else "application/json"
    standing.upstream.script = raw(
        status, SHAPES[shape], kind, retry_after="7", location="http://127.0.0.1/x"
    )
    told = ask(standing, dialect, stream=status % 2 == 0)
    assert told.status_code == STATUSES[status]
    error = told.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["code"], str)
    assert "/opt" not in told.text
    assert "/srv" not in told.text
    assert ("retry-after" in told.headers) is (told.status_code in (400, 404, 413, 422, 429, 503, 504))
    assert "location" not in told.headers


@dialects
@streams
def test_40_a_server_that_is_down_or_silent(proxy: Start, dialect: str, *, stream: bool) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        down = proxy(url=url, upstream={"models": {MODEL: MODEL}}, dialects=list(DIALECTS))
        assert ask(down, dialect, stream=stream).status_code == 502

    async def silent(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        await asyncio.sleep(30)

    slow = proxy(script=silent, upstream={"first_byte_s": 0.2}, dialects=list(DIALECTS))
    told = ask(slow, dialect, stream=stream)
    assert (told.status_code, told.json()["error"]["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("behaviour", [{"fault": "error"}, {"slow_s": 5.0}])
def test_40_a_guard_that_cannot_look(
    proxy: Start, stub: Callable[..., str], behaviour: dict[str, Any]
) -> None:
    running = proxy(stub("input", "budget_ms: 100", **behaviour))
    told = ask(running)
    assert (told.status_code, told.json()["error"]["code"]) == (503, "guard_unavailable")
    assert int(told.headers["retry-after"]) > 0
    assert running.upstream.bodies == []


def broken_after(dialect: str, how: str) -> Script:
    async def script(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        await up.start_stream(out)
        for piece in STREAMS[dialect]([("content", "Some words, and more of them. " * 9)], 6)[:9]:
            await up.send_chunk(out, piece)
        if how == "error":
            error: dict[str, Any] = {"error": {"message": "boom /opt/x/y.py", "code": 500}, "type": "error"}
            await up.send_chunk(out, b"data: " + json.dumps(error).encode() + b"\n\n")
            await up.send_chunk(out, b"")
        elif how == "end":
            await up.send_chunk(out, b"")
        elif how == "garbage":
            await up.send_chunk(out, b"data: {{{\n\n")
        elif how == "hang":
            await asyncio.sleep(30)
        out.transport.abort()

    return script


@dialects
@pytest.mark.parametrize("how", ["error", "drop", "end", "garbage", "hang"])
def test_41_a_fault_in_the_middle_is_told(proxy: Start, dialect: str, how: str) -> None:
    settings = {"upstream": {"idle_s": 0.4}, "dialects": list(DIALECTS)}
    running = proxy(POLICY, broken_after(dialect, how), **settings)
    told = ask(running, dialect, stream=True)
    blocks = told.text.strip().split("\n\n")
    if dialect in ("chat", "completions"):
        assert blocks.pop() == "data: [DONE]"
    last = json.loads(blocks[-1].rpartition("data: ")[2])
    assert "error" in last or last["type"] == "error"
    assert "/opt" not in told.text
    assert settled(lambda: running.upstream.running == 0)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_42_every_stream_ends_with_a_reason_or_an_error(standing: Proxy, data: st.DataObject) -> None:
    """Wherever the upstream's bytes stop."""
    dialect = data.draw(st.sampled_from(DIALECTS))
    said = data.draw(st.sampled_from(["All is well. " * 8, f"It is the {SECRET}. " * 4, ""]))
    wire = b"".join(STREAMS[dialect]([("content", said)], 9))
    standing.upstream.script = raw(200, wire[: data.draw(st.integers(1, len(wire)))], "text/event-stream")
    told = ask(standing, dialect, stream=True)
    ends = {
        "chat": ('"finish_reason":"', '"error":'), "completions": ('"finish_reason":"', '"error":'),
        "responses": ("event: response.completed", "event: response.incomplete", "event: error"),
        "messages": ("event: message_stop", "event: error"),
    }[dialect]  # fmt: skip
    assert told.status_code == 502 or any(end in told.text for end in ends)
    if dialect in ("chat", "completions") and told.status_code == 200:
        assert told.text.endswith("data: [DONE]\n\n")


def test_42_a_stop_of_the_proxy_ends_streams_that_are_under_way(proxy: Start) -> None:
    async def slow(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        await up.start_stream(out)
        await up.send_chunk(out, chunk({"content": "Some words, and more of them. " * 3}))
        await asyncio.sleep(1.0)
        await up.send_chunk(out, chunk({}, 0, "stop") + b"data: [DONE]\n\n")
        await up.send_chunk(out, b"")

    running = proxy(POLICY, slow, streams={"drain_s": 10})
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(ask(running, stream=True).text))
    thread.start()
    assert settled(lambda: running.upstream.running == 1)
    running.server.should_exit = True
    thread.join(15)
    assert told[0].endswith("data: [DONE]\n\n")
