"""An exchange is freed at its end, whole: nothing of it waits for the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.fakes import MODEL, Proxy, Upstream, chunk, say
from tests.ingress.test_api import WORDS, settled


def ask(proxy: Proxy, *, stream: bool, hangs_up: bool) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    data = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as sock:
        sock.sendall(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
        if hangs_up:
            time.sleep(0.1)
        else:
            sock.makefile("rb").read()


@contextmanager
def left_behind() -> Iterator[Counter[str]]:
    """Counts the objects of guardproxy that only the garbage collector frees."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        kinds = (type(one) for one in gc.garbage)
        found.update(f"{k.__module__}.{k.__name__}" for k in kinds if k.__module__.startswith("guardproxy"))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def endless(up: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    await up.start_stream(out)
    while True:
        await up.send_chunk(out, chunk({"content": "word. "}) if body.get("stream") else b" ")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("hangs_up", [False, True])
def test_nothing_of_an_exchange_is_left_behind(
    proxy: Callable[..., Proxy], *, stream: bool, hangs_up: bool
) -> None:
    """Long streams outlive the young generations: their garbage would stay for a very long time."""
    running = proxy(WORDS, endless if hangs_up else say("Hello there. " * 9))
    ask(running, stream=stream, hangs_up=hangs_up)  # what is made once is made
    with left_behind() as found:
        for _ in range(10):
            ask(running, stream=stream, hangs_up=hangs_up)
        assert settled(lambda: running.core.in_flight.exchanges == 0)
        time.sleep(0.2)
    assert {kind: count for kind, count in found.items() if count >= 5} == {}
