"""The API side: a table of routes, nothing else exists. Plain ASGI: no framework on the hot way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import msgspec

from guardproxy.account import Account
from guardproxy.core.content import Request
from guardproxy.errors import UpstreamError, WireError
from guardproxy.exchange import Blocked, Exchange, note
from guardproxy.ingress.door import Door
from guardproxy.ingress.http import (
    CONNECTION,
    ClientGone,
    Connection,
    Headers,
    InFlight,
    Receive,
    Scope,
    Send,
    overloaded,
    read_body,
    request_id,
    send_body,
    text_header,
)
from guardproxy.keys import Client
from guardproxy.outward import Plan
from guardproxy.telemetry.logs import REQUEST_ID
from guardproxy.telemetry.tracing import Trace
from guardproxy.wire import chat
from guardproxy.wire.fault_body import error_body, type_for

log = logging.getLogger("guardproxy")

HUNG_UP = "the client hung up"
SSE_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Service(Protocol):
    """What the routes need from the composition root."""

    in_flight: InFlight
    door: Door

    def plan_for(self, model: str, client: Client) -> Plan:
        """The policy in force for a model and a client."""

    async def models(self) -> dict[str, str]:
        """Public model names and the upstream's own."""

    def exchange(self, plan: Plan, request: Request, upstream_model: str, account: Account) -> Exchange:
        """A new exchange."""

    def trace(self, traceparent: str | None, tracestate: str | None) -> Trace:
        """A new trace, in the caller's if it has one."""

    def account(self, plan: Plan, model: str, client: Client, request_id: str, trace: Trace) -> Account:
        """A new account."""

    def raise_if_unrecordable(self) -> None:
        """Raise a 503 when an exchange could not be recorded."""

    def settle(self, account: Account) -> None:
        """Close an account beside the way."""


Route = Callable[[Scope, Receive, Send, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and how the exchange is named."""

    client: Client
    request_id: str
    trace: Trace
    connection: Connection


class Api:
    """The ASGI application of the API side."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._routes: dict[bytes, dict[str, Route]] = {
            b"/v1/chat/completions": {"POST": self._chat},
            b"/v1/models": {"GET": self._models},
            b"/health": {"GET": self._health, "HEAD": self._health},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the only place that catches everything."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        identity = request_id(scope)
        REQUEST_ID.set(identity)
        started = False

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._route(scope, receive, sending, identity)
        except WireError as error:
            await _send_fault(sending, error, _headers(identity))
        except (ClientGone, asyncio.CancelledError):
            return
        except Exception:  # the last resort: nothing of a bug reaches the client, nor stops the process
            log.exception("a request failed")
            if started:
                raise  # the server breaks the connection off: never a stream that looks complete
            body = error_body("Internal error", type_="server_error", code="internal_error")
            await send_body(sending, 500, body, _headers(identity))

    async def _route(self, scope: Scope, receive: Receive, send: Send, identity: str) -> None:
        raw = scope.get("raw_path") or scope["path"].encode()
        path = bytes(raw).partition(b"?")[0]
        methods = self._routes.get(path)
        if methods is None and path.startswith(b"/v1/models/"):
            methods = {"GET": self._model}
        if methods is None:
            raise WireError("No such route", status=404, code="not_found")
        route = methods.get(scope["method"])
        if route is None:
            allowed = ", ".join(methods)
            raise WireError(
                f"Method not allowed; allowed: {allowed}", status=405, code="method_not_allowed",
                headers=(("allow", allowed),),
            )  # fmt: skip
        await route(scope, receive, send, identity)

    async def _health(self, scope: Scope, receive: Receive, send: Send, identity: str) -> None:
        body = b"" if scope["method"] == "HEAD" else b'{"status":"ok"}'
        await send_body(send, 200, body, _headers(identity))

    async def _known_models(self) -> dict[str, str]:
        try:
            return await self._service.models()
        except UpstreamError as error:
            raise _as_wire(error) from None

    async def _models(self, scope: Scope, receive: Receive, send: Send, identity: str) -> None:
        self._service.door.client_of(scope)
        models = await self._known_models()
        body = msgspec.json.encode({"object": "list", "data": [_model(name) for name in models]})
        await send_body(send, 200, body, _headers(identity))

    async def _model(self, scope: Scope, receive: Receive, send: Send, identity: str) -> None:
        self._service.door.client_of(scope)
        name = str(scope["path"]).removeprefix("/v1/models/")
        if name not in await self._known_models():
            raise _no_model(name)
        await send_body(send, 200, msgspec.json.encode(_model(name)), _headers(identity))

    async def _chat(self, scope: Scope, receive: Receive, send: Send, identity: str) -> None:
        door, in_flight = self._service.door, self._service.in_flight
        client = door.client_of(scope)
        self._service.raise_if_unrecordable()
        if in_flight.exchanges >= in_flight.limits.max_exchanges:
            raise overloaded("Too many exchanges are under way")
        in_flight.exchanges += 1
        size = 0
        try:
            with door.entered(client):
                body = await read_body(scope, receive, in_flight)
                size = len(body)
                door.take_body(client, size)
                trace = self._service.trace(
                    text_header(scope, b"traceparent"), text_header(scope, b"tracestate")
                )
                await self._exchange(body, send, Caller(client, identity, trace, scope[CONNECTION]))
        finally:
            in_flight.exchanges -= 1
            in_flight.bytes -= size

    async def _exchange(self, body: bytes, send: Send, caller: Caller) -> None:
        service, client, identity, trace = self._service, caller.client, caller.request_id, caller.trace
        plan, model, request = service.plan_for("", client), "unknown", None
        try:
            request = chat.parse(body, max_text_chars=service.in_flight.limits.max_text_chars)
            models = await self._known_models()
            if request.model not in models:
                raise _no_model(request.model)
            model = request.model
            plan = service.plan_for(model, client)
        except WireError as error:
            account = service.account(plan, model, client, identity, trace)
            account.end("rejected" if error.status < 500 else "upstream_error", error.code)
            service.settle(account)
            raise
        account = service.account(plan, model, client, identity, trace)
        exchange = service.exchange(plan, request, models[model], account)
        headers = [
            *_headers(identity),
            *service.door.headers(client),
            (b"x-guardproxy-policy", plan.policy.name.encode()),
            (b"x-guardproxy-version", plan.policy.version.encode()),
        ]
        connection = caller.connection
        task = asyncio.current_task()
        assert task is not None
        # Cancels the exchange when the client goes: in every phase, buffered ones too.
        connection.on_gone = partial(task.cancel, HUNG_UP)
        try:
            if connection.is_gone:
                raise asyncio.CancelledError(HUNG_UP)
            await _serve(exchange, request, send, headers)
        except UpstreamError as error:
            account.end("upstream_error", error.code)
            await _send_fault(send, _as_wire(error), headers)
        except WireError as error:
            account.end("rejected", error.code)
            await _send_fault(send, error, headers)
        except asyncio.CancelledError as cancelled:
            account.end("client_gone" if cancelled.args == (HUNG_UP,) else "shutdown")
            raise
        finally:
            connection.on_gone = None
            exchange.abort()
            service.settle(account)


async def _serve(exchange: Exchange, request: Request, send: Send, headers: Headers) -> None:
    try:
        await exchange.ask()
        if not request.stream:
            await send_body(send, 200, await exchange.buffered(), headers)
            return
    except Blocked as blocked:
        await _send_block(exchange, blocked, send, headers)
        return
    await send({"type": "http.response.start", "status": 200, "headers": [*SSE_HEADERS, *headers]})
    async with aclosing(exchange.streamed()) as pieces:
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _send_block(exchange: Exchange, blocked: Blocked, send: Send, headers: Headers) -> None:
    account, request = exchange.account, exchange.request
    if blocked.verdict.unavailable:
        account.end("guard_unavailable")
        error = WireError(
            "A guard of this service could not look at the request or its answer",
            status=503, code="guard_unavailable", headers=(("retry-after", "5"),),
        )  # fmt: skip
        await _send_fault(send, error, headers)
        return
    account.end("blocked_input")
    if exchange.tells_block_as_error:
        await _send_fault(send, WireError(exchange.block_error, code="content_filter"), headers)
        return
    body = exchange.block_body(note("block", account.unjudged, "content_filter"))
    if request.stream:
        await send({"type": "http.response.start", "status": 200, "headers": [*SSE_HEADERS, *headers]})
        await send({"type": "http.response.body", "body": body})
    else:
        await send_body(send, 200, body, headers)


async def _send_fault(send: Send, error: WireError, headers: Headers) -> None:
    body = error_body(str(error), type_=type_for(error.status), code=error.code, param=error.param)
    extra = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in error.headers]
    await send_body(send, error.status, body, [*headers, *extra])


def _headers(identity: str) -> Headers:
    return [(b"x-request-id", identity.encode("ascii"))]


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "guardproxy"}


def _no_model(name: str) -> WireError:
    return WireError(
        f"The model {name[:100]!r} does not exist here", param="model", status=404, code="model_not_found"
    )


def _as_wire(error: UpstreamError) -> WireError:
    headers = (("retry-after", error.retry_after),) if error.retry_after else ()
    return WireError(str(error), param=error.param, status=error.status, code=error.code, headers=headers)
