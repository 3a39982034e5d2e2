"""The way in over HTTP: what is redacted, what is judged beside the model, who chooses a policy."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
from PIL import Image

from guardproxy import keys
from tests.fakes import MODEL, Proxy, say
from tests.ingress.test_api import events, post, settled, text_of

Start = Callable[..., Proxy]
PHONE = "guards:\n  - {name: phone, stage: input, detector: patterns, on_hit: redact, patterns: [{id: phone, regex: '0[0-9]-[0-9]{4}'}]}\n"


def picture_part() -> dict[str, Any]:
    """A white picture, as a part of a message."""
    out = io.BytesIO()
    Image.new("RGB", (40, 30), "white").save(out, "PNG")
    url = "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def test_redacted_text_is_what_the_model_gets(proxy: Start) -> None:
    running = proxy(PHONE)
    answer = post(running, "call 03-1234 now, 電話は 06-9876 です").json()
    assert running.upstream.bodies[-1]["messages"][-1]["content"] == "call [phone] now, 電話は [phone] です"
    assert answer["guardproxy"]["action"] == "redact"
    assert settled(lambda: running.count("guardproxy_exchanges_total", outcome="redacted") == 1)


def test_a_hit_that_cannot_be_redacted_blocks(proxy: Start) -> None:
    running = proxy(PHONE)
    tool = {"type": "function", "function": {"name": "f", "description": "calls 03-1234", "parameters": {}}}
    refused = post(running, "hi", tools=[tool])
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "content_filter"
    assert running.upstream.bodies == []


def slow(stub: Callable[..., str], **behaviour: Any) -> str:
    return stub("input", "concurrent: true, threshold: 0.5", **{"slow_s": 0.3, **behaviour})


def test_a_concurrent_guard_waits_beside_the_model_and_not_before_it(
    proxy: Start, stub: Callable[..., str]
) -> None:
    async def late(up: Any, out: Any, body: dict[str, Any]) -> None:
        import asyncio

        await asyncio.sleep(0.7)
        await say("Hello")(up, out, body)

    running = proxy(slow(stub, slow_s=0.7), late)
    post(running)
    began = time.perf_counter()
    assert post(running).json()["choices"][0]["message"]["content"] == "Hello"
    assert time.perf_counter() - began < 1.3  # one after the other takes 1.4 s


def test_nothing_of_the_answer_leaves_before_a_concurrent_block(
    proxy: Start, stub: Callable[..., str]
) -> None:
    running = proxy(slow(stub, score=0.9))
    for stream in (False, True):
        refused = post(running, stream=stream)
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "content_filter"
    assert settled(lambda: running.count("guardproxy_exchanges_total", outcome="blocked_input") == 2)
    assert settled(lambda: running.upstream.running == 0)


def test_a_concurrent_guard_that_fails_is_closed(proxy: Start, stub: Callable[..., str]) -> None:
    refused = post(proxy(slow(stub, fault="error")))
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "guard_unavailable"


def test_an_allowed_stream_goes_on_after_a_concurrent_verdict(proxy: Start, stub: Callable[..., str]) -> None:
    assert text_of(events(post(proxy(slow(stub)), stream=True))) == "Hello there."


def test_only_a_key_with_the_right_chooses_its_policy(proxy: Start, tmp_path: Any) -> None:
    file = tmp_path / "keys.json"
    may = keys.add(file, "evals", ["may_choose_policy"])
    may_not = keys.add(file, "app")
    running = proxy("guards: []\n", keys=str(file))
    (running.policies / "other.yaml").write_text("schema: 1\nname: other\n" + PHONE)

    def asked(key: str, policy: str) -> httpx.Response:
        return httpx.post(
            f"{running.url}/v1/chat/completions",
            json={"model": MODEL, "messages": [{"role": "user", "content": "03-1234"}]},
            headers={"authorization": f"Bearer {key}", "x-guardproxy-use-policy": policy},
        )

    running.loop.call_soon_threadsafe(running.core.policies.reload)
    assert settled(lambda: running.core.plan_named("other") is not None)
    chosen = asked(may, "other")
    assert chosen.headers["x-guardproxy-policy"] == "other"
    assert running.upstream.bodies[-1]["messages"][-1]["content"] == "[phone]"
    assert asked(may, "default").headers["x-guardproxy-policy"] == "default"
    assert asked(may, "nothing").json()["error"]["code"] == "policy_not_found"
    refused = asked(may_not, "other")
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "policy_choice_not_allowed"
    assert "x-guardproxy-use-policy" not in running.upstream.heads[-1].lower()


def test_painted_pictures_are_what_the_model_gets(proxy: Start, stub: Callable[..., str]) -> None:
    """A detector that finds something in a whole picture has all of it painted over."""
    from guardproxy.detectors import registry

    policy = stub("input", "on_hit: redact, looks_at: [image]", score=0.9)
    assert registry.DETECTORS["stub"].gives_spans
    running = proxy(policy)
    assert post(running, [{"type": "text", "text": "hi"}, picture_part()]).status_code == 200
    sent = json.dumps(running.upstream.bodies[-1])
    data = base64.b64decode(sent.partition("base64,")[2].partition('"')[0])
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.getextrema() == ((0, 0),) * 3
