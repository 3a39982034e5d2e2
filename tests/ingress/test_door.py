"""Keys and limits over HTTP: who gets in, what the others are told, and what the model server sees."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from guardproxy import keys
from guardproxy.cli import main
from tests.fakes import MODEL, Proxy, Upstream, say

KEY = "k7-Wq2_xTz94LmNvB8rYp3Hs6"
OTHER = "m4-Zt8_bQx71KnRvD5cYs2Jf9"
UPSTREAM_KEY = "u1-Hg5_nWe38PoLkT6vXa0Cq4"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_KEY", KEY)
    monkeypatch.setenv("OTHER_KEY", OTHER)
    monkeypatch.setenv("UPSTREAM_KEY", UPSTREAM_KEY)


def keyed(limits: dict[str, int] | None = None) -> dict[str, Any]:
    app = {"key": "env:APP_KEY", "limits": limits or {}}
    return {"client_keys": {"app": app, "other": {"key": "env:OTHER_KEY"}}}


def ask(proxy: Proxy, headers: dict[str, str], **more: Any) -> httpx.Response:
    return httpx.post(f"{proxy.url}/v1/chat/completions", json={**BODY, **more}, headers=headers, timeout=20)


BEARER = {"authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "headers", [BEARER, {"authorization": f"bearer  {KEY}"}, {"x-api-key": KEY}], ids=["bearer", "case", "x"]
)
def test_a_key_in_force_gets_in(proxy: Callable[..., Proxy], headers: dict[str, str]) -> None:
    up = proxy(**keyed())
    assert ask(up, headers).status_code == 200
    assert httpx.get(f"{up.url}/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "no_key"),
        ({"authorization": "Bearer"}, "no_key"),
        ({"authorization": f"Basic {KEY}"}, "no_key"),
        ({"authorization": "Bearer wrong"}, "unknown_key"),
        ({"x-api-key": KEY.lower()}, "unknown_key"),
        ({"authorization": f"Bearer {UPSTREAM_KEY}"}, "unknown_key"),
    ],
)
def test_others_get_a_401_before_anything_is_read(
    proxy: Callable[..., Proxy], headers: dict[str, str], reason: str
) -> None:
    up = proxy(**keyed(), upstream={"key": "env:UPSTREAM_KEY"})
    for path, method in (
        ("/v1/chat/completions", "POST"),
        ("/v1/models", "GET"),
        (f"/v1/models/{MODEL}", "GET"),
    ):
        answer = httpx.request(method, up.url + path, headers=headers, content=b"not json")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.json()["error"]["type"] == "authentication_error"
    assert up.upstream.bodies == []
    assert up.count("guardproxy_unauthorized_total", reason=reason) == 3
    assert httpx.get(f"{up.url}/health").status_code == 200


def test_neither_key_crosses_the_proxy(proxy: Callable[..., Proxy]) -> None:
    up = proxy(**keyed(), upstream={"key": "env:UPSTREAM_KEY"})
    answer = ask(up, BEARER)
    sent = "".join(up.upstream.heads) + str(up.upstream.bodies)
    assert f"Bearer {UPSTREAM_KEY}" in sent
    assert KEY not in sent
    assert UPSTREAM_KEY not in answer.text + str(answer.headers)


def test_each_key_has_a_prefix_cache_of_its_own(proxy: Callable[..., Proxy]) -> None:
    up = proxy(**keyed())
    for headers in (BEARER, BEARER, {"x-api-key": OTHER}):
        ask(up, headers, cache_salt="the client's own")
    mine, again, others = (body["cache_salt"] for body in up.upstream.bodies)
    assert mine == again
    assert mine != others
    assert KEY not in mine
    plain = proxy(**keyed(), upstream={"cache_salt": False})
    ask(plain, BEARER)
    assert "cache_salt" not in plain.upstream.bodies[0]


def test_requests_beyond_the_minute_are_told_when_to_come_back(proxy: Callable[..., Proxy]) -> None:
    up = proxy(**keyed({"requests_per_minute": 2}))
    first = ask(up, BEARER)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert ask(up, BEARER).status_code == 200
    refused = ask(up, BEARER)
    assert refused.status_code == 429
    assert 25 <= int(refused.headers["retry-after"]) <= 30
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert ask(up, {"x-api-key": OTHER}).status_code == 200
    assert up.count("guardproxy_requests_limited_total", key="app", limit="requests_per_minute") == 1
    assert len(up.upstream.bodies) == 3


def test_bytes_beyond_the_minute_are_refused(proxy: Callable[..., Proxy]) -> None:
    up = proxy(**keyed({"body_bytes_per_minute": 1000}))
    words = [{"role": "user", "content": "x" * 600}]
    assert ask(up, BEARER, messages=words).status_code == 200
    assert ask(up, BEARER, messages=words).status_code == 429
    large = ask(up, BEARER, messages=[{"role": "user", "content": "x" * 1200}])
    assert large.status_code == 413
    assert up.count("guardproxy_requests_limited_total", limit="body_bytes_per_minute") == 1


def test_concurrent_exchanges_are_bounded_streams_and_hang_ups_included(
    proxy: Callable[..., Proxy],
) -> None:
    release = threading.Event()

    async def slow(upstream: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        await asyncio.to_thread(release.wait, 20)
        await say("hello")(upstream, out, body)

    up = proxy(script=slow, **keyed({"concurrent": 1}))
    with socket.create_connection(("127.0.0.1", up.port)) as held:
        body = json.dumps({**BODY, "stream": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        held.sendall(head.encode() + body)
        settle(lambda: up.upstream.running == 1)
        refused = ask(up, BEARER)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
    settle(lambda: up.upstream.running == 0)
    release.set()
    settle(lambda: ask(up, BEARER).status_code == 200)


def settle(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_routing_knows_keys(proxy: Callable[..., Proxy]) -> None:
    up = proxy(**keyed())
    (up.policies / "strict.yaml").write_text("schema: 1\nname: strict\nguards: []\n")
    rules = 'rules: [{match: {api_key: "oth*"}, policy: strict}, {match: {}, policy: default}]\n'
    (up.policies / "routing.yaml").write_text(rules)
    assert up.core.policies.reload()
    assert ask(up, BEARER).headers["x-guardproxy-policy"] == "default"
    assert ask(up, {"x-api-key": OTHER}).headers["x-guardproxy-policy"] == "strict"


def test_a_key_is_revoked_and_made_while_the_proxy_runs(proxy: Callable[..., Proxy], tmp_path: Any) -> None:
    path = tmp_path / "keys.json"
    key, keep = keys.add(path, "app"), keys.add(path, "keep")
    up = proxy(keys=str(path))
    assert ask(up, {"x-api-key": key}).status_code == 200
    assert main(["key", "revoke", "--keys", str(path), "--name", "app"]) == 0
    up.core.refresh_keys()
    assert ask(up, {"x-api-key": key}).status_code == 401
    path.write_text("{broken")
    up.core.refresh_keys()
    assert ask(up, {"x-api-key": keep}).status_code == 200
    assert up.count("guardproxy_key_exchanges_total", key="app", outcome="answered") == 1
