"""Throws requests and answers at the proxy: `python -m tests.bench.fuzz --cases 200000 --seed 1`.

Most go through parser, exchange and gate in this process, a share over HTTP. None may be a 5xx or a stack trace, send
a field or a text upstream that no guard saw, or let a forbidden word out of an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, cast

from guardproxy.account import Account, Beside
from guardproxy.core.canonical import SpecialTokens
from guardproxy.core.content import Request
from guardproxy.core.policy import (
    INPUT_KINDS,
    OUTPUT_KINDS,
    Bilingual,
    Block,
    GateMode,
    Guard,
    Hardening,
    ImageLimits,
    Mode,
    Policy,
)
from guardproxy.core.texts import HARDENING_TEXTS
from guardproxy.core.verdict import Action, Finding, Stage
from guardproxy.detectors.base import Content, Detector, Resources
from guardproxy.detectors.patterns import build
from guardproxy.errors import UpstreamError, WireError
from guardproxy.exchange import Exchange
from guardproxy.images.intake import Intake
from guardproxy.images.reader import Reader
from guardproxy.inward import Blocked
from guardproxy.keys import Client
from guardproxy.outward import Plan
from guardproxy.parts import Parts, Times
from guardproxy.record import Entry
from guardproxy.telemetry.metrics import Metrics
from guardproxy.wire.dialects import DIALECTS
from tests.bench import sent
from tests.bench.grammar import Grammar
from tests.conformance.proxies import POLICY, all_dialects
from tests.dialects import PATHS, STREAMS, whole
from tests.fakes import Proxy

SECRET = "xylophonist"
SAID = [("content", "All is well, and the weather is fine. ")]
CLIENT = Client("fuzz", cache_salt="salt")
SHOWN = 20
"""Faults that are told; more than these are only counted."""


class Witness:
    """A guard on the way in that takes down what it sees, and knows one forbidden word."""

    name, version, inline = "witness", "1", True

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._words = build({"patterns": [{"id": "password", "text": "open sesame"}]}, Resources())

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        self.seen += [s.text for s in content.segments]
        return await self._words.detect(content)


class Fixed:
    """An upstream's answer that is there already, and comes in pieces of `size` bytes."""

    status = 200
    model = "up"

    def __init__(self, data: bytes, size: int) -> None:
        self.headers: dict[bytes, bytes] = {}
        self._data = data
        self._pieces = [data[i : i + size] for i in range(0, len(data), size)]

    async def read(self, timeout_s: float | None = None) -> bytes | None:
        return self._pieces.pop(0) if self._pieces else b""

    async def read_all(self, limit: int, timeout_s: float, total_s: float = 0.0) -> bytes:
        return self._data

    def listen(self, sink: Callable[[bytes], bool]) -> None:
        del sink

    def wake(self) -> None:
        return

    def close(self) -> None:
        return


class FixedFleet:
    """A fleet that takes down what it is sent."""

    def __init__(self) -> None:
        self.sent: bytes | None = None
        self.answer = b""
        self.size = 1_000_000

    async def ask(self, model: str, path: str, write: Callable[[str], bytes], headers: bytes = b"") -> Fixed:
        del model, path, headers
        self.sent = write("up")
        return Fixed(self.answer, self.size)


class Bench:
    """Parser, exchange and gate in this process."""

    def __init__(self, seed: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.faults: list[str] = []
        self._random = Random(seed + 1)
        self._witness = Witness()
        self._fleet = FixedFleet()
        self._metrics = Metrics()
        self._plan = self._planned()
        self._parts = Parts(
            cast("Any", self._fleet),
            Intake(1),
            Reader(),
            SpecialTokens(),
            self._metrics,
            Times(hold_s=0.01, idle_s=0.5),
        )
        own = [t for text in HARDENING_TEXTS.values() for t in (text.en, text.ja)]
        self._own = "\n".join(own)
        self._answers = {(d, s): self._answer(d, stream=s) for d in DIALECTS for s in (False, True)}

    def _planned(self) -> Plan:
        patterns = build({"patterns": [{"id": "secret", "regex": SECRET}]}, Resources())
        looked = tuple(k for k in INPUT_KINDS if k != "image_text")
        guards = (
            Guard("in", Stage.INPUT, "patterns", looked, 0.5, Action.BLOCK),
            Guard("out", Stage.OUTPUT, "patterns", OUTPUT_KINDS, 0.5, Action.BLOCK),
        )
        block = Block("error", Bilingual("withheld", "表示できません"))
        rules = (Hardening("self_reminder"),)
        policy = Policy("fuzz", "1", Mode.ENFORCE, GateMode.HOLD, False, ImageLimits(), rules, guards, block)
        detectors: dict[str, Detector] = {"in": self._witness, "out": patterns}
        return Plan.of(policy, detectors)

    def _answer(self, dialect: str, *, stream: bool) -> bytes:
        return b"".join(STREAMS[dialect](SAID, 7)) if stream else whole(dialect, SAID)

    def fault(self, what: str, case: tuple[str, bytes]) -> None:
        """Note what went wrong, with the case that shows it."""
        self.outcomes["FAULT"] += 1
        if len(self.faults) < SHOWN:
            self.faults.append(f"{what}\n    {case[0]} {case[1]!r}")

    async def request(self, dialect: str, body: bytes) -> None:
        """One request, answered harmlessly."""
        case = (dialect, body)
        self._witness.seen.clear()
        self._fleet.sent = None
        try:
            request = DIALECTS[dialect].parse(body, max_text_chars=50_000)
            self._fleet.answer, self._fleet.size = self._answers[dialect, request.stream], 1_000_000
            outcome = await self._exchanged(request)
        except WireError as error:
            outcome = f"refused {error.status}"
            if error.status >= 500:
                self.fault(f"a {error.status}: {error}", case)
        except Blocked:
            outcome = "blocked"
        except Exception as bug:  # noqa: BLE001 - any other end is a stack trace: what is looked for
            outcome = "bug"
            self.fault(f"{type(bug).__name__}: {bug}", case)
        self.outcomes[outcome] += 1
        if self._fleet.sent is not None:
            judged = "\n".join([*self._witness.seen, self._own])
            for wrong in sent.faults(dialect, self._fleet.sent, judged):
                self.fault(wrong, case)

    async def _exchanged(self, request: Request) -> str:
        out = await self._run(request)
        if not out:
            raise AssertionError("no answer")
        return "answered"

    async def _run(self, request: Request) -> bytes:
        entry = Entry("id", 0.0, "fuzz", self._plan.policy, "fuzz")
        account = Account(self._metrics, self._plan, CLIENT, entry, Beside())
        exchange = Exchange(self._parts, self._plan, DIALECTS[request.dialect], request, account)
        try:
            await exchange.ask()
            if request.stream:
                return b"".join([piece async for piece in exchange.streamed()])
            return await exchange.buffered()
        finally:
            exchange.abort()
            await account.close()

    async def answer(self, dialect: str) -> None:
        """One harmless request, answered with a damaged answer that says the forbidden word somewhere."""
        pick = self._random
        stream = pick.random() < 0.7
        data = self._damaged(dialect, stream=stream)
        case = (f"answer {dialect} {'stream' if stream else 'whole'}", data)
        self._fleet.answer, self._fleet.size = data, pick.choice((400, 1500, 1_000_000))
        body = _HARMLESS[dialect, stream]
        try:
            out = await self._run(DIALECTS[dialect].parse(body, max_text_chars=1000))
        except (UpstreamError, Blocked) as error:
            self.outcomes[f"answer {type(error).__name__}"] += 1
            return
        except Exception as bug:  # noqa: BLE001 - as above
            self.fault(f"{type(bug).__name__}: {bug}", case)
            return
        self.outcomes["answer told"] += 1
        if leaks(out):
            self.fault("the forbidden word got out", case)

    def _damaged(self, dialect: str, *, stream: bool) -> bytes:
        pick = self._random
        said: list[tuple[str, str]] = []
        for _ in range(pick.randint(1, 3)):
            kind = pick.choice(_KINDS[dialect])
            text = (
                " ".join(pick.choices(_FILLER, k=pick.randint(0, 40)))
                + " "
                + pick.choice((SECRET, "Blue Heron", "blue\nheron", "fine"))
            )
            said.append((kind, f"f {json.dumps({'a': text})}" if kind == "tool" else text))
        if not stream:
            value = json.loads(whole(dialect, said))
            self._plant(value)
            return json.dumps(value).encode()
        out = b""
        for block in b"".join(STREAMS[dialect](said, pick.choice((1, 3, 9, 200)))).split(b"\n\n")[:-1]:
            head, mark, data = block.rpartition(b"data: ")
            if data != b"[DONE]" and pick.random() < 0.05:
                value = json.loads(data)
                self._plant(value)
                data = json.dumps(value).encode()
            if pick.random() > 0.02:
                out += head + mark + data + b"\n\n"
        return out[: pick.randrange(len(out) + 1)] if pick.random() < 0.1 else out

    def _plant(self, value: Any) -> None:
        """The forbidden word somewhere, or another kind of value."""
        pick = self._random
        here = value
        while isinstance(here, dict | list) and here:
            key = pick.choice(list(here) if isinstance(here, dict) else range(len(here)))
            below = here[key]
            if isinstance(below, dict | list) and below and pick.random() < 0.8:
                here = below
                continue
            text = f"it is {SECRET} now"
            planted = pick.choice((text, text, [text], {"text": text}, {text: 1}, None, 3, True))
            if pick.random() < 0.5 or isinstance(here, list):
                here[key] = planted
            else:
                here[pick.choice(_PLANTED)] = planted
            return


_KINDS = {
    "chat": ("content", "reasoning", "refusal", "tool"), "responses": ("content", "reasoning", "refusal", "tool"),
    "messages": ("content", "reasoning", "tool"), "completions": ("content",),
}  # fmt: skip
_FILLER = ("so", "it", "is", "said", "harmless", "words", "come", "first.", "然り。", "3.14", "well,")
_PLANTED = (
    "content", "text", "reasoning", "reasoning_content", "refusal", "audio", "annotations", "prompt_text", "stop_reason",
    "stop_sequence", "id", "name", "arguments", "delta", "input", "thinking", "signature", "system_fingerprint", "service_tier",
    "finish_reason", "role", "type", "status", "logprobs", "partial_json", "summary", "instructions", "error", "usage", "model",
)  # fmt: skip
_ASKED: dict[str, dict[str, object]] = {
    "chat": {"messages": [{"role": "user", "content": "hi"}]},
    "responses": {"input": "hi"},
    "completions": {"prompt": "hi"},
    "messages": {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
}
_HARMLESS = {
    (d, s): json.dumps({"model": "m", "stream": s, **_ASKED[d]}).encode()
    for d in DIALECTS
    for s in (False, True)
}


def leaks(out: bytes) -> bool:
    """Whether a forbidden word stands in what a client got: in one string, or in the pieces of one channel."""
    by_key: dict[str, str] = {}

    def walk(value: object, key: str) -> None:
        if isinstance(value, str):
            by_key[key] = by_key.get(key, "") + value
        elif isinstance(value, list):
            for one in value:
                walk(one, key)
        elif isinstance(value, dict):
            for name, one in value.items():
                walk(name, "")
                walk(one, name)

    for block in out.split(b"\n\n") if out.startswith((b"data:", b"event:")) else [out]:
        data = block.rpartition(b"data: ")[2] if block.startswith((b"data:", b"event:")) else block
        if data.startswith((b"{", b"[{")):
            walk(json.loads(data), "")
    return any(SECRET in text.replace("\u200b", "").lower() for text in by_key.values())


def over_http(proxy: Proxy, bench: Bench, dialect: str, body: bytes) -> None:
    """One request over a real connection."""
    proxy.upstream.bodies.clear()
    head = f"POST {PATHS[dialect]} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as sock:
        sock.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = sock.makefile("rb").read()
    status = int(answer[9:12] or 0)
    bench.outcomes[f"http {status}"] += 1
    if status >= 500 or status == 0 or b"Traceback" in answer or b'.py"' in answer:
        bench.fault(f"http {status}", (dialect, body))
    for received in proxy.upstream.bodies:
        for stranger in sent.strangers(received, sent.SHAPES[dialect]):
            bench.fault(f"unknown field {stranger} over http", (dialect, body))


async def run(cases: int, seed: int, say: Callable[[str], None]) -> Bench:
    """Everything in this process: nine requests to one answer."""
    grammar, bench = Grammar(seed), Bench(seed)
    began = time.monotonic()
    names = list(DIALECTS)
    for number in range(cases):
        if number % 10 == 9:
            await bench.answer(names[number // 10 % len(names)])
        else:
            await bench.request(*grammar.case())
        if number % 20_000 == 19_999:
            say(
                f"{number + 1} cases, {(number + 1) / (time.monotonic() - began):.0f} a second, {bench.outcomes['FAULT']} faults\n"
            )
    return bench


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fuzz")
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--http", type=float, default=0.01, help="share of the cases that go over HTTP")
    asked = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)  # a thousand rejected requests are no news
    try:
        return _fuzzed(asked.cases, asked.seed, int(asked.cases * asked.http))
    finally:
        logging.disable(logging.NOTSET)


def _fuzzed(cases: int, seed: int, over: int) -> int:
    began = time.monotonic()
    bench = asyncio.run(run(cases - over, seed, lambda line: void(sys.stdout.write(line))))
    grammar = Grammar(seed + 2)
    with (
        tempfile.TemporaryDirectory() as folder,
        Proxy(Path(folder), POLICY, all_dialects(), dialects=list(DIALECTS)) as proxy,
    ):
        for _ in range(over):
            over_http(proxy, bench, *grammar.case())
    for outcome, count in sorted(bench.outcomes.items()):
        sys.stdout.write(f"{outcome:24} {count}\n")
    for fault in bench.faults:
        sys.stdout.write(f"FAULT: {fault}\n")
    took = time.monotonic() - began
    sys.stdout.write(f"{cases} cases in {took:.0f} s, seed {seed}: {bench.outcomes['FAULT']} faults\n")
    return int(bench.outcomes["FAULT"] > 0)


def void(_: object) -> None:
    """Nothing."""


if __name__ == "__main__":
    sys.exit(main())
