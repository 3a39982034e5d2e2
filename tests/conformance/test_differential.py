"""The same calls direct and through the proxy, over answers that vLLM 0.32.0 gave: they must agree.

`tests/golden/vllm-0.32.0.jsonl` holds requests to real servers (tiny vision models on CPU) and their answers, byte for
byte but for the chunked framing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conformance.proxies import POLICY, post
from tests.conformance.test_requests import HOSTILE
from tests.fakes import MODEL, Proxy, Script, Upstream

GOLDEN = Path(__file__).parent.parent / "golden" / "vllm-0.32.0.jsonl"
REFUSED = {
    *HOSTILE, "top_logprobs", "logprobs", "messages", "prompt", "n", "stop", "max_tokens", "temperature", "response_format",
    "tool_choice", "model", "stream_options", "chat_template_kwargs", "input", "suffix",
}  # fmt: skip
"""What the proxy refuses by name where the server took it, or with words of its own where the server refused too."""


@dataclass(frozen=True)
class Recorded:
    """One request to the real server, and its answer."""

    name: str
    dialect: str
    body: dict[str, Any]
    status: int
    type: str
    answer: str

    @property
    def is_stream(self) -> bool:
        return "event-stream" in self.type


CALLS = [Recorded(**json.loads(line)) for line in GOLDEN.read_text("utf-8").splitlines()]
GOOD = [c for c in CALLS if c.status == 200]
BAD = [c for c in CALLS if c.status != 200]


def replays(call: Recorded) -> Script:
    """Answers as the real server did, event by event."""

    async def script(up: Upstream, out: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        if not call.is_stream:
            await up.send(out, call.answer.encode(), call.type, call.status)
            return
        await up.start_stream(out)
        for block in call.answer.split("\n\n")[:-1]:
            await up.send_chunk(out, f"{block}\n\n".encode())
        await up.send_chunk(out, b"")

    return script


def through(proxy: Proxy, call: Recorded) -> httpx.Response:
    proxy.upstream.script = replays(call)
    return post(proxy, call.dialect, call.body | ({"model": MODEL} if "model" in call.body else {}))


def blocks_of(text: str) -> list[dict[str, Any]]:
    found = [b.rpartition("data: ")[2] for b in text.split("\n\n") if "data: " in b]
    return [json.loads(b) for b in found if b != "[DONE]"]


Step = tuple[Any, ...]


def chat_steps(answer: str, *, stream: bool) -> list[Step]:
    """Everything that a client can see of a chat answer, in order; what is empty tells nothing."""
    steps: list[Step] = []
    for chunk in blocks_of(answer) if stream else [json.loads(answer)]:
        steps.append(("id", chunk["id"], chunk["created"], chunk.get("system_fingerprint")))
        for choice in chunk["choices"]:
            at, said = (
                choice["index"],
                choice.get("delta" if stream else "message") or {"content": choice.get("text")},
            )
            for key in ("role", "content", "reasoning", "reasoning_content", "refusal"):
                if said.get(key):
                    steps.append((at, key, said[key]))
            for call in said.get("tool_calls") or ():
                steps.append(
                    (
                        at,
                        "call",
                        call.get("index"),
                        call.get("id"),
                        json.dumps(call["function"], sort_keys=True),
                    )
                )
            for token in (choice.get("logprobs") or {}).get("content") or ():
                if said.get("content") and token["token"] and token["token"] in said["content"]:
                    steps.append((at, "token", token["token"], token["logprob"]))
            if choice["finish_reason"]:
                steps.append((at, "end", choice["finish_reason"], choice.get("stop_reason")))
        usage = chunk.get("usage")
        if usage:
            steps.append(
                ("usage", *(usage[k] for k in ("prompt_tokens", "completion_tokens", "total_tokens")))
            )
    return steps


def merged(steps: list[Step]) -> list[Step]:
    """Without ids that only repeat, and without the empty beginning of a choice."""
    kept: list[Step] = []
    for step in steps:
        if step[0] == "id" and any(s[:3] == step[:3] for s in kept):
            continue
        kept.append(step[:3] if step[0] == "id" else step)
    return kept


def responses_steps(answer: str, *, stream: bool) -> list[Step]:
    """Deltas in order, and the whole at the end."""
    steps: list[Step] = []
    whole = json.loads(answer) if not stream else {}
    for event in blocks_of(answer) if stream else []:
        if event["type"].endswith(".delta") and event["delta"]:
            steps.append((event["type"], event["output_index"], event["delta"]))
        whole = event.get("response", whole)
    steps.append((whole["id"], whole["created_at"], whole["status"], str(whole["incomplete_details"])))
    steps.append(("usage", *(whole["usage"][k] for k in ("input_tokens", "output_tokens", "total_tokens"))))
    for item in whole["output"]:
        if item["type"] == "function_call":
            steps.append((item["type"], item["call_id"], item["name"], item["arguments"]))
        steps += [
            (item["type"], p["type"], p.get("text", p.get("refusal"))) for p in item.get("content") or ()
        ]
    return steps


def messages_steps(answer: str, *, stream: bool) -> list[Step]:
    if not stream:
        whole = json.loads(answer)
        told = [
            (b["type"], b.get("text"), b.get("thinking"), b.get("name"), str(b.get("input")))
            for b in whole["content"]
        ]
        return [
            (whole["id"], whole["stop_reason"], whole.get("stop_sequence")),
            *told,
            tuple(whole["usage"].values()),
        ]
    steps: list[Step] = []
    for event in blocks_of(answer):
        match event["type"]:
            case "message_start":
                steps.append((event["message"]["id"], event["message"]["usage"]["input_tokens"]))
            case "content_block_start":
                steps.append(("start", event["index"], event["content_block"]["type"]))
            case "content_block_delta":
                steps.append(("delta", event["index"], *sorted(event["delta"].items())))
            case "content_block_stop":
                steps.append(("stop", event["index"]))
            case "message_delta":
                steps.append(
                    (
                        event["delta"]["stop_reason"],
                        event["delta"].get("stop_sequence"),
                        event["usage"]["output_tokens"],
                    )
                )
            case other:
                steps.append((other,))
    return steps


def steps_of(call: Recorded, answer: str) -> list[Step]:
    if call.dialect == "responses":
        return responses_steps(answer, stream=call.is_stream)
    if call.dialect == "messages":
        return messages_steps(answer, stream=call.is_stream)
    return merged(chat_steps(answer, stream=call.is_stream))


def expected(call: Recorded) -> list[Step]:
    """What the server said, without what the client did not ask for (the proxy asks for usage itself)."""
    steps = steps_of(call, call.answer)
    asked = (call.body.get("stream_options") or {}).get("include_usage")
    if call.is_stream and call.dialect in ("chat", "completions") and not asked:
        steps = [s for s in steps if s[0] != "usage"]
    return steps


def one_usage(steps: list[Step]) -> list[Step]:
    """With usage in every chunk (`continuous_usage_stats`) only the last one: the proxy keeps the others to itself."""
    last = [s for s in steps if s[0] == "usage"][-1:]
    return [*(s for s in steps if s[0] != "usage"), *last]


@pytest.mark.parametrize("guarded", [False, True], ids=["open", "guarded"])
@pytest.mark.parametrize("call", GOOD, ids=lambda c: c.name)
def test_36_what_the_server_said_arrives(standing: Proxy, call: Recorded, *, guarded: bool) -> None:
    if not guarded:
        standing.write(POLICY.partition("guards:")[0] + "guards: []\n")
        standing.core.policies.reload()
    try:
        told = through(standing, call)
    finally:
        if not guarded:
            standing.write(POLICY)
            standing.core.policies.reload()
    if told.status_code == 400:
        assert told.json()["error"]["param"].partition("[")[0].partition(".")[0] in REFUSED
        assert standing.upstream.bodies == []
        return
    assert told.status_code == 200
    assert one_usage(steps_of(call, told.text)) == one_usage(expected(call))


def test_36_most_recorded_calls_are_served(
    standing: Proxy, record_property: Callable[[str, object], None]
) -> None:
    """What is refused by name is the smaller part: else this suite would show little."""
    served = sum(through(standing, call).status_code == 200 for call in GOOD)
    record_property(
        "told", f"{served} of {len(GOOD)} recorded answers served, the others' requests refused by name"
    )
    assert served > 0.7 * len(GOOD)


@pytest.mark.parametrize("call", BAD, ids=lambda c: c.name)
def test_39_what_the_server_refused_is_refused(standing: Proxy, call: Recorded) -> None:
    told = through(standing, call)
    if call.status == 401:  # about the proxy's own key
        assert told.status_code == 502
        return
    if told.status_code == 200:
        pytest.fail(f"served: {call.body}")
    assert told.status_code in ({call.status} if call.status != 500 else {400, 502}) | {400}
    error = told.json()["error"]
    assert isinstance(error["message"], str)
    assert "/" not in (error["param"] or "")


def test_the_recorded_calls_hold_no_paths() -> None:
    assert "/root" not in GOLDEN.read_text("utf-8")
