"""Text with full-width letters and digits, all hyphens and all spaces as their ASCII ones, and a way back.

Unlike `detectors.fold` it keeps case and length: one character stands for one, and only invisible ones go.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_HYPHENS = "\u02d7\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u2500\u2501\u30fc\ufe58\ufe63\uff0d\uff70\u207b\u208b"
_SPACES = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\t"
_OTHERS = {"〜": "~", "～": "~", "〔": "(", "〕": ")", "【": "[", "】": "]", "・": ".", "･": "."}
_TO_ASCII = (
    {chr(0xFEE0 + code): chr(code) for code in range(0x21, 0x7F)}
    | dict.fromkeys(_HYPHENS, "-")
    | dict.fromkeys(_SPACES, " ")
    | _OTHERS
)
# Digits of other scripts and mathematical ones: \d finds them, unicodedata says which they are.
_FOREIGN = re.compile("[" + re.escape("".join(_TO_ASCII)) + "]|[^\\D0-9]")


@dataclass(frozen=True, slots=True)
class Plain:
    """Plain text; `removed[i]` is where, in plain characters, the i-th invisible original one stood."""

    text: str
    length: int
    removed: tuple[int, ...] = ()

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original that holds plain characters `[start, end)`; `end` is above `start`."""
        if not self.removed:
            return start, end
        return self._original_of(start), self._original_of(end - 1) + 1

    def _original_of(self, at: int) -> int:
        return at + bisect_right(self.removed, at)

    def position(self, at: int) -> int:
        """The plain character that stands for the first visible one at or after an original position."""
        if not self.removed:
            return at
        low, high = 0, len(self.text)
        while low < high:
            middle = (low + high) // 2
            if self._original_of(middle) < at:
                low = middle + 1
            else:
                high = middle
        return low


def plain(text: str) -> Plain:
    """Make a text plain. Cost is linear; ASCII text is only looked at for tabs."""
    length = len(text)
    if text.isascii():
        return Plain(text.replace("\t", " ") if "\t" in text else text, length)
    text = _FOREIGN.sub(_ascii_of, text)
    removed: tuple[int, ...] = ()
    if _INVISIBLE.search(text):
        removed = tuple(m.start() - gone for gone, m in enumerate(_INVISIBLE.finditer(text)))
        text = _INVISIBLE.sub("", text)
    return Plain(text, length, removed)


def _ascii_of(found: re.Match[str]) -> str:
    char = found[0]
    return _TO_ASCII.get(char) or str(unicodedata.digit(char, 0))
