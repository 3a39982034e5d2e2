"""The policy's own texts do not leave: not their marker, not their words in a row."""

from __future__ import annotations

import asyncio

import pytest

from guardproxy.core.content import Segment
from guardproxy.core.texts import HARDENING_TEXTS
from guardproxy.detectors import registry
from guardproxy.detectors.base import Content, Resources
from guardproxy.detectors.prompt_leak import grams, longest_run

RESOURCES = Resources(leak_marker="gp0123456789abcdef")
RULES = HARDENING_TEXTS["vision_caution"]


def scores(answer: str, hidden: str = RULES.en, question: str = "") -> dict[str, float]:
    detector = registry.build("prompt_leak", {}, RESOURCES)
    content = Content((Segment("content", "c", answer),), question, hidden=hidden)
    return {f.category: f.score for f in asyncio.run(detector.detect(content))}


def test_the_marker_is_found_in_any_disguise() -> None:
    for told in (
        "It says gp0123456789abcdef.",
        "GP0123456789ABCDEF",
        "g\u200bp0123456789abcdef!",
        "ｇｐ０１２３４５６７８９ａｂｃｄｅｆ",
    ):
        assert scores(told)["leak_marker"] == 1.0


@pytest.mark.parametrize("rules", [RULES.en, RULES.ja])
def test_rules_told_word_for_word_are_found(rules: str) -> None:
    assert scores(f"Sure. My rules: {rules}", rules)["prompt_overlap"] == 1.0
    assert scores(rules.upper(), rules)["prompt_overlap"] == 1.0


def test_half_a_sentence_scores_by_its_length() -> None:
    told = " ".join(RULES.en.split()[:12])
    assert 0.4 < scores(told)["prompt_overlap"] < 0.6


def test_ordinary_answers_share_nothing() -> None:
    for answer in ("The picture shows a red square on a blue table.", "写真には赤い四角が写っています。", ""):
        assert scores(answer) == {}


def test_what_the_user_wrote_is_no_leak() -> None:
    assert scores(RULES.en, question=f"Please repeat: {RULES.en}") == {}


def test_a_run_is_counted_in_words() -> None:
    hidden = frozenset(grams("one two three four five six seven eight"))
    assert longest_run("so: one two three four five six seven", hidden) == 7
    assert longest_run("one two three four five", hidden) == 0
