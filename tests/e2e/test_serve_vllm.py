"""One command starts the real vLLM and the proxy; the doctor looks at a real server."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest

from guardproxy.cli import main
from tests.e2e.conftest import ENVIRONMENT, FLAGS, MODEL, Served, _free_port, _wait

pytestmark = pytest.mark.e2e


def test_vllm_as_a_child_answers_through_the_proxy_alone(rig: Path, tmp_path: Path) -> None:
    port, admin, log = _free_port(), _free_port(), tmp_path / "log"
    command = [
        sys.executable, "-m", "guardproxy", "serve", "--vllm", str(rig / "model"), "--port", str(port),
        "--admin-port", str(admin), "--", *FLAGS,
    ]  # fmt: skip
    environment = ENVIRONMENT | {"GUARDPROXY_VLLM__COMMAND": str(rig / "venv/bin/vllm")}
    with log.open("wb") as out:
        proxy = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        _wait(f"http://127.0.0.1:{admin}/livez", proxy, 60, log)
        not_yet = httpx.get(f"http://127.0.0.1:{admin}/readyz", timeout=10)
        assert not_yet.status_code == 503  # the model is still being loaded
        _wait(f"http://127.0.0.1:{admin}/readyz", proxy, 300, log)
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused")
        said = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "What is the capital of Japan?"}],
            max_tokens=12,
            temperature=0,
        )
        assert said.choices[0].message.content
        child = int(re.findall(r"vLLM started, process (\d+)", log.read_text())[0])
        proxy.send_signal(signal.SIGTERM)
        assert proxy.wait(60) == 0
        assert not Path(f"/proc/{child}").exists()
    finally:
        proxy.kill()


def test_the_doctor_sees_what_a_real_server_exposes(vllm: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--upstream", vllm.url]) == 0
    said = capsys.readouterr().out
    assert "vLLM 0.32.0" in said
    assert f"serves {MODEL}" in said
    assert "the server answers without a key" in said
    assert "those of the chat template are known: <|im_end|>, <|im_start|>" in said
    assert "no flag found that widens" in said
    assert "none of its" in said
