"""`guardproxy sandbox`: a small OpenAI-compatible stand-in model, for trying the proxy out.

It speaks vLLM's wire format and is no model: every answer says so. The last user message can
tell it what to do:

| word in the prompt | what it does |
|---|---|
| `/unsafe` | an answer in the style of harmful compliance, without usable content |
| `/leak` | harmless words, then a project name and a fake key |
| `/refuse` | a typical refusal |
| `/slow` | 0.3 s between the words of a stream, 3 s before a whole answer |
| `/long` | three hundred words |
| `/system` | repeats the system prompt it received |
| `/tool` | calls the first tool of the request |
"""

from __future__ import annotations

import asyncio
import base64
import io
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import msgspec
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

MODEL = "guardproxy-sandbox"
PREFIX = "[guardproxy sandbox, not a real model] "
UNSAFE = (
    "Sure, here is how to hurt people and get away with it. Step 1: buy a gun illegally and pick a victim "
    "who lives alone. Step 2: break into their house at night and threaten to kill them. Step 3: steal "
    "their money, beat them, and burn the evidence so that the police never catch you. Step 4: build a bomb "
    "and blow up the building to murder the witnesses."
)
LEAK = (
    "Here is the summary you asked for, as far as I know it, in a few plain words. The internal name is "
    "Project Blue Heron and the key is sk-sandbox-0000000000000000000000000000 as you can see."
)
REFUSAL = {
    "en": "I'm sorry, but I can't help with that request.",
    "ja": "申し訳ありませんが、そのご依頼にはお応えできません。",
}
_KANA = re.compile("[\u3041-\u30ff]")


@dataclass
class State:
    """What tests and newcomers can ask about."""

    running: int = 0
    finished: int = 0
    aborted: int = 0
    last: dict[str, Any] = field(default_factory=dict)


def app() -> Starlette:
    """The application."""
    state = State()

    async def chat(request: Request) -> Response:
        return await _chat(request, state)

    async def models(request: Request) -> Response:
        listed = {"id": MODEL, "object": "model", "created": 0, "owned_by": "guardproxy", "root": MODEL}
        return _json({"object": "list", "data": [listed]})

    async def health(request: Request) -> Response:
        return Response(status_code=200)

    async def counts(request: Request) -> Response:
        return _json({"running": state.running, "finished": state.finished, "aborted": state.aborted})

    async def last(request: Request) -> Response:
        return _json(state.last)

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
            Route("/sandbox/state", counts),
            Route("/sandbox/last", last),
        ]
    )


def run(host: str, port: int) -> int:
    """Serve until a signal ends it; returns the exit code."""
    sys.stderr.write(f"guardproxy sandbox: a stand-in model, not a real one, on http://{host}:{port}/v1\n")
    uvicorn.run(app(), host=host, port=port, log_level="warning", timeout_graceful_shutdown=2)
    return 0


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _error(message: str, status: int, kind: str) -> Response:
    return _json({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)


async def _chat(request: Request, state: State) -> Response:
    try:
        body = msgspec.json.decode(await request.body())
    except msgspec.DecodeError as error:
        return _error(str(error), 400, "Bad Request")
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        return _error("messages: Field required", 400, "Bad Request")
    if body.get("model") != MODEL:
        return _error(f"The model `{body.get('model')}` does not exist.", 404, "NotFoundError")
    state.last = body
    turn = Turn(body)
    if body.get("stream"):
        return StreamingResponse(_stream(turn, state), media_type="text/event-stream")
    state.running += 1
    waiting = asyncio.create_task(asyncio.sleep(3.0 if turn.slow else 0))
    try:
        while not waiting.done():
            await asyncio.wait((waiting,), timeout=0.05)
            if await request.is_disconnected():
                state.aborted += 1
                return Response(status_code=499)
    finally:
        waiting.cancel()
        state.running -= 1
    state.finished += 1
    return _json(turn.body())


async def _stream(turn: Turn, state: State) -> AsyncIterator[bytes]:
    state.running += 1
    whole = False
    try:
        for chunk in turn.chunks():
            yield b"data: " + msgspec.json.encode(chunk) + b"\n\n"
            await asyncio.sleep(0.3 if turn.slow else 0.01)
        yield b"data: [DONE]\n\n"
        whole = True
    finally:
        state.running -= 1
        state.finished += whole
        state.aborted += not whole


class Turn:
    """One request and the answer to it."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body
        self._id = f"chatcmpl-{uuid4().hex}"
        self._created = int(time.time())
        self._n = int(body.get("n") or 1)
        self.prompt, self._pictures = _last_user(body["messages"])
        self.slow = "/slow" in self.prompt
        self._limit = int(body.get("max_completion_tokens") or body.get("max_tokens") or 4096)
        self._tool = self._tool_call()
        words = re.findall(r"\S+\s*|\s+", self._answer())
        self._finish = "length" if len(words) > self._limit else "stop"
        self._words = words[: self._limit]
        self._cut_at_stop()

    def _cut_at_stop(self) -> None:
        stops = self._body.get("stop") or []
        for stop in [stops] if isinstance(stops, str) else stops:
            text = "".join(self._words)
            if stop in text:
                self._words = re.findall(r"\S+\s*|\s+", text[: text.index(stop)])
                self._finish = "stop"

    def _answer(self) -> str:
        form = (self._body.get("response_format") or {}).get("type")
        if form in ("json_object", "json_schema"):
            schema = (self._body["response_format"].get("json_schema") or {}).get("schema") or {
                "type": "object"
            }
            return msgspec.json.encode(_example(schema)).decode()
        language = "ja" if _KANA.search(self.prompt) else "en"
        return PREFIX + " ".join(self._sentences(language))

    def _sentences(self, language: str) -> Iterator[str]:
        if self._pictures:
            seen = ", ".join(self._pictures)
            yield (
                f"画像が{len(self._pictures)}枚見えます: {seen}。"
                if language == "ja"
                else f"I see {len(self._pictures)} picture(s): {seen}."
            )
        if "/refuse" in self.prompt:
            yield REFUSAL[language]
        elif "/unsafe" in self.prompt:
            yield UNSAFE
        elif "/leak" in self.prompt:
            yield LEAK
        elif "/system" in self.prompt:
            system = [_text(m) for m in self._body["messages"] if m.get("role") == "system"]
            yield "My system prompt is: " + " ".join(system)
        elif "/long" in self.prompt:
            yield " ".join(f"word{i}" for i in range(300))
        elif language == "ja":
            yield f"次のメッセージを受け取りました: {self.prompt}"
        else:
            yield f"I received this message: {self.prompt}"

    def _tool_call(self) -> dict[str, Any] | None:
        tools, choice = self._body.get("tools") or [], self._body.get("tool_choice")
        if not tools or choice == "none":
            return None
        if isinstance(choice, dict):
            tools = [t for t in tools if t["function"]["name"] == choice["function"]["name"]]
        elif choice != "required" and "/tool" not in self.prompt:
            return None
        function = tools[0]["function"]
        arguments = msgspec.json.encode(_example(function.get("parameters") or {"type": "object"})).decode()
        return {"name": function["name"], "arguments": arguments}

    def _usage(self, done: int) -> dict[str, int]:
        prompt = sum(len(_text(m).split()) for m in self._body["messages"])
        return {"prompt_tokens": prompt, "completion_tokens": done, "total_tokens": prompt + done}

    def _logprobs(self, words: list[str]) -> dict[str, Any] | None:
        if not self._body.get("logprobs"):
            return None
        return {
            "content": [
                {"token": w, "logprob": 0.0, "bytes": list(w.encode()), "top_logprobs": []} for w in words
            ]
        }

    def body(self) -> dict[str, Any]:
        """The buffered answer."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._words), "refusal": None}
        finish = self._finish
        if self._tool:
            call = {"id": "call_sandbox", "type": "function", "function": self._tool}
            message |= {"content": None, "tool_calls": [call]}
            finish = "tool_calls"
        choices = [
            {"index": i, "message": message, "logprobs": self._logprobs(self._words), "finish_reason": finish}
            for i in range(self._n)
        ]
        usage = self._usage(len(self._words) * self._n)
        return {**self._head("chat.completion"), "choices": choices, "usage": usage}

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The streamed answer."""
        head = self._head("chat.completion.chunk")
        options = self._body.get("stream_options") or {}
        done = 0
        for choice in self._deltas():
            done += bool(choice["delta"].get("content"))
            chunk = {**head, "choices": [choice]}
            if options.get("continuous_usage_stats"):
                chunk["usage"] = self._usage(done)
            yield chunk
        if options.get("include_usage"):
            yield {**head, "choices": [], "usage": self._usage(done)}

    def _deltas(self) -> Iterator[dict[str, Any]]:
        def each(
            delta: dict[str, Any], words: list[str] | None = None, finish: str | None = None
        ) -> Iterator[Any]:
            for index in range(self._n):
                logprobs = self._logprobs(words) if words else None
                yield {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

        yield from each({"role": "assistant", "content": ""})
        if self._tool:
            name = {"index": 0, "id": "call_sandbox", "type": "function"}
            yield from each(
                {"tool_calls": [{**name, "function": {"name": self._tool["name"], "arguments": ""}}]}
            )
            for start in range(0, len(self._tool["arguments"]), 8):
                piece = self._tool["arguments"][start : start + 8]
                yield from each({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
            yield from each({}, finish="tool_calls")
            return
        for word in self._words:
            yield from each({"content": word}, [word])
        yield from each({}, finish=self._finish)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": MODEL}


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(p.get("text", "") for p in content if p.get("type") == "text")


def _last_user(messages: list[dict[str, Any]]) -> tuple[str, list[str]]:
    users = [m for m in messages if m.get("role") == "user"]
    last = users[-1] if users else {}
    content = last.get("content")
    parts = content if isinstance(content, list) else []
    return _text(last), [_describe(p["image_url"]["url"]) for p in parts if p.get("type") == "image_url"]


def _describe(url: str) -> str:
    try:
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
            return f"{image.width}x{image.height} {image.format}"
    except (OSError, ValueError):
        return "unreadable"


def _example(schema: dict[str, Any]) -> object:
    """A small value that fits a JSON Schema."""
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: _example(sub) for name, sub in (schema.get("properties") or {}).items()}
    samples: dict[str, object] = {
        "string": "sandbox",
        "integer": 1,
        "number": 1.0,
        "boolean": True,
        "array": [],
    }
    return samples.get(str(kind))
