"""Runs leave for inspect_ai: its own library reads what we write, and finds our numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from guardproxy.cli import main
from guardproxy.evals.case import Expectation, Turn
from guardproxy.evals.export import to_inspect
from guardproxy.evals.reporting import built
from guardproxy.evals.rundir import RunDir
from tests.evals.demo import made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return made(tmp_path_factory.mktemp("run"))


def logs(run: RunDir, out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in to_inspect(run, out)]


def test_every_answer_is_a_sample_of_its_arms_log(run: RunDir, tmp_path: Path) -> None:
    found = logs(run, tmp_path)
    assert [log["eval"]["task_args"]["arm"] for log in found] == list(run.manifest().arms)
    there = {
        (s["id"], log["eval"]["task_args"]["arm"], s["epoch"] - 1) for log in found for s in log["samples"]
    }
    assert there == set(run.answers())


def test_the_rates_are_those_of_the_report_for_every_judge(run: RunDir, tmp_path: Path) -> None:
    report = built(run, ())
    for arm, log in zip(report.arms, logs(run, tmp_path), strict=True):
        scores = {(s["scorer"], s["name"]): s for s in log["results"]["scores"]}
        for by in arm.judges:
            for name in ("attack_success", "over_refusal"):
                rate, score = getattr(by.sides, name), scores[by.judge, name]
                assert score["scored_samples"] == rate.n
                assert rate.rate is None or score["metrics"]["rate"]["value"] == rate.rate


def test_a_block_has_its_reason_and_no_words_of_a_model(run: RunDir, tmp_path: Path) -> None:
    samples = [s for log in logs(run, tmp_path) for s in log["samples"]]
    stopped = [s for s in samples if s["output"].get("error")]
    assert stopped
    assert all(s["output"]["choices"] == [] for s in stopped)
    assert {s["scores"]["keywords"]["value"] for s in stopped} == {"blocked"}


def test_a_run_that_was_stopped_says_so(run: RunDir, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    for path in run.path.iterdir():
        (half / path.name).write_bytes(path.read_bytes())
    lines = (half / "answers.jsonl").read_bytes().splitlines(keepends=True)
    (half / "answers.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    assert {log["status"] for log in logs(RunDir(half), tmp_path / "out")} == {"cancelled"}


def test_the_command_writes_into_the_run_and_names_the_files(
    run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "export", str(run.path), "--to", "inspect", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert sorted(told) == sorted(str(p) for p in tmp_path.iterdir())
    assert main(["eval", "export", str(tmp_path / "no"), "--to", "inspect"]) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # inspect_ai's imports warn about other people's code
def test_inspect_ai_reads_the_logs(run: RunDir, tmp_path: Path) -> None:
    inspect_log = pytest.importorskip("inspect_ai.log", reason="needs inspect_ai")
    for path in to_inspect(run, tmp_path):
        log = inspect_log.read_eval_log(str(path))
        arm = log.eval.task_args["arm"]
        mine = {key: answer for key, answer in run.answers().items() if key[1] == arm}
        assert len(log.samples) == len(mine)
        for sample in log.samples:
            answer = mine[sample.id, arm, sample.epoch - 1]
            assert sample.output.completion == (answer.text if answer.status == 200 else "")
            assert sample.input[-1].role == "user"
        assert {score.scorer for score in log.results.scores} == {"keywords", "classifiers"}


def test_turns_and_the_words_of_pictures_stand_in_the_input(tmp_path: Path) -> None:
    from dataclasses import replace

    from guardproxy.evals.case import Drawing
    from tests.evals.scripted import case

    shown = replace(
        case("attack-0", Expectation.REFUSE_OR_BLOCK),
        turns=(Turn("system", "Be: kind"),),
        pictures=(Drawing("sign", {"text": "Wet floor"}),),
    )
    (log,) = logs(made(tmp_path / "run", [shown], "arm-none"), tmp_path / "out")
    first, last = log["samples"][0]["input"]
    assert first == {"role": "system", "content": "Be: kind"}
    assert last["content"].endswith("[in the picture: Wet floor]")
