"""The four embedded classifiers: `jailbreak`, `harmful_request`, `harmful_answer`, `refusal`.

Small and quick, a first stage: the model card beside the weights says what they miss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from guardproxy.core.verdict import Finding
from guardproxy.detectors.base import Content, Detector, Resources
from guardproxy.detectors.joined import judged_texts
from guardproxy.detectors.ngram import NgramModel, logistic

WEIGHTS = Path(__file__).parent / "weights"
REFUSAL_CHARS = 600
"""An answer declines at its start, or not at all."""


@cache
def _model(name: str) -> NgramModel:
    return NgramModel.load(WEIGHTS / f"{name}.npz")


class TextClassifier:
    """Scores each text by itself.

    The odds are divided by the number of texts: a request of twenty segments must not have twenty
    chances to be stopped wrongly.
    """

    inline = True

    def __init__(self, name: str, longest: int | None = None) -> None:
        self.name = name
        self._model = _model(name)
        self._longest = longest
        self.version = self._model.version

    def warm_up(self) -> None:
        """Score once, so that the first request does not pay for tables that are made when needed."""
        self._model.score("warm up")

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """One finding for each text."""
        texts = [(p, t[: self._longest]) for p, t in judged_texts(content.segments, content.context)]
        shared = math.log(max(len(texts), 1))
        return tuple(
            Finding(
                self.name, self.name, logistic(self._model.logit(text, memo=content.memo) - shared), place
            )
            for place, text in texts
        )


class AnswerClassifier:
    """Scores an answer together with its question."""

    inline = True

    def __init__(self, name: str) -> None:
        self.name = name
        self._model = _model(name)
        self.version = self._model.version

    def warm_up(self) -> None:
        """As `TextClassifier.warm_up`."""
        self._model.score_pair("warm", "up")

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """One finding for each text of the answer."""
        return tuple(
            Finding(
                self.name, self.name, self._model.score_pair(content.context, s.text, content.memo), s.place
            )
            for s in content.segments
            if s.text.strip()
        )


def jailbreak(_parameters: Mapping[str, object], _resources: Resources) -> Detector:
    """Jailbreaks and prompt injections, in what goes in."""
    return TextClassifier("jailbreak")


def harmful_request(_parameters: Mapping[str, object], _resources: Resources) -> Detector:
    """Requests for harm, in what goes in."""
    return TextClassifier("harmful_request")


def harmful_answer(_parameters: Mapping[str, object], _resources: Resources) -> Detector:
    """Harmful answers, read beside their question."""
    return AnswerClassifier("harmful_answer")


def refusal(_parameters: Mapping[str, object], _resources: Resources) -> Detector:
    """Answers in which the model declines."""
    return TextClassifier("refusal", REFUSAL_CHARS)
