"""Several model servers: public names, the least busy one, one that dies, and never two answers to one request."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from guardproxy.app import fleet_of, key_ring
from guardproxy.errors import SettingsError
from guardproxy.settings import Settings
from guardproxy.telemetry.metrics import Metrics
from guardproxy.upstream import fleet
from tests.fakes import MODEL, Proxy, Script, Upstream, answer, say

Start = Callable[..., Proxy]


def ask(running: Proxy, model: str = MODEL) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return httpx.post(f"{running.url}/v1/chat/completions", json=body, timeout=20)


def text(response: httpx.Response) -> str:
    return str(response.json()["choices"][0]["message"]["content"])


def hangs_up(times: list[int]) -> Script:
    """Close the connection without a byte."""

    async def script(_: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        times.append(1)
        out.transport.abort()

    return script


def breaks_off(times: list[int]) -> Script:
    """Send half a head, then close."""

    async def script(_: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        times.append(1)
        out.write(b"HTTP/1.1 200")
        await out.drain()
        out.close()

    return script


def waits(event: threading.Event, said: str) -> Script:
    async def script(up: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        await asyncio.to_thread(event.wait, 20)
        await up.send(out, json.dumps(answer(said)).encode())

    return script


def test_public_names_become_each_servers_own(proxy: Start) -> None:
    running = proxy(others=[say("b")], models=[{"small": "own/a"}, {"large": "own/b", "small": "own/b2"}])
    assert {m["id"] for m in httpx.get(f"{running.url}/v1/models").json()["data"]} == {"small", "large"}
    response = ask(running, "large")
    assert (text(response), response.json()["model"]) == ("b", "large")
    assert running.upstreams[1].bodies[0]["model"] == "own/b"
    assert running.upstreams[0].bodies == []
    assert ask(running, "own/b").status_code == 404


def test_lora_adapters_are_served_only_where_they_are_named(proxy: Start) -> None:
    """vLLM lists them beside their base model: who could name one would switch the model."""
    running = proxy()
    response = ask(running, "lora")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    assert [m["id"] for m in httpx.get(f"{running.url}/v1/models").json()["data"]] == [MODEL]
    named = proxy(upstream={"models": {"tuned": "lora"}})
    assert ask(named, "tuned").status_code == 200
    assert named.upstream.bodies[0]["model"] == "lora"


def test_the_least_busy_server_is_asked(proxy: Start) -> None:
    event = threading.Event()
    running = proxy(script=waits(event, "a"), others=[waits(event, "b")])
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, running) for _ in range(8)]
        deadline = time.monotonic() + 10
        while sum(u.running for u in running.upstreams) < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [u.running for u in running.upstreams] == [4, 4]
        event.set()
        assert sorted(text(a.result()) for a in answers) == ["a"] * 4 + ["b"] * 4
    assert [s.in_flight for s in running.core._fleet.servers] == [0, 0]


def test_a_server_that_gives_no_byte_is_passed_over(proxy: Start) -> None:
    times: list[int] = []
    running = proxy(script=hangs_up(times), others=[say("b")])
    assert [text(ask(running)) for _ in range(4)] == ["b"] * 4
    first = running.core._fleet.servers[0]
    assert not first.is_up
    assert len(times) <= 2  # once, and once more on a kept connection
    assert running.count("guardproxy_upstream_failures_total", server=first.name) == 1
    assert running.count("guardproxy_upstream_up", server=first.name) == 0
    assert first.in_flight == 0


def test_after_the_first_byte_nobody_else_is_asked(proxy: Start) -> None:
    times: list[int] = []
    running = proxy(script=breaks_off(times), others=[breaks_off(times)])
    assert ask(running).status_code == 502
    assert len(times) == 1


def test_a_server_comes_back(proxy: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "CHECK_S", 0.1)
    times: list[int] = []
    running = proxy(script=hangs_up(times), others=[say("b")])
    assert text(ask(running)) == "b"
    running.upstream.script = say("a")
    deadline = time.monotonic() + 10
    while not running.core._fleet.servers[0].is_up and time.monotonic() < deadline:
        time.sleep(0.05)
    assert text(ask(running)) == "a"


def test_all_servers_down_is_a_502(proxy: Start) -> None:
    times: list[int] = []
    running = proxy(script=hangs_up(times), others=[hangs_up(times)])
    response = ask(running)
    assert response.status_code == 502
    assert response.json()["error"]["type"] == "server_error"


def test_readiness_needs_one_server(proxy: Start) -> None:
    running = proxy(others=[say("b")])

    def state() -> str:
        return asyncio.run_coroutine_threadsafe(running.core._fleet.state(), running.loop).result(10)

    assert state() == "ok"
    running.loop.call_soon_threadsafe(running.upstreams[0].close)
    assert state() == "ok"


def test_nothing_is_served_while_no_server_was_ever_up(proxy: Start) -> None:
    running = proxy(url="http://127.0.0.1:9")
    assert ask(running).status_code == 502
    running = proxy(
        upstream={"servers": [{"url": "http://127.0.0.1:9"}, {"url": "http://127.0.0.1:9"}]}, url=""
    )
    response = ask(running)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_unreachable")
    # Both are known to be down now.
    assert ask(running).status_code == 502


def test_one_url_or_several_servers() -> None:
    settings = Settings.model_validate({"upstream": {"url": "http://a", "servers": [{"url": "http://b"}]}})
    with pytest.raises(SettingsError, match="expected one of them"):
        fleet_of(settings, Metrics())


def test_no_servers_key_may_be_a_clients(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("gp-" + "0123456789abcdefghij" * 2)
    settings = Settings.model_validate({
        "client_keys": {"app": {"key": f"file:{secret}"}},
        "upstream": {"servers": [{"url": "http://b", "key": f"file:{secret}"}]},
    })  # fmt: skip
    with pytest.raises(SettingsError, match="client key too"):
        key_ring(settings)
