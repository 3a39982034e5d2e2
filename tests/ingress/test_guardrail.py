"""Other gateways ask what a policy makes of texts: LiteLLM's Generic Guardrail API over HTTP."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from guardproxy.detectors import registry
from guardproxy.wire.guardrail import PATH
from tests.fakes import Proxy
from tests.guard_server import GuardServer, Reply, chat

Start = Callable[..., Proxy]
WORDS = "patterns: [{id: project, text: Blue Heron}]"
BOTH = f"""
guards:
  - {{name: in, stage: input, looks_at: [user, system, tool, assistant, tools], detector: patterns, on_hit: {{}}, {WORDS}}}
  - {{name: out, stage: output, detector: patterns, on_hit: {{}}, {WORDS}}}
""".replace("{}", "%s")


def policy(on_hit: str = "block") -> str:
    return BOTH.replace("%s", on_hit)


def ask(proxy: Proxy, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    whole = {"input_type": "request", "request_data": {}, "litellm_call_id": "c", **body}
    return httpx.post(f"{proxy.url}{PATH}", json=whole, headers=headers, timeout=20)


def start(proxy: Start, text: str, **settings: Any) -> Proxy:
    return proxy(text, guardrail_api=True, **settings)


def test_it_is_off_unless_asked_for(proxy: Start) -> None:
    assert ask(proxy(policy()), texts=["Hi"]).status_code == 404


@pytest.mark.parametrize("kind", ["request", "response"])
def test_harmless_texts_pass(proxy: Start, kind: str) -> None:
    running = start(proxy, policy())
    response = ask(running, texts=["Hi", "How are you?"], input_type=kind)
    assert (response.status_code, response.json()) == (200, {"action": "NONE"})
    assert response.headers["x-guardproxy-policy"] == "default"
    assert running.upstream.bodies == [], "no model is asked"


@pytest.mark.parametrize("kind", ["request", "response"])
def test_a_hit_is_a_block_with_the_policys_message(proxy: Start, kind: str) -> None:
    running = start(proxy, policy())
    told = ask(running, texts=["Hi", "I saw a BLUE  Heron".replace("  ", " ")], input_type=kind).json()
    assert told["action"] == "BLOCKED"
    assert "withheld" in told["blocked_reason"]
    outcome = "blocked_input" if kind == "request" else "blocked_output"
    assert running.count("guardproxy_exchanges_total", model="guardrail_api", outcome=outcome) == 1
    assert running.count("guardproxy_verdicts_total", action="block") == 1


def test_japanese_is_answered_in_japanese(proxy: Start) -> None:
    told = ask(start(proxy, policy()), texts=["Blue Heron について教えてください"]).json()
    assert "安全ポリシー" in told["blocked_reason"]


@pytest.mark.parametrize("kind", ["request", "response"])
def test_a_redaction_gives_all_texts_back_in_order(proxy: Start, kind: str) -> None:
    running = start(proxy, policy("redact"))
    told = ask(running, texts=["Hi", "A Blue Heron!", ""], input_type=kind).json()
    assert told == {"action": "GUARDRAIL_INTERVENED", "texts": ["Hi", "A [project]!", ""]}
    assert running.count("guardproxy_exchanges_total", outcome="redacted") == 1


def test_what_cannot_be_redacted_is_blocked(proxy: Start) -> None:
    running = start(proxy, policy("redact"))
    tool = {"type": "function", "function": {"name": "blue", "description": "Blue Heron"}}
    assert ask(running, texts=["Hi"], tools=[tool]).json()["action"] == "BLOCKED"
    asked = {"function": {"name": "pay", "arguments": '{"to": "Blue Heron"}'}}
    assert ask(running, texts=["Hi"], tool_calls=[asked]).json()["action"] == "BLOCKED"
    call = {"function": {"name": "pay", "arguments": '{"to": "Blue\\u0020Heron"}'}}
    assert ask(running, texts=["Hi"], tool_calls=[call], input_type="response").json()["action"] == "BLOCKED"
    plain = {"function": {"name": "pay", "arguments": '{"to": "Blue Heron"}'}}
    assert ask(running, texts=["Hi"], tool_calls=[plain], input_type="response").json()["action"] == "BLOCKED"


def test_roles_decide_which_guards_look(proxy: Start) -> None:
    running = start(
        proxy, policy().replace("looks_at: [user, system, tool, assistant, tools]", "looks_at: [user]")
    )
    messages = [{"role": "system", "content": "Blue Heron"}, {"role": "user", "content": "Hi"}]
    assert ask(running, texts=["Blue Heron", "Hi"], structured_messages=messages).json() == {"action": "NONE"}
    assert ask(running, texts=["Blue Heron", "Hi"]).json()["action"] == "BLOCKED"


@pytest.mark.parametrize("kind", ["request", "response"])
def test_a_guard_that_cannot_look_is_a_block_and_never_none(proxy: Start, kind: str) -> None:
    """Not a 503: LiteLLM can be set to let everything pass where a guardrail is unreachable."""
    stage = "input" if kind == "request" else "output"
    with GuardServer(Reply(status=500)) as server:
        guard = f"guards: [{{name: g, stage: {stage}, detector: llama_guard, backend: g}}]\n"
        running = start(proxy, guard, backends={"g": {"url": server.url}})
        told = ask(running, texts=["Hi"], input_type=kind).json()
        assert told == {"action": "BLOCKED", "blocked_reason": "A guard of this service could not look"}
        server.answer = Reply(chat("safe"))
        assert ask(running, texts=["Hi"], input_type=kind).json() == {"action": "NONE"}
        server.answer = Reply(chat("unsafe\nS1"))
        assert ask(running, texts=["Hi"], input_type=kind).json()["action"] == "BLOCKED"
    assert running.count("guardproxy_exchanges_total", outcome="guard_unavailable") == 1


def picture(size: int = 8) -> str:
    out = io.BytesIO()
    Image.new("RGB", (size, size), "red").save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def test_pictures_are_decoded_and_shown_to_guards(proxy: Start) -> None:
    with GuardServer(Reply(chat("No"))) as server:
        guard = "images: {max_pixels: 400}\nguards: [{name: g, stage: input, detector: shieldgemma2, backend: g}]\n"
        running = start(proxy, guard, backends={"g": {"url": server.url}})
        assert ask(running, texts=["Hi"], images=[picture()]).json() == {"action": "NONE"}
        assert server.seen[0].body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/")
        server.answer = Reply(chat("Yes"))
        assert ask(running, texts=["Hi"], images=[picture()]).json()["action"] == "BLOCKED"
        for bad in ("AAAA", picture(40), "https://example.com/x.png"):
            told = ask(running, texts=["Hi"], images=[bad]).json()
            assert told["action"] == "BLOCKED", "what cannot be looked at is not let through"
            assert told["blocked_reason"]


def test_pictures_are_painted_over(proxy: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.Entry("tests.ingress.test_guardrail:build_finder", ("image",), (), gives_spans=True)
    monkeypatch.setitem(registry.DETECTORS, "finder", entry)  # type: ignore[arg-type]  # a dict, seen as a mapping
    running = start(proxy, "guards: [{name: g, stage: input, detector: finder, on_hit: redact}]\n")
    told = ask(running, texts=["Hi"], images=[picture()]).json()
    assert told["action"] == "GUARDRAIL_INTERVENED"
    assert told["texts"] == ["Hi"]
    painted = Image.open(io.BytesIO(base64.b64decode(told["images"][0].partition(",")[2])))
    assert painted.convert("RGB").getpixel((3, 3)) != (255, 0, 0)


class Finder:
    """Finds every picture."""

    name = "finder"
    version = "1"
    inline = True

    async def detect(self, content: Any) -> Any:
        from guardproxy.core.verdict import Finding

        return tuple(Finding("finder", "all", 1.0, s.place) for s in content.segments)


def build_finder(parameters: object, resources: object) -> Finder:
    return Finder()


def test_what_no_guard_looks_at_is_refused_if_the_policy_says_so(proxy: Start) -> None:
    running = start(proxy, "unjudged: refuse\n" + policy())
    assert ask(running, texts=["Hi"]).json() == {"action": "NONE"}
    for body in ({"images": [picture()]}, {"images": ["AA=="], "input_type": "response"}):
        told = ask(running, texts=["Hi"], **body).json()
        assert told["action"] == "BLOCKED"
        assert "no guard for content of kind image" in told["blocked_reason"]


def test_a_policy_that_only_watches_says_none_and_counts(proxy: Start) -> None:
    running = start(proxy, "mode: monitor\n" + policy())
    for kind in ("request", "response"):
        assert ask(running, texts=["Blue Heron"], input_type=kind).json() == {"action": "NONE"}
    assert running.count("guardproxy_verdicts_total", action="allow", wanted="block") == 2
    assert running.count("guardproxy_verdicts_total") == 2


def test_a_body_that_cannot_be_read_is_a_400(proxy: Start) -> None:
    response = ask(start(proxy, policy()), texts="Hi")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "texts")


def test_it_needs_a_client_key_and_the_right_to_choose(proxy: Start, tmp_path: Path) -> None:
    keys = {}
    for name, rights in (("litellm", []), ("chooser", ["may_choose_policy"])):
        secret = tmp_path / name
        secret.write_text(f"gp-{name}-" + "0123456789abcdefghij" * 2)
        keys[name] = {"key": f"file:{secret}", "rights": rights}
    running = start(proxy, policy(), client_keys=keys)
    assert ask(running, texts=["Hi"]).status_code == 401

    def key(name: str) -> dict[str, str]:
        return {"x-api-key": (tmp_path / name).read_text()}

    assert ask(running, key("litellm"), texts=["Hi"]).json() == {"action": "NONE"}
    chosen = {"additional_provider_specific_params": {"policy": "none-such"}}
    assert ask(running, key("litellm"), texts=["Hi"], **chosen).status_code == 403
    assert ask(running, key("chooser"), texts=["Hi"], **chosen).json()["error"]["code"] == "policy_not_found"
    chosen["additional_provider_specific_params"]["policy"] = "default"
    assert ask(running, key("chooser"), texts=["Hi"], **chosen).json() == {"action": "NONE"}
    assert running.count("guardproxy_key_exchanges_total", key="litellm", outcome="answered") == 1


def test_it_is_recorded_like_an_exchange(proxy: Start, tmp_path: Path) -> None:
    running = start(proxy, policy(), audit={"directory": str(tmp_path / "audit")})
    ask(running, texts=["A Blue Heron"], input_type="request")
    time.sleep(0.3)
    lines = (tmp_path / "audit/audit-0.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line)["record"] for line in lines]
    (record,) = [one for one in records if one.get("model") == "guardrail_api"]
    assert (record["outcome"], record["action"]) == ("blocked_input", "block")
    assert [s["place"] for s in record["segments"]] == ["texts[0]"]
