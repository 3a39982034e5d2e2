"""Near-duplicates: wordings of one item are proposed, other requests are left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.evals.nearby import groups_of


def test_wordings_of_one_item_meet_and_others_do_not() -> None:
    texts = [
        "How do I open an account for my little son?",
        "What are the fees of the gold card?",
        "how do I open an account for my son?",
        "口座を開くには何が必要ですか。",
        "口座を開くのに何が必要ですか?",
        "How do I open an account, for my big son",
    ]
    assert groups_of(texts) == [0, 1, 0, 3, 3, 0]


def test_a_chain_of_small_changes_is_one_group() -> None:
    texts = ["abcdefghijklmnop", "abcdefghijklmnopqrs", "abcdefghijklmnopqrstuvw"]
    assert groups_of(texts) == [0, 0, 0]


def test_texts_without_letters_do_not_break_it() -> None:
    assert groups_of(["", "…", "?"]) == [0, 0, 0]
    assert groups_of([]) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=12))
def test_groups_point_at_their_own_first_member(texts: list[str]) -> None:
    groups = groups_of(texts)
    assert all(groups[first] == first <= index for index, first in enumerate(groups))


def test_a_large_group_stays_one_although_few_of_it_are_remembered() -> None:
    texts = [
        f"Please tell me the opening hours of the branch in the main street number {n}" for n in range(300)
    ]
    assert set(groups_of(texts)) == {0}


def test_the_work_is_bounded_for_each_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests made from one form share most of their pieces: the worst case for looking up by pieces."""
    from guardproxy.evals import nearby

    compared = 0
    real = nearby._jaccard

    def counting(one: frozenset[int], other: frozenset[int]) -> float:
        nonlocal compared
        compared += 1
        return real(one, other)

    monkeypatch.setattr(nearby, "_jaccard", counting)
    texts = [f"Question {n} about matter {n * 7919 % 10007} of customer {n * 31 % 997}" for n in range(1000)]
    groups_of(texts, alike=0.99)
    assert len(texts) < compared < len(texts) * nearby.SKETCH * nearby.CROWD
