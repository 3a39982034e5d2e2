"""`guardproxy sandbox`: a small OpenAI-compatible stand-in model, for trying the proxy out.

It speaks vLLM's wire format and is no model: every text answer says so. The last user message
can tell it what to do; commands can be combined and are answered in the order written:

| word in the prompt | what it does |
|---|---|
| `/unsafe` | an answer in the style of harmful compliance, without usable content |
| `/leak` | a dozen harmless words, then a project name and a fake key |
| `/refuse` | a typical refusal |
| `/slow` | 0.3 s between the chunks of a stream, 3 s before a whole answer |
| `/long` | three hundred words |
| `/system` | repeats the system prompt it received |
| `/tool`, `call the tool`, `use the tool` | calls the first tool of the request |

`GET /sandbox/state` counts answers running, finished and aborted by the client; `GET
/sandbox/last` is the last request body received, to see what the proxy sends to a model.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from guardproxy.commands.sandbox_answers import (
    PREFIX,
    REASONING,
    UNSAFE,
    Ask,
    Message,
    Refused,
    StreamOptions,
    Tool,
    commands,
    example_json,
    invalid,
    language,
    picture,
    prose,
    read,
    words,
)

__all__ = ["MODEL", "PREFIX", "UNSAFE", "app", "run"]

MODEL = "guardproxy-sandbox"
_FINGERPRINT = "guardproxy-sandbox"
_PACE = 0.01
_SLOW_PACE = 0.3
_SLOW_START = 3.0
_ARGUMENT_DELTA = 8
_STARTED = int(time.time())


@dataclass
class _State:
    running: int = 0
    finished: int = 0
    aborted: int = 0
    last: bytes = b"{}"

    def ended(self, whole: bool) -> None:
        self.running -= 1
        self.finished += whole
        self.aborted += not whole


def app() -> Starlette:
    """The application."""
    state = _State()

    async def chat(request: Request) -> Response:
        return await _chat(request, state)

    async def counts(request: Request) -> Response:
        return _json({"running": state.running, "finished": state.finished, "aborted": state.aborted})

    async def last(request: Request) -> Response:
        return Response(state.last, media_type="application/json")

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/models", _models),
            Route("/health", _health),
            Route("/version", _version),
            Route("/sandbox/state", counts),
            Route("/sandbox/last", last),
        ],
        exception_handlers={Refused: _refused, HTTPException: _not_routed},
    )


def run(host: str, port: int) -> int:
    """Serve until a signal ends it; returns the exit code."""
    shown = f"[{host}]" if ":" in host else host
    sys.stderr.write(f"guardproxy sandbox: a stand-in model, not a real one, on http://{shown}:{port}/v1\n")
    uvicorn.run(app(), host=host, port=port, log_level="warning", timeout_graceful_shutdown=2)
    return 0


async def _models(request: Request) -> Response:
    listed = {
        "id": MODEL,
        "object": "model",
        "created": _STARTED,
        "owned_by": "guardproxy",
        "root": MODEL,
        "parent": None,
        "max_model_len": 32768,
        "permission": [],
    }
    return _json({"object": "list", "data": [listed]})


async def _health(request: Request) -> Response:
    return Response(status_code=200)


async def _version(request: Request) -> Response:
    return _json({"version": "0.32.0"})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    told = {"message": str(error), "type": error.kind, "param": error.param, "code": error.status}
    return _json({"error": told}, error.status)


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"detail": error.detail}, error.status_code, error.headers)


def _json(value: object, status: int = 200, headers: Any = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


async def _chat(request: Request, state: _State) -> Response:
    raw = await request.body()
    ask = _parse(raw, state)
    turn = await asyncio.to_thread(_Turn, ask, request.headers.get("x-request-id"))
    if ask.stream:
        return _Stream(turn, state)
    state.running += 1
    whole = False
    try:
        whole = await _patience(request, _SLOW_START if turn.slow else 0.0)
    finally:
        state.ended(whole)
    return _json(turn.body()) if whole else Response(status_code=499)


def _parse(raw: bytes, state: _State) -> Ask:
    """The request, recorded and read.

    Raises:
        Refused: If vLLM would not take it either.
    """
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid("json_invalid", "body", str(error)) from error
    state.last = raw
    return read(body, MODEL)


async def _patience(request: Request, seconds: float) -> bool:
    """Wait; tells whether the client is still there."""
    until = time.monotonic() + seconds
    while not await request.is_disconnected():
        left = until - time.monotonic()
        if left <= 0:
            return True
        await asyncio.sleep(min(left, 0.05))
    return False


class _Stream(StreamingResponse):
    """A streamed answer that counts how it ended; the client going away cancels it."""

    def __init__(self, turn: _Turn, state: _State) -> None:
        super().__init__(self._events(), media_type="text/event-stream")
        self._turn = turn
        self._state = state
        self._whole = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._state.running += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._state.ended(self._whole)

    async def _events(self) -> AsyncIterator[bytes]:
        pace = _SLOW_PACE if self._turn.slow else _PACE
        for chunk in self._turn.chunks():
            yield b"data: " + msgspec.json.encode(chunk) + b"\n\n"
            await asyncio.sleep(pace)
        yield b"data: [DONE]\n\n"
        self._whole = True


class _Turn:
    """One request and the answer to it.

    Attributes:
        slow: Whether the prompt asked for a slow answer.
    """

    def __init__(self, ask: Ask, request_id: str | None = None) -> None:
        self._ask = ask
        self._id = f"chatcmpl-{request_id or uuid4().hex[:16]}"
        self._created = int(time.time())
        self._n = ask.n or 1
        users = [m for m in ask.messages if m.role == "user"]
        self._user = users[-1] if users else Message("user")
        self._prompt = self._user.text()
        self._commands = commands(self._prompt)
        self.slow = "slow" in self._commands
        self._pictures = [picture(url) for url in self._user.pictures()]
        self._tool = self._tool_call()
        self._stop_reason: str | None = None
        self._finish = "tool_calls" if self._tool else "stop"
        self._reasoning, self._words = self._limited(*self._said())
        tool_words = words(self._tool["arguments"]) if self._tool else []
        self._tokens = len(self._reasoning) + len(self._words) + len(tool_words)

    def _said(self) -> tuple[list[str], list[str]]:
        thinking = (self._ask.chat_template_kwargs or {}).get("enable_thinking") is True
        reasoning = words(REASONING[language(self._prompt)]) if thinking else []
        if self._tool:
            return reasoning, []
        text = self._answer()
        stops = [self._ask.stop] if isinstance(self._ask.stop, str) else self._ask.stop or []
        places = [(text.index(stop), stop) for stop in stops if stop and stop in text]
        if places:
            at, self._stop_reason = min(places)
            text = text[:at]
        return reasoning, words(text)

    def _limited(self, reasoning: list[str], said: list[str]) -> tuple[list[str], list[str]]:
        limit = self._ask.max_completion_tokens or self._ask.max_tokens
        if limit is None or self._tool or len(reasoning) + len(said) <= limit:
            return reasoning, said
        self._finish, self._stop_reason = "length", None
        return reasoning[:limit], said[: max(limit - len(reasoning), 0)]

    def _answer(self) -> str:
        form = self._ask.response_format
        if form is not None and form.type in ("json_object", "json_schema"):
            schema = form.json_schema.schema if form.json_schema else None
            sample = {"type": "object", "properties": {"answer": {"type": "string"}}}
            return example_json(schema or sample)
        system = "\n\n".join(m.text() for m in self._ask.messages if m.role in ("system", "developer"))
        last = self._ask.messages[-1]
        return prose(self._prompt, self._pictures, system, last.text() if last.role == "tool" else None)

    def _tool_call(self) -> dict[str, str] | None:
        tools, choice = self._ask.tools, self._ask.tool_choice
        if not tools or choice == "none":
            return None
        if isinstance(choice, Tool):
            tools = [tool for tool in tools if tool.function.name == choice.function.name]
        elif choice != "required" and ("tool" not in self._commands or self._ask.messages[-1].role == "tool"):
            return None
        called = tools[0].function
        return {"name": called.name, "arguments": example_json(called.parameters or {"type": "object"})}

    def _usage(self, done: int) -> dict[str, int]:
        prompt = sum(len(words(m.text())) for m in self._ask.messages)
        return {"prompt_tokens": prompt, "total_tokens": prompt + done, "completion_tokens": done}

    def _logprobs(self, said: list[str]) -> dict[str, Any] | None:
        if not self._ask.logprobs:
            return None
        tokens = [{"token": w, "logprob": 0.0, "bytes": list(w.encode()), "top_logprobs": []} for w in said]
        return {"content": tokens}

    def body(self) -> dict[str, Any]:
        """The buffered answer."""
        choices = [self._choice(index) for index in range(self._n)]
        return {
            **self._head("chat.completion"),
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": _FINGERPRINT,
            "usage": self._usage(self._tokens * self._n),
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "kv_transfer_params": None,
        }

    def _choice(self, index: int) -> dict[str, Any]:
        said = "".join(self._words)
        only_reasoning = bool(self._reasoning) and not self._words and not self._tool
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if only_reasoning else said,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning": "".join(self._reasoning) or None,
        }
        if self._tool:
            message["tool_calls"] = [{"id": _call_id(), "type": "function", "function": self._tool}]
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(self._reasoning + self._words),
            "finish_reason": self._finish,
            "stop_reason": self._stop_reason,
            "token_ids": None,
        }

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The streamed answer."""
        head = self._head("chat.completion.chunk")
        options = self._ask.stream_options or StreamOptions()
        for choice, done in self._deltas():
            chunk = {**head, "choices": [choice]}
            if options.include_usage and options.continuous_usage_stats:
                chunk["usage"] = self._usage(done)
            yield chunk
        if options.include_usage:
            usage = self._usage(self._tokens * self._n)
            yield {**head, "choices": [], "usage": usage, "system_fingerprint": _FINGERPRINT}

    def _deltas(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Each chunk's choice, and how many tokens of that choice were said by then."""
        for step, (delta, said) in enumerate(self._steps()):
            done = min(step, self._tokens)
            for index in range(self._n):
                logprobs = self._logprobs([said]) if said else None
                shown = _with_id(delta) if "tool_calls" in delta else delta
                yield {"index": index, "delta": shown, "logprobs": logprobs, "finish_reason": None}, done
        end = {"finish_reason": self._finish, "stop_reason": self._stop_reason, "token_ids": None}
        for index in range(self._n):
            yield {"index": index, "delta": {}, "logprobs": None, **end}, self._tokens

    def _steps(self) -> Iterator[tuple[dict[str, Any], str]]:
        """The deltas of one choice but the last, each with the token it holds."""
        yield {"role": "assistant", "content": ""}, ""
        for word in self._reasoning:
            yield {"reasoning": word}, word
        for word in self._words:
            yield {"content": word}, word
        if self._tool is None:
            return
        yield {"tool_calls": [{"type": "function", "index": 0, "function": {"name": self._tool["name"]}}]}, ""
        arguments = self._tool["arguments"]
        for start in range(0, len(arguments), _ARGUMENT_DELTA):
            piece = arguments[start : start + _ARGUMENT_DELTA]
            yield {"content": None, "tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, ""

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": MODEL}


def _call_id() -> str:
    return f"chatcmpl-tool-{uuid4().hex[:16]}"


def _with_id(delta: dict[str, Any]) -> dict[str, Any]:
    """A tool call's first delta, with an id of its own for each choice."""
    call = delta["tool_calls"][0]
    if "name" not in call["function"]:
        return delta
    return {"content": None, "tool_calls": [{"id": _call_id(), **call}]}
