"""Checklist 43 to 50: connections, hang-ups, heads, times."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from guardproxy import policystore
from tests.conformance.proxies import DIALECTS, PATHS, POLICY, ask, asks, settled
from tests.dialects import hear
from tests.fakes import MODEL, Proxy, Upstream, chunk, say, sse
from tests.ingress.test_api import events, text_of
from tests.test_reload import served

Start = Callable[..., Proxy]
JSON = "content-type: application/json\r\n"


def head(dialect: str = "chat", *lines: str, version: str = "1.1") -> str:
    return f"POST {PATHS[dialect]} HTTP/{version}\r\nhost: x\r\n{JSON}{''.join(f'{line}{chr(13)}{chr(10)}' for line in lines)}"


def sent_body(**fields: Any) -> bytes:
    return json.dumps(asks("chat", **fields)).encode()


PHASES = ["upload", "input guard", "queued", "prefill", "held window", "streaming"]


@pytest.mark.parametrize("phase", PHASES)
def test_43_a_hang_up_stops_the_model_within_a_second(
    proxy: Start, stub: Callable[..., str], phase: str
) -> None:
    async def endless(up: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        if phase in ("held window", "streaming"):
            await up.start_stream(out)
            while True:
                await up.send_chunk(out, chunk({"content": "word "}))
                await asyncio.sleep(0.02)
        if phase == "prefill":
            await up.start_stream(out)
        await asyncio.sleep(30)

    policy = POLICY
    if phase in ("input guard", "held window"):
        policy = stub("input" if phase == "input guard" else "output", "budget_ms: 20000", slow_s=15.0)
    running = proxy(policy, endless)
    body = sent_body(stream=phase != "queued")
    sock = socket.create_connection(("127.0.0.1", running.port), timeout=10)
    announced = len(body) + (100 if phase == "upload" else 0)
    sock.sendall(f"{head()}content-length: {announced}\r\n\r\n".encode() + body)
    if phase in ("upload", "input guard"):
        assert settled(lambda: running.core.in_flight.exchanges == 1)
    else:
        assert settled(lambda: running.upstream.running == 1)
    time.sleep(0.3)
    sock.close()
    assert settled(lambda: running.core.in_flight.exchanges == 0, 1.0)
    assert settled(lambda: running.upstream.running == 0, 1.0)
    assert running.upstream.aborted == (phase not in ("upload", "input guard"))
    if phase == "input guard":
        assert running.upstream.bodies == []
    if phase != "upload":
        assert settled(lambda: running.count("guardproxy_exchanges_total", outcome="client_gone") == 1)


def test_44_connections_are_kept_on_both_sides(proxy: Start) -> None:
    running = proxy()
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as sock:
        reader = sock.makefile("rb")
        for number in range(100):
            body = sent_body(stream=number % 2 == 1)
            sock.sendall(f"{head()}content-length: {len(body)}\r\n\r\n".encode() + body)
            length, line = 0, reader.readline()
            assert b"200 OK" in line
            chunked = False
            while (line := reader.readline()) != b"\r\n":
                length = int(line.split(b":")[1]) if line.lower().startswith(b"content-length") else length
                chunked = chunked or line.lower().startswith(b"transfer-encoding")
            if chunked:
                while size := int(reader.readline(), 16):
                    reader.read(size + 2)
                reader.readline()
            else:
                reader.read(length)
    assert len(running.upstream.bodies) == 100
    (server,) = running.core._fleet.servers
    assert server.pool.open_connections == 1


def test_44_idle_connections_end_before_the_server_ends_them(proxy: Start) -> None:
    """vLLM closes after 5 s of silence: a request that meets the closing would be lost."""
    from guardproxy.upstream import Limits

    assert 0 < Limits().keep_alive_s < 5


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_44_only_an_unanswered_request_on_a_kept_connection_is_sent_again(proxy: Start, said: bytes) -> None:
    asked: list[int] = []

    async def script(up: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        asked.append(1)
        if len(asked) == 2:  # on the connection that the first request left open
            out.write(said)
            out.close()
            return
        await say("Hello.")(up, out, body)

    running = proxy(script=script)
    assert ask(running).status_code == 200
    again = ask(running)
    assert (again.status_code, len(asked)) == ((200, 3) if said == b"" else (502, 2))


def test_45_a_client_that_does_not_read_holds_the_model_back(proxy: Start) -> None:
    sent = [0]
    piece = chunk({"content": "x" * 4000})

    async def flood(up: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        await up.start_stream(out)
        while True:
            await up.send_chunk(out, piece)
            sent[0] += len(piece)

    running = proxy(script=flood)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", running.port))
        body = sent_body(stream=True)
        sock.sendall(f"{head()}content-length: {len(body)}\r\n\r\n".encode() + body)
        assert settled(lambda: running.upstream.running == 1)
        before = -1
        while sent[0] != before:  # until it stands still
            before = sent[0]
            time.sleep(0.5)
        # The kernel's buffers of four sockets and the proxy's own marks.
        assert sent[0] < 32_000_000
    assert settled(lambda: running.upstream.running == 0)


def test_46_headers_of_a_stream_and_signs_of_life(proxy: Start, stub: Callable[..., str]) -> None:
    async def slow(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        await up.start_stream(out)
        await up.send_chunk(out, chunk({"content": "Some words."}))
        await asyncio.sleep(0.6)
        await up.send_chunk(out, sse(" And more."))
        await up.send_chunk(out, b"")

    running = proxy(stub("output", "budget_ms: 9000", slow_s=0.5), slow, streams={"keep_alive_s": 0.1})
    told = ask(running, stream=True)
    assert told.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert told.headers["x-accel-buffering"] == "no"
    assert told.headers["cache-control"] == "no-cache"
    assert "content-length" not in told.headers
    assert "content-encoding" not in told.headers
    assert told.text.count(": keep-alive\n\n") >= 3
    assert text_of(events(told)) == "Some words. And more."
    from guardproxy.settings import StreamSettings

    assert StreamSettings().keep_alive_s <= 10


CROSSING = {
    "x-request-id": "mine-1", "x-session-id": "s", "x-vllm-priority": "-9", "x-data-parallel-rank": "1",
    "endpoint-load-metrics-format": "TEXT", "cookie": "c=1", "authorization": "Bearer sk-client", "x-api-key": "sk-client",
    "te": "trailers", "upgrade-insecure-requests": "1", "keep-alive": "timeout=5", "proxy-authorization": "Basic x",
    "x-forwarded-for": "1.2.3.4", "forwarded": "for=1.2.3.4", "x-custom": "hop", "accept-encoding": "gzip, br",
    "openai-organization": "org", "x-stainless-retry-count": "0", "referer": "http://x",
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_47_no_header_with_an_effect_crosses(standing: Proxy, dialect: str) -> None:
    told = httpx.post(
        standing.url + PATHS[dialect], json=asks(dialect),
        headers=CROSSING | {"connection": "keep-alive, x-custom", "content-type": "application/json"},
    )  # fmt: skip
    assert told.status_code == 200
    assert told.headers["x-request-id"] == "mine-1"
    first, *lines = standing.upstream.heads[-1].lower().strip().split("\r\n")
    assert first == f"post {PATHS[dialect]} http/1.1"
    sent = dict(line.split(": ", 1) for line in lines)
    own = {"host", "user-agent", "accept", "accept-encoding", "content-type", "content-length"}
    assert sent.keys() == own
    assert (sent["user-agent"], sent["accept-encoding"]) == ("guardproxy", "identity")
    for bad in ("a b", "x" * 200, "é", "<script>"):
        answered = httpx.get(f"{standing.url}/v1/models", headers={"x-request-id": bad.encode("latin-1")})  # type: ignore[dict-item]
        assert answered.headers["x-request-id"] != bad


def test_48_traces_go_on_and_no_key_crosses(proxy: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace itself: `tests/telemetry/test_tracing.py`."""
    monkeypatch.setenv("CLIENT", "sk-client-0123456789abcdefgh")
    monkeypatch.setenv("SERVER", "sk-server-0123456789abcdefgh")
    keys = {"app": {"key": "env:CLIENT"}}
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    tracing = {"endpoint": "http://127.0.0.1:9/v1/traces"}
    running = proxy(client_keys=keys, upstream={"key": "env:SERVER"}, tracing=tracing)
    told = httpx.post(
        running.url + PATHS["chat"], json=asks("chat"),
        headers={"authorization": "Bearer sk-client-0123456789abcdefgh", "traceparent": parent},
    )  # fmt: skip
    up = running.upstream.heads[-1].lower()
    (line,) = [x for x in up.split("\r\n") if x.startswith("traceparent:")]
    _, trace, span, _ = line.split(": ")[1].split("-")
    assert trace == "0af7651916cd43dd8448eb211c80319c"
    assert span != "b7ad6b7169203331"
    assert "authorization: bearer sk-server" in up
    assert "sk-client" not in up
    assert "sk-server" not in told.text + str(told.headers)


def test_49_old_odd_and_new_clients(proxy: Start, standing: Proxy) -> None:
    body = sent_body()
    for version, name in (("1.0", "CONTENT-LENGTH"), ("1.1", "content-length"), ("1.1", "Content-LENGTH")):
        with socket.create_connection(("127.0.0.1", standing.port), timeout=10) as sock:
            close = "" if version == "1.0" else "Connection: close\r\n"
            sock.sendall(f"{head(version=version)}{close}{name}: {len(body)}\r\n\r\n".encode() + body)
            got = sock.makefile("rb").read()  # to its end: the connection is closed
        assert got.startswith(b"HTTP/1.1 200 OK")
        assert b"All is well" in got
    assert httpx.head(f"{standing.url}/health").status_code == 200
    assert httpx.head(f"{standing.url}/health").content == b""
    assert httpx.get(f"{standing.url}/health").json() == {"status": "ok"}


def test_49_ipv6() -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6")
    with served(policystore.shipped_dir(), "--host", "::1", "--admin-host", "::1") as (api, admin, _):
        assert api.startswith("http://[::1]:")
        body = {"model": "guardproxy-sandbox", "messages": [{"role": "user", "content": "hi"}]}
        assert httpx.post(f"{api}/v1/chat/completions", json=body).status_code == 200
        assert httpx.get(f"{admin}/readyz").status_code == 200


def test_49_a_stop_drains_streams(proxy: Start) -> None:
    """By a signal, with one and two workers: `tests/test_life.py`."""

    async def slow(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        await up.start_stream(out)
        for word in ["word "] * 10:
            await up.send_chunk(out, chunk({"content": word}))
            await asyncio.sleep(0.05)
        await up.send_chunk(out, chunk({}, 0, "stop") + b"data: [DONE]\n\n")
        await up.send_chunk(out, b"")

    running = proxy(POLICY, slow, streams={"drain_s": 10})
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(ask(running, stream=True).text))
    thread.start()
    assert settled(lambda: running.upstream.running == 1)
    running.server.should_exit = True
    thread.join(10)
    assert hear("chat", told[0].encode(), stream=True).text("content") == "word " * 10


async def hangs(up: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    await up.start_stream(out)
    await up.send_chunk(out, chunk({"content": "Hello"}) if body.get("stream") else b'{"id": ')
    await asyncio.sleep(30)


async def drips(up: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    await up.start_stream(out)
    while True:
        await up.send_chunk(out, b": ping\n\n")
        await asyncio.sleep(0.1)


def test_50_each_time_out_has_its_own_error(proxy: Start) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [
            socket.socket() for _ in range(3)
        ]  # nobody accepts: the queue is full, and the next one waits
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        deaf = proxy(url=f"http://127.0.0.1:{port}", upstream={"connect_s": 0.2, "models": {MODEL: MODEL}})
        told = ask(deaf)
        assert (told.status_code, told.json()["error"]["code"]) == (504, "upstream_timeout")
        for one in waiting:
            one.close()

    async def silent(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        await asyncio.sleep(30)

    first = ask(proxy(script=silent, upstream={"first_byte_s": 0.2}))
    assert (first.status_code, first.json()["error"]["code"]) == (504, "upstream_timeout")
    idle = proxy(POLICY, hangs, upstream={"idle_s": 0.3, "first_byte_s": 1})
    in_stream = events(ask(idle, stream=True))[-1]["error"]
    assert in_stream["code"] == "upstream_timeout"
    whole = ask(idle)
    assert (whole.status_code, whole.json()["error"]["code"]) == (504, "upstream_timeout")
    slow = proxy(POLICY, hangs, upstream={"idle_s": 0.3, "first_byte_s": 0.3})
    whole = ask(slow)
    assert (whole.status_code, whole.json()["error"]["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("stream", [False, True])
def test_50_an_answer_that_never_ends_is_ended(proxy: Start, *, stream: bool) -> None:
    """It never falls silent: no other limit meets it."""
    running = proxy(POLICY, drips, upstream={"total_s": 0.5}, streams={"keep_alive_s": 0.2})
    began = time.monotonic()
    told = ask(running, stream=stream)
    assert time.monotonic() - began < 3
    error = events(told)[-1]["error"] if stream else told.json()["error"]
    assert error["code"] == "upstream_timeout"
    assert "did not end" in error["message"]
    assert settled(lambda: running.upstream.running == 0)
