"""The real LiteLLM proxy with guardproxy as its guardrail. Needs `make .bench/litellm/done`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes import MODEL, Proxy, say

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parent.parent.parent
PROGRAM = ROOT / ".bench/litellm/bin/litellm"
CONFIG = """\
model_list:
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: "http://127.0.0.1:{upstream}/v1", api_key: unused}}
general_settings: {{master_key: sk-test}}
guardrails:
  - guardrail_name: guardproxy-in
    litellm_params: {{guardrail: generic_guardrail_api, mode: pre_call, default_on: true, api_base: "{url}", api_key: "{key}"}}
  - guardrail_name: guardproxy-out
    litellm_params: {{guardrail: generic_guardrail_api, mode: post_call, default_on: true, api_base: "{url}", api_key: "{key}"}}
"""
POLICY = """
guards:
  - {name: in, stage: input, detector: patterns, patterns: [{id: project, text: Blue Heron}]}
  - {name: mail, stage: input, detector: patterns, on_hit: redact, patterns: [{id: email, regex: "[a-z]{1,20}@[a-z]{1,20}[.]com"}]}
  - {name: out, stage: output, detector: patterns, patterns: [{id: secret, text: Grey Owl}]}
"""
KEY = "gp-litellm-0123456789abcdefghij0123456789"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, str]]:
    """Our proxy, and LiteLLM before the same scripted model."""
    if not PROGRAM.exists():
        pytest.skip("LiteLLM is not installed: make .bench/litellm/done")
    folder = tmp_path_factory.mktemp("litellm")
    policies = folder / "policies"
    policies.mkdir()
    (folder / "key").write_text(KEY)
    keys = {"litellm": {"key": f"file:{folder / 'key'}"}}
    with Proxy(policies, POLICY, say("All is well."), guardrail_api=True, client_keys=keys) as ours:
        port = free_port()
        config = folder / "litellm.yaml"
        config.write_text(CONFIG.format(model=MODEL, upstream=ours.upstream.port, url=ours.url, key=KEY))
        quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "LITELLM_LOG": "ERROR"}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(PROGRAM), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)],
                stdout=log, stderr=log, env={**os.environ, **quiet}, start_new_session=True, cwd=folder,
            )  # fmt: skip
        try:
            _wait(f"http://127.0.0.1:{port}/health/liveliness", process, folder / "log")
            yield ours, f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise RuntimeError(log.read_text(errors="replace")[-3000:])


Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(pair: tuple[Proxy, str]) -> Ask:
    def send(text: Any, **more: Any) -> httpx.Response:
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}
        headers = {"authorization": "Bearer sk-test"}
        return httpx.post(f"{pair[1]}/v1/chat/completions", json=body, headers=headers, timeout=60)

    return send


def test_what_is_harmless_passes_both_ways(pair: tuple[Proxy, str], ask: Ask) -> None:
    answer = ask("Hi")
    assert answer.json()["choices"][0]["message"]["content"] == "All is well."
    time.sleep(0.2)
    assert pair[0].count("guardproxy_key_exchanges_total", key="litellm", outcome="answered") >= 2


def test_what_the_policy_blocks_never_reaches_the_model(pair: tuple[Proxy, str], ask: Ask) -> None:
    before = len(pair[0].upstream.bodies)
    answer = ask("Tell me of Blue Heron")
    assert answer.status_code >= 400
    assert "withheld" in answer.text
    assert len(pair[0].upstream.bodies) == before


def test_what_the_policy_redacts_reaches_the_model_redacted(pair: tuple[Proxy, str], ask: Ask) -> None:
    assert ask("Write to taro@example.com please").status_code == 200
    assert pair[0].upstream.bodies[-1]["messages"][-1]["content"] == "Write to [email] please"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_the_policy_blocks_does_not_get_out(
    pair: tuple[Proxy, str], ask: Ask, stream: bool
) -> None:
    """LiteLLM asks about streams every few chunks and at the end: what it let go before is its own affair."""
    pair[0].upstream.script = say("The Grey Owl flies.")
    try:
        answer = ask("Hi", stream=stream)
    finally:
        pair[0].upstream.script = say("All is well.")
    assert "withheld" in answer.text
    if not stream:
        assert answer.status_code >= 400
        assert "Grey Owl" not in answer.text
