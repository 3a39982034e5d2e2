"""uvicorn's llhttp protocol with bounds on heads and slow clients, and faults in our envelope."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from guardproxy.ingress.call import Call
from guardproxy.wire.fault_body import error_body

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 128
_LENGTHS = (b"content-length", b"transfer-encoding")
HEAD_S = 15.0
"""Longest time from a request's first byte to the end of its head (slow-loris)."""


class Protocol(HttpToolsProtocol):
    """One client connection. Set the class attributes on a subclass to change the bounds."""

    max_head_bytes = MAX_HEAD_BYTES
    max_headers = MAX_HEADERS
    head_s = HEAD_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._head_done = True
        self._fault: str | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self.is_gone = False
        self.on_gone: Callable[[], object] | None = None
        """Called when the client hangs up: at any moment, without a task that waits for it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # A connection that never sends a byte is bounded like one that never ends its head.
        self._head_timer = self.loop.call_later(self.head_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.is_gone = True
        if self.on_gone is not None:
            self.on_gone()
        super().connection_lost(exc)
        # A call and its connection hold each other: parted here, both are freed at once, and not only when the garbage
        # collector comes to the generation that long streams have grown into.
        self.cycle = None  # type: ignore[assignment]  # uvicorn begins with None, too

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._head_done and self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_s, self._too_slow)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._head_done = False
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        if len(self.headers) >= self.max_headers:
            self._refuse(f"The request has more than {self.max_headers} headers")
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._head_done = True
        self._stop_timer()
        if self.parser.should_upgrade():
            # The parser would take the body for another protocol's, and what follows of it for a request.
            self._refuse("The connection cannot be upgraded: send the request without an Upgrade header")
        lengths = [name for name, _ in self.headers if name in _LENGTHS]
        if len(lengths) > 1:
            is_twice = lengths.count(lengths[0]) > 1
            self._refuse(
                "The request states its length twice"
                if is_twice
                else "The request has both content-length and transfer-encoding"
            )
        if self._fault is None:
            self._begin_call()

    def _begin_call(self) -> None:
        """As uvicorn's `on_headers_complete`, with a `Call` in place of its cycle of ASGI messages."""
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        path = httptools.parse_url(self.url).path or b"/"
        before = self.cycle
        call = self.cycle = Call(self, self.parser.get_method().decode("ascii"), path, keep_alive)
        if before is None or before.response_complete:
            self._start_asgi_task(call, self.app)
        else:  # pipelined: its turn comes when the answer before it is whole
            self.flow.pause_reading()
            self.pipeline.appendleft((call, self.app))

    def _start_asgi_task(self, cycle: Call, app: Any) -> None:  # type: ignore[override]  # a Call
        """As uvicorn's; the call knows its task, which is cancelled when the client hangs up."""
        cycle.task = task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def send_400_response(self, msg: str) -> None:
        fault = self._fault or msg
        status = (
            b"431 Request Header Fields Too Large" if fault.startswith("The head") else b"400 Bad Request"
        )
        body = error_body(fault, type_="invalid_request_error", code="invalid_http")
        self.transport.write(
            b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            % (status, len(body))
            + body
        )
        self.transport.close()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.max_head_bytes:
            self._refuse(f"The head of the request is longer than {self.max_head_bytes} bytes")

    def _refuse(self, fault: str) -> None:
        # llhttp turns an exception in a callback into a parser error, which ends in `send_400_response`.
        self._fault = fault
        raise ValueError(fault)

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self._head_done or self.cycle is None:
            self.transport.abort()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
