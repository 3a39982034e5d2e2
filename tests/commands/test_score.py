"""What `guardproxy score` and `look` print is an interface: others read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from guardproxy.cli import main
from guardproxy.commands.score import ALONE

POLICY = """schema: 1
name: mine
guards:
  - {name: secret-in, stage: input, detector: patterns, on_hit: block, patterns: [{id: a, text: forbidden}]}
  - {name: request, stage: input, detector: harmful_request, threshold: 0.9, on_hit: allow}
  - {name: secret-out, stage: output, detector: patterns, on_hit: redact, patterns: [{id: b, text: hidden}]}
  - {name: answer, stage: output, detector: harmful_answer, threshold: 0.99, on_hit: block, mode: monitor}
"""


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "mine.yaml").write_text(POLICY)
    (folder / "routing.yaml").write_text("rules: [{match: {}, policy: mine}]\n")
    return folder


def score(
    rows: Path, policies: Path, *more: str, env: dict[str, str] | None = None
) -> tuple[int, list[dict[str, Any]], str]:
    command = [sys.executable, "-m", "guardproxy", "score", str(rows), "--policy", "mine"]
    given = [*command, "--policies", str(policies), *more]
    done = subprocess.run(given, capture_output=True, check=False, env=env)
    return done.returncode, [json.loads(x) for x in done.stdout.splitlines()], done.stderr.decode()


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows), "utf-8")
    return path


def test_each_row_gives_a_line_for_each_side_it_has(tmp_path: Path, policies: Path) -> None:
    rows = write(
        tmp_path / "rows.jsonl",
        {"id": "a", "prompt": "a forbidden word", "response": None, "image": None, "label": 1},
        {"id": 7, "prompt": "hello", "response": "a hidden word"},
    )
    code, lines, _ = score(rows, policies)
    assert code == 0
    assert [(x["id"], x["stage"], x["action"], x["wanted"]) for x in lines] == [
        ("a", "input", "block", "block"),
        (7, "input", "allow", "allow"),
        (7, "output", "redact", "redact"),
    ]
    assert set(lines[0]) == {"id", "stage", "action", "wanted", "findings", "failures", "ms"}
    for line in lines:
        assert line["failures"] == []
        assert line["ms"] >= 0
        for finding in line["findings"]:
            assert set(finding) == {"guard", "detector", "category", "score"}


def test_scores_under_the_threshold_and_of_recording_guards_are_there(tmp_path: Path, policies: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", {"id": "a", "prompt": "hello", "response": "a harmless answer"})
    _, lines, _ = score(rows, policies)
    assert [(f["guard"], f["detector"]) for x in lines for f in x["findings"]] == [
        ("request", "harmful_request"),
        ("answer", "harmful_answer"),
    ]
    assert all(0 < f["score"] < 0.9 for x in lines for f in x["findings"])


@pytest.mark.parametrize("stage", ["input", "output"])
def test_one_side_only(tmp_path: Path, policies: Path, stage: str) -> None:
    rows = write(tmp_path / "rows.jsonl", {"id": 1, "prompt": "p"}, {"id": 2, "prompt": "p", "response": "r"})
    _, lines, _ = score(rows, policies, "--stage", stage)
    assert [x["id"] for x in lines] == ([1, 2] if stage == "input" else [2])


def test_pictures_stand_beside_the_rows_and_broken_ones_are_stopped(tmp_path: Path, policies: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    rows = write(
        tmp_path / "rows.jsonl",
        {"id": "good", "prompt": "hi", "image": "red.png"},
        {"id": "broken", "prompt": "hi", "image": "broken.png"},
    )
    code, (good, broken), _ = score(rows, policies)
    assert (code, good["action"]) == (0, "allow")
    assert broken["action"] == "block"
    assert broken["failures"] == [{"guard": "intake", "detector": "intake", "reason": "invalid_image"}]


def test_rows_that_are_none_are_named_and_the_others_scored(tmp_path: Path, policies: Path) -> None:
    rows = write(
        tmp_path / "rows.jsonl",
        {"id": 1, "prompt": "a"},
        "not json\n",
        "\n",
        {"prompt": "no id"},
        {"id": 2, "prompt": "b", "image": "absent.png"},
        {"id": 3, "prompt": "日本語"},
    )
    code, lines, errors = score(rows, policies)
    assert code == 1
    assert [x["id"] for x in lines] == [1, 3]
    assert [e.split(": ")[1].rpartition(":")[2] for e in errors.splitlines()] == ["2", "4", "5"]


def test_many_rows_keep_their_order_over_processes_and_agree_with_one(tmp_path: Path, policies: Path) -> None:
    texts = [f"row {i}: {'forbidden' if i % 7 == 0 else 'fine'}" for i in range(2 * ALONE)]
    rows = write(tmp_path / "rows.jsonl", *({"id": i, "prompt": t} for i, t in enumerate(texts)))
    runs = []
    for jobs in ("1", "2"):
        _, lines, errors = score(rows, policies, "--jobs", jobs)
        assert errors == ""
        runs.append([{k: v for k, v in x.items() if k != "ms"} for x in lines])
    assert runs[0] == runs[1]
    assert [x["action"] == "block" for x in runs[0]] == [i % 7 == 0 for i in range(2 * ALONE)]


@pytest.mark.slow
def test_a_thousand_rows_a_second_on_two_cores(tmp_path: Path, policies: Path) -> None:
    """By the n-gram models; CPU time, so that a busy machine does not fail it: two cores give 2 s of it in a second."""
    words = "The harbour was quiet in the morning and the boats lay still beside the pier. " * 7
    rows = write(tmp_path / "rows.jsonl", *({"id": i, "prompt": f"{i} {words}"} for i in range(4000)))
    alone = POLICY.replace("harmful_request,", "harmful_request, encoder: false,")
    (policies / "mine.yaml").write_text(alone)
    env = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}  # it would be timed, too
    before = os.times()
    started = time.perf_counter()
    code, lines, _ = score(rows, policies, "--stage", "input", "--jobs", "2", env=env)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    assert (code, len(lines)) == (0, 4000)
    assert min(cpu / 2, time.perf_counter() - started) < 4.0


def test_an_unknown_policy_is_named_with_what_was_meant(
    tmp_path: Path, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write(tmp_path / "rows.jsonl", {"id": 1, "prompt": "a"})
    assert main(["score", str(rows), "--policy", "mone", "--policies", str(policies)]) == 1
    assert "no policy named 'mone'" in (error := capsys.readouterr().err)
    assert "mine" in error


def test_look_shows_people_what_each_guard_saw(
    tmp_path: Path, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(picture)
    text = tmp_path / "note.txt"
    text.write_text("a forbidden word")
    given = ["look", "日本語", str(picture), str(text), "--answer", "a hidden word", "--policy", "mine"]
    assert main([*given, "--policies", str(policies)]) == 0
    shown = capsys.readouterr().out
    assert "picture 40 x 30" in shown
    assert "input: block" in shown
    assert "b in choices[0].content [2:8]" in shown
    assert "output: redact" in shown


def test_look_says_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    binary = tmp_path / "weights.bin"
    binary.write_bytes(b"\xff\xfe\x00")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    assert main(["look", str(binary)]) == 1
    assert "neither a picture" in capsys.readouterr().err
    assert main(["look", str(broken)]) == 0
    assert "could not look: invalid_image" in capsys.readouterr().out
