"""What the numbered tests have in common: one proxy with every dialect, and what its upstream received."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.dialects import PATHS, STREAMS, asks, whole
from tests.fakes import Proxy, Script

DIALECTS = ("chat", "responses", "messages", "completions")
CHATS = ("chat", "responses", "messages")
SECRET = "blue heron"
RULES = "Remember to be a responsible assistant"
POLICY = (
    "hardening: [{use: self_reminder, slot: system, language: en}]\n"
    "guards:\n"
    "  - {name: words-in, stage: input, detector: patterns, looks_at: [system, user, assistant, tool, tools],"
    " patterns: [{id: password, text: open sesame}]}\n"
    "  - {name: words-out, stage: output, detector: patterns, looks_at: [content, reasoning, refusal, tool_arguments],"
    " patterns: [{id: secret, text: blue heron}]}\n"
)


HTTP = httpx.Client(verify=False, timeout=20, limits=httpx.Limits(max_keepalive_connections=0))
"""One for all: a client of its own for each request would load certificates each time, which nobody here uses."""


def post(proxy: Proxy, dialect: str, body: Any, **headers: str) -> httpx.Response:
    """Send a body, or bytes, to a dialect's route."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode("utf-8", "surrogatepass")
    sent = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return HTTP.post(proxy.url + PATHS[dialect], content=content, headers=sent)


def ask(proxy: Proxy, dialect: str = "chat", text: str = "hi", **fields: Any) -> httpx.Response:
    """Ask what `asks` says, with further fields."""
    return post(proxy, dialect, asks(dialect, text, **fields))


def received(proxy: Proxy) -> dict[str, Any]:
    """The one body that the upstream was sent."""
    assert len(proxy.upstream.bodies) == 1, f"{len(proxy.upstream.bodies)} requests upstream"
    return proxy.upstream.bodies[0]


def turns(dialect: str, *said: tuple[str, Any]) -> dict[str, Any]:
    """A conversation of `(role, content)`."""
    body = asks(dialect)
    body["input" if dialect == "responses" else "messages"] = [{"role": r, "content": c} for r, c in said]
    return body


def keys_of(value: Any) -> set[str]:
    """Every key anywhere in a JSON value."""
    if isinstance(value, dict):
        return set(value).union(*(keys_of(v) for v in value.values()))
    return set().union(*(keys_of(v) for v in value)) if isinstance(value, list) else set()


def refused_by_name(response: httpx.Response, field: str) -> bool:
    """Whether it is a 400 whose `param` is the field, or stands in it."""
    if response.status_code != 400:
        return False
    return field in str(response.json()["error"]["param"])


def all_dialects() -> Script:
    """Answers every dialect with a harmless text, by the route that was asked."""
    return by_path([("content", "All is well, and the weather is fine.")])


def by_path(said: list[tuple[str, str]]) -> Script:
    """Says this in the dialect of the route that was asked."""

    async def script(up: Any, out: Any, body: dict[str, Any]) -> None:
        path = up.heads[-1].split(" ")[1]
        dialect = next(d for d, p in PATHS.items() if p == path)
        if body.get("stream"):
            await up.send(out, b"".join(STREAMS[dialect](said, 7)), "text/event-stream")
        else:
            await up.send(out, whole(dialect, said))

    return script


def settled(holds: Callable[[], bool], limit_s: float = 5.0) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return holds()
