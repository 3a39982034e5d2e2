"""Fakes we own: an upstream that does what a script says, and a proxy that runs in a thread."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from guardproxy.app import Core
from guardproxy.core.content import ImagePart, Part, Request
from guardproxy.core.verdict import Finding, Span
from guardproxy.detectors.base import Content
from guardproxy.errors import DetectorError
from guardproxy.serve import api_server, bind
from guardproxy.settings import Settings
from guardproxy.telemetry.metrics import Metrics

MODEL = "scripted"
Script = Callable[["Upstream", asyncio.StreamWriter, dict[str, Any]], Coroutine[Any, Any, None]]


def chunk(delta: dict[str, Any], index: int = 0, finish: str | None = None, **extra: Any) -> bytes:
    """One SSE event in vLLM's format."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish, "token_ids": None}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [choice],
        **extra,
    }
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def sse(*texts: str, n: int = 1) -> bytes:
    """A whole stream that says these texts."""
    events = [chunk({"role": "assistant", "content": ""}, i) for i in range(n)]
    events += [chunk({"content": t}, i) for t in texts for i in range(n)]
    events += [chunk({}, i, "stop") for i in range(n)]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    events.append(b"data: " + json.dumps({**head, "choices": [], "usage": USAGE}).encode() + b"\n\n")
    return b"".join(events) + b"data: [DONE]\n\n"


def answer(*texts: str, **message: Any) -> dict[str, Any]:
    """A buffered answer with a choice for each text."""
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": t, **message},
            "finish_reason": "stop",
            "logprobs": None,
            "token_ids": None,
        }
        for i, t in enumerate(texts)
    ]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": choices,
        "usage": USAGE,
        "prompt_token_ids": [1],
        "kv_transfer_params": None,
    }


def say(*texts: str) -> Script:
    """Answer with these texts, streamed or not as asked; `n` as asked if there is one text."""

    async def script(up: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        n = body.get("n", 1)
        if body.get("stream"):
            await up.send(out, sse(*texts, n=n), "text/event-stream")
        else:
            await up.send(out, json.dumps(answer(*["".join(texts)] * n)).encode())

    return script


def raw(status: int, body: bytes, content_type: str = "application/json", **headers: str) -> Script:
    """Answer with exactly this."""

    async def script(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        await up.send(out, body, content_type, status, headers)

    return script


class Upstream:
    """A model server on loopback that does what `script` says and remembers what it was sent."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.running = 0
        self.aborted = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def send(
        self,
        out: asyncio.StreamWriter,
        body: bytes,
        content_type: str = "application/json",
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> None:
        extra = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in (headers or {}).items())
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
        out.write(head.encode() + body)
        await out.drain()

    async def start_stream(self, out: asyncio.StreamWriter) -> None:
        out.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        await out.drain()

    async def send_chunk(self, out: asyncio.StreamWriter, data: bytes) -> None:
        out.write(b"%x\r\n" % len(data) + data + b"\r\n")
        await out.drain()

    async def _serve(self, reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                length = next(
                    (
                        int(x.split(":")[1])
                        for x in head.split("\r\n")
                        if x.lower().startswith("content-length")
                    ),
                    0,
                )
                data = await reader.readexactly(length)
                if head.startswith("GET"):
                    lora = {"id": "lora", "root": "/lora", "parent": MODEL}
                    listed = [{"id": MODEL, "root": "/secret", "parent": None}, lora]
                    await self.send(out, json.dumps({"data": listed}).encode())
                    continue
                body = json.loads(data)
                self.bodies.append(body)
                self.running += 1
                done = asyncio.create_task(self.script(self, out, body))
                gone = asyncio.create_task(reader.read(1))
                await asyncio.wait((done, gone), return_when=asyncio.FIRST_COMPLETED)
                self.running -= 1
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)
                if not done.done():
                    done.cancel()
                    self.aborted += 1
                    break
                done.result()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            out.close()


class Proxy:
    """The real proxy with its real server, in a thread, in front of a scripted upstream.

    Use as a context manager; `policy` is the YAML of `default.yaml`. With `others`, there are further upstreams,
    and `models` are the public names that each of them serves.
    """

    def __init__(
        self,
        policies: Path,
        policy: str,
        script: Script,
        others: Sequence[Script] = (),
        models: Sequence[dict[str, str]] = (),
        **settings: Any,
    ) -> None:
        self.policies = policies
        self.write(policy)
        (policies / "routing.yaml").write_text("rules: [{match: {}, policy: default}]\n")
        self.upstream = Upstream(script)
        self.upstreams = [self.upstream, *map(Upstream, others)]
        self._models = models or [{}] * len(self.upstreams)
        self.metrics = Metrics()
        self._settings = settings
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._fault: BaseException | None = None

    def write(self, policy: str) -> None:
        (self.policies / "default.yaml").write_text("schema: 1\nname: default\n" + policy, encoding="utf-8")

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._ready.wait(20)
        if self._fault:
            raise self._fault
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self._thread.join(10)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as fault:  # noqa: BLE001 - handed to the test
            self._fault = fault
            self._ready.set()

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        for one in self.upstreams:
            await one.start()
        settings = dict(self._settings)
        url = settings.pop("url", f"http://127.0.0.1:{self.upstream.port}")
        upstream = {"url": url, **settings.pop("upstream", {})}
        if len(self.upstreams) > 1:
            urls = (f"http://127.0.0.1:{one.port}" for one in self.upstreams)
            servers = [{"url": u, "models": m} for u, m in zip(urls, self._models, strict=True)]
            upstream |= {"url": "", "servers": servers}
        streams = {"drain_s": 1, **settings.pop("streams", {})}
        read = Settings.model_validate(
            {"policies": str(self.policies), "upstream": upstream, "streams": streams, **settings}
        )
        self.core = Core(read, self.metrics)
        self.server = api_server(self.core)
        sock = bind("127.0.0.1", 0)
        self.port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.loop.call_later(0.05, self._ready.set)
        await self.server.serve([sock])
        for one in self.upstreams:
            one.close()
        await self.core.close()

    async def _counted(self, limit_s: float = 3) -> None:
        """Exchanges that a test keeps open are not waited for longer than the limit."""
        deadline = self.loop.time() + limit_s
        while self.loop.time() < deadline:
            closing = {task for task in self.core._background if "Account.close" in repr(task.get_coro())}
            if not closing and not self.core.in_flight.exchanges:
                break
            await asyncio.sleep(0.01)

    def count(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels, once every exchange that ended is counted."""
        if self.loop.is_running():
            asyncio.run_coroutine_threadsafe(self._counted(), self.loop).result(20)
        total = 0.0
        for family in self.metrics.registry.collect():
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    total += sample.value
        return total


def taken(request: Request) -> Request:
    """A request whose pictures have been through an intake that changes nothing."""

    def part_of(part: Part) -> Part:
        return replace(part, sent=json.dumps(part.url).encode()) if isinstance(part, ImagePart) else part

    return request.with_messages(
        tuple(replace(m, parts=tuple(map(part_of, m.parts))) for m in request.messages)
    )


class Stub:
    """A detector that reports one score, fails or is slow: put into a registry by a test."""

    name = "stub"
    version = "1"

    def __init__(
        self, score: float = 0.0, *, fault: str | None = None, slow_s: float = 0.0, word: str = ""
    ) -> None:
        self.inline = not slow_s
        self._score, self._fault, self._slow_s, self._word = score, fault, slow_s, word

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        if self._slow_s:
            await asyncio.sleep(self._slow_s)
        if self._fault == "bug":
            raise ZeroDivisionError("a bug")
        if self._fault:
            raise DetectorError("no", self._fault)
        segment = content.segments[0]
        score = self._score if self._word in segment.text else 0.0
        return (Finding(self.name, "stub", score, segment.place, Span(0, len(segment.text))),)
