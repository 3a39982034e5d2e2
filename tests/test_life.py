"""Starting, being ready, stopping and losing a worker: each says what it does, and loses nothing it need not."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import httpx
import pytest

from guardproxy import keys, policystore
from guardproxy.cli import main
from guardproxy.commands.audit import verify
from tests.test_reload import metric, served, wait


def body(command: str) -> dict[str, object]:
    return {"model": "guardproxy-sandbox", "stream": True, "messages": [{"role": "user", "content": command}]}


def write_policy(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "default.yaml").write_text(f"schema: 1\nname: default\n{text}")
    (folder / "routing.yaml").write_text("rules: [{match: {}, policy: default}]\n")
    return folder


@pytest.mark.parametrize(
    ("flags", "settings", "said"),
    [
        ((), "", "upstream: required"),
        (("--upstream", "ftp://x"), "", "upstream.url: expected http"),
        (("--upstream", "http://user:sesame@x"), "", "upstream.url: no user or password"),
        (
            ("--upstream", "http://x", "--policies", "broken"),
            "",
            r"broken/default.yaml:3: guardz: unknown key",
        ),
        (("--upstream", "http://x", "--policies", "absent"), "", "absent: no such directory"),
        (("--upstream", "http://x"), "keys: absent.json", "absent.json: cannot be read"),
        (("--upstream", "http://x"), "client_keys: {a: {key: 'env:ABSENT'}}", "env:ABSENT is not set"),
        (("--upstream", "http://x"), "audit: {directory: file/audit}", "audit-0.jsonl: cannot be written"),
        (("--upstream", "http://x"), "upstream: {key: sk-sesame}", "never as itself"),
        (("--upstream", "http://x"), "limitz: {}", "limitz: unknown key"),
    ],
)
def test_a_start_that_cannot_serve_says_why(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    settings: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_policy(tmp_path / "broken", "guardz: []\n")
    (tmp_path / "file").write_text("")
    (tmp_path / "guardproxy.yaml").write_text(settings)
    assert main(["serve", "--port", "0", "--admin-port", "0", "--config", "guardproxy.yaml", *flags]) == 1
    error = capsys.readouterr().err
    assert re.search(said, error), error
    assert "sesame" not in error
    assert "Traceback" not in error


def test_a_detector_whose_extra_is_absent_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from guardproxy.detectors import registry

    entry = registry.Entry("absent_package:build", ("user",), ("content",), extra="images")
    monkeypatch.setitem(registry.DETECTORS, "refusal", entry)  # type: ignore[misc]
    assert main(["policy", "check"]) == 1
    assert "needs the extra guardproxy[images]" in capsys.readouterr().err


def readyz(admin: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{admin}/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ready_means_that_a_model_server_answers(tmp_path: Path, workers: str) -> None:
    with served(policystore.shipped_dir(), "--workers", workers) as (_, admin, _pid):
        status, body = readyz(admin)
        assert (status, '"upstream":"ok"' in body, '"detectors":"ok"' in body) == (200, True, True)
        sandbox = next(
            int(p.name)
            for p in Path("/proc").iterdir()
            if p.name.isdigit() and _parent(int(p.name)) == os.getpid() and b"sandbox" in _command(p)
        )
        os.kill(sandbox, signal.SIGKILL)
        settle(lambda: readyz(admin)[0] == 503)
        assert "The model server" in readyz(admin)[1]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def settle(holds: object, limit_s: float = 20) -> None:
    assert callable(holds)
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def stream(http: httpx.AsyncClient, command: str, begun: list[int]) -> str:
    """The text of one stream; it ends with `[DONE]` only if it was whole."""
    text = ""
    try:
        async with http.stream("POST", "/v1/chat/completions", json=body(command)) as answer:
            async for piece in answer.aiter_text():
                if not text:
                    begun.append(1)
                text += piece
    except httpx.HTTPError as error:
        return f"{text} broke off: {type(error).__name__}"
    return text


@pytest.mark.parametrize(("drain_s", "whole"), [("30", True), ("1", False)])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_lets_streams_end_within_its_limit_and_says_what_it_cut(
    monkeypatch: pytest.MonkeyPatch, workers: str, drain_s: str, whole: bool
) -> None:
    monkeypatch.setenv("GUARDPROXY_STREAMS__DRAIN_S", drain_s)
    monkeypatch.setenv("GUARDPROXY_LOGS__FORM", "json")
    said: list[str] = []

    async def stop(api: str, admin: str, pid: int) -> str:
        async with httpx.AsyncClient(base_url=api, timeout=60) as http:
            begun: list[int] = []
            task = asyncio.create_task(stream(http, "/slow" if whole else "/slow /long", begun))
            while not begun:  # noqa: ASYNC110 - set by another task, in its own time
                await asyncio.sleep(0.02)
            os.kill(pid, signal.SIGTERM)
            await asyncio.sleep(0.3)
            with pytest.raises(httpx.HTTPError):
                await httpx.AsyncClient().get(f"{api}/health")
            return await task

    with served(policystore.shipped_dir(), "--workers", workers, said=said) as (api, admin, pid):
        text = asyncio.run(stop(api, admin, pid))
    told = "".join(said)
    assert "1 exchanges under way" in told
    if whole:
        assert text.endswith("data: [DONE]\n\n")
        assert "stopped: 1" not in told
    else:
        assert "[DONE]" not in text
        assert "broke off" in text
        assert "stopped: 1 exchanges cut" in told
        assert '"outcome":"shutdown"' in told


def test_a_killed_worker_takes_only_its_own_streams_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 amid 200 streams: the others go on, the record verifies, counters and record agree."""
    directory = tmp_path / "audit"
    monkeypatch.setenv("GUARDPROXY_AUDIT__DIRECTORY", str(directory))
    key = keys.add(tmp_path / "keys.json", "app", limits=keys.KeyLimits(concurrent=250))
    monkeypatch.setenv("GUARDPROXY_KEYS", str(tmp_path / "keys.json"))

    async def run(api: str, pid: int) -> tuple[list[str], int]:
        limits = httpx.Limits(max_connections=300)
        head = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=api, timeout=120, limits=limits, headers=head) as http:
            begun: list[int] = []
            tasks = [asyncio.create_task(stream(http, "/long", begun)) for _ in range(200)]
            while len(begun) < 200:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
            victim = workers_of(pid)[0]
            os.kill(victim, signal.SIGKILL)
            return [await t for t in tasks], victim

    with served(policystore.shipped_dir(), "--workers", "2") as (api, admin, pid):
        texts, victim = asyncio.run(run(api, pid))
        whole = sum(t.endswith("data: [DONE]\n\n") for t in texts)
        broken = sum("broke off" in t for t in texts)
        assert whole + broken == 200
        assert whole > 0
        assert broken > 0
        settle(lambda: victim not in workers_of(pid) and len(workers_of(pid)) == 2)
        wait(f"{admin}/readyz")
        settle(lambda: metric(admin, r"guardproxy_exchanges_in_flight ") == 0)
        assert metric(admin, r'guardproxy_exchanges_total\{.*outcome="answered"') == whole
        answer = httpx.post(
            f"{api}/v1/chat/completions",
            json={**body("hello"), "stream": False},
            headers={"x-api-key": key},
        )
        assert answer.status_code == 200
        time.sleep(0.5)
        written = metric(admin, r'guardproxy_audit_records_total\{result="written"')
        assert metric(admin, r'guardproxy_audit_records_total\{result="(dropped|failed)"') == 0
    assert verify(directory, None, None) == 0
    assert "whole" in capsys.readouterr().out
    lines = [x for f in directory.glob("audit-*.jsonl") for x in f.read_text().splitlines()]
    assert len(lines) >= written
    assert sum('"outcome":"answered"' in x for x in lines) == whole + 1


def workers_of(pid: int) -> list[int]:
    return sorted(
        int(p.name)
        for p in Path("/proc").iterdir()
        if p.name.isdigit() and _parent(int(p.name)) == pid and b"spawn_main" in _command(p)
    )


def test_a_worker_is_replaced_while_the_policy_files_are_broken(tmp_path: Path) -> None:
    folder = write_policy(tmp_path / "policies", "guards: []\n")
    with served(folder, "--workers", "2") as (api, admin, pid):
        write_policy(folder, "guardz: []\n")
        settle(lambda: metric(admin, r'guardproxy_policy_reloads_total\{result="failed"') >= 1)
        victim = workers_of(pid)[0]
        os.kill(victim, signal.SIGKILL)
        settle(lambda: victim not in workers_of(pid) and len(workers_of(pid)) == 2)
        wait(f"{admin}/readyz")
        write_policy(folder, "mode: monitor\nguards: []\n")
        settle(lambda: metric(admin, r'guardproxy_policy_reloads_total\{result="ok"') >= 1)
        assert httpx.get(f"{api}/v1/models").status_code == 200
