"""Words and expressions, whatever the disguise, in linear time; a stream never leaks a start of a hit."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.content import Segment
from guardproxy.detectors import registry
from guardproxy.detectors.base import Content
from guardproxy.detectors.fold import fold
from guardproxy.detectors.patterns import Patterns, build
from guardproxy.errors import PolicyError

NAMES = {
    "patterns": [
        {"id": "p", "text": "Blue Heron"},
        {"id": "j", "text": "極秘計画"},
        {"id": "n", "regex": r"\d{3}-\d{4}"},
    ]
}


def detector() -> Patterns:
    built = build(NAMES)
    assert isinstance(built, Patterns)
    return built


def hits(text: str, *, final: bool = True, fresh: int = 0) -> list[tuple[str, str]]:
    content = Content((Segment("content", "c", text),), final=final, fresh=fresh)
    found = asyncio.run(detector().detect(content))
    return [(f.category, text[f.span.start : f.span.end]) for f in found if f.span]


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("the blue heron flies", ("p", "blue heron")),
        ("the B\u200bl\u00adue Heron", ("p", "B\u200bl\u00adue Heron")),
        ("ｂｌｕｅ　ｈｅｒｏｎ!", ("p", "ｂｌｕｅ　ｈｅｒｏｎ")),
        ("Вluе Herоn", ("p", "Вluе Herоn")),
        ("Blüe Heron", ("p", "Blüe Heron")),
        ("the blue\nheron", ("p", "blue\nheron")),
        ("> blue \r\n\t  heron.", ("p", "blue \r\n\t  heron")),
        ("これは極秘計画です", ("j", "極秘計画")),
        ("tel. １２３-4567", ("n", "１２３-4567")),
    ],
)
def test_disguises_are_seen_through_and_spans_are_those_of_the_original(
    text: str, hit: tuple[str, str]
) -> None:
    assert hits(text) == [hit]


def test_a_word_inside_a_word_is_no_hit() -> None:
    assert hits("blue herons, skyblue heron") == []
    assert hits("x") == []


def test_an_unfinished_hit_waits() -> None:
    assert hits("the blue heron", final=False) == []
    assert hits("the blue heron ", final=False) == [("p", "blue heron")]
    assert hits("blue heron blue heron.", fresh=11) == [("p", "blue heron")]


@pytest.mark.parametrize("mark", ["\u200b", "\u0301", "\u0301\u0302\u200b"])
def test_what_stands_before_is_seen_through_invisible_characters(mark: str) -> None:
    """A stream must not be stopped for a word that is none in the whole text."""
    before = f"x{mark}"
    assert hits(f"{before}blue heron.") == []
    assert hits(f"{before}blue heron.", fresh=len(before)) == []
    assert hits(f"{mark}blue heron.", fresh=len(mark)) == [("p", "blue heron")]


@given(st.text("blue hron極秘計画1-\u200b\n", max_size=30), st.integers(0, 45))
def test_the_start_of_any_hit_is_held(noise: str, cut: int) -> None:
    """What would be released ends before every hit that the whole text turns out to have."""
    whole = noise + "Blue \n Heron 極秘計画 123-4567 "
    shown = whole[: min(cut, len(whole))]
    released = len(shown) - detector().held_suffix(shown, 0)
    found = asyncio.run(detector().detect(Content((Segment("content", "c", whole),))))
    for finding in found:
        assert finding.span is not None
        assert finding.span.end <= len(shown) or released <= finding.span.start


def test_matching_is_linear() -> None:
    bad = build({"patterns": [{"id": "p", "regex": "(a|a){1,30}b"}]})
    started = time.process_time()
    asyncio.run(bad.detect(Content((Segment("content", "c", "a" * 20_000),))))
    assert time.process_time() - started < 2


@given(st.text(max_size=60))
def test_folding_keeps_a_way_back(text: str) -> None:
    folded = fold(text)
    for at in range(len(folded.text)):
        start, end = folded.original(at, at + 1)
        assert 0 <= start < end <= len(text)


def test_combined_kana_fold_together() -> None:
    assert fold("か\u3099").text == fold("が").text
    assert fold("ｶﾞ").text == fold("ガ").text


def test_wrong_parameters_are_told() -> None:
    for parameters in ({}, {"patterns": []}, {"patterns": [{"id": "x", "text": "a"}] * 10_001}):
        with pytest.raises(PolicyError, match="patterns"):
            build(parameters)
    with pytest.raises(PolicyError, match="has no parameters"):
        registry.build("jailbreak", {"x": 1})


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.Entry("guardproxy.no_such_module:build", (), (), extra="images")
    monkeypatch.setitem(registry.DETECTORS, "ocr", entry)  # type: ignore[misc, arg-type]
    with pytest.raises(PolicyError, match=r"needs the extra guardproxy\[images\]"):
        registry.build("ocr", {})
