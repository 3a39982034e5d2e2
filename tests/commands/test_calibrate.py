"""Thresholds from an operator's own labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guardproxy.cli import main
from guardproxy.commands.calibrate import share, with_threshold
from guardproxy.errors import PolicyError, SettingsError

POLICY = """schema: 1
name: mine
guards:
  - name: words            # mine
    stage: input
    detector: patterns
    patterns: [{id: a, text: forbidden}]
    on_hit: block
  - name: declines
    stage: output
    detector: refusal
    threshold: 0.9   # ours
    on_hit: allow
"""


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "mine.yaml").write_text(POLICY)
    (folder / "routing.yaml").write_text("rules: [{match: {}, policy: mine}]\n")
    return folder


def labels(folder: Path, harmless: int, harmful: int) -> Path:
    path = folder / "labels.jsonl"
    rows = [{"prompt": "q", "response": f"The total of page {i} is 20.", "label": 0} for i in range(harmless)]
    rows += [
        {"prompt": "q", "response": f"I'm sorry, but I can't help with that request {i}.", "label": 1}
        for i in range(harmful)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_a_threshold_comes_with_interval_and_expected_blocks(
    tmp_path: Path, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = labels(tmp_path, 120, 20)
    command = ["calibrate", str(path), "--max-fpr", "1%", "--policy", "mine", "--policies", str(policies)]
    assert main([*command, "--harmful-share", "0.5%"]) == 0
    out = capsys.readouterr().out
    assert "declines (detector refusal): threshold 0." in out
    assert "of 120 = " in out
    assert "caught: 20 of 20 = 100.0% (95 % interval 83.9% to 100.0%)" in out
    assert "expected blocks per 10,000 requests, 0.50% of them harmful" in out
    assert (policies / "mine.yaml").read_text() == POLICY


def test_writing_changes_the_threshold_and_nothing_else(tmp_path: Path, policies: Path) -> None:
    path = labels(tmp_path, 120, 20)
    command = ["calibrate", str(path), "--max-fpr", "0.01", "--policy", "mine", "--policies", str(policies)]
    assert main([*command, "--guard", "declines", "--write"]) == 0
    changed = (policies / "mine.yaml").read_text().splitlines()
    before = POLICY.splitlines()
    assert [i for i, (a, b) in enumerate(zip(changed, before, strict=True)) if a != b] == [11]
    assert changed[11].endswith("   # ours")
    assert main(["policy", "check", "--policies", str(policies)]) == 0


@pytest.mark.parametrize(
    ("harmless", "harmful", "words"),
    [
        (40, 20, "need at least 100 rows of label 0 with a response, got 40"),
        (100, 3, "at least 10 rows of label 1"),
    ],
)
def test_too_few_labels_are_told(
    tmp_path: Path,
    policies: Path,
    capsys: pytest.CaptureFixture[str],
    harmless: int,
    harmful: int,
    words: str,
) -> None:
    path = labels(tmp_path, harmless, harmful)
    command = ["calibrate", str(path), "--max-fpr", "1%", "--policy", "mine", "--policies", str(policies)]
    assert main(command) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [("{", "labels.jsonl:1: not a labelled row"), ('{"label": 2}', "expected 0 or 1, got 2")],
)
def test_a_line_that_is_no_label_is_told(
    tmp_path: Path, policies: Path, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(line)
    command = ["calibrate", str(path), "--max-fpr", "1%", "--policy", "mine", "--policies", str(policies)]
    assert main(command) == 1
    assert words in capsys.readouterr().err


def test_an_unknown_guard_is_told(tmp_path: Path, policies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = labels(tmp_path, 1, 1)
    command = ["calibrate", str(path), "--max-fpr", "1%", "--policy", "mine", "--policies", str(policies)]
    assert main([*command, "--guard", "nope"]) == 1
    assert "no scored guard 'nope'" in capsys.readouterr().err


def test_a_share_is_a_number_or_per_cent() -> None:
    assert share("1%") == share("0.01") == 0.01
    for wrong in ("0", "100%", "-1%", "x"):
        with pytest.raises(SettingsError, match="expected a share"):
            share(wrong)


def test_a_threshold_is_found_in_either_style_or_left_to_people() -> None:
    flow = "guards:\n  - {name: a, detector: refusal, threshold: 0.5}\n  - {name: b, threshold: 0.6}\n"
    assert with_threshold(flow, "b", 0.75) == flow.replace("0.6", "0.750")
    with pytest.raises(PolicyError, match="set it by hand"):
        with_threshold("guards:\n  - name: a\n    detector: x\n  - name: b\n    threshold: 0.5\n", "a", 0.7)
