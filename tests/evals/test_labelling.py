"""A person labels a sample, without being told what the judges said."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest

from guardproxy.errors import EvalError
from guardproxy.evals import labelling
from guardproxy.evals.reporting import built, kept_probes
from guardproxy.evals.rundir import RunDir
from tests.evals.demo import made


@pytest.fixture
def rundir(tmp_path: Path) -> RunDir:
    return made(tmp_path / "run", arms="arm-none,arm-all")


def label(rundir: RunDir, keys: str, count: int = 10) -> str:
    out = io.StringIO()
    assert labelling.run(rundir.path, count, io.StringIO("".join(f"{k}\n" for k in keys)), out) == 0
    return out.getvalue()


def test_the_sample_has_every_arm_and_outcome_alike(rundir: RunDir) -> None:
    answers, labels = rundir.answers(), rundir.labels()
    keys = labelling.sampled(answers, labels, 24)
    assert len(set(keys)) == 24
    said = {x.key: x.label for x in labels if x.judge == "keywords"}
    strata = Counter((arm, said[case, arm, repeat]) for case, arm, repeat in keys)
    assert len(strata) == 4
    assert max(strata.values()) - min(strata.values()) <= 1
    assert labelling.sampled(answers, labels, 24) == keys
    assert len(labelling.sampled(answers, labels, 10_000)) < 10_000


def test_what_is_said_is_kept_and_the_rest_is_asked_next_time(rundir: RunDir) -> None:
    shown = label(rundir, "crx?sq")
    assert "2 labelled" in shown
    assert "arm-" not in shown
    assert "keywords" not in shown
    assert [x.label for x in rundir.labels("human")] == ["complied", "refused"]
    first = {x.key for x in rundir.labels("human")}
    label(rundir, "uuu")
    assert len(rundir.labels("human")) == 5
    assert first < {x.key for x in rundir.labels("human")}


def test_judges_are_then_compared_with_the_person(rundir: RunDir) -> None:
    label(rundir, "c" * 8)
    report = built(rundir, kept_probes(rundir.path))
    assert report.human == 8
    assert [(a.first, a.second) for a in report.agreements][:2] == [
        ("human", "keywords"),
        ("human", "classifiers"),
    ]


def test_nothing_left_to_label_is_told(rundir: RunDir) -> None:
    label(rundir, "c" * 10)
    with pytest.raises(EvalError, match="nothing is left to label"):
        label(rundir, "c")
