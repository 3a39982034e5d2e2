"""A sequence classifier on vLLM's pooling route: `POST /classify` takes a list of texts and gives probabilities.

vLLM names only the likeliest label, so the policy names all of them in the model's order (`id2label` in its
config.json); an answer whose likeliest label is another than that order says is unreadable.
Source: vLLM 0.32, "Classification Usages" and answers of its server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from guardproxy.core.policy import OUTPUT_KINDS
from guardproxy.core.verdict import Finding
from guardproxy.detectors.backends import Backend
from guardproxy.detectors.base import Content, Detector, Resources
from guardproxy.detectors.given import Given
from guardproxy.detectors.guard_models.categories import CATEGORIES, UNSAFE
from guardproxy.detectors.guard_models.reply import unreadable
from guardproxy.detectors.guard_models.served import MAX_REQUESTS, OVERLAP, groups, pieces, shortened, tamed
from guardproxy.errors import DetectorError, PolicyError

NAME = "classify"
MAX_TEXTS = 8 * MAX_REQUESTS
"""In one request; they share the server's batches."""


class Classify:
    """Sends the pieces of all texts at once; the risk of a piece is the sum of its unsafe labels' probabilities.

    Args:
        backend: Where it is served.
        labels: All labels in the model's order.
        unsafe: Those that are a risk, with our category for each.
        given: The guard's keys.
    """

    name = NAME
    inline = False

    def __init__(
        self, backend: Backend, labels: Sequence[str], unsafe: Mapping[str, str], given: Given
    ) -> None:
        self.backends = (backend.name,)
        self.version = given.version(1, backend.name, backend.model)
        self._backend = backend
        self._labels = tuple(labels)
        self._unsafe = dict(unsafe)
        self._max_chars = given.whole("max_chars", 1000, 2 * OVERLAP, 1_000_000)
        self._joined = given.flag("with_question", False)

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """One finding for each piece of text and unsafe label."""
        if any(s.kind == "image" for s in content.segments):
            raise DetectorError("this classifier sees no pictures: looks_at may not name image")
        texts = self._texts(content)
        if not texts:
            return ()
        if len(texts) > MAX_TEXTS:
            raise DetectorError(
                f"{len(texts)} pieces of {self._max_chars} characters, at most {MAX_TEXTS}", "overloaded"
            )
        body: dict[str, object] = {"input": [tamed(text) for text, _ in texts]}
        if self._backend.model:
            body["model"] = self._backend.model
        answer = await self._backend.post("/classify", body, content.deadline)
        rows = self._rows(answer, len(texts))
        return tuple(
            Finding(NAME, category, probs[self._labels.index(label)], place)
            for (_, place), probs in zip(texts, rows, strict=True)
            for label, category in self._unsafe.items()
        )

    def _texts(self, content: Content) -> list[tuple[str, str]]:
        shown = [s for s in content.segments if s.text.strip()]
        if shown and shown[0].kind in OUTPUT_KINDS:
            question = ""
            if self._joined and content.context.strip():
                question = shortened(content.context, self._max_chars // 2) + "\n\n"
            room = self._max_chars - len(question)
            return [(question + piece, s.place) for s in shown for piece in pieces(s.text, room)]
        return [
            (piece, group[0].place)
            for group in groups(shown)
            for piece in pieces("\n\n".join(s.text for s in group), self._max_chars)
        ]

    def _rows(self, answer: object, count: int) -> list[list[float]]:
        """The probabilities of each text, in the order in which they were sent."""
        listed = answer.get("data") if isinstance(answer, Mapping) else None
        if not isinstance(listed, list) or len(listed) != count:
            raise unreadable(f"expected {count} rows")
        rows: dict[object, list[float]] = {}
        for row in listed:
            if not isinstance(row, Mapping):
                raise unreadable("a row is no object")
            rows[row.get("index")] = self._probabilities(row)
        if rows.keys() != set(range(count)):
            raise unreadable("its rows are not numbered like the texts")
        return [rows[index] for index in range(count)]

    def _probabilities(self, row: Mapping[object, object]) -> list[float]:
        probs = row.get("probs")
        if not isinstance(probs, list) or len(probs) != len(self._labels):
            raise unreadable(f"expected a probability for each of {', '.join(self._labels)}")
        found = [
            p for p in probs if isinstance(p, (int, float)) and math.isfinite(p) and -1e-6 <= p <= 1 + 1e-6
        ]
        if len(found) != len(probs):
            raise unreadable("a probability is not in [0, 1]")
        likeliest = self._labels[max(range(len(found)), key=found.__getitem__)]
        if row.get("label") != likeliest and found.count(max(found)) == 1:
            raise unreadable(f"its likeliest label is not {likeliest!r}, as labels says")
        return [min(max(float(p), 0.0), 1.0) for p in found]


def build(parameters: Mapping[str, object], resources: Resources) -> Detector:
    """Keys: `labels` (in the model's order), `unsafe` (a list, or labels with a category each), `with_question`.

    Raises:
        PolicyError: As `Given`; also for an unsafe label that is none, or a category that is none.
    """
    given = Given(parameters, NAME)
    labels = given.words("labels", ("safe", "unsafe"))
    if len(set(labels)) != len(labels) or not labels:
        raise PolicyError(f"labels: expected each label of the model once, got {list(labels)!r}")
    named = parameters.get("unsafe")
    unsafe = (
        given.texts("unsafe")
        if isinstance(named, Mapping)
        else dict.fromkeys(given.words("unsafe", labels[-1:], labels), UNSAFE)
    )
    for label, category in unsafe.items():
        if label not in labels:
            raise PolicyError(f"unsafe: {label!r} is not one of labels: {', '.join(labels)}")
        if category not in (*CATEGORIES, UNSAFE):
            raise PolicyError(
                f"unsafe: {category!r} is no category; known: {', '.join((*CATEGORIES, UNSAFE))}"
            )
    return Classify(resources.backends.get(given.text("backend")), labels, unsafe, given)
