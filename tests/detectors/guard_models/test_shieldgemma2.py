"""ShieldGemma 2: a picture and a policy, Yes or No."""

from __future__ import annotations

import pytest

from guardproxy.errors import DetectorError, PolicyError
from tests.detectors.guard_models.rig import (
    ASK,
    LOOK,
    NO_CHAT,
    PROSE,
    found,
    fuzz,
    golden,
    is_unreadable,
    look,
)
from tests.guard_server import chat

NAME = "shieldgemma2"
OWN = {"policies": {"drugs": "The image shall not show drugs."}}


def test_what_it_asks() -> None:
    golden("shieldgemma2", NAME, LOOK, chat("No"))
    golden("shieldgemma2_own", NAME, LOOK, chat("No"), framed=False, **OWN)


def test_each_policy_has_its_category() -> None:
    assert found(NAME, LOOK, chat("No"), chat("Yes"), chat("no.")) == [
        ("sexual", 0),
        ("dangerous", 1),
        ("violence", 0),
    ]


@pytest.mark.parametrize(
    "answer", [*NO_CHAT, *map(chat, PROSE), chat("No idea"), chat("Ye"), chat("はい"), chat("Yes or No")]
)
def test_what_it_cannot_read(answer: object) -> None:
    is_unreadable(NAME, LOOK, answer)


def test_the_score_is_the_share_of_yes() -> None:
    tokens = [("No", [("No", -0.357), ("Yes", -1.204), ("The", -6.0)])]
    assert found(NAME, LOOK, chat("No", tokens), **OWN) == [("drugs", 0.3)]


def test_texts_are_not_its_to_judge() -> None:
    """Silence about what it cannot see would be taken for innocence."""
    with pytest.raises(DetectorError, match="reads no text"):
        look(NAME, ASK, [chat("No")])


def test_a_policy_needs_a_category_of_ours() -> None:
    with pytest.raises(PolicyError, match="'guns' is no category"):
        look(NAME, LOOK, [chat("No")], policies={"guns": "No guns."})


def test_any_answer_is_read_or_unreadable() -> None:
    fuzz(NAME, LOOK, ["Yes", "No", ".", " ", "\n"], chat)
