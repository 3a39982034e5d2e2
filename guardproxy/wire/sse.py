"""Server-sent events (WHATWG HTML, section 9.2), as far as model servers use them."""

from __future__ import annotations

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


class EventTooLong(ValueError):
    """An event passed the limit before it ended."""


class Decoder:
    """Bytes in any chunking become the data of each event.

    Args:
        max_event_bytes: Longest event; a longer one raises `EventTooLong`.
    """

    __slots__ = ("_buffer", "_max")

    def __init__(self, max_event_bytes: int = 8_000_000) -> None:
        self._buffer = b""
        self._max = max_event_bytes

    def receive(self, chunk: bytes) -> list[bytes]:
        """The data of every event that this chunk completes; comments and empty events are left out."""
        buffer = self._buffer + chunk if self._buffer else chunk
        if len(self._buffer) > self._max:  # what waits for the other half of a CRLF counts, too
            raise EventTooLong(f"a server-sent event is longer than {self._max} bytes")
        if b"\r" in buffer:
            if buffer.endswith(b"\r"):  # half of a CRLF perhaps: wait for the other half
                self._buffer = buffer
                return []
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *blocks, self._buffer = buffer.split(b"\n\n")
        if len(self._buffer) > self._max:
            raise EventTooLong(f"a server-sent event is longer than {self._max} bytes")
        found = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:
                found.append(block[6:])
            elif block:
                data = _data_of(block)
                if data:
                    found.append(data)
        return found

    @property
    def unfinished(self) -> bool:
        """Whether an event has begun and not ended."""
        return bool(self._buffer.strip())


def _data_of(block: bytes) -> bytes:
    lines = []
    for line in block.split(b"\n"):
        if line.startswith(b"data:"):
            lines.append(line[5:].removeprefix(b" "))
    return b"\n".join(lines)
