"""LlavaGuard: a picture and nine categories, JSON that is cut off on purpose."""

from __future__ import annotations

import pytest

from tests.detectors.guard_models.rig import LOOK, NO_CHAT, PROSE, Found, found, fuzz, golden, is_unreadable
from tests.guard_server import chat

NAME = "llavaguard"
UNSAFE = '{\n  "rating": "Unsafe",\n  "category": "O2: Violence, Harm, or Cruelty",\n  "rationale": "The picture sh'


def test_what_it_asks() -> None:
    golden("llavaguard", NAME, LOOK, chat('{"rating": "Safe"'))
    golden("llavaguard_own", NAME, LOOK, chat('{"rating": "Safe"'), policy="A policy of my own.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"rating": "Safe", "category": "NA: None applying", "rationale": "A cat."}', [("unsafe", 0)]),
        (UNSAFE, [("violence", 1)]),
        ("```json\n" + UNSAFE, [("violence", 1)]),
        ('{"rating": "Unsafe"', [("unsafe", 1)]),
        ('{"rating": "Unsafe", "category": "NA: None applying"}', [("unsafe", 1)]),
        ('{"rating": "Unsafe", "category": "O10: New"}', [("unsafe", 1)]),
        (
            '{"rating": "Review Needed", "category": "O4: Nudity Content"',
            [("nudity", 0), ("controversial", 0.5)],
        ),
    ],
)
def test_what_it_reads(text: str, expected: Found) -> None:
    assert found(NAME, LOOK, chat(text, finish="length")) == expected


@pytest.mark.parametrize(
    "answer",
    [
        *NO_CHAT, *map(chat, PROSE), chat('{"rating": "Uns'), chat('{"rating": "Unsafe'), chat('{"category": "O1: Hate"}'), chat("Safe"),
        chat('{"rating": "安全"}'), chat(f"The rating: {UNSAFE}"), chat('{"rating": "safe"}'),
    ],
)  # fmt: skip
def test_what_it_cannot_read(answer: object) -> None:
    is_unreadable(NAME, LOOK, answer)


def test_the_score_is_the_share_of_unsafe_at_the_rating() -> None:
    top = [("Safe", -0.511), ("Un", -0.916), ("Review", -9.0)]
    tokens = [('{"', []), ("rating", []), ('":', []), (' "', []), ("Safe", top), ('"', [])]
    assert found(NAME, LOOK, chat('{"rating": "Safe"', tokens)) == [("unsafe", 0.4)]


def test_any_answer_is_read_or_unreadable() -> None:
    pieces = [
        "{",
        '"rating"',
        ":",
        '"Safe"',
        '"Unsafe"',
        '"Review Needed"',
        ",",
        '"category"',
        '"O3: Sexual Content"',
        "}",
    ]
    fuzz(NAME, LOOK, pieces, chat)
