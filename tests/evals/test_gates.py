"""Bounds: what breaks them, and that neither silence nor little evidence keeps one."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardproxy.errors import EvalError
from guardproxy.evals import gates
from guardproxy.evals.figures import GateResult, Report
from guardproxy.evals.reporting import built, kept_probes
from tests.evals.demo import made


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    rundir = made(tmp_path_factory.mktemp("gates") / "run", arms="arm-none,arm-all")
    return built(rundir, kept_probes(rundir.path))


def loaded(tmp_path: Path, text: str) -> tuple[gates.Bound, ...]:
    path = tmp_path / "gates.yaml"
    path.write_text(text, "utf-8")
    return gates.load(path)


def judged(tmp_path: Path, text: str, report: Report) -> tuple[GateResult, ...]:
    return gates.judge(loaded(tmp_path, text), report)


def test_a_bound_compares_the_upper_end_unless_told_otherwise(tmp_path: Path, report: Report) -> None:
    rate = report.arms[1].sides.attack_success
    assert rate.rate is not None
    assert rate.rate < 0.3 < rate.high
    text = "attack_success: [{arm: arm-all, max: 0.3}, {arm: arm-all, max: 0.3, at: rate}]"
    upper, plain = judged(tmp_path, text, report)
    assert (upper.at, upper.kept, upper.value) == ("upper", False, rate.high)
    assert (plain.at, plain.kept, plain.value) == ("rate", True, rate.rate)


def test_a_bound_without_an_arm_is_for_every_arm(tmp_path: Path, report: Report) -> None:
    assert [g.arm for g in judged(tmp_path, "errors: {max: 0.5}", report)] == ["arm-none", "arm-all"]
    assert [g.arm for g in judged(tmp_path, "added_refusals: {max: 1}", report)] == ["arm-all"]


def test_added_refusals_are_those_of_the_pairs(tmp_path: Path, report: Report) -> None:
    (change,) = report.changes
    (result,) = judged(tmp_path, "added_refusals: {arm: arm-all, max: 0.01, at: rate}", report)
    assert result.value == change.added_refusals.difference
    assert not result.kept


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "over_refusal: {arm: arm-al, max: 0.1}",
            r"1: over_refusal: arm: 'arm-al' is not in this run; did you mean 'arm-all'",
        ),
        (
            "errors: {max: 0.1}\nadded_refusals: {arm: arm-none, max: 0.1}",
            r"2: added_refusals: is measured against",
        ),
    ],
)
def test_a_bound_on_what_is_not_measured_is_an_error(
    tmp_path: Path, report: Report, text: str, told: str
) -> None:
    with pytest.raises(EvalError, match=told):
        judged(tmp_path, text, report)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "attack_sucess: {max: 0.1}",
            r"gates\.yaml:1: attack_sucess: unknown key; did you mean 'attack_success'",
        ),
        (
            "errors:\n  max: 0.1\n  arms: x",
            r"gates\.yaml:3: errors\S*\.arms: unknown key; did you mean 'arm'",
        ),
        ("errors: {max: 1.5}", r":1: errors\S*\.max: .*less than or equal to 1, got 1\.5"),
        ("errors: {arm: a}", r":1: errors\S*\.max: required"),
        ("errors: {max: 0.1, at: mean}", r":1: errors\S*\.at"),
        ("errors: 0.1", r":1: errors"),
        ("{}", r":1: expected at least one bound"),
        ("[]", r":1: expected a mapping"),
        ("errors: {max: 0.1}\nerrors: {max: 0.2}", r":2: errors: given twice"),
    ],
)
def test_what_is_wrong_in_a_gate_file_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(EvalError, match=told):
        loaded(tmp_path, text)


def test_half_a_run_keeps_no_bound(tmp_path: Path) -> None:
    rundir = made(tmp_path / "run", arms="arm-none")
    answers = rundir.path / "answers.jsonl"
    answers.write_bytes(b"".join(answers.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(EvalError, match="1 of 97 questions are not asked yet"):
        built(rundir, (), loaded(tmp_path, "errors: {max: 1}"))
    assert built(rundir, ()).cautions[0].code == "incomplete"
