"""Text folded for comparison, with a way back to the original characters.

NFKC, case, invisible characters, and what looks like Latin letters.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass

from guardproxy.detectors.lookalikes import LOOKALIKES

_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
)
_SEEN = re.compile(f"[^{_INVISIBLE}]")
_UNSEEN = re.compile(f"[{_INVISIBLE}]")
_GOES_ON = re.compile(
    # What belongs to the character before it: half-width voice marks, enclosing marks, vowels and finals of Hangul.
    f"[{_INVISIBLE}\uff9e\uff9f\u0488\u0489\u1abe\u20dd-\u20e0\u20e2-\u20e4\ua670-\ua672\u1161-\u11ff\ud7b0-\ud7ff]"
)
PLAIN = "\n -@\\[-~\u3001-\u3003\u300c-\u300f\u3041-\u3096\u30a1-\u30fc\u4e00-\u9fff"
"""Class of characters that fold to themselves, most of Japanese among them: they are taken in runs."""
_RUN = re.compile(f"[{PLAIN}]+")
_SPACES = dict.fromkeys("\x0b\x85\u1680\u2028\u2029\u2800", " ")


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
    if text.isascii() and not _UNSEEN.search(text):
        return Folded(text.lower(), len(text))
    pieces: list[str] = []
    points: list[int] = []
    starts: list[int] = []
    at = 0
    index = 0
    while index < len(text):
        run = _RUN.match(text, index)
        if run is not None and (end := run.end() - 1) > index:  # the last one may have a mark after it
            pieces.append(text[index:end])
            points.extend(range(at, at + end - index))
            starts.extend(range(index, end))
            at, index = at + end - index, end
        end = index + 1
        # A base character and its combining marks fold together, so that か + ゛ becomes が.
        while end < len(text) and (unicodedata.combining(text[end]) or _GOES_ON.match(text, end)):
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
    return not (unicodedata.combining(char) or _GOES_ON.match(char))


def _fold_cluster(cluster: str) -> str:
    if "\ud800" <= cluster[0] <= "\udfff":
        return "\ufffd"  # half a character cannot be written, so it cannot be matched either
    seen = "".join(_SEEN.findall(cluster))
    if not seen:
        return ""
    base = _SPACES.get(seen[0]) or LOOKALIKES.get(seen[0]) or seen[0]
    folded = unicodedata.normalize("NFKC", base + seen[1:]).casefold()
    stripped = unicodedata.normalize("NFD", folded)
    first = LOOKALIKES.get(stripped[0], stripped[0])
    if first.isascii():
        # Accents on Latin letters are a disguise more often than a difference in forbidden words.
        folded = first + "".join(c for c in stripped[1:] if not _is_mark(c))
    return "".join(LOOKALIKES.get(c, c) for c in folded)


def _is_mark(char: str) -> bool:
    return unicodedata.category(char) in ("Mn", "Me")
