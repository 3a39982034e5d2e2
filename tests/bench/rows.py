"""One function a row of the requirements: what is sent to whom, and which ratio is judged."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from guardproxy.core.grid import FIRST_CUT
from guardproxy.core.policy import ImageLimits
from guardproxy.images.decode import normalise
from tests.bench import bodies, tools
from tests.bench.bench import Bench
from tests.bench.figures import Figure
from tests.bench.measure import cpu_us, rss_kb
from tests.bench.tools import Failed

OPEN, GATE, DEFAULT = "guardproxy, open", "guardproxy, gate", "guardproxy, default"
TWO = "guardproxy, open, 2 workers"
NGINX, HAPROXY, ROUTER = "nginx", "HAProxy", "vLLM router"
LITELLM, LITELLM_KEYWORD = "LiteLLM", "LiteLLM, one keyword"
DIRECT = "without a proxy"
US = "CPU µs per request"
IDLE_STREAMS = 1000
IDLE_SETTLE_S = 0.5
HOURS_US = 3_600_000_000
"""A delay between events that no benchmark lives to see."""


def requests(bench: Bench) -> list[Figure]:
    """P1 and P2: a JSON answer of 300 words, 16 connections, guards off."""
    body = bodies.write(bench.folder, "json-300", max_tokens=300)
    rounds = bench.alternate(
        "P1", (OPEN, NGINX, HAPROXY, ROUTER, LITELLM), lambda name: bench.cost_us(bench.server(name), body)
    )
    figures = [Figure("P1", "request, guards off", US, rounds, (OPEN, NGINX), 9, 2)]
    if LITELLM in rounds:
        both = {name: rounds[name] for name in (OPEN, LITELLM) if name in rounds}
        note = "The measurements of P1."
        figures.append(Figure("P2", "request, guards off", US, both, (OPEN, LITELLM), 1 / 80, 1 / 400, note))
    return figures


def events(bench: Bench) -> list[Figure]:
    """P3: 64 streams of 100 events a second, each event parsed, held and released."""
    body = bodies.stream(bench.folder, 64, 10_000)
    rounds = bench.alternate(
        "P3", (GATE, OPEN, NGINX, HAPROXY, ROUTER, LITELLM),
        lambda name: bench.cost_us(
            bench.server(name), body, per="total_events", connections=64, events=64, seconds=2 * bench.seconds
        ),
    )  # fmt: skip
    note = (
        "64 streams, 64 words each, 100 events a second each. The gate's only guard looks for one word, in place "
        "of a stub. The request itself is in it, spread over its events."
    )
    return [Figure("P3", "SSE event, gate on", "CPU µs per event", rounds, (GATE, NGINX), 3, 1.5, note)]


def guarded(bench: Bench) -> list[Figure]:
    """P4: the shipped default policy with its real guards, 1 KB in and 1.2 KB out."""
    body = bodies.write(bench.folder, "json-220", max_tokens=220)
    names = (DEFAULT, NGINX, LITELLM_KEYWORD)
    rounds = bench.alternate("P4", names, lambda name: bench.cost_us(bench.server(name), body))
    note = (
        "1 KB of prose in, 1.2 KB out, all four embedded classifiers and one pattern of the default policy."
    )
    own = {DEFAULT: rounds.get(DEFAULT, [])}
    figures = [
        Figure("P4", "request, default policy", US, own, None, 1500, 400, note),
        Figure(
            "P4", "request, default policy, and nginx", US, _only(rounds, DEFAULT, NGINX), (DEFAULT, NGINX)
        ),
    ]
    if LITELLM_KEYWORD in rounds:
        pair = (DEFAULT, LITELLM_KEYWORD)
        figures.append(
            Figure("P4", "request, default policy, and LiteLLM with one keyword", US, _only(rounds, *pair), pair,
                   None, 1 / 10, "LiteLLM's litellm_content_filter with one blocked word, after the call.")
        )  # fmt: skip
    return figures


def guarded_streams(bench: Bench) -> list[Figure]:
    """P4's answer as a stream: the same text, judged window by window."""
    body = bodies.stream(bench.folder, 220, 2_000)
    rounds = bench.alternate(
        "P4 streamed", (DEFAULT, NGINX),
        lambda name: bench.cost_us(bench.server(name), body, connections=8, events=220),
    )  # fmt: skip
    note = "220 events, 500 a second; nothing is asked of this figure."
    return [Figure("P4", "streamed answer, default policy", US, rounds, (DEFAULT, NGINX), note=note)]


def first_token(bench: Bench) -> list[Figure]:
    """P5: time to the first text beyond what filling the first window takes."""
    delay_us = 10_000
    body = bodies.stream(bench.folder, 32, delay_us)
    filling_ms = (_events_of_first_window(bench) - 1) * delay_us / 1000

    def milliseconds(name: str) -> float:
        port = bench.upstream("-u").port if name == DIRECT else bench.server(name, "-u").port
        seconds = max(bench.seconds, 1.5)
        return (
            tools.load(port, body, connections=4, seconds=seconds, warm_up=0.3, events=32)["ttft_p50"] / 1000
        )

    rounds = bench.alternate("P5", (DEFAULT, DIRECT), milliseconds)
    if len(rounds) < 2:
        return []
    added = [a - b - filling_ms for a, b in zip(rounds[DEFAULT], rounds[DIRECT], strict=True)]
    note = (
        f"4 connections, an event every {delay_us // 1000} ms. Time to first text with the proxy, less the time "
        f"without it, less {filling_ms:.0f} ms in which the model writes the rest of the first 32 characters. Medians."
    )
    return [
        Figure("P5", "added time to first token over the formula", "ms", {DEFAULT: added}, None, 5, 1, note),
        Figure("P5", "time to first token", "ms", rounds, note="What the line above is made of."),
    ]


def _events_of_first_window(bench: Bench) -> int:
    """How many events the fake model needs for 32 characters."""
    body = bodies.stream(bench.folder, 64, 0).read_bytes()
    ask = urllib.request.Request(
        f"http://127.0.0.1:{bench.upstream('-u').port}/v1/chat/completions", data=body
    )
    with urllib.request.urlopen(ask, timeout=10) as answer:
        lines = [line[6:] for line in answer.read().decode().splitlines() if line.startswith("data: {")]
    seen = events = 0
    for choices in (json.loads(line)["choices"] for line in lines):
        text = choices[0]["delta"].get("content") if choices else ""
        if text and seen < FIRST_CUT:
            seen += len(text)
            events += 1
    return events


def pictures(bench: Bench) -> list[Figure]:
    """P6: bodies of 1 and 5 MB that are nearly all one picture."""
    figures = []
    for megabytes, answers in ((1, 24), (5, 8)):
        body = bodies.with_picture(bench.folder, megabytes)

        def cost(name: str, body: Path = body, answers: int = answers) -> float:
            more = 8 if name in (NGINX, HAPROXY) else 1
            if name == DEFAULT:
                _have_read(bench.server(name).port, body)
            return bench.cost_us(bench.server(name), body, connections=2, answers=answers * more)

        rounds = bench.alternate(f"P6 {megabytes} MB", (DEFAULT, NGINX, HAPROXY, ROUTER), cost)
        note = "Seen before: found in the cache by the hash of its URL, and sent on as it was written anew the first time."
        figures.append(
            Figure(
                "P6", f"request with a picture, {megabytes} MB", US, rounds, (DEFAULT, NGINX), 4, 1.5, note
            )
        )
    return figures


def _have_read(port: int, body: Path) -> None:
    """Show a picture until it was read: what is measured is a picture seen before."""
    ask = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        body.read_bytes(),
        {"content-type": "application/json"},
    )
    for _ in range(5):
        try:
            with urllib.request.urlopen(ask, timeout=60):
                return
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
    raise Failed("the picture could not be read in time")


def new_picture(bench: Bench) -> list[Figure]:
    """P7: one new picture of 2 megapixels, in this process."""
    pictures = {
        "JPEG, a photograph": bodies.picture(1600, 1250, "JPEG", noise=6.0),
        "PNG, a screenshot": bodies.screenshot(1600, 1250),
        "PNG, a photograph": bodies.picture(1600, 1250, "PNG", noise=6.0),
    }

    def milliseconds(kind: str) -> float:
        before = time.process_time()
        for _ in range(5):
            normalise(pictures[kind], "picture", ImageLimits())
        return (time.process_time() - before) / 5 * 1000

    rounds = bench.alternate("P7", list(pictures), milliseconds)
    note = (
        "1600 x 1250 pixels, generated (the photographs with grain): decoded, flattened, written anew and hashed; "
        "the average of five."
    )
    return [
        Figure(
            "P7", f"new picture of 2 megapixels, {kind}", "CPU ms", _only(rounds, kind), None, 60, 35, note
        )
        for kind in rounds
    ]


def idle(bench: Bench) -> list[Figure]:
    """P8: memory of streams that have begun and wait for the model's next word."""
    body = bodies.stream(bench.folder, 2, HOURS_US)
    short = bodies.stream(bench.folder, 8, 1000)

    def kilobytes(name: str) -> float:
        server = bench.fresh(name, "-u")
        try:
            tools.load(server.port, short, connections=16, answers=64)
            time.sleep(IDLE_SETTLE_S)
            before = rss_kb(server.pid)
            with tools.idle_streams(server.port, body, IDLE_STREAMS):
                time.sleep(IDLE_SETTLE_S)
                return (rss_kb(server.pid) - before) / IDLE_STREAMS
        finally:
            server.stop()

    rounds = bench.alternate("P8", (DEFAULT, GATE, OPEN, NGINX, HAPROXY), kilobytes)
    note = f"Resident memory with {IDLE_STREAMS} streams less that before them, in a fresh process."
    return [
        Figure("P8", "idle guarded stream", "KB", _only(rounds, DEFAULT), None, 40, 12, note),
        Figure("P8", "idle guarded stream, and others", "KB", rounds, (DEFAULT, NGINX)),
    ]


def cold_start(bench: Bench) -> list[Figure]:
    """P9: from the command to a proxy that says it is ready."""
    cpu: list[float] = []

    def seconds(name: str) -> float:
        began = time.monotonic()
        server = bench.fresh(name, poll_s=0.005)
        took = time.monotonic() - began
        cpu.append(cpu_us(server.pid) / 1e6)
        server.stop()
        return took

    bench.upstream()
    rounds = bench.alternate("P9", (DEFAULT,), seconds)
    note = "Byte code compiled before, files in the page cache."
    return [
        Figure("P9", "cold start to ready, default policy", "s", rounds, None, 3, 1, note),
        Figure("P9", "cold start to ready, default policy, CPU", "CPU s", {DEFAULT: cpu}),
    ]


def growth(bench: Bench) -> list[Figure]:
    """P10: whether an event of a long stream costs more than one of a short stream."""
    lengths = {f"{n:,} events": n for n in (200, 2_000, 20_000)}
    server = bench.server(GATE)

    def cost(name: str) -> float:
        tokens = lengths[name]
        body = bodies.stream(bench.folder, tokens, 500)
        answers = 8 * 20_000 // tokens
        return bench.cost_us(server, body, per="total_events", connections=8, events=tokens, answers=answers)

    rounds = bench.alternate("P10", list(lengths), cost)
    short, middle, long = lengths
    note = (
        "8 streams, 2,000 events a second each, the gate of P3. A stream's request is in it, spread over its events: "
        "more of it in an event of a short stream, which is why the longest is compared with both others."
    )
    unit = "CPU µs per event"
    return [
        Figure("P10", "event of a stream of 20,000", unit, rounds, (long, short), 1.2, 1.05, note),
        Figure("P10", "event of a stream of 20,000, and of 2,000", unit, _only(rounds, middle, long), (long, middle),
               1.2, 1.05),
    ]  # fmt: skip


def workers(bench: Bench) -> list[Figure]:
    """P11: requests a second of two workers and of one."""
    body = bodies.write(bench.folder, "json-300", max_tokens=300)

    def rate(name: str) -> float:
        server = bench.server(name)
        return tools.load(server.port, body, connections=32, seconds=bench.seconds, warm_up=0.5)["rps"]

    rounds = bench.alternate("P11", (TWO, OPEN), rate)
    note = (
        "Reported, not judged: the load client and the fake model server share the machine's cores with the "
        "workers, so that two workers cannot do twice as much here."
    )
    return [Figure("P11", "two workers", "requests/s", rounds, (TWO, OPEN), note=note, guarded=False)]


def _only(rounds: dict[str, list[float]], *names: str) -> dict[str, list[float]]:
    return {name: rounds[name] for name in names if name in rounds}


Row = Callable[[Bench], list[Figure]]
FULL: Mapping[Row, tuple[str, ...]] = {
    requests: ("P1", "P2"),
    events: ("P3",),
    guarded: ("P4",),
    guarded_streams: ("P4",),
    first_token: ("P5",),
    pictures: ("P6",),
    new_picture: ("P7",),
    idle: ("P8",),
    cold_start: ("P9",),
    growth: ("P10",),
    workers: ("P11",),
}
"""Every function with the requirements that it answers."""
QUICK: Mapping[Row, tuple[str, ...]] = {
    row: FULL[row] for row in (requests, events, guarded, first_token, idle)
}
