"""Llama Guard: its chat, its two lines, its score."""

from __future__ import annotations

import pytest

from tests.detectors.guard_models.rig import (
    ANSWER,
    ASK,
    JAPANESE,
    LOOK,
    NO_CHAT,
    PROSE,
    Found,
    found,
    fuzz,
    golden,
    is_unreadable,
)
from tests.guard_server import chat

NAME = "llama_guard"
SURE = [("unsafe", -0.105), ("safe", -2.303)]


def test_what_it_asks() -> None:
    golden("llama_guard", NAME, ASK, chat("safe"))
    golden("llama_guard_answer", NAME, ANSWER, chat("safe"))
    golden("llama_guard_japanese", NAME, JAPANESE, chat("safe"))
    golden("llama_guard_picture", NAME, LOOK, chat("safe"), pictures=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("safe", [("unsafe", 0)]),
        ("\n\nsafe", [("unsafe", 0)]),
        ("Safe\n", [("unsafe", 0)]),
        ("unsafe\nS1", [("violence", 1)]),
        ("\n\nunsafe\nS9,S1", [("weapons", 1), ("violence", 1)]),
        ("unsafe\nS3, S12", [("sexual", 1)]),
        ("unsafe\nS99", [("unsafe", 1)]),
        ("unsafe", [("unsafe", 1)]),
        ("unsafe\nbecause it is", [("unsafe", 1)]),
        ("<think>hm</think>\nunsafe\nS2", [("crime", 1)]),
    ],
)
def test_what_it_reads(text: str, expected: Found) -> None:
    assert found(NAME, ASK, chat(text)) == expected


def test_a_cut_off_list_of_categories_does_not_matter() -> None:
    assert found(NAME, ASK, chat("unsafe\nS1,", finish="length")) == [("unsafe", 1)]


@pytest.mark.parametrize(
    "answer", [*NO_CHAT, *map(chat, PROSE), chat("safe\nBut I am not sure."), chat("uns")]
)
def test_what_it_cannot_read(answer: object) -> None:
    is_unreadable(NAME, ASK, answer)


def test_the_score_is_the_share_of_unsafe_at_the_first_word() -> None:
    tokens = [("unsafe", SURE), ("\n", [("\n", 0.0)]), ("S1", [("S1", 0.0)]), ("<|eot_id|>", [])]
    assert found(NAME, ASK, chat("unsafe\nS1", tokens)) == [("violence", 0.9)]
    line_ends = [("\n\n", [("\n\n", -0.01)]), ("safe", SURE)]
    assert found(NAME, ASK, chat("\n\nsafe", line_ends)) == [("unsafe", 0.9)], "the share, not the word"
    halves = [("un", [("un", -0.105), ("s", -2.303)]), ("safe", [("safe", 0.0)])]
    assert found(NAME, ASK, chat("unsafe", halves)) == [("unsafe", 0.9)]


def test_tokens_that_do_not_tell_leave_the_word() -> None:
    assert found(NAME, ASK, chat("safe", [("hello", SURE)])) == [("unsafe", 0)]
    assert found(NAME, ASK, chat("safe", [("safe", [])])) == [("unsafe", 0)]


def test_categories_can_be_left_out() -> None:
    assert found(NAME, ASK, chat("unsafe\nS6"), ignore=["advice"]) == []
    assert found(NAME, ASK, chat("unsafe\nS6,S1"), ignore=["advice"]) == [("violence", 1)]


def test_any_answer_is_read_or_unreadable() -> None:
    fuzz(NAME, ANSWER, ["safe", "unsafe", "\n", "S1", "S14", ",", " ", "<think>", "</think>"], chat)
