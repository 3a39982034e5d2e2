"""Bounded reading and plain answers over ASGI: what every route uses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from guardproxy.errors import WireError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

CONNECTION = "guardproxy.connection"
"""Where our server's protocol stands in a scope."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._\-]{1,128}")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of what a client may send. Times in seconds, sizes in bytes, text in characters."""

    max_body_bytes: int = 32 * 1024 * 1024
    max_text_chars: int = 1_000_000
    max_bytes_in_flight: int = 512 * 1024 * 1024
    max_exchanges: int = 2048
    body_s: float = 60.0


class ClientGone(Exception):
    """The client closed its connection."""


class Connection(Protocol):
    """What a route needs of the connection that a request came on."""

    is_gone: bool
    on_gone: Callable[[], object] | None


class InFlight:
    """Bodies that are held in memory at the moment, in all exchanges."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self.bytes = 0
        self.exchanges = 0

    def add(self, size: int) -> None:
        """Take `size` bytes more; raises a 503 if they are too many."""
        if self.bytes + size > self.limits.max_bytes_in_flight:
            raise overloaded("Too many request bytes are being served at the moment")
        self.bytes += size


def overloaded(message: str) -> WireError:
    """A 503 that asks to come back."""
    return WireError(message, status=503, code="overloaded", headers=(("retry-after", "1"),))


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def text_header(scope: Scope, name: bytes) -> str | None:
    """The first header of that (lower-case) name, as text."""
    value = header(scope, name)
    return None if value is None else value.decode("latin-1")


def request_id(scope: Scope) -> str:
    """The client's own `x-request-id` if it is a plain word, else a new one."""
    given = header(scope, b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return uuid4().hex


async def read_body(scope: Scope, receive: Receive, in_flight: InFlight) -> bytes:
    """The whole body; what it adds to `in_flight` is the caller's to take off again.

    Raises:
        WireError: Wrong type, too large, too slow.
        ClientGone: It hung up.
    """
    limits = in_flight.limits
    kind = (header(scope, b"content-type") or b"").split(b";")[0].strip().lower()
    if kind != b"application/json":
        raise WireError("content-type: expected application/json", status=415, code="unsupported_media_type")
    if header(scope, b"content-encoding") not in (None, b"identity"):
        raise WireError("content-encoding: not supported", status=415, code="unsupported_encoding")
    length = header(scope, b"content-length")
    if length is not None and length.isdigit() and int(length) > limits.max_body_bytes:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.body_s):
            return await _collect(receive, in_flight)
    except TimeoutError:
        raise WireError("The body did not arrive in time", status=408, code="request_timeout") from None


async def _collect(receive: Receive, in_flight: InFlight) -> bytes:
    pieces: list[bytes] = []
    size = 0
    whole = False
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            if size + len(piece) > in_flight.limits.max_body_bytes:
                raise _too_large(in_flight.limits)
            in_flight.add(len(piece))
            size += len(piece)
            pieces.append(piece)
            if not message.get("more_body", False):
                whole = True
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    finally:
        if not whole:
            in_flight.bytes -= size


def _too_large(limits: HttpLimits) -> WireError:
    return WireError(
        f"The body may have at most {limits.max_body_bytes} bytes", status=413, code="body_too_large"
    )


async def send_body(
    send: Send, status: int, body: bytes, headers: Headers, content_type: bytes = b"application/json"
) -> None:
    """One answer in one piece."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers,
            ],
        }
    )  # fmt: skip
    await send({"type": "http.response.body", "body": body})
