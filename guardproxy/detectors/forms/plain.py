"""Text with full-width letters and digits, all hyphens and all spaces as their ASCII ones, and a way back.

Unlike `detectors.fold` it keeps case. One character stands for one, but for invisible ones and JSON's escapes.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

_HIDDEN = "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
_INVISIBLE = re.compile(_HIDDEN)
_HYPHENS = "\u02d7\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u2500\u2501\u30fc\ufe58\ufe63\uff0d\uff70\u207b\u208b"
_SPACES = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\t"
_OTHERS = {"〜": "~", "～": "~", "〔": "(", "〕": ")", "【": "[", "】": "]", "・": ".", "･": "."}
_TO_ASCII = (
    {chr(0xFEE0 + code): chr(code) for code in range(0x21, 0x7F)}
    | dict.fromkeys(_HYPHENS, "-")
    | dict.fromkeys(_SPACES, " ")
    | _OTHERS
)
# Digits of other scripts and mathematical ones: \d finds them, unicodedata says which they are. And halves of
# characters, which cannot be written, so that no expression can be asked about them.
_FOREIGN = re.compile("[" + re.escape("".join(_TO_ASCII)) + "]|[^\\D0-9]|[\ud800-\udfff]")
# As JSON escapes them: tools' results and arguments are often JSON in ASCII.
_ESCAPE = re.compile(r'\\(?:u[0-9A-Fa-f]{4}|[nrtbf"/\\])')
_ODD = re.compile(f"{_ESCAPE.pattern}|{_HIDDEN}")
_UNFINISHED = re.compile(r"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_SHORT = {"n": "\n", "r": "\r", "t": " ", "b": " ", "f": "\n"}


@dataclass(frozen=True, slots=True)
class Plain:
    """Plain text; `starts[i]` and `ends[i]` are what its i-th character was in the original.

    Both are None if each character stands where it stood.
    """

    text: str
    starts: Sequence[int] | None = None
    ends: Sequence[int] | None = None

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original that holds plain characters `[start, end)`; `end` is above `start`."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]

    def position(self, at: int) -> int:
        """The first plain character that stands at or after an original position."""
        return at if self.starts is None else bisect_left(self.starts, at)


def plain(text: str) -> Plain:
    """Make a text plain, JSON's escapes read as what they stand for. Cost is linear."""
    if not text.isascii():
        text = _FOREIGN.sub(_ascii_of, text)
        odd = "\\" in text or _INVISIBLE.search(text) is not None
    else:
        odd = "\\" in text
        text = text.replace("\t", " ")
    return _shortened(text) if odd else Plain(text)


def unfinished(text: str) -> int:
    """Characters at the end that are the start of an escape."""
    tail = _UNFINISHED.search(text, max(0, len(text) - 5))
    if tail is None:
        return 0
    # An even number of backslashes before it: it is not itself escaped.
    before = text[: tail.start()]
    is_escaped = (len(before) - len(before.rstrip("\\"))) % 2 == 1
    return 0 if is_escaped else len(text) - tail.start()


def _shortened(text: str) -> Plain:
    pieces: list[str] = []
    starts = array("q")
    ends = array("q")
    at = 0
    for match in _ODD.finditer(text):
        start, end = match.span()
        pieces.append(text[at:start])
        starts.extend(range(at, start))
        ends.extend(range(at + 1, start + 1))
        char = _meant(match[0])
        if char:
            pieces.append(char)
            starts.append(start)
            ends.append(end)
        at = end
    pieces.append(text[at:])
    starts.extend(range(at, len(text)))
    ends.extend(range(at + 1, len(text) + 1))
    return Plain("".join(pieces), starts, ends)


def _meant(odd: str) -> str:
    """The plain character that an escape stands for; none for an invisible one."""
    if odd[0] != "\\":
        return ""
    if odd[1] != "u":
        return _SHORT.get(odd[1], odd[1])
    char = chr(int(odd[2:], 16))
    return _INVISIBLE.sub("", _FOREIGN.sub(_ascii_of, char))


def _ascii_of(found: re.Match[str]) -> str:
    char = found[0]
    return _TO_ASCII.get(char) or (
        "\ufffd" if "\ud800" <= char <= "\udfff" else str(unicodedata.digit(char, 0))
    )
