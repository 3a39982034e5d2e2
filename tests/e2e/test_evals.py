"""`guardproxy eval run` against real vLLM: the model alone and two policies, stopped half way, resumed, seen in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guardproxy import keys
from tests.e2e.conftest import MODEL, ROOT, Served, _free_port, _stop, _wait

pytestmark = pytest.mark.e2e

ARMS = "arm-none,arm-hardening,arm-all"
ITEMS = 8


@pytest.fixture
def served(vllm: Served, tmp_path: Path) -> Iterator[tuple[Served, dict[str, str]]]:
    """The proxy with the shipped policies and a key that may choose one."""
    ring = tmp_path / "keys.yaml"
    key = keys.add(ring, "evals", ["may_choose_policy"])
    port, admin, log = _free_port(), _free_port(), tmp_path / "log"
    settings = tmp_path / "guardproxy.yaml"
    settings.write_text(f"keys: {ring}\n", "utf-8")
    command = [
        sys.executable, "-m", "guardproxy", "serve", "--upstream", vllm.url, "--policies", str(ROOT / "policies"),
        "--port", str(port), "--admin-port", str(admin), "--config", str(settings),
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{admin}/readyz", process, 30, log)
        yield Served(f"http://127.0.0.1:{port}"), {**os.environ, "EVAL_KEY": key}
    finally:
        _stop(process)


def test_the_model_alone_against_two_policies_stopped_and_resumed(
    served: tuple[Served, dict[str, str]], tmp_path: Path
) -> None:
    proxy, environment = served
    out = tmp_path / "run"
    command = [
        sys.executable, "-m", "guardproxy", "eval", "run", "starter", "--target", proxy.url, "--key", "env:EVAL_KEY",
        "--arms", ARMS, "--limit", str(ITEMS), "--max-tokens", "32", "--concurrency", "2", "--out", str(out),
    ]  # fmt: skip
    first = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE)
    answers = out / "answers.jsonl"
    half = 0
    deadline = time.monotonic() + 300
    while half < ITEMS and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
        half = len(answers.read_bytes().splitlines()) if answers.exists() else 0
    os.kill(first.pid, signal.SIGINT)
    assert first.wait(60) == 130
    kept = whole_lines(answers)
    manifest = json.loads((out / "run.json").read_text("utf-8"))
    assert ITEMS <= len(kept) < manifest["planned"]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    everything = whole_lines(answers)
    assert everything[: len(kept)] == kept
    asked = [(a["case"], a["arm"], a["repeat"]) for a in map(json.loads, everything)]
    assert len(asked) == len(set(asked)) == manifest["planned"]
    assert manifest["model"] == MODEL

    report = json.loads((out / "report.json").read_text("utf-8"))
    assert [a["policy"] for a in report["arms"]] == ARMS.split(",")
    assert all(a["errors"]["events"] == 0 for a in report["arms"])
    assert all(c["over_refusal"]["n"] > 0 for c in report["changes"])
    # Hardening is longer to read: its tokens are seen.
    hardening = next(c for c in report["changes"] if c["arm"] == "arm-hardening")
    assert hardening["tokens_mean"] > 50
    look(out / "report.html", tmp_path)


def whole_lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def look(file: Path, folder: Path) -> None:
    """The report in a browser: what a person sees is there."""
    chromium: Any = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("the run is right; the page was not looked at: chromium is not installed")
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={folder / 'profile'}", "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert len(re.findall(r"<circle", dom)) == 2 * len(ARMS.split(","))
    assert "arm-hardening against arm-none" in dom
