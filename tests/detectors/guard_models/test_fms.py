"""The detector API of the FMS orchestrator: texts out, detections with spans back."""

from __future__ import annotations

import pytest
from hypothesis import given

from guardproxy.core.content import Segment
from guardproxy.core.verdict import Span
from guardproxy.detectors.base import Content
from guardproxy.errors import DetectorError, PolicyError
from tests.detectors.guard_models.rig import (
    ASK,
    LOOK,
    found,
    golden,
    is_unreadable,
    json_values,
    look,
    readable,
)

NAME = "fms"
MAIL = {"start": 4, "end": 9, "detection": "EmailAddress", "detection_type": "pii", "score": 0.9}
ID = {"detector_id": "pii-v1"}
TWO = Content((Segment("user", "a", "see a@b.c now"), Segment("tool", "b", "電話は080です")))


def test_what_it_asks() -> None:
    golden("fms", NAME, TWO, [[], []], **ID)


def test_detections_keep_their_text_and_span() -> None:
    phone = {**MAIL, "start": 3, "end": 6, "detection_type": "Phone Number", "score": 1}
    findings, _ = look(NAME, TWO, [[[MAIL], [phone]]], **ID)
    assert [(f.category, f.score, f.place, f.span) for f in findings] == [
        ("pii", 0.9, "a", Span(4, 9)),
        ("phone_number", 1.0, "b", Span(3, 6)),
    ]


def test_categories_are_plain_words_or_other() -> None:
    """They become labels and placeholders."""
    odd = [{**MAIL, "detection_type": kind} for kind in ("<script>", "", None, "x" * 99, "個人情報")]
    assert found(NAME, Content((Segment("user", "a", "see a@b.c now"),)), [odd], **ID) == [("other", 0.9)] * 5


def test_only_some_types_if_the_policy_says_so() -> None:
    one = Content((Segment("user", "a", "see a@b.c now"),))
    assert found(NAME, one, [[MAIL, {**MAIL, "detection_type": "hap"}]], **ID, types=["hap"]) == [
        ("hap", 0.9)
    ]


@pytest.mark.parametrize(
    "reply",
    [
        None, {}, "safe", [], [[]], [None, []], [[None], []], [["safe"], []], {"code": "404", "message": "no such detector"},
        [[{**MAIL, "score": None}], []], [[{**MAIL, "score": 7}], []], [[{**MAIL, "score": "0.9"}], []], [[{**MAIL, "end": 99}], []],
        [[{**MAIL, "start": -1}], []], [[{**MAIL, "start": 9, "end": 4}], []], [[{**MAIL, "start": None}], []], [[{**MAIL, "end": 8.5}], []],
    ],
)  # fmt: skip
def test_what_it_cannot_read(reply: object) -> None:
    is_unreadable(NAME, TWO, reply, **ID)


@given(json_values)
def test_any_answer_is_read_or_unreadable(answer: object) -> None:
    findings = readable(NAME, TWO, answer, **ID)
    assert findings is None or (answer == [[], []] and findings == ())


def test_a_stream_is_held_as_far_as_a_detection_may_reach() -> None:
    from guardproxy.detectors.base import Resources
    from guardproxy.detectors.guard_models.fms import Fms, build

    built = build({"backend": "g", **ID, "hold_chars": 5}, Resources())
    assert isinstance(built, Fms)
    assert (built.longest, built.held_suffix("0123456789", 0), built.held_suffix("0123456789", 8)) == (
        5,
        5,
        2,
    )


def test_what_a_policy_must_say() -> None:
    with pytest.raises(PolicyError, match="detector_id: expected a text, got nothing"):
        look(NAME, ASK, [[[]]])
    with pytest.raises(DetectorError, match="sees no pictures"):
        look(NAME, LOOK, [[]], **ID)
    assert look(NAME, Content((Segment("user", "a", ""),)), [[]], **ID)[0] == ()
