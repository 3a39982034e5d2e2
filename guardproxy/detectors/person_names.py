"""Names of people in English texts, by a small named-entity model that is given to it.

It guesses: the figures in docs/quality/privacy.md say how often. Texts are looked at sentence by sentence, so that a
stream gives the same names however it is cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Protocol

from guardproxy.core.content import Segment
from guardproxy.core.verdict import Finding, Span
from guardproxy.detectors.base import Content
from guardproxy.detectors.offload import Offload

MAX_SENTENCE = 1000
"""Longest piece that is looked at by itself, in characters; what is longer is cut where a stream stands."""
SEVERAL_WORDS = 0.8
ONE_WORD = 0.55
"""The model gives no score: a name of several words is more often right than one of one (docs/quality/privacy.md)."""

_SENTENCE_END = re.compile(r"[.!?。！？][\"')\]]*\s+|\n+")
_NAME_LETTER = re.compile(r"[A-Z]")


class Entity(Protocol):
    """What is used of spaCy's `Span`."""

    start_char: int
    end_char: int
    label_: str


class _Document(Protocol):
    ents: Iterable[Entity]


Model = Callable[[str], _Document]


class PersonNames:
    """Finds people's names; category `person`.

    Args:
        model: spaCy's: text to a document with `ents`.
        version: Of the model.
        offload: Where it is asked.
    """

    name = "person_names"
    inline = False
    longest = MAX_SENTENCE

    def __init__(self, model: Model, version: str, offload: Offload) -> None:
        self._model = model
        self.version = version
        self._offload = offload

    def warm_up(self) -> None:
        """Look once: the first call of the model is slow."""
        self._names("My name is John Smith.")

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """Report each name. In a stream the last sentence waits until it has ended.

        Raises:
            DetectorError: Too many texts wait.
        """
        found: list[Finding] = []
        for segment in content.segments:
            for start, end in _sentences(segment.text, content.fresh, final=content.final):
                if _NAME_LETTER.search(segment.text, start, end):
                    spans = await self._offload.run(self._names, segment.text[start:end])
                    found += [
                        _finding(segment, start, *span) for span in spans if start + span[0] >= content.fresh
                    ]
        return tuple(found)

    def held_suffix(self, text: str, fresh: int) -> int:
        """How many characters at the end of `text` are a sentence that has not ended."""
        decided = [end for _, end in _sentences(text, fresh, final=False)]
        return len(text) - max(decided, default=fresh)

    def _names(self, sentence: str) -> list[tuple[int, int]]:
        return [(e.start_char, e.end_char) for e in self._model(sentence).ents if e.label_ == "PERSON"]


def _finding(segment: Segment, base: int, start: int, end: int) -> Finding:
    words = segment.text[base + start : base + end].split()
    score = SEVERAL_WORDS if len(words) > 1 else ONE_WORD
    return Finding("person_names", "person", score, segment.place, Span(base + start, base + end))


def _sentences(text: str, fresh: int, *, final: bool) -> list[tuple[int, int]]:
    """The sentences that end after `fresh`; an unfinished one at the end only if nothing more will come."""
    low = max(0, fresh - MAX_SENTENCE)
    ends = [m.end() for m in _SENTENCE_END.finditer(text, low) if m.end() < len(text)]
    start = max((end for end in ends if end <= fresh), default=low if low == 0 else fresh)
    found: list[tuple[int, int]] = []
    for end in (*(e for e in ends if e > fresh), len(text)):
        while end - start > MAX_SENTENCE:
            found.append((start, start + MAX_SENTENCE))
            start += MAX_SENTENCE
        if end < len(text) or final:
            found.append((start, end))
        start = end
    return [(a, b) for a, b in found if a < b]
