"""Bounded reading of requests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from guardproxy.errors import WireError
from guardproxy.ingress.call import Call


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of what a client may send. Times in seconds, sizes in bytes, text in characters."""

    max_body_bytes: int = 32 * 1024 * 1024
    max_text_chars: int = 1_000_000
    max_bytes_in_flight: int = 512 * 1024 * 1024
    max_exchanges: int = 2048
    body_s: float = 60.0


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


async def read_body(call: Call, in_flight: InFlight) -> bytes:
    """The whole body; what it adds to `in_flight` is the caller's to take off again.

    Raises:
        WireError: Wrong type, too large, too slow.
        ClientGone: It hung up.
    """
    limits = in_flight.limits
    kind = (call.header(b"content-type") or b"").split(b";")[0].strip().lower()
    if kind != b"application/json":
        raise WireError("content-type: expected application/json", status=415, code="unsupported_media_type")
    if call.header(b"content-encoding") not in (None, b"identity"):
        raise WireError("content-encoding: not supported", status=415, code="unsupported_encoding")
    length = call.header(b"content-length")
    if length is not None and length.isdigit() and int(length) > limits.max_body_bytes:
        raise _too_large(limits)
    if call.is_whole:
        return await _collect(call, in_flight)
    try:
        async with asyncio.timeout(limits.body_s):
            return await _collect(call, in_flight)
    except TimeoutError:
        raise WireError("The body did not arrive in time", status=408, code="request_timeout") from None


async def _collect(call: Call, in_flight: InFlight) -> bytes:
    pieces: list[bytearray] = []
    size = 0
    whole = False
    try:
        while True:
            piece = await call.read()
            if size + len(piece) > in_flight.limits.max_body_bytes:
                raise _too_large(in_flight.limits)
            in_flight.add(len(piece))
            size += len(piece)
            pieces.append(piece)
            if call.is_whole and not call.body:
                whole = True
                return b"".join(pieces)
    finally:
        if not whole:
            in_flight.bytes -= size


def _too_large(limits: HttpLimits) -> WireError:
    return WireError(
        f"The body may have at most {limits.max_body_bytes} bytes", status=413, code="body_too_large"
    )
