"""Takes the bytes of a streamed answer at the moment they come, and says when its driver must look.

Nine of ten events only fill a window: they go into the gates from the connection's own callback, and no
task is woken for them.
"""

from __future__ import annotations

from time import perf_counter

from guardproxy.errors import UpstreamError
from guardproxy.outward import Outward
from guardproxy.wire import sse
from guardproxy.wire.dialect import Answer


class Inbox:
    """What has come of one streamed answer.

    Args:
        outward: Whose gates are fed.
        answer: Reads what comes.
        max_held: Longest text that may be held back, in characters.

    Attributes:
        is_done: Whether the upstream has said all.
        fault: What is wrong with what came.
        last_bytes: When bytes came last.
        is_armed: Whether the driver waits no longer than text may wait for its window.
    """

    def __init__(self, outward: Outward, answer: Answer, max_held: int) -> None:
        self.is_done = False
        self.fault: UpstreamError | None = None
        self.last_bytes = perf_counter()
        self.is_armed = False
        self._outward = outward
        self._answer = answer
        self._max_held = max_held
        self._decoder = sse.Decoder()

    def patience(self, hold_s: float) -> float:
        """Seconds until text has waited `hold_s` in silence; `hold_s` again if it has."""
        silent_s = perf_counter() - self.last_bytes
        return hold_s - silent_s if silent_s < hold_s else hold_s

    def take_end(self) -> None:
        """The bytes have ended without a word of it: which is an end only if every choice has one."""
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
        answer = self._answer
        for block in blocks:
            for event in answer.take(block):
                event.at = self.last_bytes
                is_news = outward.receive(event) or is_news
            if answer.is_done:
                self.is_done = True
                break
        if outward.held > self._max_held:
            raise UpstreamError("The model server's answer is too large", code="upstream_too_large")
        return is_news
