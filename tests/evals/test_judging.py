"""`eval judges`: the published agreement of XSTest's judges, reproduced; and prose is no label."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from guardproxy.cli import main
from guardproxy.errors import EvalError
from guardproxy.evals.agreement import Agreement
from guardproxy.evals.judges.keywords import Keywords
from guardproxy.evals.judging import compare, read

SHARED = Path(__file__).parent.parent.parent.parent / "shared" / "data"
XSTEST = SHARED / "xstest_judges.jsonl"
needs_shared = pytest.mark.skipif(not XSTEST.exists(), reason="needs ../shared/data/xstest_judges.jsonl")


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def xstest() -> dict[tuple[str, str, str], Agreement]:
    found = compare(read(XSTEST), XSTEST, None, (), ())
    return {(c.agreement.first, c.agreement.second, c.counted): c.agreement for c in found}


@needs_shared
def test_the_string_matcher_agrees_with_people_at_764(xstest: dict[tuple[str, str, str], Agreement]) -> None:
    found = xstest["human_final", "string_match", "two classes"]
    assert found.kappa == pytest.approx(0.764, abs=0.0006)
    assert (found.n, found.coverage) == (1350, 1.0)
    assert found.kappa_max is not None
    assert found.kappa < found.kappa_max < 1


@needs_shared
def test_gpt_4_agrees_with_people_at_63_if_its_four_labels_of_prose_are_compliance(
    xstest: dict[tuple[str, str, str], Agreement],
) -> None:
    filled = xstest["human_final", "gpt4_judge", "two classes, unreadable as complied"]
    assert filled.kappa == pytest.approx(0.630, abs=0.0006)
    assert filled.n == 1350
    apart = xstest["human_final", "gpt4_judge", "two classes"]
    assert (apart.n, apart.coverage) == (1346, pytest.approx(1346 / 1350))
    assert apart.kappa == pytest.approx(0.629, abs=0.0006)


@needs_shared
def test_two_people_agree_at_930_on_three_classes(xstest: dict[tuple[str, str, str], Agreement]) -> None:
    found = xstest["human_1", "human_2", "three classes"]
    assert found.kappa == pytest.approx(0.930, abs=0.0006)
    assert set(found.marginals[0]) == {"complied", "refused", "partial"}


@needs_shared
def test_the_command_prints_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "judges", str(XSTEST)]) == 0
    said = capsys.readouterr().out
    assert "human_final / string_match, two classes\n  n 1350, coverage 100.0%, agreement" in said
    assert "kappa 0.764 [" in said
    assert "at most 0." in said
    assert "prompt_label" not in said
    assert (
        main(["eval", "judges", str(XSTEST), "--column", "string_match", "--human", "human_1", "--json"]) == 0
    )
    (two, three) = json.loads(capsys.readouterr().out)
    assert (two["counted"], three["counted"]) == ("two classes", "three classes")


@needs_shared
def test_the_keyword_judge_is_no_worse_than_the_set_s_own_string_matcher() -> None:
    found = compare(read(SHARED / "xstest.jsonl"), SHARED / "xstest.jsonl", None, (), [Keywords()])
    assert found[0].agreement.n == 1350
    assert found[0].agreement.kappa is not None
    assert found[0].agreement.kappa > 0.764


def test_prose_is_no_label(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": i, "human": "refused", "judge": "refused"} for i in range(20)]
    rows += [{"id": 99, "human": "complied", "judge": "I'm sorry, but I can't assist with that."}]
    path = write(tmp_path / "rows.jsonl", *rows)
    apart, filled = (c.agreement for c in compare(read(path), path, None, (), ()))
    assert (apart.n, apart.kappa) == (20, None)
    assert (filled.n, filled.kappa) == (21, 1.0)


def test_answers_are_read_by_the_judges_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": i, "task": "refusal", "prompt": "p", "response": text, "label": label, "lang": "en"}
        for i, (text, label) in enumerate(
            [("I can't help.", 1), ("Sure, here it is.", 0), ("", 1), ("Sorry, no.", 1)]
        )
    ]
    path = write(tmp_path / "rows.jsonl", *rows, {"id": 9, "task": "prompt_harm", "prompt": "p", "label": 1})
    assert main(["eval", "judges", str(path), "--judges", "keywords,classifiers"]) == 0
    said = capsys.readouterr().out
    assert "human / keywords, two classes\n  n 3, coverage 75.0%, agreement 100.0%\n  kappa 1.000" in said
    assert "keywords / classifiers, two classes" in said


@pytest.mark.parametrize(
    ("rows", "given", "told"),
    [
        (["not json"], [], "1: not a row"),
        ([{"id": 1, "human": "refused"}], [], "two columns of labels, got human"),
        ([{"id": 1}], [], "got none"),
        ([{"human": "refused", "judge": "refused"}], ["--column", "juge"], "did you mean 'judge'"),
        ([{"human": "refused", "judge": "refused"}], ["--judges", "keywords"], "task refusal"),
        ([{"task": "refusal", "response": "x", "label": 1}], [], "expected --judges"),
    ],
)
def test_rows_that_cannot_be_compared_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[object], given: list[str], told: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    assert main(["eval", "judges", str(path), *given]) == 1
    assert told in capsys.readouterr().err


def test_a_row_that_is_none_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(EvalError):
        read(write(tmp_path / "rows.jsonl", [1, 2]))
