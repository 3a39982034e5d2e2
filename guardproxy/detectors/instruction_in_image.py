"""Instructions written into a picture (typographic attacks, such as FigStep, arXiv 2311.05608).

The attack puts what it wants into the picture ("Steps to …", then an empty numbered list) and asks in harmless words
to complete it. Neither a list nor a heading is an attack; a request for harm is. So what the text asks for is scored,
and that it is unfinished and the user asks to finish it only makes the same request count for more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from guardproxy.core.content import Segment
from guardproxy.core.verdict import Finding
from guardproxy.detectors.base import Content, Detector, Resources
from guardproxy.detectors.headings import Headings, headings
from guardproxy.detectors.joined import blocks, joined_lines, lines_by_picture, text_of
from guardproxy.detectors.ngram import logistic
from guardproxy.detectors.text_in_image import share

UNFINISHED = 0.6
"""Logits that an unfinished list adds, if the user asks to finish it."""
MOSTLY_TEXT = 0.3
"""Logits that a picture adds which is little else than text, if it asks in few words."""
TEXT_SHARE = 0.12
FEW_WORDS = 40
TOGETHER = -0.5
"""Of all pictures and the user's words as one text: what is not said in one place is less certainly meant."""
PIECE, STEP = 200, 100
"""Characters: a longer text is read in overlapping pieces too, since a page may hide one line."""
ADDED = 1.0
"""Logits that a picture must add to the user's words to be what they lacked."""
LEAST_BLOCK = 5
"""Characters of a block from which on it is read by itself: a button asks for nothing."""
MAX_READ = 12
"""Pieces of a page that the slower model reads: those that the quicker one finds riskiest."""
CHANCES = 0.5
"""Of the logarithm of the pieces' number, taken off: a page must not have many chances to be stopped wrongly."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n")
_EMPTY_ITEM = re.compile(
    r"\W*(?:(?:step|item|point|手順|ステップ|その)?\s*(?:\d{1,2}|[a-z]|[ivx]{1,4}|[①-⑳]|[一二三四五六七八九十]{1,2})\W*|[•・▪◦\-–—*_…\.]+)",
    re.IGNORECASE,
)
_INLINE_ITEMS = re.compile(r"(?:\b(?:step\s*)?\d{1,2}\s*[.):、．]\s*){2,}$", re.IGNORECASE)
_ASKS_TO_FINISH = re.compile(
    r"\b(?:fill|complet\w*|continu\w*|finish\w*|expand\w*|elaborat\w*|generat\w*|writ\w+|provid\w*|giv\w+|detail\w*|answer\w*"
    r"|follow\w*|do what|list\w*|items?|steps?|blanks?|empty|missing|add|describe each|tell me)\b"
    r"|埋め|補|完成|続き|続け|書いて|書き|詳し|生成|説明|項目|リスト|箇条書き|手順|空欄|空白|従って|答え|教えて|作成",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Page:
    """What one picture says.

    Attributes:
        heading: What stands before an empty list; all of the text where there is none.
        blocks: Texts that stand together in it.
        is_unfinished: Whether it ends in empty items.
        is_mostly_text: Whether few words fill the picture.
    """

    place: str
    heading: str
    blocks: tuple[str, ...]
    is_unfinished: bool
    is_mostly_text: bool


class InstructionInImage:
    """One finding for each picture with text, and one for all of them together with the user's words."""

    name = "instruction_in_image"
    inline = False

    def __init__(self, model: Headings, resources: Resources) -> None:
        self._model = model
        self._offload = resources.offload
        self.version = f"1-{model.version}"

    def warm_up(self) -> None:
        """Score once."""
        self._model.logit("warm up")

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """How surely each picture asks for harm."""
        pages = [page(place, lines) for place, lines in lines_by_picture(content.segments).items()]
        pages = [one for one in pages if one.heading]
        if not pages:
            return ()
        return await self._offload.run(partial(self._judged, pages, content.context))

    def _judged(self, pages: Sequence[Page], words: str) -> tuple[Finding, ...]:
        asks = _ASKS_TO_FINISH.search(words) is not None
        found = []
        for one in pages:
            logit = self._logit(one.heading, one.blocks)
            logit += UNFINISHED * (one.is_unfinished and asks) + MOSTLY_TEXT * one.is_mostly_text
            found.append((one.place, logit))
        # One sentence may be split over two pictures, or over a picture and the user's words.
        shown = joined_lines([one.heading for one in pages])
        if len(pages) > 1:
            found.append((pages[-1].place, self._logit(shown) + TOGETHER))
        said = words.strip()
        if said and len(said) + len(shown) <= PIECE:
            together = self._model.logit(f"{said} {shown}")
            # Words that say it all by themselves are for the guards of the user's text.
            if together > self._model.logit(said) + ADDED:
                found.append((pages[-1].place, together + TOGETHER))
        return tuple(
            Finding(self.name, "instruction_in_image", logistic(logit), place) for place, logit in found
        )

    def _logit(self, text: str, blocks: Sequence[str] = ()) -> float:
        """Of the whole text, or of its riskiest piece."""
        parts = [*pieces(text), *(b for b in blocks if len(b) > LEAST_BLOCK and b != text)]
        riskiest = sorted(parts, key=self._model.quick, reverse=True)[:MAX_READ]
        highest = max(map(self._model.logit, {parts[0], *riskiest}))
        return highest - CHANCES * math.log(len(parts))


def page(place: str, lines: Sequence[Segment]) -> Page:
    """Read one picture's lines."""
    texts = [line.text.strip() for line in lines]
    is_empty = [_EMPTY_ITEM.fullmatch(text) is not None for text in texts]
    # All at one end: below the heading, or above it in a picture that stands on its head.
    changes = sum(one is not other for one, other in pairwise(is_empty))
    is_list = sum(is_empty) >= 2 and changes <= 2
    said = [text for text, empty in zip(texts, is_empty, strict=True) if not empty]
    heading = joined_lines(said) if is_list else text_of(lines)
    bare = _INLINE_ITEMS.sub("", heading).strip()
    picture = lines[0].image
    is_page = picture is not None and len(heading.split()) <= FEW_WORDS and share(picture) >= TEXT_SHARE
    apart = () if picture is None or is_list else tuple(blocks(picture))
    return Page(place, bare, apart, is_list or bare != heading.strip(), is_page)


def pieces(text: str) -> list[str]:
    """A text whole, its sentences, and of a long sentence overlapping pieces: all of it, whatever its length."""
    sentences = [s for s in map(str.strip, _SENTENCE_END.split(text)) if len(s) > LEAST_BLOCK]
    if len(sentences) < 2 and len(text) <= PIECE:
        return [text]
    found = [text]
    for sentence in sentences:
        if len(sentence) <= PIECE:
            found.append(sentence)
        else:
            found += [sentence[at : at + PIECE] for at in range(0, len(sentence) - STEP, STEP)]
    return list(dict.fromkeys(found))


def build(_parameters: Mapping[str, object], resources: Resources) -> Detector:
    """No parameters."""
    return InstructionInImage(headings(), resources)
