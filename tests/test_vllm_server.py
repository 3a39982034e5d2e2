"""vLLM as a child: reachable by the proxy alone, started again when it dies, never left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from guardproxy.cli import main
from guardproxy.errors import SettingsError
from guardproxy.vllm_server import command_of
from tests.test_life import write_policy
from tests.test_reload import wait

FAKE = Path(__file__).parent / "fake_vllm.py"


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int, int, Path]]:
    """Gives the API's URL, the pids of the proxy and of its child, and the child's socket."""
    program = folder / "vllm"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    program.chmod(0o755)
    policies = write_policy(folder / "policies", "guards: []\n")
    command = [
        sys.executable, "-m", "guardproxy", "serve", "--vllm", "tiny", "--port", "0", "--admin-port", "0",
        "--policies", str(policies), "--", "--max-model-len", "64",
    ]  # fmt: skip
    environment = os.environ | {"GUARDPROXY_VLLM__COMMAND": str(program)}
    proxy = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert proxy.stderr is not None
    try:
        said = ""
        while "serving" not in said:
            line = proxy.stderr.readline()
            said += line
            assert line, said
        child = int(re.findall(r"process (\d+)", said)[0])
        api, admin = re.findall(r"http://[\d.]+:\d+", said)
        wait(f"{admin}/readyz")
        yield api, proxy.pid, child, Path(re.findall(r"unix:([^;]+)", said)[0])
    finally:
        proxy.kill()
        proxy.communicate()


def ask(api: str, text: str) -> httpx.Response:
    body = {"model": "tiny", "messages": [{"role": "user", "content": text}]}
    return httpx.post(f"{api}/v1/chat/completions", json=body, timeout=10)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] not in "ZX"
    except OSError:
        return False


def eventually(true: object, limit_s: float = 10) -> bool:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if true():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def test_only_the_proxy_reaches_it_and_it_ends_with_the_proxy(tmp_path: Path) -> None:
    with served(tmp_path) as (api, proxy, child, path):
        assert ask(api, "hi").json()["choices"][0]["message"]["content"] == "--max-model-len 64"
        assert path.parent.stat().st_mode & 0o777 == 0o700
        key = (path.parent / "key").read_text()
        with socket.socket(socket.AF_UNIX) as knock:
            knock.connect(str(path))
            knock.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
            assert knock.recv(100).startswith(b"HTTP/1.1 401")
        shown = subprocess.run(
            ["ps", "-o", "args=", "-p", str(child)], capture_output=True, text=True, check=True
        )
        assert key not in shown.stdout
        os.kill(proxy, signal.SIGTERM)
        assert eventually(lambda: not is_alive(child))
        assert eventually(lambda: not path.parent.exists())


def test_it_is_started_again_when_it_dies(tmp_path: Path) -> None:
    with served(tmp_path) as (api, _, child, _path):
        assert ask(api, "/die").status_code == 502
        assert eventually(lambda: not is_alive(child))
        assert eventually(lambda: ask(api, "hi").status_code == 200)


def test_it_does_not_outlive_a_proxy_that_was_killed(tmp_path: Path) -> None:
    with served(tmp_path) as (_, proxy, child, _path):
        os.kill(proxy, signal.SIGKILL)
        assert eventually(lambda: not is_alive(child))


@pytest.mark.parametrize(
    "flag", ["--port=1", "--host", "--uds", "--api-key=x", "--api_key", "--hos", "--por=1"]
)
def test_no_flag_opens_another_door(flag: str) -> None:
    with pytest.raises(SettingsError, match=r"is the proxy's to set"):
        command_of("m", [flag, "1"], "vllm")


def test_what_weakens_the_guards_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert command_of("m", ["--trust_request_chat-template"], "/bin/vllm") == [
        "/bin/vllm", "serve", "m", "--trust_request_chat-template",
    ]  # fmt: skip
    assert "own chat template would replace the hardened one" in caplog.text


def test_wrong_ways_to_start_it_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = ["--port", "0", "--admin-port", "0"]
    monkeypatch.setenv("PATH", str(tmp_path))
    for flags, said in (
        (["--vllm", "m"], "no vllm program found"),
        (["--vllm", "m", "--upstream", "http://x"], "expected one of them, got both"),
        (["--upstream", "http://x", "--", "--dtype", "auto"], "expected --vllm MODEL before"),
    ):
        assert main(["serve", *ports, *flags]) == 1
        assert said in capsys.readouterr().err
    monkeypatch.setenv("GUARDPROXY_VLLM__COMMAND", str(tmp_path / "absent"))
    assert main(["serve", *ports, "--vllm", "m"]) == 1
    assert "cannot be started" in capsys.readouterr().err
