"""Granite Guardian: one criterion at a time, in the two forms of 3.3 and 4.1."""

from __future__ import annotations

import pytest

from guardproxy.errors import PolicyError
from tests.detectors.guard_models.rig import (
    ANSWER,
    ASK,
    NO_CHAT,
    PROSE,
    found,
    fuzz,
    golden,
    is_unreadable,
    look,
)
from tests.guard_server import chat

NAME = "granite_guardian"
NO = chat("<score> no </score>")
OWN = {"dosage": "The text names a dose of a medicine."}


def test_what_it_asks() -> None:
    golden("granite_guardian", NAME, ASK, NO)
    golden("granite_guardian_answer", NAME, ANSWER, NO, criteria=["harm", "jailbreak"], own=OWN)
    golden("granite_guardian_4_1", NAME, ANSWER, NO, form="4.1", criteria=["violence"], own=OWN)
    golden("granite_guardian_4_1_request", NAME, ASK, NO, form="4.1")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("<score> yes </score>", 1),
        ("<score>no</score>", 0),
        ("<think>\n</think>\n<score> yes </score>\n", 1),
        ("<think>They ask for harm, so <score> no </score> is wrong.</think>\n<score> yes </score>", 1),
        ("<score> yes", 1),
    ],
)
def test_what_it_reads(text: str, score: float) -> None:
    assert found(NAME, ASK, chat(text)) == [("unsafe", score)]


def test_each_criterion_has_its_category() -> None:
    answers = [chat("<score> no </score>"), chat("<score> yes </score>"), chat("<score> yes </score>")]
    assert found(NAME, ASK, *answers, criteria=["violence", "social_bias"], own=OWN) == [
        ("violence", 0),
        ("hate", 1),
        ("dosage", 1),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        *NO_CHAT, *map(chat, PROSE), chat("<score> maybe </score>"), chat("<score>"), chat("yes"), chat("<score>はい</score>"),
        chat("<score> no </score></think>"), chat("<score> no </score><score> yes </score>"), chat("I think <score> no </score>"),
        chat("<think>"), chat("<think>\n<score> no </score>", finish="length"),
    ],
)  # fmt: skip
def test_what_it_cannot_read(answer: object) -> None:
    is_unreadable(NAME, ASK, answer)


def test_one_unreadable_answer_is_no_answer() -> None:
    is_unreadable(NAME, ASK, NO, chat("perhaps"), criteria=["harm", "violence"])


def test_the_score_is_the_share_of_yes() -> None:
    top = [(" yes", -0.223), (" no", -1.609)]
    tokens = [("<", []), ("score", []), (">", []), (" yes", top), (" </", []), ("score", []), (">", [])]
    assert found(NAME, ASK, chat("<score> yes </score>", tokens)) == [("unsafe", 0.8)]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"form": "3.0"}, "form: '3.0' is not one of them"),
        ({"criteria": ["harmm"]}, "did you mean 'harm'"),
        ({"criteria": []}, "at least one"),
        ({"criteria": "harm"}, "expected a list of texts"),
        ({"own": {"Bad Name": "x"}}, "small letters"),
        ({"own": {"a": 5}}, "expected names with a text each"),
    ],
)
def test_what_a_policy_cannot_say(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        look(NAME, ASK, [NO], **parameters)


def test_any_answer_is_read_or_unreadable() -> None:
    fuzz(NAME, ASK, ["<score>", "</score>", " yes ", " no ", "<think>", "</think>", "\n"], chat)
