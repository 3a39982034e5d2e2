"""Text folded for comparison, with a way back to the original characters.

NFKC, case, invisible characters, common homoglyphs (Unicode TR 39 confusables, the Latin
look-alikes among Cyrillic, Greek and letter-like signs).
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff\x00-\x08\x0e-\x1f\x7f]"
)
_HOMOGLYPHS = dict(
    zip(
        "авсԁеғһіјкӏмпорԛгѕтυνѵԝхуʏαβγδεικορτυχωѡ",
        "abcdefhijklmnopqrstuvvwxyyabydeikoptuxww",
        strict=False,
    )
) | {
    "ı": "i",
    "ø": "o",
    "ɡ": "g",
    "ɑ": "a",
    "ꓲ": "l",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "‐": "-",
    "–": "-",
}


@dataclass(frozen=True, slots=True)
class Folded:
    """Folded text; `starts[i]` is where the i-th run of it began in the original.

    An ASCII original keeps its length: `points` and `starts` are then empty.
    """

    text: str
    length: int
    points: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original that holds folded characters `[start, end)`."""
        if not self.points:
            return start, end
        low = bisect_right(self.points, start) - 1
        high = bisect_right(self.points, max(start, end - 1))
        return self.starts[low], self.starts[high] if high < len(self.starts) else self.length


def fold(text: str) -> Folded:
    """Fold a text. Cost is linear; an ASCII text without control characters is just lower-cased."""
    if text.isascii() and not _INVISIBLE.search(text):
        return Folded(text.lower(), len(text))
    pieces: list[str] = []
    points: list[int] = []
    starts: list[int] = []
    at = 0
    index = 0
    while index < len(text):
        end = index + 1
        # A base character and its combining marks fold together, so that か + ゛ becomes が.
        while end < len(text) and (unicodedata.combining(text[end]) or text[end] in "\uff9e\uff9f"):
            end += 1
        piece = _fold_cluster(text[index:end])
        if piece:
            points.append(at)
            starts.append(index)
            pieces.append(piece)
            at += len(piece)
        index = end
    return Folded("".join(pieces), len(text), tuple(points), tuple(starts))


def stands_alone(char: str) -> bool:
    """Whether a character folds to something by itself: it is neither invisible nor a mark on the one before it."""
    return not (unicodedata.combining(char) or char in "\uff9e\uff9f" or _INVISIBLE.match(char))


def _fold_cluster(cluster: str) -> str:
    if "\ud800" <= cluster[0] <= "\udfff":
        return "\ufffd"  # half a character cannot be written, so it cannot be matched either
    folded = unicodedata.normalize("NFKC", _INVISIBLE.sub("", cluster)).casefold()
    stripped = unicodedata.normalize("NFD", folded)
    if stripped[:1].isascii():
        # Accents on Latin letters are a disguise more often than a difference in forbidden words.
        folded = "".join(c for c in stripped if not unicodedata.combining(c))
    return "".join(_HOMOGLYPHS.get(c, c) for c in folded)
