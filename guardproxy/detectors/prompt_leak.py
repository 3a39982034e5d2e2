"""Answers that tell the policy's own texts: by the leak marker that hardening hides there, or word for word.

The longest run of words that the answer shares with the hidden text is what is scored: one rule said in other
words is no leak, twelve words in a row are. Words that the user wrote are no leak either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby

from guardproxy.core.content import Segment
from guardproxy.core.verdict import Finding
from guardproxy.detectors.base import Content, Detector, Resources
from guardproxy.detectors.fold import fold
from guardproxy.detectors.patterns import Patterns
from guardproxy.detectors.patterns import build as build_patterns

NGRAM = 6
"""Words in a row that are looked up at once; a CJK character counts as a word."""
CERTAIN = 24
"""Words in a row that score 1; half of them score 0.5."""
_WORDS = re.compile(r"[\u3041-\u30ff\u3400-\u9fff]|[^\W_]+")
Grams = frozenset[int]


class PromptLeak:
    """Findings `leak_marker` (score 1, with its span) and `prompt_overlap` (the share of `CERTAIN` words in a row)."""

    name = "prompt_leak"
    inline = True

    def __init__(self, marker: Patterns) -> None:
        self._marker = marker
        self.version = "1"  # the marker is random: it is no part of what the detector does
        self.longest = marker.longest

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """One finding for each marker, one for the overlap of each text that has any."""
        found = [
            Finding(self.name, "leak_marker", 1.0, f.place, f.span)
            for f in await self._marker.detect(content)
        ]
        if content.hidden:
            hidden = self._hidden(content)
            for segment in content.segments:
                if run := longest_run(segment.text, hidden):
                    found.append(self._overlap(segment, run))
        return tuple(found)

    def held_suffix(self, text: str, fresh: int) -> int:
        """What may be the start of the marker."""
        return self._marker.held_suffix(text, fresh)

    def _overlap(self, segment: Segment, run: int) -> Finding:
        return Finding(self.name, "prompt_overlap", min(1.0, run / CERTAIN), segment.place)

    def _hidden(self, content: Content) -> Grams:
        key = (PromptLeak, content.hidden, content.context)
        known = content.memo.get(key)
        if not isinstance(known, frozenset):
            known = frozenset(grams(content.hidden)) - frozenset(grams(content.context))
            content.memo[key] = known
        return known


def grams(text: str) -> Iterator[int]:
    """Hashes of every `NGRAM` words in a row."""
    words = _WORDS.findall(fold(text).text)
    return (hash(tuple(words[at : at + NGRAM])) for at in range(len(words) - NGRAM + 1))


def longest_run(text: str, hidden: Grams) -> int:
    """The longest run of words of a text that stands in the hidden text, too; 0 if it is under `NGRAM`."""
    runs = (sum(1 for _ in same) for is_known, same in groupby(grams(text), hidden.__contains__) if is_known)
    longest = max(runs, default=0)
    return longest + NGRAM - 1 if longest else 0


def build(_parameters: Mapping[str, object], resources: Resources) -> Detector:
    """The detector, which knows the marker of this process."""
    marker = build_patterns({"patterns": [{"id": "leak-marker", "text": resources.leak_marker}]}, resources)
    assert isinstance(marker, Patterns)
    return PromptLeak(marker)
