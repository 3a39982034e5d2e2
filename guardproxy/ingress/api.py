"""The API side: a table of routes, nothing else exists. No framework on the hot way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from functools import partial
from typing import Protocol
from urllib.parse import unquote

import msgspec

from guardproxy.account import Account
from guardproxy.advice import Advice
from guardproxy.core.content import Request
from guardproxy.errors import UpstreamError, WireError
from guardproxy.exchange import Exchange, note
from guardproxy.ingress.call import Call, ClientGone, Headers
from guardproxy.ingress.door import Door
from guardproxy.ingress.http import InFlight, overloaded, read_body
from guardproxy.inward import Blocked
from guardproxy.keys import Client
from guardproxy.outward import Plan
from guardproxy.telemetry.logs import REQUEST_ID
from guardproxy.telemetry.tracing import Trace
from guardproxy.wire import guardrail
from guardproxy.wire.dialect import Dialect, Fault
from guardproxy.wire.dialects import CHAT, DIALECTS

log = logging.getLogger("guardproxy")

CLIENTS_FAULT = (400, 413, 422)
"""What the model server says of a request that it does not accept. A 404 is not: the proxy knew the model."""
CONSULTED = "guardrail_api"
"""What stands for the model in counters and records where another gateway asks."""
HUNG_UP = "the client hung up"
CHOICE = "x-guardproxy-use-policy"
"""Header by which a client with the right `may_choose_policy` names the policy that serves it."""
SSE_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Service(Protocol):
    """What the routes need from the composition root."""

    in_flight: InFlight
    door: Door
    dialects: Sequence[str]
    offers_guardrail: bool

    def plan_for(self, model: str, client: Client) -> Plan:
        """The policy in force for a model and a client."""

    def plan_named(self, policy: str) -> Plan | None:
        """A policy in force by its name."""

    async def models(self) -> Collection[str]:
        """Public names of the models that are served."""

    def exchange(self, plan: Plan, request: Request, account: Account) -> Exchange:
        """A new exchange, in the request's dialect."""

    def advice(self, plan: Plan, account: Account) -> Advice:
        """A new consultation of another gateway."""

    def trace(self, traceparent: str | None, tracestate: str | None) -> Trace:
        """A new trace, in the caller's if it has one."""

    def account(self, plan: Plan, model: str, client: Client, request_id: str, trace: Trace) -> Account:
        """A new account."""

    def raise_if_unrecordable(self) -> None:
        """Raise a 503 when an exchange could not be recorded."""

    def settle(self, account: Account) -> None:
        """Close an account beside the way."""


Route = Callable[[Call], Awaitable[None]]
Serve = Callable[[Call, bytes, Client, Trace], Awaitable[None]]
"""Answers a call whose client is let in and whose body is read."""


class Api:
    """Answers every call on the API side."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._faults: dict[bytes, Fault] = {}
        self._routes: dict[bytes, dict[str, Route]] = {
            b"/v1/models": {"GET": self._models},
            b"/health": {"GET": self._health, "HEAD": self._health},
        }
        for name in service.dialects:
            dialect = DIALECTS[name]
            exchange = partial(self._exchange, dialect)
            self._routes[dialect.path.encode()] = {"POST": partial(self._guarded, exchange)}
            self._faults[dialect.path.encode()] = dialect.fault
        if service.offers_guardrail:
            self._routes[guardrail.PATH.encode()] = {"POST": partial(self._guarded, self._consultation)}

    async def __call__(self, call: Call) -> None:
        """Answer one request; the only place that catches everything."""
        REQUEST_ID.set(call.request_id)
        fault = self._faults.get(call.path, CHAT.fault)
        try:
            await self._route(call)(call)
        except WireError as error:
            await _answer_fault(call, error, _named(call), fault)
        except (ClientGone, asyncio.CancelledError):
            return
        except Exception:  # the last resort: nothing of a bug reaches the client, nor stops the process
            log.exception("a request failed")
            if not call.response_started:
                body = fault("Internal error", status=500, code="internal_error", param=None)
                await call.answer(500, _named(call), body)

    def _route(self, call: Call) -> Route:
        methods = self._routes.get(call.path)
        if methods is None and call.path.startswith(b"/v1/models/"):
            methods = {"GET": self._model}
        if methods is None:
            raise WireError("No such route", status=404, code="not_found")
        route = methods.get(call.method)
        if route is None:
            allowed = ", ".join(methods)
            raise WireError(
                f"Method not allowed; allowed: {allowed}", status=405, code="method_not_allowed",
                headers=(("allow", allowed),),
            )  # fmt: skip
        return route

    async def _health(self, call: Call) -> None:
        await call.answer(200, _named(call), b"" if call.method == "HEAD" else b'{"status":"ok"}')

    async def _known_models(self) -> Collection[str]:
        try:
            return await self._service.models()
        except UpstreamError as error:
            raise _as_wire(error) from None

    async def _models(self, call: Call) -> None:
        self._service.door.client_of(call)
        models = await self._known_models()
        body = msgspec.json.encode({"object": "list", "data": [_model(name) for name in sorted(models)]})
        await call.answer(200, _named(call), body)

    async def _model(self, call: Call) -> None:
        self._service.door.client_of(call)
        name = unquote(call.path.decode("latin-1")).removeprefix("/v1/models/")
        if name not in await self._known_models():
            raise _no_model(name)
        await call.answer(200, _named(call), msgspec.json.encode(_model(name)))

    async def _guarded(self, serve: Serve, call: Call) -> None:
        service = self._service
        door, in_flight = service.door, service.in_flight
        client = door.client_of(call)
        service.raise_if_unrecordable()
        if in_flight.exchanges >= in_flight.limits.max_exchanges:
            door.turned_away(client, "proxy_exchanges")
            raise overloaded("Too many exchanges are under way")
        in_flight.exchanges += 1
        size = 0
        try:
            with door.entered(client):
                body = await read_body(call, in_flight)
                size = len(body)
                door.take_body(client, size)
                trace = service.trace(call.text_header(b"traceparent"), call.text_header(b"tracestate"))
                await serve(call, body, client, trace)
        finally:
            in_flight.exchanges -= 1
            in_flight.bytes -= size

    def _plan(self, call: Call, model: str, client: Client, chosen: str | None = None) -> Plan:
        """The policy that routing gives, or the one that the client may and does choose, mostly by a header."""
        chosen = call.text_header(CHOICE.encode()) or chosen
        if chosen is None:
            return self._service.plan_for(model, client)
        if "may_choose_policy" not in client.rights:
            raise WireError(
                f"{CHOICE}: this API key has no right may_choose_policy",
                param=CHOICE, status=403, code="policy_choice_not_allowed",
            )  # fmt: skip
        plan = self._service.plan_named(chosen)
        if plan is None:
            raise WireError(
                f"{CHOICE}: no policy named {chosen[:64]!r}", param=CHOICE, code="policy_not_found"
            )
        return plan

    async def _exchange(
        self, dialect: Dialect, call: Call, body: bytes, client: Client, trace: Trace
    ) -> None:
        service, identity = self._service, call.request_id
        model = "unknown"
        try:
            request = dialect.parse(body, max_text_chars=service.in_flight.limits.max_text_chars)
            if request.model not in await self._known_models():
                raise _no_model(request.model)
            model = request.model
            plan = self._plan(call, model, client)
        except WireError as error:
            account = service.account(service.plan_for(model, client), model, client, identity, trace)
            account.end("rejected" if error.status < 500 else "upstream_error", error.code)
            service.settle(account)
            raise
        account = service.account(plan, model, client, identity, trace)
        exchange = service.exchange(plan, request, account)
        headers = [
            *_named(call),
            *service.door.headers(client),
            *_policy_headers(plan),
        ]
        connection = call.connection
        assert call.task is not None
        # Cancels the exchange when the client goes: in every phase, buffered ones too.
        connection.on_gone = partial(call.task.cancel, HUNG_UP)
        try:
            if connection.is_gone:
                raise asyncio.CancelledError(HUNG_UP)
            await _serve(exchange, call, headers, dialect.fault)
        except UpstreamError as error:
            account.end("rejected" if error.status in CLIENTS_FAULT else "upstream_error", error.code)
            await _answer_fault(call, _as_wire(error), headers, dialect.fault)
        except WireError as error:
            account.end("rejected", error.code)
            await _answer_fault(call, error, headers, dialect.fault)
        except asyncio.CancelledError as cancelled:
            account.end("client_gone" if cancelled.args == (HUNG_UP,) else "shutdown")
            raise
        finally:
            connection.on_gone = None
            exchange.abort()
            service.settle(account)

    async def _consultation(self, call: Call, body: bytes, client: Client, trace: Trace) -> None:
        """Another gateway asks; what it is told is an answer, a block too."""
        service, identity = self._service, call.request_id
        try:
            consulted = guardrail.parse(body, max_text_chars=service.in_flight.limits.max_text_chars)
            plan = self._plan(call, "", client, consulted.policy)
        except WireError as error:
            account = service.account(service.plan_for("", client), CONSULTED, client, identity, trace)
            account.end("rejected", error.code)
            service.settle(account)
            raise
        account = service.account(plan, CONSULTED, client, identity, trace)
        try:
            advised = await service.advice(plan, account).give(consulted)
            headers = [*_named(call), *service.door.headers(client), *_policy_headers(plan)]
            await call.answer(200, headers, guardrail.write(advised))
        finally:
            service.settle(account)


async def _serve(exchange: Exchange, call: Call, headers: Headers, fault: Fault) -> None:
    try:
        await exchange.ask()
        if not exchange.request.stream:
            await call.answer(200, headers, await exchange.buffered())
            return
    except Blocked as blocked:
        await _answer_block(exchange, blocked, call, headers, fault)
        return
    await call.begin([*SSE_HEADERS, *headers])
    async with aclosing(exchange.streamed()) as pieces:
        async for piece in pieces:
            await call.piece(piece)
    await call.end()


async def _answer_block(
    exchange: Exchange, blocked: Blocked, call: Call, headers: Headers, fault: Fault
) -> None:
    account, request = exchange.account, exchange.request
    if blocked.verdict.unavailable:
        account.end("guard_unavailable")
        error = WireError(
            "A guard of this service could not look at the request or its answer",
            status=503, code="guard_unavailable", headers=(("retry-after", "5"),),
        )  # fmt: skip
        await _answer_fault(call, error, headers, fault)
        return
    account.end("blocked_input")
    if exchange.tells_block_as_error:
        told = WireError(exchange.block_error, code="content_filter")
        await _answer_fault(call, told, headers, fault)
        return
    body = exchange.block_body(note("block", account.unjudged, "content_filter"))
    if request.stream:
        await call.begin([*SSE_HEADERS, *headers])
        await call.piece(body)
        await call.end()
    else:
        await call.answer(200, headers, body)


async def _answer_fault(call: Call, error: WireError, headers: Headers, fault: Fault) -> None:
    body = fault(str(error), status=error.status, code=error.code, param=error.param)
    extra = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in error.headers]
    await call.answer(error.status, [*headers, *extra], body)


def _policy_headers(plan: Plan) -> Headers:
    policy = plan.policy
    return [
        (b"x-guardproxy-policy", policy.name.encode()),
        (b"x-guardproxy-version", policy.version.encode()),
    ]


def _named(call: Call) -> Headers:
    return [(b"x-request-id", call.request_id.encode("ascii"))]


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "guardproxy"}


def _no_model(name: str) -> WireError:
    return WireError(
        f"The model {name[:100]!r} does not exist here", param="model", status=404, code="model_not_found"
    )


def _as_wire(error: UpstreamError) -> WireError:
    return WireError(
        str(error), param=error.param, status=error.status, code=error.code, headers=error.headers
    )
