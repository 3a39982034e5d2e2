"""The audit record: whole, chained, without content, and never in the way."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import given
from PIL import Image

from guardproxy.cli import main
from guardproxy.commands.audit import verify
from guardproxy.errors import AuditError
from guardproxy.telemetry import audit, chain
from guardproxy.telemetry.audit import AuditLog, AuditPlan
from guardproxy.telemetry.metrics import Metrics
from tests.fakes import MODEL, Proxy, say

POLICY = """guards:
  - {name: words-in, stage: input, detector: patterns, patterns: [{id: p, text: forbidden}]}
  - {name: words-out, stage: output, detector: patterns, on_hit: redact, patterns: [{id: q, text: hidden}]}
  - {name: request, stage: input, detector: harmful_request, on_hit: allow, threshold: 0.99}
"""


def chained(count: int, key: bytes | None = None) -> list[bytes]:
    head, lines = chain.Head(), []
    for n in range(count):
        line, head = chain.seal(head, b'{"n":%d}' % n, key)
        lines.append(line)
    return lines


def follow_all(lines: list[bytes], key: bytes | None = None) -> chain.Head:
    head = chain.Head()
    for line in lines:
        head, _ = chain.follow(head, line, key)
    return head


@given(st.integers(2, 8), st.data())
def test_whatever_is_changed_moved_or_taken_away_is_seen(count: int, data: st.DataObject) -> None:
    lines = chained(count)
    assert follow_all(lines).seq == count
    at = data.draw(st.integers(0, count - 1))
    what = data.draw(st.sampled_from(["byte", "gone", "moved", "twice"]))
    hurt = list(lines)
    if what == "byte":
        place = data.draw(st.integers(0, len(hurt[at]) - 2))
        hurt[at] = hurt[at][:place] + bytes([hurt[at][place] ^ 1]) + hurt[at][place + 1 :]
    elif what == "gone":
        del hurt[at]
        hurt = hurt or [b"x"]
    elif what == "moved":
        hurt[0], hurt[at or 1] = hurt[at or 1], hurt[0]
    else:
        hurt.insert(at, hurt[at])
    if what == "gone" and at == count - 1:
        assert follow_all(hurt).seq == count - 1  # only a head kept elsewhere shows it
    else:
        with pytest.raises(chain.Broken):
            follow_all(hurt)


def test_with_a_key_nobody_else_writes_a_chain() -> None:
    assert follow_all(chained(3, b"key"), b"key").seq == 3
    with pytest.raises(chain.Broken):
        follow_all(chained(3, b"another"), b"key")
    with pytest.raises(chain.Broken):
        follow_all(chained(3), b"key")


def log(directory: Path, **plan: Any) -> tuple[AuditLog, Metrics]:
    metrics = Metrics()
    return AuditLog(AuditPlan(directory, **plan), 0, metrics), metrics


def records(directory: Path) -> list[dict[str, Any]]:
    files = [*audit.rotated(directory / "audit-0.jsonl"), directory / "audit-0.jsonl"]
    return [json.loads(line)["record"] for f in files for line in f.read_text().splitlines()]


def test_a_chain_goes_on_over_restarts_and_torn_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(3):
        one, _ = log(tmp_path)
        one.write({"n": n})
        one.close()
        with (tmp_path / "audit-0.jsonl").open("ab") as file:
            file.write(b'{"seq":9,"prev":"torn')
    assert main(["audit", "verify", str(tmp_path)]) == 0
    assert "records 1 to 8 whole" in capsys.readouterr().out
    events = [r.get("event", r.get("n")) for r in records_before_the_tear(tmp_path)]
    assert events == ["start", 0, "torn", "start", 1, "torn", "start", 2]


def records_before_the_tear(directory: Path) -> list[dict[str, Any]]:
    lines = (directory / "audit-0.jsonl").read_text().splitlines()
    return [json.loads(line)["record"] for line in lines[:-1]]


def test_files_are_rotated_kept_and_removed_within_the_chain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, _ = log(tmp_path, max_bytes=2000, keep=2)
    for n in range(60):
        one.write({"n": n})
        if n % 10 == 9:
            time.sleep(0.15)
    one.close()
    assert len(audit.rotated(tmp_path / "audit-0.jsonl")) == 2
    assert verify(tmp_path, None, None) == 0
    assert "whole" in capsys.readouterr().out
    again, _ = log(tmp_path, max_bytes=2000, keep=2)
    again.close()
    assert verify(tmp_path, None, None) == 0
    audit.rotated(tmp_path / "audit-0.jsonl")[0].unlink()
    assert verify(tmp_path, None, None) == 1
    assert "are missing" in capsys.readouterr().out


def test_a_head_kept_elsewhere_shows_what_was_cut_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, _ = log(tmp_path, key=b"secret")
    for n in range(5):
        one.write({"n": n})
    one.close()
    path = tmp_path / "audit-0.jsonl"
    head = json.loads(path.read_text().splitlines()[-1])["hash"]
    key = tmp_path / "key"
    key.write_text("secret")
    given_key = ["--key", f"file:{key}"]
    assert main(["audit", "verify", str(tmp_path), *given_key, "--head", head]) == 0
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert main(["audit", "verify", str(tmp_path), *given_key]) == 0
    assert main(["audit", "verify", str(tmp_path), *given_key, "--head", head]) == 1
    assert "taken away" in capsys.readouterr().out
    assert main(["audit", "verify", str(tmp_path)]) == 1


def test_two_proxies_do_not_write_one_chain(tmp_path: Path) -> None:
    one, _ = log(tmp_path)
    with pytest.raises(AuditError, match="another proxy"):
        log(tmp_path)
    one.close()


def test_a_chain_that_was_tampered_with_is_not_continued(tmp_path: Path) -> None:
    one, _ = log(tmp_path)
    one.close()
    path = tmp_path / "audit-0.jsonl"
    path.write_text(path.read_text().replace("start", "stark"))
    with pytest.raises(AuditError, match="was changed"):
        log(tmp_path)


def test_where_nothing_can_be_written_nothing_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError, match="cannot be written"):
        log(tmp_path / "file")


def test_a_full_disk_holds_records_back_and_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, metrics = log(tmp_path, queue=3)
    real = os.write

    def full(fd: int, data: Any) -> int:
        real(fd, bytes(data)[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(audit.os, "write", full)
    for n in range(5):
        one.write({"n": n})
    time.sleep(0.3)
    assert one.refuses
    monkeypatch.setattr(audit.os, "write", real)
    time.sleep(0.3)
    assert not one.refuses
    one.close()
    assert [r["n"] for r in records(tmp_path) if "n" in r] == [0, 1, 2, 3, 4]
    assert verify(tmp_path, None, None) == 0
    assert counted(metrics, "failed") >= 1


def test_with_drop_the_chain_says_how_many_are_lost(tmp_path: Path) -> None:
    one, metrics = log(tmp_path, queue=10, drops=True)
    for n in range(500):
        one.write({"n": n})
    assert not one.refuses
    time.sleep(0.3)
    one.close()
    told = sum(r["records"] for r in records(tmp_path) if r.get("event") == "dropped")
    kept = sum("n" in r for r in records(tmp_path))
    assert told + kept == 500
    assert told == counted(metrics, "dropped") > 0


def counted(metrics: Metrics, result: str) -> float:
    return metrics.registry.get_sample_value("guardproxy_audit_records_total", {"result": result}) or 0.0


def red_picture() -> str:
    out = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def ask(up: Proxy, text: str, **more: Any) -> httpx.Response:
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if more.pop("picture", False):
        content.append({"type": "image_url", "image_url": {"url": red_picture()}})
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}], **more}
    return httpx.post(f"{up.url}/v1/chat/completions", json=body, timeout=20)


def written(directory: Path, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 5
    while True:
        found = [r for r in records(directory) if "event" not in r]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_every_exchange_leaves_one_record_with_everything_but_its_content(
    proxy: Callable[..., Proxy], tmp_path: Path
) -> None:
    directory = tmp_path / "audit"
    up = proxy(POLICY, say("a hidden ", "canaryanswer"), audit={"directory": str(directory)})
    redacted = ask(up, "canaryquestion one", picture=True)
    ask(up, "canaryquestion two", stream=True, stream_options={"include_usage": True})
    ask(up, "forbidden canaryquestion three")
    httpx.post(f"{up.url}/v1/chat/completions", json={"model": MODEL, "messages": "canary"})
    one, streamed, blocked, rejected = written(directory, 4)
    assert one["request_id"] == redacted.headers["x-request-id"]
    assert one["version"] == redacted.headers["x-guardproxy-version"]
    assert (one["key"], one["model"], one["policy"]) == ("anonymous", MODEL, "default")
    text, picture = one["segments"]
    asked = "canaryquestion one"
    assert text["sha256"] == sha256(asked.encode()).hexdigest()
    assert (text["place"], text["chars"]) == ("messages[0].content[0].text", len(asked))
    sent = up.upstream.bodies[0]["messages"][0]["content"][1]["image_url"]["url"]
    assert picture["sha256"] == sha256(base64.b64decode(sent.partition(",")[2])).hexdigest()
    assert (one["outcome"], one["action"], one["wanted"]) == ("redacted", "redact", "redact")
    assert [(f["guard"], f["span"], f["hit"]) for f in one["findings"]] == [
        ("words-out", [2, 8], True),
        ("request", None, False),
    ]
    assert one["unjudged"] == ["image"]
    assert one["tokens"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    assert one["ms"]["total"] >= one["ms"]["overhead"] > 0
    assert streamed["stream"]
    assert streamed["ms"]["first_text"] > 0
    assert [f["span"] for f in streamed["findings"] if f["guard"] == "words-out"] == [[2, 8]]
    assert (blocked["outcome"], blocked["answer"]) == ("blocked_input", [])
    assert (rejected["outcome"], rejected["model"], rejected["segments"]) == ("rejected", "unknown", [])
    assert "canary" not in (directory / "audit-0.jsonl").read_text()
    time.sleep(2 * audit.FLUSH_S)  # a record is counted once it is written
    assert up.count("guardproxy_audit_records_total", result="written") == 5
    assert verify(directory, None, None) == 0


def test_what_cannot_be_recorded_is_not_served(proxy: Callable[..., Proxy], tmp_path: Path) -> None:
    up = proxy(audit={"directory": str(tmp_path / "audit"), "queue": 1})
    assert up.core.audit is not None
    assert ask(up, "hello").status_code == 200
    written(tmp_path / "audit", 1)
    up.core.audit._stop.set()  # its writer writes no more
    up.core.audit._thread.join()
    up.core.audit._waiting.append(b'{"event":"stuck"}')
    refused = ask(up, "hello")
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"


def test_tail_tells_people_and_programs(
    proxy: Callable[..., Proxy], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "audit"
    up = proxy(POLICY, audit={"directory": str(directory)})
    identity = ask(up, "forbidden").headers["x-request-id"]
    written(directory, 1)
    assert main(["audit", "tail", str(directory)]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert identity in line
    assert "blocked_input  words-in:block" in line
    assert main(["audit", "tail", str(directory), "-n", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["request_id"] == identity
    assert main(["audit", "tail", str(tmp_path)]) == 1
