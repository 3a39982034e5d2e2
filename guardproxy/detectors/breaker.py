"""A circuit breaker: a server that fails is left alone for a while, then tried with one request. No I/O.

After M. Nygard, "Release It!" (2nd ed., 2018), chapter 5.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

LONGEST_OPEN_S = 60.0
"""However often it failed, it is tried again after this time."""


class State(Enum):
    """Where a circuit stands."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Breaker:
    """Of one server. Times are seconds of one clock, which the caller reads.

    Args:
        failures: So many in a row open it.
        open_s: How long it stays open at first; doubled each time a trial fails, to `LONGEST_OPEN_S` at most.
        told: Called with each new state.
    """

    def __init__(self, failures: int, open_s: float, told: Callable[[State], None]) -> None:
        self.state = State.CLOSED
        self._failures = failures
        self._open_s = self._first_open_s = open_s
        self._told = told
        self._in_a_row = 0
        self._until = 0.0
        self._on_trial = False

    def refuses(self, now: float) -> bool:
        """Whether a request would be refused at this moment."""
        if self.state is State.OPEN:
            return now < self._until
        return self.state is State.HALF_OPEN and self._on_trial

    def admit(self, now: float) -> bool:
        """Let a request through, or not. One that is let through must end in one of the three calls below."""
        if self.refuses(now):
            return False
        if self.state is not State.CLOSED:
            self._on_trial = True
            self._set(State.HALF_OPEN)
        return True

    def succeeded(self) -> None:
        """A request was answered."""
        self._in_a_row = 0
        self._on_trial = False
        self._open_s = self._first_open_s
        self._set(State.CLOSED)

    def failed(self, now: float) -> None:
        """A request was not answered."""
        self._in_a_row += 1
        if self.state is State.HALF_OPEN:
            self._open_s = min(self._open_s * 2, LONGEST_OPEN_S)
        elif self.state is State.OPEN or self._in_a_row < self._failures:
            return  # what began before it opened says nothing new
        self._on_trial = False
        self._until = now + self._open_s
        self._set(State.OPEN)

    def told_nothing(self) -> None:
        """A request ended without a word about the server: its sender is gone."""
        self._on_trial = False

    def half_open(self) -> None:
        """The server was seen alive: the next request is the trial."""
        if self.state is State.OPEN:
            self._set(State.HALF_OPEN)

    def not_alive(self, now: float) -> None:
        """It was not, after all; unless a trial has told something else by now."""
        if self.state is State.HALF_OPEN and not self._on_trial:
            self.failed(now)

    def _set(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self._told(state)
