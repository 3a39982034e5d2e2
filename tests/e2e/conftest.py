"""The real vLLM server on CPU, with a small working vision model, and the proxy in front of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RIG = Path(__file__).parent / "rig"
MODEL = "smol-vlm"


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    admin: str = ""


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes], limit_s: float, log: Path) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"no answer from {url}:\n{log.read_text(errors='replace')[-4000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _unavailable(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


FLAGS = (
    "--served-model-name", MODEL, "--max-model-len", "2048", "--enforce-eager", "--max-num-seqs", "8",
    "--kv-cache-memory-bytes", "268435456", "--limit-mm-per-prompt", '{"image":2}',
    "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--chat-template", str(RIG / "template.jinja"),
)  # fmt: skip
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="session")
def rig() -> Path:
    """The folder with vLLM (`venv/bin/vllm`) and the small vision model (`model`)."""
    folder = Path(os.environ.get("GUARDPROXY_E2E_DIR", ROOT / ".e2e"))
    done = subprocess.run([str(RIG / "setup.sh"), str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        _unavailable(f"vLLM on CPU cannot be set up: {done.stderr[-1000:]}")
    return folder


@pytest.fixture(scope="session")
def vllm(rig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    port, log = _free_port(), tmp_path_factory.mktemp("vllm") / "log"
    command = [
        str(rig / "venv/bin/vllm"), "serve", str(rig / "model"), "--host", "127.0.0.1", "--port", str(port), *FLAGS,
        "--enable-scale-out",  # `/render`: the prompt that the model would read
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=ENVIRONMENT, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, 600, log)
        yield Served(f"http://127.0.0.1:{port}")
    finally:
        _stop(process)


@pytest.fixture(scope="session")
def proxy(vllm: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("proxy")
    policies = folder / "policies"
    policies.mkdir()
    for name in ("default.yaml", "routing.yaml"):
        (policies / name).write_text((ROOT / "policies" / name).read_text("utf-8"), "utf-8")
    text = (policies / "default.yaml").read_text("utf-8")
    (policies / "default.yaml").write_text(text.replace("Project Blue Heron", "Paris"), "utf-8")
    port, admin, log = _free_port(), _free_port(), folder / "log"
    command = [
        sys.executable, "-m", "guardproxy", "serve", "--upstream", vllm.url, "--policies", str(policies),
        "--port", str(port), "--admin-port", str(admin),
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{admin}/readyz", process, 30, log)
        yield Served(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}")
    finally:
        _stop(process)
