"""gpt-oss-safeguard: a policy in, a line of JSON out, its reasoning apart."""

from __future__ import annotations

import json

import pytest

from tests.detectors.guard_models.rig import (
    ANSWER,
    ASK,
    NO_CHAT,
    PROSE,
    Found,
    found,
    fuzz,
    golden,
    is_unreadable,
)
from tests.guard_server import chat

NAME = "gpt_oss_safeguard"
GOOD = '{"violation": 0, "category": "none"}'


def test_what_it_asks() -> None:
    golden("gpt_oss_safeguard", NAME, ASK, chat(GOOD))
    golden("gpt_oss_safeguard_own", NAME, ANSWER, chat(GOOD), policy="Never name a dose.", effort="high")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, [("unsafe", 0)]),
        (f"\n{GOOD}\n", [("unsafe", 0)]),
        (f"```json\n{GOOD}\n```", [("unsafe", 0)]),
        ('{"violation": 1, "category": "weapons"}', [("weapons", 1)]),
        ('{"violation": true, "category": "D2.a"}', [("unsafe", 1)]),
        ('{"violation": 1}', [("unsafe", 1)]),
    ],
)
def test_what_it_reads(text: str, expected: Found) -> None:
    assert found(NAME, ASK, chat(text, reasoning="The user asks about a process.")) == expected


@pytest.mark.parametrize(
    "answer",
    [
        *NO_CHAT, *map(chat, PROSE), chat('{"violation": 1, "cat'), chat('{"violation": "no"}'), chat('{"violation": 2}'),
        chat('{"violation": 0.0}'), chat('{"violation": null}'), chat("[0]"), chat("0"), chat(f"Verdict: {GOOD}"), chat(GOOD + GOOD),
        chat('{"違反": 0}'), chat("[" * 5000),
    ],
)  # fmt: skip
def test_what_it_cannot_read(answer: object) -> None:
    is_unreadable(NAME, ASK, answer)


def test_any_answer_is_read_or_unreadable() -> None:
    pieces = [
        "{",
        "}",
        '"violation"',
        ":",
        "0",
        "1",
        ",",
        '"category"',
        '"weapons"',
        "```json\n",
        "\n```",
        GOOD,
    ]
    fuzz(NAME, ASK, pieces, chat)
    fuzz(NAME, ASK, [json.dumps({"violation": v}) for v in (0, 1, -1, "1", [1])], chat)
