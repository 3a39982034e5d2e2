"""Kappa with what it needs beside it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from guardproxy.evals.agreement import agreement_of


def test_an_always_safe_judge_agrees_much_and_knows_nothing() -> None:
    found = agreement_of("people", "always", [("safe", "safe")] * 95 + [("unsafe", "safe")] * 5)
    assert found.agreement == 0.95
    assert found.kappa == pytest.approx(0.0)
    assert found.marginals[1] == {"safe": 1.0}


def test_marginals_bound_kappa() -> None:
    found = agreement_of("a", "b", [("yes", "yes")] * 10 + [("yes", "no")] * 30 + [("no", "no")] * 60)
    assert found.kappa == found.kappa_max == pytest.approx(0.2857, abs=1e-4)


def test_what_a_judge_could_not_read_is_coverage_and_not_a_label() -> None:
    found = agreement_of("a", "b", [("yes", "yes"), ("no", "no"), ("no", None), (None, "yes")])
    assert (found.n, found.coverage, found.agreement, found.kappa) == (2, 0.5, 1.0, 1.0)


@pytest.mark.parametrize(("labels", "agreed"), [([], None), ([(None, "x")], None), ([("x", "x")] * 9, 1.0)])
def test_kappa_is_not_told_where_it_is_not_defined(
    labels: list[tuple[str | None, str | None]], agreed: float | None
) -> None:
    found = agreement_of("a", "b", labels)
    assert (found.kappa, found.kappa_max, found.agreement) == (None, None, agreed)


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("xyz")), min_size=2))
def test_kappa_is_the_one_of_another_library(labels: list[tuple[str | None, str | None]]) -> None:
    found = agreement_of("a", "b", labels)
    if found.kappa is not None and len({a for a, _ in labels} | {b for _, b in labels}) > 1:
        assert found.kappa == pytest.approx(cohen_kappa_score(*zip(*labels, strict=True)), abs=1e-9)
        assert found.kappa_max is not None
        assert found.kappa <= found.kappa_max + 1e-9
