"""Runs contenders alternately and takes their CPU time per piece of work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench import servers, tools
from tests.bench.measure import cpu_us
from tests.bench.servers import Server
from tests.bench.tools import Failed, Missing

SETTLE_S = 0.1
"""What a proxy still counts after the last answer is finished by then."""


class Bench:
    """One run: its servers, its rounds, and what could not be run.

    Args:
        folder: For configurations, bodies and logs.
        rounds: How often each contender is measured.
        seconds: How long a measurement takes.
        without: Contenders that this run leaves out.
    """

    def __init__(self, folder: Path, rounds: int, seconds: float, without: Sequence[str] = ()) -> None:
        self.folder = folder
        self.rounds = rounds
        self.seconds = seconds
        self.skipped: dict[str, str] = {}
        self._without = frozenset(without)
        self._stack = ExitStack()
        self._running: dict[str, Server] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def upstream(self, *flags: str) -> Server:
        """The fake model server with these flags, started at its first use."""
        name = "fakeup" + "".join(flags)
        if name not in self._running:
            self._keep(name, servers.fakeup(self.folder, *flags))
        return self._running[name]

    def server(self, name: str, *flags: str) -> Server:
        """A contender in front of the fake model server, started at its first use.

        Raises:
            Missing: It is not installed.
            Failed: It did not start.
        """
        key = name + "".join(flags)
        if key not in self._running:
            upstream = self.upstream(*flags).port
            self._keep(key, servers.start(name, self.folder, upstream))
        return self._running[key]

    def fresh(self, name: str, *flags: str, poll_s: float = 0.05) -> Server:
        """A contender that nobody has used yet; the caller stops it."""
        return servers.start(name, self.folder, self.upstream(*flags).port, poll_s)

    def _keep(self, key: str, server: Server) -> None:
        self._running[key] = server
        self._stack.callback(server.stop)

    def alternate(
        self, row: str, names: Sequence[str], measure: Callable[[str], float]
    ) -> dict[str, list[float]]:
        """Every contender once a round, in turn. One that cannot be measured is left out and named.

        Args:
            row: What is measured, for messages.
            names: The contenders.
            measure: Gives one value of one contender.
        """
        rounds: dict[str, list[float]] = {name: [] for name in names if name not in self._without}
        for number in range(self.rounds):
            for name in list(rounds):
                try:
                    value = measure(name)
                except (Missing, Failed) as error:
                    del rounds[name]
                    self.skipped[f"{row}: {name}" if isinstance(error, Failed) else name] = str(error)
                    self.say(f"{row}: {name}: not measured: {error}")
                    continue
                rounds[name].append(value)
                self.say(f"{row}: round {number + 1}: {name}: {value:.4g}")
        for name in names:
            if name in self._without:
                self.skipped[name] = "left out of this run"
        return rounds

    def cost_us(
        self, server: Server, body: Path, *, per: str = "total", connections: int = 16,
        events: int | None = None, answers: int | None = None, seconds: float | None = None,
    ) -> float:  # fmt: skip
        """CPU microseconds of a proxy per answer, or per event with text (`per="total_events"`).

        Raises:
            Failed: An answer was wrong.
        """
        seconds = self.seconds if seconds is None else seconds
        tools.load(server.port, body, connections=connections, answers=connections, key=server.key)
        time.sleep(SETTLE_S)
        before = cpu_us(server.pid)
        done = tools.load(
            server.port, body, connections=connections, answers=answers, seconds=seconds, events=events,
            key=server.key,
        )  # fmt: skip
        time.sleep(SETTLE_S)
        return (cpu_us(server.pid) - before) / done[per]

    def say(self, text: str) -> None:
        """Tell how far it is."""
        sys.stderr.write(text + "\n")
