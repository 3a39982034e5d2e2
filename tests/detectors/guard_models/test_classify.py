"""A sequence classifier on vLLM's pooling route: a list of texts, probabilities in the model's order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from guardproxy.core.content import Segment
from guardproxy.detectors.base import Content
from guardproxy.errors import DetectorError, PolicyError
from tests.detectors.guard_models.rig import (
    ANSWER,
    ASK,
    JAPANESE,
    LOOK,
    found,
    fuzz,
    golden,
    is_unreadable,
    look,
)

NAME = "classify"
SAMPLES = Path(__file__).parents[4] / "shared/vllm/samples/classifier_0.32.0"


def answer(
    *rows: tuple[float, ...], label: str | None = None, labels: tuple[str, ...] = ("safe", "unsafe")
) -> Any:
    """As vLLM writes it."""
    listed = [
        {
            "index": i,
            "label": label or labels[max(range(len(probs)), key=probs.__getitem__)],
            "probs": list(probs),
            "num_classes": len(probs),
        }
        for i, probs in enumerate(rows)
    ]
    return {"id": "classify-1", "object": "list", "created": 1, "model": "guard", "data": listed}


def test_what_it_asks() -> None:
    golden("classify", NAME, JAPANESE, answer((1, 0)))
    golden("classify_answer", NAME, ANSWER, answer((1, 0)), with_question=True)


def test_the_risk_is_the_probability_of_the_unsafe_labels() -> None:
    assert found(NAME, ASK, answer((0.3, 0.7))) == [("unsafe", 0.7)]
    labels = {
        "labels": ["BENIGN", "INJECTION", "JAILBREAK"],
        "unsafe": {"INJECTION": "jailbreak", "JAILBREAK": "unsafe"},
    }
    three = answer((0.1, 0.7, 0.2), labels=("BENIGN", "INJECTION", "JAILBREAK"))
    assert found(NAME, ASK, three, **labels) == [("jailbreak", 0.7), ("unsafe", 0.2)]


def test_texts_go_as_one_list_and_come_back_by_number() -> None:
    """The last turn is one text, what was said before it another, and a long one is cut in overlapping pieces."""
    content = Content((
        Segment("user", "messages[0].content", "first", turn=0),
        Segment("tool", "messages[1].content", "second", turn=1),
        Segment("user", "messages[2].content", "x" * 900, turn=2),
    ))  # fmt: skip
    rows = answer((0.9, 0.1), (0.2, 0.8), (0.6, 0.4))
    rows["data"].reverse()
    findings, memory = look(NAME, content, [rows], max_chars=600)
    (path, body, _) = memory.asked[0]
    assert path == "/classify"
    assert body["input"] == ["first\n\nsecond", "x" * 600, "x" * 500]
    assert [(f.place, f.score) for f in findings] == [
        ("messages[0].content", 0.1),
        ("messages[2].content", 0.8),
        ("messages[2].content", 0.4),
    ]


def test_a_text_without_a_letter_is_not_sent() -> None:
    """vLLM refuses an empty prompt."""
    assert found(NAME, Content((Segment("user", "p", " \n"),)), answer((1, 0))) == []


def test_more_than_it_can_look_at_is_no_innocence() -> None:
    with pytest.raises(DetectorError) as error:
        look(NAME, Content((Segment("user", "p", "x" * 100_000),)), [answer((1, 0))], max_chars=500)
    assert error.value.reason == "overloaded"
    with pytest.raises(DetectorError, match="sees no pictures"):
        look(NAME, LOOK, [answer((1, 0))])


@pytest.mark.parametrize(
    "reply",
    [
        None, [], {}, "safe", {"data": None}, {"data": []}, {"data": [None]}, {"error": {"message": "no"}}, answer((0.2, 0.8), (1, 0)),
        answer((0.2, 0.3, 0.5), labels=("a", "b", "c")), answer((0.3, 0.7), label="safe"), answer((0.3, 0.7), label="安全でない"),
        answer((-3.5, 4.2)), answer((0.2, float("inf"))), {"data": [{"index": 0, "label": "safe", "probs": ["1", "0"]}]},
        {"data": [{"index": 1, "label": "safe", "probs": [1, 0]}]}, {"data": [{"index": 0, "label": "safe", "probs": None}]},
    ],
)  # fmt: skip
def test_what_it_cannot_read(reply: object) -> None:
    """A label that the policy's order does not expect is a mistake of the policy: nothing is guessed."""
    is_unreadable(NAME, ASK, reply)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"unsafe": ["bad"]}, "'bad' is not one of them"),
        ({"unsafe": {"bad": "crime"}}, "'bad' is not one of labels"),
        ({"unsafe": {"unsafe": "crimes"}}, "'crimes' is no category"),
        ({"labels": ["a", "a"]}, "each label of the model once"),
        ({"max_chars": 10}, "max_chars: expected a whole number"),
        ({"max_chars": True}, "got True"),
        ({"with_question": "yes"}, "expected true or false"),
    ],
)
def test_what_a_policy_cannot_say(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        look(NAME, ASK, [answer((1, 0))], **parameters)


def test_any_answer_is_read_or_unreadable() -> None:
    fuzz(NAME, ASK, ["0", "1", "x"], lambda text: answer((0.5, 0.5), label=text or "safe"))


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="recorded answers of vLLM are not here")
def test_recorded_answers_of_vllm_are_read() -> None:
    recorded = (SAMPLES / "classify_batch.response.http").read_bytes().partition(b"\r\n\r\n")[2]
    two = Content(
        (Segment("user", "a", "hello world", turn=0), Segment("user", "b", "unsafe content", turn=1))
    )
    assert found(NAME, two, msgspec.json.decode(recorded)) == [("unsafe", 0.503), ("unsafe", 0.467)]
