"""Qwen3Guard-Gen: three lines, three states."""

from __future__ import annotations

import pytest

from tests.detectors.guard_models.rig import (
    ANSWER,
    ASK,
    JAPANESE,
    NO_CHAT,
    PROSE,
    Found,
    found,
    fuzz,
    golden,
    is_unreadable,
)
from tests.guard_server import chat

NAME = "qwen3guard"


def test_what_it_asks() -> None:
    golden("qwen3guard", NAME, JAPANESE, chat("Safety: Safe"))
    golden("qwen3guard_answer", NAME, ANSWER, chat("Safety: Safe"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Safety: Safe\nCategories: None", [("unsafe", 0)]),
        ("Safety: Safe\nCategories: None\nRefusal: Yes", [("unsafe", 0)]),
        ("\nSafety: Unsafe\nCategories: Violent\n", [("violence", 1)]),
        (
            "Safety: Unsafe\nCategories: PII, Suicide & Self-Harm\nRefusal: No",
            [("privacy", 1), ("self_harm", 1)],
        ),
        ("Safety: Unsafe\nCategories: Something New", [("unsafe", 1)]),
        ("Safety: Unsafe", [("unsafe", 1)]),
        ("Safety: Unsafe\nCategories: Vio", [("unsafe", 1)]),
        ("Safety: Controversial\nCategories: Unethical Acts", [("unethical", 0), ("controversial", 0.5)]),
        (
            "<think>\n\n</think>\n\nSafety: Controversial\nCategories: None",
            [("unsafe", 0), ("controversial", 0.5)],
        ),
    ],
)
def test_what_it_reads(text: str, expected: Found) -> None:
    assert found(NAME, ANSWER, chat(text)) == expected


@pytest.mark.parametrize(
    "answer",
    [
        *NO_CHAT, *map(chat, PROSE), chat("Safety: Uns"), chat("Safety: Very Safe"), chat("Safety:"), chat("安全性: 安全"),
        chat("Categories: Violent"), chat("The answer is Safety: Safe"), chat("Safety: Safe\nSafety: Unsafe"),
        chat("Safety: Safe\nI would say."), chat("safety: safe"),
    ],
)  # fmt: skip
def test_what_it_cannot_read(answer: object) -> None:
    is_unreadable(NAME, ASK, answer)


def test_the_score_is_the_share_at_the_label() -> None:
    top = [(" Controversial", -0.51), (" Unsafe", -1.609), (" Safe", -1.609)]
    tokens = [("Safety", [("Safety", 0.0)]), (":", [(":", 0.0)]), (" Controversial", top)]
    assert found(
        NAME,
        ASK,
        chat(
            "Safety: Controversial\nCategories: Violent", [*tokens, ("\n", []), ("Categories: Violent", [])]
        ),
    ) == [
        ("violence", 0.2),
        ("controversial", 0.8),
    ]
    safe = [*tokens[:2], (" Safe", [(" Safe", -0.105), (" Unsafe", -2.303)])]
    assert found(NAME, ASK, chat("Safety: Safe", safe)) == [("unsafe", 0.1)]


def test_any_answer_is_read_or_unreadable() -> None:
    pieces = [
        "Safety: ",
        "Safe",
        "Unsafe",
        "Controversial",
        "\n",
        "Categories: ",
        "Violent",
        "None",
        "Refusal: No",
    ]
    fuzz(NAME, ASK, pieces, chat)
