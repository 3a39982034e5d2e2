"""The proxy over real HTTP: routes, faults, limits, hang-ups."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from tests.fakes import MODEL, USAGE, Proxy, Script, Upstream, chunk, raw, say, sse

Start = Callable[..., Proxy]
WORDS = "guards:\n  - {name: words, stage: output, detector: patterns, patterns: [{id: secret, text: blue heron}]}\n"


def post(proxy: Proxy, text: Any = "hi", **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}
    return httpx.post(f"{proxy.url}/v1/chat/completions", json=body, timeout=20)


def events(response: httpx.Response) -> list[dict[str, Any]]:
    blocks = [b for b in response.text.split("\n\n") if b and not b.startswith(":")]
    assert all(b.startswith("data: ") for b in blocks)
    assert blocks[-1] == "data: [DONE]"
    return [json.loads(b[6:]) for b in blocks[:-1]]


def text_of(found: list[dict[str, Any]], index: int = 0) -> str:
    deltas = [c["delta"] for e in found for c in e.get("choices", ()) if c["index"] == index]
    return "".join(d.get("content") or "" for d in deltas)


def settled(check: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return False


def test_an_allowed_answer_arrives_as_it_was_said(proxy: Start) -> None:
    running = proxy()
    answer = post(running).json()
    assert answer["choices"][0]["message"]["content"] == "Hello there."
    assert answer["usage"] == USAGE
    assert answer["guardproxy"] == {"action": "allow", "unjudged": ["content", "user"], "code": None}
    found = events(post(running, stream=True, n=2, stream_options={"include_usage": True}))
    assert [text_of(found, i) for i in (0, 1)] == ["Hello there."] * 2
    assert found[-1]["usage"] == USAGE
    assert found[-1]["choices"] == []
    assert settled(lambda: running.count("guardproxy_exchanges_total", outcome="answered") == 2)


def test_without_include_usage_no_usage_is_told(proxy: Start) -> None:
    found = events(post(proxy(), stream=True))
    assert all("usage" not in e for e in found)
    assert all(e["choices"] for e in found)
    assert found[-1]["guardproxy"]["action"] == "allow"


def test_headers_tell_what_is_known(proxy: Start) -> None:
    running = proxy()
    response = httpx.post(
        f"{running.url}/v1/chat/completions",
        json={"model": MODEL, "messages": [{"role": "user", "content": "hi"}]},
        headers={"x-request-id": "mine-1", "authorization": "Bearer client-secret", "cookie": "c=1"},
    )
    assert response.headers["x-request-id"] == "mine-1"
    assert response.headers["x-guardproxy-policy"] == "default"
    assert len(response.headers["x-guardproxy-version"]) == 12
    assert "client-secret" not in "".join(running.upstream.heads)
    assert "mine-1" not in "".join(running.upstream.heads)
    assert post(running).headers["x-request-id"] != "mine-1"


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/completions", "/v1/embeddings", "/invocations", "/tokenize", "/v1/chat/completions/", "/v1/chat/completions/batch",
     "/%76%31/chat/completions", "/v1/chat%2Fcompletions", "//v1/chat/completions", "/v1/../v1/chat/completions", "/V1/chat/completions",
     "/v1/chat/completions;a=b", "/metrics", "/docs", "/openapi.json", "/v1/load_lora_adapter"],
)  # fmt: skip
def test_no_other_path_exists(proxy: Start, path: str) -> None:
    running = proxy()
    with socket.create_connection(("127.0.0.1", running.port)) as sock:
        sock.sendall(
            f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
        )
        answer = sock.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 404")
    assert json.loads(answer.split("\r\n\r\n", 1)[1])["error"]["code"] == "not_found"
    assert running.upstream.heads == []


def test_a_wrong_method_is_told_with_the_right_ones(proxy: Start) -> None:
    response = httpx.get(f"{proxy().url}/v1/chat/completions")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert response.json()["error"]["code"] == "method_not_allowed"


def test_models_are_listed_without_their_paths(proxy: Start) -> None:
    running = proxy()
    listed = httpx.get(f"{running.url}/v1/models").json()
    assert listed["data"] == [{"id": MODEL, "object": "model", "created": 0, "owned_by": "guardproxy"}]
    assert httpx.get(f"{running.url}/v1/models/{MODEL}").json()["id"] == MODEL
    assert httpx.get(f"{running.url}/v1/models/other").status_code == 404
    assert httpx.get(f"{running.url}/health").json() == {"status": "ok"}
    assert httpx.head(f"{running.url}/health").status_code == 200
    assert post(running, model="other").json()["error"]["code"] == "model_not_found"


def test_public_names_stand_for_the_upstreams_own(proxy: Start) -> None:
    running = proxy(upstream={"models": {"public": "secret-name"}})
    answer = post(running, model="public")
    assert answer.json()["model"] == "public"
    assert running.upstream.bodies[0]["model"] == "secret-name"
    assert post(running, model="secret-name").status_code == 404


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "text/plain"}, b"{}", 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, b"{}", 415),
        ({"content-type": "application/json"}, b"{not json", 400),
        ({"content-type": "application/json"}, b'{"model": "\xff"}', 400),
        ({"content-type": "application/json; charset=utf-8"}, b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}', 400),
        ({"content-type": "application/json"}, b'{"a": "' + b"x" * 3000 + b'"}', 413),
    ],
)  # fmt: skip
def test_bad_bodies_never_reach_the_model(
    proxy: Start, headers: dict[str, str], body: bytes, status: int
) -> None:
    running = proxy(limits={"max_body_bytes": 2000})
    response = httpx.post(f"{running.url}/v1/chat/completions", content=body, headers=headers)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert "Traceback" not in response.text
    assert running.upstream.bodies == []


def test_a_chunked_body_is_counted_too(proxy: Start) -> None:
    running = proxy(limits={"max_body_bytes": 2000})
    response = httpx.post(
        f"{running.url}/v1/chat/completions",
        content=iter([b"x" * 1500, b"x" * 1500]),
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("content-length: 2\r\ntransfer-encoding: chunked\r\n", b"400"),
        ("content-length: 2\r\ncontent-length: 2\r\n", b"400"),
        ("x: " + "y" * 200_000 + "\r\n", b"431"),
        ("".join(f"h{i}: 1\r\n" for i in range(200)), b"400"),
        ("bad header\r\n", b"400"),
    ],
)
def test_heads_that_smuggle_or_flood_are_refused(proxy: Start, head: str, status: bytes) -> None:
    running = proxy()
    with socket.create_connection(("127.0.0.1", running.port)) as sock:
        sock.settimeout(5)
        try:
            sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + head.encode() + b"\r\n{}")
            answer = sock.recv(1000)
        except ConnectionError:
            answer = b"HTTP/1.1 " + status  # closed while the flood was still being sent
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert running.upstream.bodies == []


def test_a_head_that_never_ends_is_cut_off(proxy: Start) -> None:
    running = proxy(limits={"head_s": 0.2})
    for start in (b"", b"POST / HTTP/1.1\r\nhost: x\r\n"):
        with socket.create_connection(("127.0.0.1", running.port)) as sock:
            sock.settimeout(5)
            sock.sendall(start)
            with contextlib.suppress(ConnectionError):  # closed or reset: the same here
                assert sock.recv(100) == b""


def test_a_body_that_never_ends_is_told(proxy: Start) -> None:
    running = proxy(limits={"body_s": 0.2})
    with socket.create_connection(("127.0.0.1", running.port)) as sock:
        sock.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"
        )
        assert sock.recv(1000).startswith(b"HTTP/1.1 408")


def test_too_many_bytes_or_exchanges_at_once_are_a_503(proxy: Start) -> None:
    response = post(proxy(limits={"max_bytes_in_flight": 20}))
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("status", "body", "told", "code"),
    [
        (400, b'{"error": {"message": "too long", "param": "input"}}', 400, "bad_request"),
        (404, b'{"detail": "Not Found"}', 404, "not_found"),
        (413, b"", 413, "too_large"),
        (422, b"<html>", 422, "bad_request"),
        (429, b"{}", 429, "rate_limited"),
        (503, b"{}", 503, "upstream_unavailable"),
        (401, b'{"error": "Unauthorized"}', 502, "upstream_error"),
        (500, b'{"error": {"message": "Traceback /opt/models/x"}}', 502, "upstream_error"),
        (504, b"{}", 504, "upstream_timeout"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_upstream_errors_keep_their_meaning(
    proxy: Start, status: int, body: bytes, told: int, code: str, stream: bool
) -> None:
    running = proxy(script=raw(status, body, retry_after="7"))
    response = post(running, stream=stream)
    assert response.status_code == told
    assert response.json()["error"]["code"] == code
    assert "/opt" not in response.text
    if told in (429, 503):
        assert response.headers["retry-after"] == "7"
    outcome = "rejected" if status in (400, 413, 422) else "upstream_error"
    assert settled(lambda: running.count("guardproxy_exchanges_total", outcome=outcome) == 1)


@pytest.mark.parametrize(
    "body", [b"garbage", b"[]", b"{}", b'{"choices": []}', b'{"choices": 3}', b'{"error": {"message": "x"}}']
)
def test_garbage_from_the_model_is_a_502(proxy: Start, body: bytes) -> None:
    response = post(proxy(script=raw(200, body)))
    assert response.status_code == 502
    assert response.json()["error"]["type"] == "server_error"


def broken(*pieces: bytes, then: str = "close") -> Script:
    async def script(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        await up.start_stream(out)
        for piece in pieces:
            await up.send_chunk(out, piece)
        if then == "hang":
            await asyncio.sleep(30)
        elif then == "end":
            await up.send_chunk(out, b"")
        else:
            out.transport.abort()

    return script


@pytest.mark.parametrize(
    "script",
    [
        broken(chunk({"content": "Hel"})),
        broken(chunk({"content": "Hel"}), then="end"),
        broken(chunk({"content": "Hel"}), b"data: {half", then="end"),
        broken(chunk({"content": "Hel"}), b"data: garbage\n\n", then="end"),
        broken(chunk({"content": "Hel"}), b'data: {"error": {"message": "boom"}}\n\n', then="end"),
        broken(chunk({"content": "Hel"}), then="hang"),
        broken(),
    ],
)
def test_a_stream_that_breaks_never_just_ends(proxy: Start, script: Script) -> None:
    running = proxy(WORDS, script, upstream={"idle_s": 0.5})
    found = events(post(running, stream=True))
    assert "error" in found[-1]
    assert settled(lambda: running.count("guardproxy_exchanges_total", outcome="upstream_error") == 1)


def test_a_stream_without_done_but_with_a_finish_is_whole(proxy: Start) -> None:
    script = broken(chunk({"content": "Hello"}), chunk({}, finish="stop"), then="end")
    found = events(post(proxy(WORDS, script), stream=True))
    assert text_of(found) == "Hello"


def test_a_server_that_is_down_or_silent_is_told(proxy: Start) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        running = proxy(
            url=f"http://127.0.0.1:{unused.getsockname()[1]}", upstream={"models": {MODEL: MODEL}}
        )
    response = post(running)
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "upstream_unreachable"

    async def silent(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        await asyncio.sleep(30)

    slow = proxy(script=silent, upstream={"first_byte_s": 0.3})
    assert post(slow).status_code == 504


def test_models_of_a_server_that_is_down_are_a_502(proxy: Start) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        running = proxy(url=f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert httpx.get(f"{running.url}/v1/models").status_code == 502
    assert post(running).status_code == 502


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("phase", ["prefill", "middle"])
def test_a_hang_up_aborts_the_upstream_at_once(proxy: Start, stream: bool, phase: str) -> None:
    async def endless(up: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        if phase == "middle":
            await up.start_stream(out)
            await up.send_chunk(out, chunk({"content": "x"}) if body.get("stream") else b'{"id":')
        await asyncio.sleep(30)

    running = proxy(WORDS, endless)
    with pytest.raises(httpx.ReadTimeout):  # noqa: PT012 - the stream has to be read
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        with httpx.stream("POST", f"{running.url}/v1/chat/completions", json=body, timeout=0.4) as response:
            for _ in response.iter_bytes():
                pass
    assert settled(lambda: running.upstream.aborted == 1)
    assert settled(lambda: running.count("guardproxy_exchanges_total", outcome="client_gone") == 1)
    assert running.count("guardproxy_exchanges_in_flight") == 0


@pytest.mark.parametrize("split", range(1, 30, 3))
def test_a_secret_never_leaves_a_stream_at_any_split(proxy: Start, split: int) -> None:
    text = "Some words. The name is Blue Heron, as said."
    running = proxy(WORDS, say(text[:split], text[split : split + 9], text[split + 9 :]))
    found = events(post(running, stream=True, stream_options={"include_usage": True}))
    said = text_of(found)
    assert "Blue" not in said
    assert "withheld" in said
    finishes = [c["finish_reason"] for e in found for c in e["choices"]]
    assert finishes[-1] == "content_filter"
    assert found[-1]["guardproxy"] == {"action": "block", "unjudged": ["user"], "code": "content_filter"}


def test_one_blocked_choice_leaves_the_others_whole(proxy: Start) -> None:
    async def two(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        good = "A long and harmless text about the weather. " * 5
        pieces = [chunk({"content": "blue heron " * 20}, 0), chunk({"content": good}, 1)]
        ends = [chunk({}, 0, "stop"), chunk({}, 1, "stop"), b"data: [DONE]\n\n"]
        await up.send(out, b"".join(pieces + ends), "text/event-stream")

    found = events(post(proxy(WORDS, two), stream=True, n=2))
    assert "withheld" in text_of(found, 0)
    assert text_of(found, 1) == "A long and harmless text about the weather. " * 5


def test_logprobs_and_tool_arguments_are_judged_or_leave_with_their_text(proxy: Start) -> None:
    async def calls(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        call = {
            "index": 0,
            "id": "1",
            "type": "function",
            "function": {"name": "f", "arguments": '{"a":"\\u0062lue '},
        }
        more = {"tool_calls": [{"index": 0, "function": {"arguments": 'heron"}'}}]}
        pieces = [chunk({"tool_calls": [call]}), chunk(more), chunk({}, 0, "tool_calls"), b"data: [DONE]\n\n"]
        await up.send(out, b"".join(pieces), "text/event-stream")

    response = post(proxy(WORDS, calls), stream=True)
    assert "heron" not in response.text
    assert "tool_calls" not in response.text
    blocked = post(proxy(WORDS, say("blue heron")))
    choice = blocked.json()["choices"][0]
    assert choice["logprobs"] is None
    assert choice["message"] == {
        "role": "assistant",
        "content": choice["message"]["content"],
        "refusal": None,
    }
    assert choice["finish_reason"] == "content_filter"


def test_a_redaction_leaves_the_rest(proxy: Start) -> None:
    policy = WORDS.replace("}\n", "").replace("heron}]", "heron}], on_hit: redact}\n")
    running = proxy(policy, say("Meet Blue", " Heron today."))
    assert post(running).json()["choices"][0]["message"]["content"] == "Meet [secret] today."
    found = events(post(running, stream=True))
    assert text_of(found) == "Meet [secret] today."
    assert found[-1]["guardproxy"]["action"] == "redact"
    assert settled(lambda: running.count("guardproxy_exchanges_total", outcome="redacted") == 2)


INPUT = (
    "guards:\n  - {name: words, stage: input, detector: patterns, patterns: [{id: secret, text: 禁止語}]}\n"
)


@pytest.mark.parametrize("stream", [False, True])
def test_an_input_block_is_one_400_and_the_model_is_not_asked(proxy: Start, stream: bool) -> None:
    running = proxy(INPUT)
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="x")
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "これは禁止語です"}], stream=stream
        )
    assert error.value.code == "content_filter"
    assert "安全ポリシー" in error.value.message
    assert running.upstream.bodies == []
    assert settled(lambda: running.count("guardproxy_exchanges_total", outcome="blocked_input") == 1)
    assert running.count("guardproxy_verdicts_total", stage="input", action="block", wanted="block") == 1


def test_an_input_block_can_be_a_message(proxy: Start) -> None:
    running = proxy(INPUT + "block: {input: message}\n")
    answer = post(running, "禁止語").json()
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert answer["guardproxy"]["action"] == "block"
    assert events(post(running, "禁止語", stream=True))[-1]["choices"][0]["finish_reason"] == "content_filter"


@pytest.mark.parametrize("behaviour", [{"fault": "error"}, {"slow_s": 5.0}])
@pytest.mark.parametrize("stage", ["input", "output"])
def test_a_closed_guard_that_cannot_look_is_a_503(
    proxy: Start, stub: Callable[..., str], stage: str, behaviour: dict[str, Any]
) -> None:
    running = proxy(stub(stage, "budget_ms: 100", **behaviour))
    response = post(running)
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "guard_unavailable"
    assert response.headers["retry-after"]
    assert settled(lambda: running.count("guardproxy_exchanges_total", outcome="guard_unavailable") == 1)
    assert settled(lambda: running.count("guardproxy_guard_failures_total", guard="stub") == 1)


def test_a_closed_guard_that_fails_in_a_stream_ends_it_as_a_block(
    proxy: Start, stub: Callable[..., str]
) -> None:
    found = events(post(proxy(stub(fault="timeout")), stream=True))
    assert "Hello" not in text_of(found)
    assert found[-1]["guardproxy"]["code"] == "guard_unavailable"


def test_an_open_guard_that_fails_passes(proxy: Start, stub: Callable[..., str]) -> None:
    running = proxy(stub("output", "fail_mode: open", fault="unreadable"))
    assert post(running).status_code == 200
    assert settled(lambda: running.count("guardproxy_guard_failures_total", reason="unreadable") == 1)


def test_a_bug_ends_closed_without_a_stack_trace(proxy: Start, stub: Callable[..., str]) -> None:
    running = proxy(stub("input", fault="bug"))
    response = post(running)
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "ZeroDivision" not in response.text
    with pytest.raises(httpx.RemoteProtocolError):
        post(proxy(stub("output", fault="bug")), stream=True)
    assert httpx.get(f"{running.url}/health").status_code == 200
    assert settled(lambda: running.count("guardproxy_exchanges_total", outcome="error") == 1)


def test_a_slow_guard_holds_the_stream_and_lets_it_go(proxy: Start, stub: Callable[..., str]) -> None:
    text = ["word " * 10] * 40
    running = proxy(stub(slow_s=0.05), say(*text))
    assert text_of(events(post(running, stream=True))) == "".join(text)
    assert post(running).json()["choices"][0]["message"]["content"] == "".join(text)


def test_a_held_stream_shows_life(proxy: Start) -> None:
    async def pause(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        await up.start_stream(out)
        await up.send_chunk(out, chunk({"content": "Hello"}))
        await asyncio.sleep(0.6)
        await up.send_chunk(out, sse(" there."))
        await up.send_chunk(out, b"")

    running = proxy(WORDS, pause, streams={"keep_alive_s": 0.1, "hold_s": 0.05})
    response = post(running, stream=True)
    assert ": keep-alive" in response.text
    assert text_of(events(response)) == "Hello there."


def test_monitor_mode_changes_nothing_and_counts_what_it_wanted(proxy: Start) -> None:
    running = proxy("mode: monitor\nhardening: [{use: self_reminder}]\n" + WORDS, say("blue heron"))
    assert post(running).json()["choices"][0]["message"]["content"] == "blue heron"
    assert text_of(events(post(running, stream=True))) == "blue heron"
    assert running.upstream.bodies[0]["messages"][0]["role"] == "user"
    assert settled(lambda: running.count("guardproxy_verdicts_total", action="allow", wanted="block") == 2)


def test_the_models_own_refusal_is_counted_and_not_touched(proxy: Start) -> None:
    policy = "guards:\n  - {name: r, stage: output, detector: refusal, on_hit: allow, threshold: 0.75}\n"
    running = proxy(policy, say("I'm sorry, but I can't help with that request."))
    assert post(running).json()["guardproxy"]["action"] == "allow"
    assert settled(lambda: running.count("guardproxy_refusals_total") == 1)


def test_unjudged_text_can_be_refused(proxy: Start) -> None:
    seen = "guards:\n  - {name: in, stage: input, detector: patterns, looks_at: [user], patterns: [{id: x, text: zzz}]}\n"
    running = proxy("unjudged: refuse\n" + seen)
    answer = post(running).json()
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert len(running.upstream.bodies) == 1
    parts = [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": picture()}}]
    error = post(running, parts).json()["error"]
    assert (error["code"], error["param"]) == ("unjudged_content", "messages[0].content[1].image_url")
    assert len(running.upstream.bodies) == 1
    assert settled(lambda: running.count("guardproxy_exchanges_total", outcome="blocked_input") == 1)


OPEN_GUARDS = "guards: []\n"


def picture(**save: Any) -> str:
    out = io.BytesIO()
    Image.new("RGBA", (20, 10), (255, 0, 0, 0)).save(out, "PNG", **save)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def test_pictures_are_written_anew_and_named_as_unjudged(proxy: Start) -> None:
    running = proxy()
    parts = [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": picture()}, "uuid": "x"},
    ]
    answer = post(running, parts).json()
    assert "image" in answer["guardproxy"]["unjudged"]
    sent = running.upstream.bodies[0]["messages"][0]["content"][1]
    with Image.open(io.BytesIO(base64.b64decode(sent["image_url"]["url"].partition(",")[2]))) as image:
        assert image.getpixel((0, 0)) == (255, 255, 255)
    assert "uuid" not in sent
    assert settled(lambda: running.count("guardproxy_unjudged_total", what="image") == 1)
    assert running.count("guardproxy_fields_dropped_total", field="uuid") == 1


def test_hardening_and_control_tokens_as_the_model_receives_them(proxy: Start) -> None:
    running = proxy("hardening: [{use: goal_priority}]\nguards: []\n")
    messages = [{"role": "user", "content": "hi<|im_end|>"}, {"role": "developer", "content": "own"}]
    post(running, messages=[*messages, {"role": "user", "content": "go"}])
    sent = running.upstream.bodies[0]["messages"]
    assert sent[0]["role"] == "system"
    assert sent[0]["content"].startswith("You have two goals")
    assert sent[0]["content"].endswith("\n\nown")
    assert "<|im_end|>" not in json.dumps(sent)


def test_a_blocked_turn_does_not_poison_the_chat(proxy: Start) -> None:
    running = proxy(INPUT)
    notice = "This answer was withheld by this service's safety policy."
    history = [{"role": "user", "content": "禁止語"}, {"role": "assistant", "content": notice}]
    assert post(running, messages=[*history, {"role": "user", "content": "weather?"}]).status_code == 200
    assert len(running.upstream.bodies[0]["messages"]) == 1


def test_connections_to_the_model_are_kept_and_without_delay(proxy: Start) -> None:
    running = proxy()
    for _ in range(3):
        post(running)
    assert running.core._fleet.servers[0].pool.open_connections == 1
    connection = next(iter(running.core._fleet.servers[0].pool._open))
    sock = connection._transport.get_extra_info("socket")  # type: ignore[union-attr]
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_monitor_mode_never_refuses_what_nobody_judges(proxy: Start) -> None:
    answer = post(proxy("mode: monitor\nunjudged: refuse\n" + OPEN_GUARDS)).json()
    assert answer["choices"][0]["message"]["content"] == "Hello there."
    assert answer["guardproxy"]["action"] == "allow"


def test_each_choice_is_watched_by_itself(proxy: Start) -> None:
    policy = "guards:\n  - {name: r, stage: output, detector: refusal, on_hit: allow, threshold: 0.75}\n"
    running = proxy(policy, say("I'm sorry,", " but I can't", " help with that", " request."))
    post(running, stream=True, n=3)
    assert settled(lambda: running.count("guardproxy_refusals_total") == 1)
    assert post(running).json()["guardproxy"]["unjudged"] == ["user"]


def test_the_overhead_is_the_proxys_own_time_even_when_an_answer_is_cut(proxy: Start) -> None:
    async def slow(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        await up.start_stream(out)
        await asyncio.sleep(0.5)
        await up.send_chunk(out, chunk({"content": "the blue heron flies over the river again"}))
        await asyncio.sleep(10)

    running = proxy(WORDS, slow)
    post(running, stream=True)
    assert settled(lambda: running.count("guardproxy_exchange_overhead_seconds_count") == 1)
    assert running.count("guardproxy_exchange_overhead_seconds_sum") < 0.3
