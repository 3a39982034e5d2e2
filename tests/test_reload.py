"""Policies are swapped under load: no exchange lost or mixed, a broken file changes nothing."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parent.parent
POLICY = """schema: 1
name: default
hardening: [{{use: self_reminder, slot: system}}, {{slot: system, text: {{en: "REV{revision}", ja: "REV{revision}"}}}}]
guards:
  - {{name: words, stage: output, detector: patterns, patterns: [{{id: w, text: "number{revision}x"}}]}}
"""


def write(folder: Path, revision: int, *, broken: bool = False) -> None:
    text = POLICY.format(revision=revision)
    new = folder / "new"
    new.write_text(text.replace("guards:", "guardz:") if broken else text)
    new.replace(folder / "default.yaml")


@contextmanager
def served(folder: Path, *flags: str, said: list[str] | None = None) -> Iterator[tuple[str, str, int]]:
    """The sandbox and the proxy as a user starts them; gives the API's and the admin side's URL and the pid.

    What the proxy writes to stderr is added to `said`.
    """
    started: list[subprocess.Popen[str]] = []
    reader = threading.Thread()
    lines = [] if said is None else said
    try:
        sandbox_port = free_port()
        sandbox = [sys.executable, "-m", "guardproxy", "sandbox", "--port", str(sandbox_port)]
        started.append(subprocess.Popen(sandbox, stderr=subprocess.DEVNULL, text=True))
        wait(f"http://127.0.0.1:{sandbox_port}/health")
        command = [
            sys.executable, "-m", "guardproxy", "serve", "--upstream", f"http://127.0.0.1:{sandbox_port}",
            "--port", "0", "--admin-port", "0", "--policies", str(folder), *flags,
        ]  # fmt: skip
        proxy = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        started.append(proxy)
        assert proxy.stderr is not None
        line = ""
        while "serving" not in line:
            line = proxy.stderr.readline()
            lines.append(line)
            assert line or proxy.poll() is None, "the proxy did not start"
        urls = re.findall(r"http://(?:[\d.]+|\[[\da-f:]+\]):\d+", line)
        api, admin = urls[0], urls[2]
        reader = threading.Thread(target=lines.extend, args=(proxy.stderr,), daemon=True)
        reader.start()
        wait(f"{admin}/readyz")
        yield api, admin, proxy.pid
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(20)
            if process.stderr is not None:
                if reader.ident is not None:
                    reader.join(5)
                process.stderr.close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait(url: str, limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            assert time.monotonic() < deadline, f"no answer from {url}"
            time.sleep(0.05)


def metric(admin: str, pattern: str) -> float:
    with urllib.request.urlopen(f"{admin}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(pattern, line))


@pytest.mark.parametrize("workers", [1, 2])
def test_fifty_reloads_under_load_lose_and_mix_nothing(tmp_path: Path, workers: int) -> None:
    """A third of the files is broken. Each answer's system prompt is that of the version in its header."""
    write(tmp_path, 0)
    (tmp_path / "routing.yaml").write_text("rules: [{match: {}, policy: default}]\n")
    with served(tmp_path, "--workers", str(workers)) as (api, admin, pid):
        seen = asyncio.run(_load(api, tmp_path, pid))
        assert metric(admin, r'guardproxy_policy_reloads_total\{result="failed"\}') >= 1
        assert metric(admin, r'guardproxy_policy_reloads_total\{result="ok"\}') >= 10
        total = metric(admin, r"guardproxy_exchanges_total\{")
        assert total == sum(seen.values())
        assert metric(admin, r'guardproxy_exchanges_total\{.*outcome="answered"') == total
        assert len(seen) > 10


async def _load(api: str, folder: Path, pid: int) -> dict[tuple[str, str], int]:
    seen: dict[tuple[str, str], int] = {}
    stop = asyncio.Event()

    async def ask(client: httpx.AsyncClient) -> None:
        body = {"model": "guardproxy-sandbox", "messages": [{"role": "user", "content": "/system"}]}
        while not stop.is_set():
            answer = await client.post(f"{api}/v1/chat/completions", json=body)
            assert answer.status_code == 200
            said = re.search(r"REV(\d+)", answer.json()["choices"][0]["message"]["content"])
            assert said is not None
            key = (answer.headers["x-guardproxy-version"], said[1])
            seen[key] = seen.get(key, 0) + 1

    async with httpx.AsyncClient(timeout=20) as client, asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(ask(client))
        for revision in range(1, 51):
            write(folder, revision, broken=revision % 3 == 0)
            os.kill(pid, signal.SIGHUP)
            await asyncio.sleep(0.15)
        stop.set()
    versions = [version for version, _ in seen]
    assert len(set(versions)) == len(versions), "one version served two texts"
    return seen


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, 0)
    (tmp_path / "routing.yaml").write_text("rules: [{match: {}, policy: default}]\n")
    with served(tmp_path, "--workers", "2") as (api, admin, pid):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        workers = [int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        time.sleep(2.5)
        wait(f"{admin}/readyz")
        assert httpx.get(f"{api}/v1/models", timeout=10).status_code == 200
