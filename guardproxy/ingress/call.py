"""One HTTP request and its answer, on uvicorn's connection but without ASGI's messages.

uvicorn keeps the connection: parsing, pipelining, keep-alive, back-pressure, the end. What an answer costs
is written here: one write for a whole one, one for each piece of a stream.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

if TYPE_CHECKING:
    from guardproxy.ingress.protocol import Protocol

Headers = list[tuple[bytes, bytes]]
Answerer = Callable[["Call"], Awaitable[None]]

_NUMBERS = count(1)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._\-]{1,128}")


class ClientGone(Exception):
    """The client closed its connection."""


class Call(RequestResponseCycle):
    """What a route is given.

    Attributes:
        method: As sent, in capitals.
        path: As sent, without the query; never decoded, so that one route has one spelling.
        headers: By names in lower case, the first of each.
        connection: On which it came; knows when the client hangs up.
        task: In which it is answered.
    """

    def __init__(self, connection: Protocol, method: str, path: bytes, keep_alive: bool) -> None:
        self.connection = connection
        self.method = method
        self.path = path
        self.headers = dict(reversed(connection.headers))
        self.task: asyncio.Task[None] | None = None
        super().__init__(
            scope=cast("Any", None),
            transport=connection.transport,
            flow=connection.flow,
            logger=connection.logger,
            access_logger=connection.access_logger,
            access_log=False,
            default_headers=connection.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=connection.expect_100_continue,
            keep_alive=keep_alive,
            on_response=connection.on_response_complete,
        )
        given = self.header(b"x-request-id")
        named = given is not None and _REQUEST_ID.fullmatch(given)
        self.request_id = given.decode("ascii") if named and given else f"{_prefix()}{next(_NUMBERS):012x}"

    async def run_asgi(self, app: Any) -> None:
        """Have it answered; what is not answered whole is broken off, never made to look complete."""
        try:
            await cast("Answerer", app)(self)
        finally:
            if not self.response_complete:
                self.transport.close()
            self.on_response = _nothing

    # The request.

    def header(self, name: bytes) -> bytes | None:
        """The first header of that (lower-case) name."""
        return self.headers.get(name)

    def text_header(self, name: bytes) -> str | None:
        """The first header of that (lower-case) name, as text."""
        value = self.header(name)
        return None if value is None else value.decode("latin-1")

    @property
    def is_whole(self) -> bool:
        """Whether the body's end has arrived."""
        return not self.more_body

    async def read(self) -> bytearray:
        """The next bytes of the body, perhaps none.

        Raises:
            ClientGone: It hung up before the body's end.
        """
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if self.more_body and not self.body and not self.disconnected:
            self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected:
            raise ClientGone
        piece, self.body = self.body, bytearray()
        return piece

    # The answer.

    async def answer(
        self, status: int, headers: Headers, body: bytes, content_type: bytes = b"application/json"
    ) -> None:
        """One answer in one piece."""
        length = (b"content-type", content_type), (b"content-length", b"%d" % len(body))
        await self._write(self._head(status, (*length, *headers)) + body)
        self._complete()

    async def begin(self, headers: Headers) -> None:
        """Begin a stream, with status 200."""
        await self._write(self._head(200, ((b"transfer-encoding", b"chunked"), *headers)))

    async def piece(self, data: bytes) -> None:
        """One piece of a stream; waits while the client does not keep up."""
        await self._write(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        """The stream is whole."""
        await self._write(b"0\r\n\r\n")
        self._complete()

    def _head(self, status: int, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
        self.response_started = True
        self.waiting_for_100_continue = False
        lines = [STATUS_LINE[status]]
        for name, value in (*self.default_headers, *headers):
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        return b"".join(lines)

    async def _write(self, data: bytes) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if not self.disconnected:
            self.transport.write(data)

    def _complete(self) -> None:
        if self.disconnected:
            return
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


@cache
def _prefix() -> str:
    """Of the request ids of this process."""
    return uuid4().hex[:20]


def _nothing() -> None:
    pass
