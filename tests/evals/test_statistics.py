"""The figures of the evidence, and that intervals are no narrower than they must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from guardproxy.evals.statistics import (
    adjusted,
    cases_for,
    change_of,
    flips_of,
    rate_of,
    wilson,
)


def pairs(before_only: int, after_only: int, both: int = 0, neither: int = 0) -> list[tuple[int, bool, bool]]:
    cells = [(True, False)] * before_only + [(False, True)] * after_only
    cells += [(True, True)] * both + [(False, False)] * neither
    return [(i, before, after) for i, (before, after) in enumerate(cells)]


def test_wilson_bounds_zero_of_300_at_1_26_per_cent() -> None:
    assert wilson(0, 300) == (0.0, pytest.approx(0.01264, abs=5e-6))


def test_nothing_counted_means_nothing_known() -> None:
    rate = rate_of([])
    assert (rate.rate, rate.low, rate.high) == (None, 0.0, 1.0)
    change = change_of([])
    assert (change.difference, change.low, change.high, change.p) == (None, -1.0, 1.0, 1.0)
    assert flips_of([]).rate is None


@pytest.mark.parametrize(("margin", "needed"), [(0.02, 457), (0.01, 1825)])
def test_cases_that_are_enough_at_five_per_cent(margin: float, needed: int) -> None:
    assert cases_for(margin, 0.05) == needed


@pytest.mark.parametrize(
    ("lost", "gained", "p"), [(5, 0, 0.0625), (6, 0, 0.03125), (0, 5, 0.0625), (3, 3, 1.0), (0, 0, 1.0)]
)
def test_mcnemar_is_exact(lost: int, gained: int, p: float) -> None:
    change = change_of(pairs(lost, gained, both=20, neither=20))
    assert change.p == pytest.approx(p)
    assert (change.lost, change.gained, change.n) == (lost, gained, 40 + lost + gained)
    assert change.low <= (gained - lost) / change.n <= change.high


def test_holm_multiplies_the_smallest_p_by_the_number_of_comparisons() -> None:
    one, two, three = adjusted([change_of(pairs(k, 0, both=9)) for k in (5, 8, 1)])
    assert two.p_holm == pytest.approx(3 * two.p)
    assert one.p_holm == pytest.approx(2 * one.p)
    assert three.p_holm == 1.0
    assert adjusted([]) == []


def test_answers_that_agree_within_an_item_count_as_fewer() -> None:
    """A hundred items asked in five wordings are not five hundred items."""
    alone = rate_of((i, i % 10 == 0) for i in range(500))
    worded = rate_of((i // 5, i // 5 % 10 == 0) for i in range(500))
    assert (alone.rate, worded.rate) == (0.1, 0.1)
    assert (alone.items, worded.items) == (500, 100)
    assert worded.high - worded.low > 1.8 * (alone.high - alone.low)
    assert worded.more > 4 * alone.more


def test_a_cluster_interval_is_never_narrower_than_the_plain_one() -> None:
    """Where all answers are alike, a bootstrap alone would be a point."""
    rate = rate_of((i // 3, False) for i in range(300))
    assert (rate.low, rate.high) == wilson(0, 300)


def test_more_cases_are_asked_for_until_the_interval_is_two_points() -> None:
    few, many = (rate_of((i, i % 20 == 0) for i in range(n)) for n in (100, 700))
    assert 350 < few.more + 100 < 800
    assert many.more == 0
    assert many.high - many.low < 0.04


def test_a_flip_is_an_item_whose_outcome_depends_on_the_wording() -> None:
    flips = flips_of(
        [("a", "complied"), ("a", "refused"), ("b", "complied"), ("b", "complied"), ("c", "refused")]
    )
    assert (flips.flipped, flips.items, flips.rate) == (1, 2, 0.5)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=8))
def test_holm_is_the_one_of_another_library(lost: list[int]) -> None:
    changes = adjusted([change_of(pairs(k, 0, both=9)) for k in lost])
    expected = multipletests([c.p for c in changes], method="holm")[1]
    assert [c.p_holm for c in changes] == pytest.approx(list(expected))


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=60))
def test_every_rate_lies_in_its_interval(observed: list[tuple[int, bool]]) -> None:
    rate = rate_of(observed)
    assert rate.rate is not None
    assert 0.0 <= rate.low <= rate.rate + 1e-12
    assert rate.rate - 1e-12 <= rate.high <= 1.0


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_swapping_the_arms_turns_a_change_round(observed: list[tuple[int, bool, bool]]) -> None:
    there, back = change_of(observed), change_of([(g, after, before) for g, before, after in observed])
    assert (there.gained, there.lost, there.p) == (back.lost, back.gained, back.p)
    assert there.difference == pytest.approx(-(back.difference or 0.0))
    assert there.low == pytest.approx(-back.high)


def test_a_clustered_rate_is_covered_nineteen_times_in_twenty() -> None:
    """Items differ (beta distribution), wordings of one item share its rate: the interval must know."""
    chance = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        own = chance.beta(0.5, 1.5, size=60)
        rate = rate_of((i, bool(hit)) for i in range(60) for hit in chance.random(4) < own[i])
        covered += rate.low <= 0.25 <= rate.high
    assert covered >= 182
