"""Words and expressions, whatever the disguise, in linear time; a stream never leaks a start of a hit."""

from __future__ import annotations

import asyncio
import re
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.content import Segment
from guardproxy.detectors import registry
from guardproxy.detectors.base import Content, Resources
from guardproxy.detectors.fold import PLAIN, fold
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
    built = build(NAMES, Resources())
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
        ("the _blue heron_ and", ("p", "blue heron")),
        ("the blue\n\theron and", ("p", "blue\n\theron")),
        ("the blue\u2028\u00a0heron", ("p", "blue\u2028\u00a0heron")),
        ("ʙʟᴜᴇ ʜᴇʀᴏɴ", ("p", "ʙʟᴜᴇ ʜᴇʀᴏɴ")),
        ("🅑🅛🅤🅔 🅷🅴🆁🅾🅽", ("p", "🅑🅛🅤🅔 🅷🅴🆁🅾🅽")),
        ("blսe հerоո", ("p", "blսe հerоո")),
        ("Ᏼlue Ηeron", ("p", "Ᏼlue Ηeron")),
        ("ƀłue ħerøn", ("p", "ƀłue ħerøn")),
        ("blu\u0435\u0301 heron", ("p", "blu\u0435\u0301 heron")),
        ("b\u20ddlue h\u200b\u0301eron", ("p", "b\u20ddlue h\u200b\u0301eron")),
        ("bl\ufff9ue her\x84on", ("p", "bl\ufff9ue her\x84on")),
        ("the bl\U000e0041ue heron", ("p", "bl\U000e0041ue heron")),
    ],
)
def test_disguises_are_seen_through_and_spans_are_those_of_the_original(
    text: str, hit: tuple[str, str]
) -> None:
    assert hits(text) == [hit]


def test_text_that_nobody_sees_is_read_too() -> None:
    """Tag characters spell ASCII: a model reads them, and writes them."""
    hidden = "".join(chr(0xE0000 + ord(c)) for c in "Blue heron!")
    assert hits(f"hi{hidden}") == [("p", hidden[:-1])]
    assert hits(hidden[:6], final=False) == []
    assert detector().held_suffix(f"hi{hidden[:6]}", 0) >= 6


def test_every_hit_of_several_is_found() -> None:
    assert hits("blue heron_blue heron, blue herons, Blue  Heron") == [
        ("p", "blue heron"), ("p", "blue heron"), ("p", "Blue  Heron"),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["が極", "極が", "한국", "국한"])
@pytest.mark.parametrize("between", ["", "\u200b"])
def test_a_character_that_a_mark_may_change_is_held(text: str, between: str) -> None:
    """A window may end between か and its mark, and the mark be all that the next one brings."""
    built = build({"patterns": [{"id": "p", "text": text}]}, Resources())
    assert isinstance(built, Patterns)
    spelled = between.join(unicodedata.normalize("NFD", text))
    for cut in range(1, len(spelled)):
        assert built.held_suffix("x" + spelled[:cut], 0) == cut
    assert built.held_suffix("xあ", 0) == 0


def test_decomposed_hangul_folds_together() -> None:
    assert fold(unicodedata.normalize("NFD", "한국어")).text == "한국어"


def test_marks_without_a_letter_are_kept_apart() -> None:
    assert fold("\u200b\u0301").text == "\u0301"
    assert fold("\u200b日").text == "日"
    assert fold("\u200b").text == ""


def test_a_word_inside_a_word_is_no_hit() -> None:
    assert hits("blue herons, skyblue heron, blue heron2") == []
    assert hits("blue" + " " * 9 + "heron") == []
    assert hits("x") == []


def test_an_unfinished_hit_waits() -> None:
    assert hits("the blue heron", final=False) == []
    assert hits("the blue heron ", final=False) == [("p", "blue heron")]
    assert hits("blue heron blue heron.", fresh=11) == [("p", "blue heron")]


@given(st.text("blue hron_ \n極秘計画1-\u200b\u0301\U000e0062", max_size=30), st.integers(0, 40))
def test_the_start_of_any_hit_is_held(noise: str, cut: int) -> None:
    """What would be released ends before every hit that the whole text turns out to have."""
    whole = noise + "Blue \n Heron 極秘計画 123-4567 "
    shown = whole[: min(cut, len(whole))]
    released = len(shown) - detector().held_suffix(shown, 0)
    found = asyncio.run(detector().detect(Content((Segment("content", "c", whole),))))
    for finding in found:
        assert finding.span is not None
        assert finding.span.end <= len(shown) or released <= finding.span.start


def test_more_patterns_than_can_be_held_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guardproxy.detectors.patterns.MAX_MEMORY", 1 << 20)
    huge = [{"id": str(i), "regex": f"{i}[a-z]{{1,999}}"} for i in range(60)]
    with pytest.raises(PolicyError, match="60 of them are more than RE2 can hold"):
        build({"patterns": huge}, Resources())


def test_matching_is_linear() -> None:
    bad = build({"patterns": [{"id": "p", "regex": "(a|a){1,30}b"}]}, Resources())
    started = time.process_time()
    asyncio.run(bad.detect(Content((Segment("content", "c", "a" * 20_000),))))
    assert time.process_time() - started < 2


@given(st.text(max_size=60))
def test_folding_keeps_a_way_back(text: str) -> None:
    folded = fold(text)
    for at in range(len(folded.text)):
        start, end = folded.original(at, at + 1)
        assert 0 <= start < end <= len(text)


def test_what_is_taken_in_runs_folds_to_itself() -> None:
    for code in range(0x110000):
        char = chr(code)
        if re.match(f"[{PLAIN}]", char):
            assert fold(char + "\u4e00").text == char + "\u4e00"
            assert fold("\ue000" + char).text == "\ue000" + char


def test_combined_kana_fold_together() -> None:
    assert fold("か\u3099").text == fold("が").text
    assert fold("あか\u3099さ").text == "あがさ"
    assert fold("あか\u3099さ").original(1, 2) == (1, 3)
    assert fold("ｶﾞ").text == fold("ガ").text


def test_wrong_parameters_are_told() -> None:
    for parameters in ({}, {"patterns": []}, {"patterns": [{"id": "x", "text": "a"}] * 10_001}):
        with pytest.raises(PolicyError, match="patterns"):
            build(parameters, Resources())


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.Entry("guardproxy.no_such_module:build", (), (), extra="images")
    monkeypatch.setitem(registry.DETECTORS, "ocr", entry)  # type: ignore[misc, arg-type]
    with pytest.raises(PolicyError, match=r"needs the extra guardproxy\[images\]"):
        registry.build("ocr", {}, Resources())
