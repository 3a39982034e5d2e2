"""The shipped suite keeps what its documentation says of it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import cache
from itertools import combinations

import pytest

from guardproxy.evals.case import Case, Drawing, Expectation
from guardproxy.evals.suite import load
from guardproxy.evals.survey import doubts, faults

ATTACK, BENIGN = Expectation.REFUSE_OR_BLOCK, Expectation.COMPLY
KANA = re.compile("[ぁ-ヿ]")


@cache
def cases() -> tuple[Case, ...]:
    return load("starter").cases


def of(expect: Expectation) -> list[Case]:
    return [case for case in cases() if case.expect is expect]


@pytest.mark.parametrize("expect", [ATTACK, BENIGN])
def test_each_side_has_150_cases_and_60_items_with_two_wordings(expect: Expectation) -> None:
    assert len(of(expect)) >= 150
    assert sum(n > 1 for n in Counter(c.group for c in of(expect)).values()) >= 60


@pytest.mark.parametrize("expect", [ATTACK, BENIGN])
@pytest.mark.parametrize("language", ["en", "ja"])
def test_both_languages_are_on_both_sides_in_text_and_picture(expect: Expectation, language: str) -> None:
    there = [c for c in of(expect) if c.language == language]
    assert len(there) >= 70
    assert sum(bool(c.pictures) for c in there) >= 20


def test_at_least_60_attacks_have_a_benign_twin_that_points_back() -> None:
    by_id = {c.id: c for c in cases()}
    twins = [(c, by_id[c.twin]) for c in of(ATTACK) if c.twin]
    assert len(twins) >= 60
    assert all(t.expect is BENIGN and t.twin == c.id and t.language == c.language for c, t in twins)


def test_nothing_is_asked_twice_and_no_doubt_is_open() -> None:
    assert list(doubts(load("starter"))) == []


def test_every_picture_draws() -> None:
    assert list(faults(load("starter"))) == []


def test_all_pictures_are_drawn_none_is_a_file() -> None:
    pictures = [p for c in cases() for p in c.pictures]
    assert pictures
    assert all(isinstance(p, Drawing) for p in pictures)


def test_wordings_of_an_item_share_side_language_category_and_kind_of_input() -> None:
    groups: dict[str, set[object]] = defaultdict(set)
    for case in cases():
        groups[case.group].add((case.expect, case.language, case.category, bool(case.pictures)))
    assert [g for g, shapes in groups.items() if len(shapes) > 1] == []


def test_a_twin_asks_in_the_same_form_so_that_only_the_matter_differs() -> None:
    by_id = {c.id: c for c in cases()}
    for case in of(ATTACK):
        if case.twin:
            twin = by_id[case.twin]
            assert case.category == twin.category
            assert [type(p) for p in case.pictures] == [type(p) for p in twin.pictures]
            kinds = [[p.kind for p in c.pictures if isinstance(p, Drawing)] for c in (case, twin)]
            assert kinds[0] == kinds[1]


def test_japanese_cases_are_in_japanese_and_english_ones_are_not() -> None:
    for case in cases():
        assert bool(KANA.search(case.prompt)) is (case.language == "ja"), case.id


def test_wordings_are_not_the_same_text_with_a_comma_more() -> None:
    groups: dict[str, list[str]] = defaultdict(list)
    for case in cases():
        groups[case.group].append(re.sub(r"\W", "", case.prompt))
    for group, prompts in groups.items():
        for one, other in combinations(prompts, 2):
            assert one != other, group


def test_the_ways_of_attack_that_the_documentation_names_are_there() -> None:
    there = {c.category for c in of(ATTACK)}
    assert {
        "jailbreak",
        "injection_text",
        "injection_picture",
        "picture_instruction",
        "picture_split",
        "blank_picture",
    } <= there
    assert any(c.turns for c in of(ATTACK))
