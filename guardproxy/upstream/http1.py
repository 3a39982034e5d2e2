"""A small HTTP/1.1 client for the way to the model: asyncio on llhttp (httptools), pooled.

It does what that way needs and no more: POST and GET, bounded and timed, aborted by closing.
RFC 9112; the parser is llhttp's.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import cast

import httptools

from guardproxy.errors import UpstreamError, UpstreamSilent, UpstreamTimeout
from guardproxy.upstream.target import Limits, Target

log = logging.getLogger("guardproxy")
_HIGH_WATER = 256 * 1024
_JOINED_BELOW = 64 * 1024
"""Bytes of a body that are copied behind its head: writing two pieces costs more than copying so many."""
ENDLESS = "The model server did not end its answer in time"


class Response:
    """An answer that is being read. `close` at any time aborts it.

    Attributes:
        headers: Names in lower case.
        model: The server's own name of the model that was asked, if one was.
        on_close: Called once when the answer is given up.
    """

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._closed = False
        self.on_close: Callable[[], None] | None = None
        self.model = ""
        self.status = 0
        self.headers: dict[bytes, bytes] = {}

    async def read(self, timeout_s: float | None = None) -> bytes | None:
        """The next bytes of the body; `b""` at its end, None if the time ran out or `wake` was called.

        Raises:
            UpstreamError: The connection broke before the body's end.
        """
        return await self._connection.read_body(timeout_s)

    def listen(self, sink: Callable[[bytes], bool]) -> None:
        """Give bytes that come while `read` waits to `sink`, at once; `read` returns None when it says True.

        While nobody waits in `read`, bytes are kept for it, so that a slow client holds the server back.
        """
        self._connection.sink = sink

    def wake(self) -> None:
        """Make a waiting `read` return None."""
        if not self._closed:
            self._connection.wake()

    async def read_all(self, limit: int, timeout_s: float, total_s: float = math.inf) -> bytes:
        """The whole body: at most `limit` bytes, `timeout_s` seconds between two pieces and `total_s` in all."""
        pieces: list[bytes] = []
        size = 0
        deadline = monotonic() + total_s
        while True:
            left = deadline - monotonic()
            piece = await self.read(min(timeout_s, left)) if left > 0 else None
            if piece is None:
                raise UpstreamTimeout(
                    ENDLESS if left < timeout_s else "The model server stopped in the middle of its answer"
                )
            if not piece:
                return b"".join(pieces)
            size += len(piece)
            if size > limit:
                raise UpstreamError("The model server's answer is too large", code="upstream_too_large")
            pieces.append(piece)

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else break it off.

        Once only: by the second time the connection may serve another request.
        """
        if not self._closed:
            self._closed = True
            self._connection.finish()
            if self.on_close is not None:
                self.on_close()


class _Connection(asyncio.Protocol):
    """One connection: a request at a time; llhttp calls the `on_…` methods."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._response: Response | None = None
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._paused = self._woken = False
        self._headed = self._complete = self._closed = False
        self._keep_alive = True
        self._fault: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.got_bytes = False
        self.idle_since = 0.0
        self.sink: Callable[[bytes], bool] | None = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # TCP gives nothing else

    def data_received(self, data: bytes) -> None:
        self.got_bytes = True
        if self._parser is None:  # bytes that nobody asked for: the peer is out of step
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            log.exception("reading an answer failed")
            self._break("it could not be read")
        except httptools.HttpParserError as error:
            self._break(f"it sent something that is not HTTP ({type(error).__name__})")
        # What the sink took in silence is nobody's news.
        if self.sink is None or self._woken or self._pieces or self._complete or self._fault is not None:
            self._notify()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._closed = True
        self._pool.forget(self)
        if self._response is not None and not self._complete:
            # An answer without a length ends with the connection (RFC 9112, 6.3); any other is broken.
            framed = (
                b"content-length" in self._response.headers or b"transfer-encoding" in self._response.headers
            )
            if self._headed and not framed:
                self._complete = True
            else:
                self._fault = self._fault or "it closed the connection"
        self._notify()

    # What llhttp calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._response is not None
        self._response.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        assert self._response is not None and self._parser is not None  # noqa: PT018 - as above
        self._response.status = self._parser.get_status_code()
        if self._response.status >= 200:
            self._headed = True
            self._keep_alive = self._parser.should_keep_alive()
        else:
            self._response.headers.clear()

    def on_body(self, body: bytes) -> None:
        if self.sink is not None and self._waiter is not None and not self._pieces:
            self._woken = self.sink(body) or self._woken
            return
        self._pieces.append(body)
        self._buffered += len(body)
        if self._buffered > _HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._headed:
            self._complete = True

    # What the pool and the response call.

    @property
    def usable(self) -> bool:
        """Whether it is open and not out of step."""
        return not self._closed and self._transport is not None and not self._transport.is_closing()

    async def ask(self, head: bytes, body: bytes, timeout_s: float) -> Response:
        """Send a request and wait for the answer's head."""
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._response = Response(self)
        self._headed = self._complete = self.got_bytes = self._woken = False
        self._fault = None
        self.sink = None
        if len(body) < _JOINED_BELOW:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        deadline = self._loop.time() + timeout_s
        while not self._headed:
            if self._fault is not None or self._closed:
                kind = UpstreamError if self.got_bytes else UpstreamSilent
                raise kind(f"The model server gave no answer: {self._fault or 'it closed'}")
            left = deadline - self._loop.time()
            if left <= 0 or not await self._wait(left):
                self.abort()
                raise UpstreamTimeout("The model server did not answer in time")
        return self._response

    async def read_body(self, timeout_s: float | None) -> bytes | None:
        while not self._pieces:
            if self._complete:
                return b""
            if self._fault is not None:
                raise UpstreamError(f"The model server's answer broke off: {self._fault}")
            if self._woken or not await self._wait(timeout_s):
                self._woken = False
                return None
        data = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._buffered = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def wake(self) -> None:
        self._woken = True
        self._notify()

    def finish(self) -> None:
        reusable = self._complete and self._keep_alive and not self._pieces and self.usable
        # What holds this connection is let go, so that an answer that was given up is freed at once.
        self._parser = self._response = self.sink = None
        if reusable:
            self._pool.give_back(self)
        else:
            self.abort()

    def abort(self) -> None:
        if self._transport is not None and not self._closed:
            self._transport.abort()
        self._pool.forget(self)

    def _break(self, fault: str) -> None:
        self._fault = fault
        self.abort()

    def _notify(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, timeout_s: float | None) -> bool:
        """Wait until something happened; False if the time ran out."""
        waiter = self._waiter = self._loop.create_future()
        timer = None if timeout_s is None else self._loop.call_later(timeout_s, _expire, waiter)
        try:
            return await waiter is None
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()


def _expire(waiter: asyncio.Future[object]) -> None:
    if not waiter.done():
        waiter.set_result(False)


class Pool:
    """Connections to one model server.

    Args:
        target: Where it is.
        limits: Times and sizes.
        key: Bearer key for it; never leaves this object.
    """

    def __init__(self, target: Target, limits: Limits, key: str | None = None) -> None:
        self.target = target
        self.limits = limits
        self._tls = ssl.create_default_context() if target.tls else None
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()
        auth = f"authorization: Bearer {key}\r\n" if key else ""
        self._head = (
            f"host: {target.host_header}\r\nuser-agent: guardproxy\r\naccept: */*\r\n"
            f"accept-encoding: identity\r\n{auth}"
        ).encode("latin-1")

    async def ask(self, method: str, path: str, body: bytes = b"", headers: bytes = b"") -> Response:
        """Send a request; returns when the answer's head is there.

        One retry, only on a connection that had been used before and broke without a byte of answer.

        Args:
            method: `GET` or `POST`.
            path: From the route table, never from the client.
            body: JSON.
            headers: Further header lines, each ending in CRLF.
        """
        length = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body) if body else b""
        head = (
            f"{method} {self.target.prefix}{path} HTTP/1.1\r\n".encode()
            + self._head
            + length
            + headers
            + b"\r\n"
        )
        while True:
            connection = self._take_idle()
            reused = connection is not None
            if connection is None:
                connection = await self._connect()
            try:
                return await connection.ask(head, body, self.limits.first_byte_s)
            except UpstreamSilent:
                connection.abort()
                if not reused:
                    raise
            except UpstreamError:
                connection.abort()
                raise
            except asyncio.CancelledError:
                connection.abort()
                raise

    def _take_idle(self) -> _Connection | None:
        now = monotonic()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and now - connection.idle_since < self.limits.keep_alive_s:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> _Connection:
        if len(self._open) >= self.limits.max_connections:
            raise UpstreamError("Too many connections to the model server", status=503, code="overloaded")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.limits.connect_s):
                if self.target.socket is not None:
                    _, connection = await loop.create_unix_connection(
                        lambda: _Connection(self), self.target.socket
                    )
                else:
                    _, connection = await loop.create_connection(
                        lambda: _Connection(self), self.target.host, self.target.port, ssl=self._tls
                    )
        except TimeoutError:
            raise UpstreamTimeout("The model server could not be reached in time") from None
        except OSError:
            raise UpstreamSilent(
                "The model server could not be reached", code="upstream_unreachable"
            ) from None
        self._open.add(connection)
        return connection

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection for the next request."""
        connection.idle_since = monotonic()
        self._idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._open.discard(connection)

    @property
    def open_connections(self) -> int:
        """Connections in use or kept."""
        return len(self._open)

    def close(self) -> None:
        """Break off everything."""
        for connection in tuple(self._open):
            connection.abort()
        self._idle.clear()
