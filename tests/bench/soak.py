"""Holds many guarded streams for a long time: `python -m tests.bench.soak --minutes 30 --streams 300`.

The proxy runs as a user starts it, in front of a fake model server in this process. A third of the clients hang up at
random. In the end nothing may be left running upstream, the metrics must be this driver's ledger, and memory flat.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.bench.measure import cpu_us, rss_kb

MODEL = "soaked"
EVENTS_PER_S = 10.0
SAMPLE_S = 2.0
MARGIN = 20
"""Events between a hang-up and the stream's end: which of the two came first is never in doubt."""
HIT = "the Blue Heron "
WORDS = [
    "so",
    "it",
    "was",
    "said",
    "that",
    "the",
    "weather",
    "in",
    "the",
    "north",
    "stays",
    "mild",
    "until",
    "the",
    "end",
    "of",
    "the",
    "week",
    "and",
    "rain",
    "comes",
    "later",
]
POLICY = """\
schema: 1
name: soak
hardening: [{use: vision_caution}]
guards:
  - {name: in, stage: input, detector: patterns, patterns: [{id: password, text: open sesame}]}
  - {name: jailbreak, stage: input, detector: jailbreak, threshold: 0.8}
  - {name: harmful, stage: output, detector: harmful_answer, threshold: 0.9}
  - {name: words, stage: output, detector: patterns, patterns: [{id: secret, text: blue heron}]}
"""


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [choice],
    }
    data = b"data: " + json.dumps(body).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


_SAID = [_chunk({"content": f"{word} "}) for word in WORDS]
_HIT = _chunk({"content": HIT})
_END = _chunk({}, "stop") + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_MODELS = json.dumps({"data": [{"id": MODEL}]}).encode()


class FakeModel:
    """A model server that says `max_tokens` words at a steady rate, and knows how many requests it is serving."""

    def __init__(self) -> None:
        self.running = self.served = self.aborted = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    out.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(_MODELS), _MODELS))
                    continue
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                body = json.loads(await reader.readexactly(int(length[1]) if length else 0))
                self.served += 1
                self.running += 1
                gone = asyncio.create_task(reader.read(1))
                try:
                    whole = await self._say(out, body, gone)
                finally:
                    self.running -= 1
                    gone.cancel()
                    await asyncio.gather(gone, return_exceptions=True)
                if not whole:
                    self.aborted += 1
                    break
        out.close()

    async def _say(
        self, out: asyncio.StreamWriter, body: dict[str, object], gone: asyncio.Task[bytes]
    ) -> bool:
        count, hit_at = int(str(body["max_tokens"])), int(str(body.get("seed", 0)))
        out.write(_HEAD)
        for number in range(count):
            if gone.done() or out.is_closing():
                return False
            out.write(_HIT if number + 1 == hit_at else _SAID[number % len(_SAID)])
            await asyncio.wait((gone,), timeout=1 / EVENTS_PER_S)
        out.write(_END)
        await out.drain()
        return not gone.done()


@dataclass
class Ledger:
    """What the clients know: how each exchange ended, and whether its bytes were right."""

    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def note(self, outcome: str, *, right: bool, said: bytes) -> None:
        self.ended[outcome] += 1
        if not right and len(self.wrong) < 10:
            self.wrong.append(f"{outcome}: {said[-300:]!r}")


class Client:
    """One of many: asks, reads, at times hangs up, asks again."""

    def __init__(self, port: int, seed: int, ledger: Ledger) -> None:
        self._port, self._random, self._ledger = port, Random(seed), ledger

    async def run(self, until: float) -> None:
        """Until a moment of the monotonic clock."""
        await asyncio.sleep(self._random.random() * 3)
        while time.monotonic() < until:
            await self._exchange()

    async def _exchange(self) -> None:
        pick = self._random
        count, roll = pick.randint(30, 90), pick.random()
        hangs_up, is_hit, is_blocked = roll < 1 / 3, 1 / 3 <= roll < 0.4, 0.4 <= roll < 0.43
        text = "open sesame" if is_blocked else "What is the weather like?"
        body: dict[str, object] = {
            "model": MODEL, "stream": True, "max_tokens": count, "messages": [{"role": "user", "content": text}],
            "seed": pick.randint(5, count - 5) if is_hit else 0,
        }  # fmt: skip
        reader, out = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            data = json.dumps(body).encode()
            head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
            out.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
            stop_s = pick.random() * (count - MARGIN) / EVENTS_PER_S if hangs_up else None
            said = await _read(reader, stop_s)
        finally:
            out.transport.abort()
        if hangs_up:
            self._ledger.note("client_gone", right=b"[DONE]" not in said, said=said)
        elif is_blocked:
            self._ledger.note(
                "blocked_input", right=b"content_filter" in said and b" 400 " in said, said=said
            )
        elif is_hit:
            right = b'"content_filter"' in said and b"Heron" not in said and b"[DONE]" in said
            self._ledger.note("cut or blocked_output", right=right, said=said)
        else:
            right = said.count(b'"content":') >= count and b"[DONE]" in said and b'"stop"' in said
            self._ledger.note("answered", right=right, said=said)


async def _read(reader: asyncio.StreamReader, stop_s: float | None) -> bytes:
    said = bytearray()

    async def collect() -> None:
        while piece := await reader.read(65536):
            said.extend(piece)

    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(stop_s if stop_s is not None else 120):
            await collect()
    return bytes(said)


@dataclass(frozen=True)
class Slope:
    """KB a minute, with a 95 % interval."""

    value: float
    low: float
    high: float


def slope(samples: Sequence[tuple[float, float]], seed: int = 1, resamples: int = 1000) -> Slope:
    """Least squares over `(minutes, KB)`; the interval by a block bootstrap of the residuals, which hang together."""
    minutes, values = [m for m, _ in samples], [v for _, v in samples]
    rise, level = _fit(minutes, values)
    residuals = [v - (level + rise * m) for m, v in samples]
    block = max(2, round(len(samples) ** (1 / 3) * 3))
    pick, found = Random(seed), []
    for _ in range(resamples):
        drawn: list[float] = []
        while len(drawn) < len(samples):
            at = pick.randrange(max(1, len(residuals) - block))
            drawn += residuals[at : at + block]
        noisy = [level + rise * m + r for m, r in zip(minutes, drawn, strict=False)]
        found.append(_fit(minutes, noisy)[0])
    found.sort()
    return Slope(rise, found[int(resamples * 0.025)], found[int(resamples * 0.975)])


def _fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    rise = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread if spread else 0.0
    return rise, mean_y - rise * mean_x


@contextlib.contextmanager
def proxy(upstream: int, folder: Path) -> Iterator[tuple[int, int, int]]:
    """The proxy as a user starts it: its ports, and its process."""
    policies = folder / "policies"
    policies.mkdir()
    (policies / "soak.yaml").write_text(POLICY)
    (policies / "routing.yaml").write_text("rules: [{match: {}, policy: soak}]\n")
    command = [
        sys.executable, "-m", "guardproxy", "serve", "--upstream", f"http://127.0.0.1:{upstream}", "--policies", str(policies),
        "--port", "0", "--admin-port", "0",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = ""
        while "serving" not in line:
            line = process.stderr.readline()
            if not line:
                raise RuntimeError("the proxy did not start")
        ports = re.findall(r"http://[\d.]+:(\d+)", line)
        yield int(ports[0]), int(ports[2]), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        if process.stderr is not None:
            process.stderr.close()


def scraped(admin: int, pattern: str) -> float:
    """The sum of a metric's samples."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(pattern, line))


@dataclass
class Result:
    """What a run found."""

    ledger: Ledger
    told: dict[str, float]
    leaked: int
    in_flight: float
    samples: list[tuple[float, float]]
    cpu_s: float
    upstream_aborted: int

    @property
    def agrees(self) -> bool:
        """Whether the metrics are the ledger."""
        wanted = self.ledger.ended
        return all(self.told[name] == wanted[name] for name in self.told) and not self.ledger.wrong


OUTCOMES = {"answered": "answered", "client_gone": "client_gone", "blocked_input": "blocked_input", "cut or blocked_output": "cut|blocked_output"}  # fmt: skip


async def run(minutes: float, streams: int, seed: int, say: Callable[[str], object]) -> Result:
    """Hold the streams, then look at what is left."""
    model, ledger = FakeModel(), Ledger()
    await model.start()
    with tempfile.TemporaryDirectory() as folder, proxy(model.port, Path(folder)) as (port, admin, pid):
        began = time.monotonic()
        until = began + minutes * 60
        clients = [
            asyncio.create_task(Client(port, seed * 10_000 + n, ledger).run(until)) for n in range(streams)
        ]
        samples: list[tuple[float, float]] = []
        while time.monotonic() < until:
            await asyncio.sleep(min(SAMPLE_S, max(0.1, until - time.monotonic())))
            samples.append(((time.monotonic() - began) / 60, rss_kb(pid)))
            if len(samples) % 30 == 0:
                say(
                    f"{samples[-1][0]:.1f} min, {samples[-1][1] / 1024:.1f} MB, {model.running} running, {sum(ledger.ended.values())} ended\n"
                )
        await asyncio.gather(*clients)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if not model.running and not await _scrape(admin, "guardproxy_exchanges_in_flight "):
                break
            await asyncio.sleep(0.2)
        total = r'guardproxy_exchanges_total\{.*outcome="(%s)"'
        told = {name: await _scrape(admin, total % outcome) for name, outcome in OUTCOMES.items()}
        told["others"] = await _scrape(admin, "guardproxy_exchanges_total") - sum(told.values())
        in_flight = await _scrape(admin, "guardproxy_exchanges_in_flight ")
        result = Result(ledger, told, model.running, in_flight, samples, cpu_us(pid) / 1e6, model.aborted)
    model.close()
    return result


async def _scrape(admin: int, pattern: str) -> float:
    return await asyncio.to_thread(scraped, admin, pattern)


def main(argv: Sequence[str] | None = None) -> int:
    """Run and tell; 1 if anything leaked, was wrong, or grows."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=Path, help="where the samples of memory are written, as CSV")
    asked = parser.parse_args(argv)
    result = asyncio.run(run(asked.minutes, asked.streams, asked.seed, sys.stdout.write))
    parts = {share: [s for s in result.samples if s[0] > asked.minutes * share] for share in (0.2, 0.5)}
    rises = {share: slope(samples) for share, samples in parts.items()}
    # What memory grows to first is what the most streams at a time need; a leak goes on.
    grows = asked.minutes >= 5 and rises[0.5].low > GROWTH_KB
    if asked.samples:
        asked.samples.write_text("minutes,kb\n" + "".join(f"{m:.3f},{kb:.0f}\n" for m, kb in result.samples))
    say = sys.stdout.write
    say(f"{asked.streams} streams for {asked.minutes:g} minutes, seed {asked.seed}, {os.cpu_count()} cores\n")
    for name in (*OUTCOMES, "others"):
        say(f"{name:24} driver {result.ledger.ended[name]:8}  metrics {result.told[name]:8.0f}\n")
    say(
        f"upstream: {result.leaked} left running, {result.upstream_aborted} aborted; exchanges in flight: {result.in_flight:.0f}\n"
    )
    for share, rise in rises.items():
        settled = parts[share]
        say(
            f"memory after {share:.0%} of the time: {settled[0][1] / 1024:.1f} MB to {settled[-1][1] / 1024:.1f} MB; "
            f"slope {rise.value:.1f} KB a minute, 95 % interval {rise.low:.1f} to {rise.high:.1f}, n = {len(settled)}\n"
        )
    say(f"CPU: {result.cpu_s:.0f} s\n")
    for wrong in result.ledger.wrong:
        say(f"WRONG: {wrong}\n")
    bad = not result.agrees or result.leaked or result.in_flight or grows
    say("failed\n" if bad else "passed\n")
    return int(bool(bad))


GROWTH_KB = 50.0
"""A minute; what a leak of one object an exchange would exceed."""


if __name__ == "__main__":
    sys.exit(main())
