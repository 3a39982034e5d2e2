"""Asks a model over HTTP, as an application would: OpenAI chat completions, nothing else."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Annotated, Any, Protocol

import httpx
import msgspec

from guardproxy.errors import EvalError
from guardproxy.evals.answer import Answer

TRIES = 3
"""Once, and twice more where no answer came or the server is busy."""
BUSY = (429, 502, 503, 504)
PAUSE_S = 0.5
NOT_ALLOWED = (401, 403, 404)
NOT_THERE = "policy_not_found"
"""Of guardproxy, with a 400. As with the statuses above, nothing asked later would fare better: the run stops."""


class _Function(msgspec.Struct):
    name: str = ""
    arguments: str = ""


class _ToolCall(msgspec.Struct):
    function: _Function = msgspec.field(default_factory=_Function)


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Note(msgspec.Struct):
    action: str | None = None
    code: str | None = None
    unjudged: list[str] = []


class _Body(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    usage: _Usage | None = None
    guardproxy: _Note | None = None


class _Told(msgspec.Struct):
    message: str = ""
    code: str | int | None = None


class _Fault(msgspec.Struct):
    error: _Told


class Asker(Protocol):
    """Whoever gives answers: a server, or a test's script."""

    async def ask(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        """The answer to one request, as came; `case`, `arm` and `repeat` are for the caller to fill in.

        Raises:
            EvalError: Nothing that is asked later would fare better.
        """


class HttpAsker:
    """Asks a server.

    Args:
        client: With the target's base address, ending in `/v1/`, its key and time-outs.
        pause_s: Before the second try; twice as long before the third.
    """

    def __init__(self, client: httpx.AsyncClient, pause_s: float = PAUSE_S) -> None:
        self._client = client
        self._pause_s = pause_s

    async def ask(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        """As `Asker.ask`; what cannot be sent is tried twice more, then recorded."""
        for attempt in range(TRIES):
            answer = await self._once(body, headers)
            if answer.status and answer.status not in BUSY:
                return answer
            if attempt < TRIES - 1:
                await asyncio.sleep(self._pause_s * 2**attempt)
        return answer

    async def _once(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        started = perf_counter()
        try:
            got = await self._client.post("chat/completions", json=body, headers=headers)
        except httpx.HTTPError as error:
            told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            code = "timeout" if isinstance(error, httpx.TimeoutException) else "transport"
            return Answer("", "", 0, 0, _since(started), code, told)
        answer = read(got, _since(started))
        if got.status_code in NOT_ALLOWED or answer.code == NOT_THERE:
            raise EvalError(f"{got.request.url}: {got.status_code}: {answer.error}")
        return answer

    async def first_model(self) -> str:
        """The name of the first model that the target lists.

        Raises:
            EvalError: It lists none, or cannot be reached.
        """
        try:
            got = await self._client.get("models")
            listed = got.json()["data"][0]["id"] if got.status_code == 200 else None
        except httpx.HTTPError as error:
            raise EvalError(f"{self._client.base_url}models: cannot be reached: {error}") from None
        except (ValueError, KeyError, IndexError, TypeError):
            listed = None
        if not isinstance(listed, str):
            raise EvalError(
                f"{self._client.base_url}models: expected a list of models, got {got.status_code}; "
                "give --model, and --key if the target wants one"
            )
        return listed


def read(got: httpx.Response, ms: float) -> Answer:
    """A response as it is recorded; a body that is no answer becomes an error with code `unreadable`."""
    policy, version = got.headers.get("x-guardproxy-policy"), got.headers.get("x-guardproxy-version")
    if got.status_code != 200:
        code, told = _told(got)
        return Answer("", "", 0, got.status_code, ms, code, told, policy=policy, version=version)
    try:
        body = msgspec.json.decode(got.content, type=_Body)
    except (msgspec.DecodeError, UnicodeError) as error:
        return Answer("", "", 0, 0, ms, "unreadable", f"200, but no chat completion: {error}")
    choice, note, usage = body.choices[0], body.guardproxy or _Note(), body.usage or _Usage()
    message = choice.message
    return Answer(
        "", "", 0, 200, ms,
        content=message.content,
        refusal=message.refusal,
        reasoning=message.reasoning or message.reasoning_content,
        finish_reason=choice.finish_reason,
        tool_calls=tuple(f"{c.function.name} {c.function.arguments}" for c in message.tool_calls or ()),
        action=note.action,
        guard_code=note.code,
        unjudged=tuple(note.unjudged),
        policy=policy,
        version=version,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )  # fmt: skip


def _told(got: httpx.Response) -> tuple[str, str]:
    try:
        error = msgspec.json.decode(got.content, type=_Fault).error
    except (msgspec.DecodeError, UnicodeError):
        return "unreadable", got.text[:300]
    return str(error.code if error.code is not None else got.status_code), error.message[:300]


def _since(started: float) -> float:
    return round((perf_counter() - started) * 1000, 3)


def base_url(target: str) -> str:
    """Where the API stands: `http://host:8080`, with or without `/v1`.

    Raises:
        EvalError: It is no http address.
    """
    if not target.startswith(("http://", "https://")):
        raise EvalError(f"--target: expected an address such as http://127.0.0.1:8080, got {target!r}")
    return target.rstrip("/").removesuffix("/v1") + "/v1/"
