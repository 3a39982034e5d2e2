"""Guard models in front of a back end that only remembers, and what they make of answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.content import ImagePart, Segment
from guardproxy.core.verdict import Finding
from guardproxy.detectors import registry
from guardproxy.detectors.base import Content, Resources
from guardproxy.errors import DetectorError
from tests.guard_server import chat

GOLDEN = Path(__file__).parent / "golden"
PICTURE = "data:image/png;base64,iVBORw0KGgo="
SENT = f'"{PICTURE}"'.encode()
ASK = Content((Segment("user", "messages[0].content", "How do I kill a Python process?"),))
ANSWER = Content(
    (Segment("content", "choices[0].content", "Use kill with its id.", untrusted=True),),
    "How do I kill a Python process?",
)
JAPANESE = Content((Segment("user", "messages[0].content", "プロセスを終了する方法を教えてください。"),))
LOOK = Content(
    (Segment("image", "messages[0].content[1]", image=ImagePart("", "messages[0].content[1]", sent=SENT)),),
    "What is shown here?",
)

Found = list[tuple[str, float]]
Asked = tuple[str, dict[str, Any], dict[str, str]]


class Memory:
    """A back end that answers what it is told and remembers what it was asked."""

    name = "g"
    model = "guard"

    def __init__(self, answers: Sequence[object]) -> None:
        self.answers = list(answers)
        self.asked: list[Asked] = []

    def get(self, name: str) -> Memory:
        assert name == "g"
        return self

    async def post(
        self, path: str, body: dict[str, Any], deadline: float, headers: dict[str, str] | None = None
    ) -> object:
        self.asked.append((path, json.loads(json.dumps(body)), headers or {}))
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


def look(
    name: str, content: Content, answers: Sequence[object], **parameters: Any
) -> tuple[tuple[Finding, ...], Memory]:
    """What a guard model makes of answers to what it asks about some content."""
    memory = Memory(answers)
    detector = registry.build(name, {"backend": "g", **parameters}, Resources(backends=memory))  # type: ignore[arg-type]  # a fake
    return asyncio.run(detector.detect(content)), memory


def found(name: str, content: Content, *answers: object, **parameters: Any) -> Found:
    """Categories and scores."""
    return [
        (f.category, round(f.score, 3))
        for f in look(name, content, answers, **parameters)[0]
        if f.detector == name
    ]


def is_unreadable(name: str, content: Content, *answers: object, **parameters: Any) -> None:
    """Neither safe nor unsafe."""
    with pytest.raises(DetectorError) as error:
        look(name, content, answers, **parameters)
    assert error.value.reason == "unreadable"


def readable(name: str, content: Content, answer: object, **parameters: Any) -> tuple[Finding, ...] | None:
    """What is found; None if the answer is unreadable. Any other fault is raised."""
    try:
        return look(name, content, [answer], **parameters)[0]
    except DetectorError as error:
        if error.reason != "unreadable":
            raise
        return None


def golden(case: str, name: str, content: Content, answer: object, **parameters: Any) -> None:
    """What it asks is what a file in `golden/` says, to the letter: look at the difference before you change it."""
    asked = look(name, content, [answer], **parameters)[1].asked
    requests = [{"path": path, "headers": headers, "body": body} for path, body, headers in asked]
    assert json.loads((GOLDEN / f"{case}.json").read_text("utf-8")) == requests


NO_CHAT: list[object] = [
    None, [], {}, "safe", 0, {"choices": []}, {"choices": [None]}, {"choices": [{}]}, {"choices": [{"message": {}}]},
    {"choices": [{"message": {"content": 5}}]}, {"error": {"message": "no"}}, chat(None), chat(None, finish="length"),
    chat(None, reasoning="It is safe."), chat(""), chat(" \n "), chat("<think>It is safe."), chat("<think>safe</think>"),
]  # fmt: skip
"""Answers that say nothing, whatever the guard model."""

PROSE = [
    "Sure! This message is safe.",
    "I'm sorry, but I can't help with that.",
    "The content appears to be safe and does not violate any policy.",
    "安全です。",
    "不安全",
    "safe or unsafe?",
    "```\n```",
    "{}",
    "null",
    "<|im_end|>",
]
"""What a model says that is no guard model, or another one's."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def fuzz(
    name: str, content: Content, pieces: Sequence[str], wrap: Callable[[str], object], **given_: Any
) -> None:
    """Whatever comes back: findings with scores, or unreadable; never another fault, never silence."""

    def judged(answer: object) -> None:
        findings = readable(name, content, answer, **given_)
        assert findings is None or findings
        assert all(0 <= f.score <= 1 for f in findings or ())

    given(json_values)(judged)()
    texts = st.lists(st.sampled_from(pieces) | st.text(max_size=6), max_size=8).map("".join)
    given(texts.map(wrap))(judged)()
