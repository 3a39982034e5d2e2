"""Takes the bytes of a streamed answer at the moment they come, and says when its driver must look.

Nine of ten events only fill a window: they go into the gates from the connection's own callback, and no
task is woken for them.
"""

from __future__ import annotations

from time import perf_counter

import msgspec

from guardproxy.errors import UpstreamError
from guardproxy.outward import Outward
from guardproxy.wire import chat_answer, sse
from guardproxy.wire.chat_answer import WireAnswer


class Inbox:
    """What has come of one streamed answer.

    Args:
        outward: Whose gates are fed.
        max_held: Longest text that may be held back, in characters.

    Attributes:
        head: The first chunk, with the answer's id.
        usage: As last told.
        is_done: Whether the upstream has said `[DONE]`.
        fault: What is wrong with what came.
        last_bytes: When bytes came last.
        is_armed: Whether the driver waits no longer than text may wait for its window.
    """

    def __init__(self, outward: Outward, max_held: int) -> None:
        self.head = WireAnswer()
        self.usage: dict[str, object] | None = None
        self.is_done = False
        self.fault: UpstreamError | None = None
        self.last_bytes = perf_counter()
        self.is_armed = False
        self._outward = outward
        self._max_held = max_held
        self._decoder = sse.Decoder()

    def patience(self, hold_s: float) -> float:
        """Seconds until text has waited `hold_s` in silence; `hold_s` again if it has."""
        silent_s = perf_counter() - self.last_bytes
        return hold_s - silent_s if silent_s < hold_s else hold_s

    def take_end(self) -> None:
        """The bytes have ended without `[DONE]`: which is an end only if every choice has one."""
        if self._decoder.unfinished or not self._outward.finished:
            self.fault = UpstreamError("The model server's answer broke off")
        self.is_done = True

    def take(self, data: bytes) -> bool:
        """Feed the gates; True if the driver must look: to judge, to release, to wait less long or to end."""
        self.last_bytes = perf_counter()
        try:
            is_news = self._take(data)
        except UpstreamError as fault:
            self.fault = fault
            return True
        return is_news or self.is_done or (not self.is_armed and self._outward.waiting)

    def _take(self, data: bytes) -> bool:
        outward, is_news = self._outward, False
        try:
            blocks = self._decoder.receive(data)
        except sse.EventTooLong:
            raise UpstreamError("The model server's answer cannot be read") from None
        for block in blocks:
            if block == b"[DONE]":
                self.is_done = True
                break
            answer = read_answer(block)
            if answer.id is not msgspec.UNSET and self.head.id is msgspec.UNSET:
                self.head = answer
            if answer.usage:
                self.usage = answer.usage
            for event in chat_answer.events_of(answer):
                event.at = self.last_bytes
                is_news = outward.receive(event) or is_news
        if outward.held > self._max_held:
            raise UpstreamError("The model server's answer is too large", code="upstream_too_large")
        return is_news


def read_answer(data: bytes) -> WireAnswer:
    """One JSON answer or chunk.

    Raises:
        UpstreamError: It cannot be read, or is an error.
    """
    try:
        answer = chat_answer.read(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise UpstreamError("The model server's answer cannot be read") from None
    if answer.error:
        raise UpstreamError("The model server failed in the middle of its answer")
    return answer
