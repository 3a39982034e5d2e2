"""Holds an answer back until it is judged. One gate a choice, one lane a text; no I/O.

The gate knows no detector and no policy: it hands out windows and takes verdicts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import Enum, auto

from guardproxy.core.grid import Grid
from guardproxy.core.policy import GateMode
from guardproxy.core.redact import merge_spans
from guardproxy.core.value import value
from guardproxy.core.verdict import Action, Finding, Verdict

LOOKBACK = 2048
"""Characters before a window that a detector sees again: what classifiers take in at most."""


class State(Enum):
    """Where a gate stands."""

    OPEN = auto()
    DRAINING = auto()
    DONE = auto()
    CUT = auto()


@dataclass(slots=True)
class Event:
    """One step of one choice's answer.

    Attributes:
        texts: `(lane, text)` pairs that this step adds; see `channel_of`.
        finish: The finish reason, on the step that ends the choice.
        payload: What the wire module needs to write it again; opaque here.
        altered: Whether a redaction changed `texts`.
        number: Where it stands among the events of all choices.
        at: When it came, in seconds of any clock.
    """

    choice: int
    texts: tuple[tuple[str, str], ...]
    payload: object
    finish: str | None = None
    altered: bool = False
    number: int = 0
    at: float = 0.0


def channel_of(lane: str) -> str:
    """The channel of a lane.

    Texts of one channel that a client reads apart, such as the arguments of two calls, are judged apart:
    each has its own lane, `CHANNEL#WHICH`.
    """
    return lane.partition("#")[0]


@value
class Window:
    """Text to be judged.

    Attributes:
        lane: Of the text; `channel` is what guards select by.
        offset: Character of the channel at which `text` starts.
        start: First character of the channel that was not found clear before.
        final: Whether the channel ends with this window.
    """

    choice: int
    lane: str
    offset: int
    start: int
    end: int
    text: str
    final: bool

    @property
    def channel(self) -> str:
        """Of the lane."""
        return channel_of(self.lane)


class Lane:
    """One text of one choice: what was received, judged and cleared, in characters."""

    __slots__ = (
        "_grid",
        "_kept",
        "_kept_from",
        "cleared",
        "ended",
        "finished",
        "in_flight",
        "judged",
        "mode",
        "received",
        "safe",
        "spans",
        "suspects",
    )

    def __init__(self, mode: GateMode | None) -> None:
        """A lane with `mode` None is looked at by no acting guard: its text passes."""
        self.mode = mode
        self.received = self.judged = self.safe = self.cleared = 0
        self.in_flight = self.ended = self.finished = False
        self.spans: list[tuple[int, int, str]] = []
        self.suspects: dict[str, int] = {}
        self._grid = Grid()
        self._kept: list[str] = []
        self._kept_from = 0

    def receive(self, text: str, *, last: bool) -> None:
        """Take more text of the channel; the last of it needs no grid, since it is judged to its end."""
        self.received += len(text)
        if self.mode is None:
            self.cleared = self.received
            return
        self._kept.append(text)
        if self.mode is not GateMode.FULL and not last:
            self._grid.receive(text)
        if self.mode is GateMode.ASYNC:
            self.cleared = self.received

    @property
    def has_window(self) -> bool:
        """Whether a whole window waits that nobody looks at yet."""
        return self.mode is not None and not self.in_flight and self._grid.last_cut > self.judged

    def receive_end(self) -> None:
        """No more text will come."""
        self.ended = True
        if self.mode is None or self.received == 0:
            self.finished = True

    def next_window(self, choice: int, name: str, early: bool) -> Window | None:
        """The next text to judge; one window at a time is in flight."""
        if self.mode is None or self.in_flight or self.finished:
            return None
        end = self._grid.last_cut
        if self.ended or (early and self.mode is GateMode.HOLD):
            end = self.received
        if end <= self.judged and not self.ended:
            return None
        self.in_flight = True
        text = "".join(self._kept)
        start = max(0, self.safe - LOOKBACK)
        if start > self._kept_from:
            text = text[start - self._kept_from :]
            self._kept_from = start
        self._kept = [text]
        shown = text[: end - self._kept_from]
        return Window(choice, name, self._kept_from, self.safe, end, shown, self.ended)

    def receive_verdict(self, window: Window, verdict: Verdict, held: int) -> bool:
        """Take a window's verdict; returns False if the lane must be cut."""
        self.in_flight = False
        self.judged = window.end
        self.finished = window.final
        if verdict.action >= Action.REPAIR or self._debounced(verdict):
            return False
        clear = window.end if window.final else window.end - held
        if verdict.redactions:
            clear = self._redact(verdict.redactions, window, clear)
        if not self.suspects or window.final:
            self.safe = max(self.safe, clear)
        if self.mode is not GateMode.ASYNC:
            self.cleared = self.safe
        return True

    def _debounced(self, verdict: Verdict) -> bool:
        self.suspects = {name: self.suspects.get(name, 0) + 1 for name, _ in verdict.suspects}
        return any(self.suspects[name] >= windows for name, windows in verdict.suspects)

    def _redact(self, hits: tuple[Finding, ...], window: Window, clear: int) -> int:
        for start, end, label in merge_spans(hits, window.end):
            if end == window.end and not window.final:
                # It may go on in the next window, which sees it again.
                clear = min(clear, start)
            else:
                self.spans.append((start, end, label))
        self.spans = _disjoint(self.spans)
        return clear


def _disjoint(spans: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    merged: list[tuple[int, int, str]] = []
    for start, end, label in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]), merged[-1][2])
        else:
            merged.append((start, end, label))
    return merged


class Gate:
    """The gate of one choice: events go in, judged events come out, in order.

    Args:
        choice: Index of the choice.
        modes: The gate mode of each channel that an acting guard looks at.
        watched: Channels that are judged beside the exchange.
        refuse_unjudged: Whether text on any other channel cuts the answer.

    Attributes:
        held: Characters held back.
        released: Characters let go.
        unjudged: Channels that carried text and that no guard looks at.
    """

    __slots__ = (
        "_lanes",
        "_modes",
        "_queue",
        "_refuse",
        "_watched",
        "choice",
        "held",
        "released",
        "state",
        "unjudged",
    )

    def __init__(
        self,
        choice: int,
        modes: dict[str, GateMode],
        *,
        watched: frozenset[str] = frozenset(),
        refuse_unjudged: bool = False,
    ) -> None:
        self.choice = choice
        self.state = State.OPEN
        self.held = 0
        self.released = 0
        self.unjudged: set[str] = set()
        self._modes = modes
        self._refuse = refuse_unjudged
        self._watched = watched
        self._lanes: dict[str, Lane] = {}
        self._queue: deque[tuple[Event, tuple[tuple[Lane, int, int], ...]]] = deque()

    def receive(self, event: Event) -> bool:
        """Take the next event; what comes after a cut is dropped.

        Returns:
            Whether there is something to judge, to release or to end by it.
        """
        if self.state is State.CUT:
            return False
        is_news = event.finish is not None
        may_leave = not self._queue
        places: list[tuple[Lane, int, int]] = []
        for name, text in event.texts:
            lane = self._lane(name)
            start = lane.received
            lane.receive(text, last=event.finish is not None)
            self.held += len(text)
            places.append((lane, start, lane.received))
            is_news = is_news or lane.has_window
            may_leave = may_leave and lane.received <= lane.cleared
            if lane.mode is None and text and channel_of(name) not in self._watched:
                self.unjudged.add(channel_of(name))
                if self._refuse:
                    self.cut()
                    return True
        self._queue.append((event, tuple(places)))
        return is_news or may_leave

    def receive_end(self) -> None:
        """The upstream has said all it will say on this choice."""
        if self.state is State.OPEN:
            self.state = State.DRAINING
            for lane in self._lanes.values():
                lane.receive_end()
            self._settle()

    def next_window(self, *, early: bool = False) -> Window | None:
        """The next text to judge, or None. Several grid points become one window.

        Args:
            early: The hold timer ran out: judge what is there without moving the grid.
        """
        if self.state in (State.OPEN, State.DRAINING):
            for name, lane in self._lanes.items():
                window = lane.next_window(self.choice, name, early)
                if window is not None:
                    return window
        return None

    def receive_verdict(self, window: Window, verdict: Verdict, held: int = 0) -> None:
        """Take the verdict on a window.

        Args:
            window: As `next_window` gave it.
            verdict: Its spans count from the start of the channel.
            held: Characters at the window's end that may be the start of a hit.
        """
        if self.state is State.CUT:
            return
        if not self._lanes[window.lane].receive_verdict(window, verdict, held):
            self.cut()
        else:
            self._settle()

    def release(self) -> list[Event]:
        """Events that may go to the client, in the order in which they came."""
        out: list[Event] = []
        queue = self._queue
        while queue:
            event, places = queue[0]
            if any(end > lane.cleared for lane, _, end in places):
                break
            if event.finish is not None and self.state is not State.DONE:
                break
            queue.popleft()
            for _, start, end in places:
                self.held -= end - start
                self.released += end - start
            out.append(_redacted(event, places) if any(lane.spans for lane, _, _ in places) else event)
        return out

    def cut(self) -> None:
        """Nothing more gets out of this gate."""
        self.state = State.CUT
        self._queue.clear()
        self.held = 0

    @property
    def waiting(self) -> bool:
        """Whether text waits that no window has covered yet."""
        return any(lane.mode is not None and lane.judged < lane.received for lane in self._lanes.values())

    def _settle(self) -> None:
        if self.state is State.DRAINING and all(lane.finished for lane in self._lanes.values()):
            self.state = State.DONE

    def _lane(self, name: str) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(self._modes.get(channel_of(name)))
        return lane


def _redacted(event: Event, places: tuple[tuple[Lane, int, int], ...]) -> Event:
    texts: list[tuple[str, str]] = []
    for (name, text), (lane, start, end) in zip(event.texts, places, strict=True):
        pieces: list[str] = []
        at = start
        for low, high, label in lane.spans:
            if high <= start or low >= end:
                continue
            pieces.append(text[at - start : max(low, at) - start])
            if low >= start:
                pieces.append(label)
            at = min(high, end)
        pieces.append(text[at - start :])
        texts.append((name, "".join(pieces)))
    changed = tuple(texts)
    return event if changed == event.texts else replace(event, texts=changed, altered=True)
