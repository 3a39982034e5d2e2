"""Where a streamed answer is cut into windows: a grid of its characters, whatever the chunks."""

from __future__ import annotations

import re

FIRST_CUT = 32
"""Weight of the first window: what a reader can wait for (about eight tokens)."""
NEXT_CUT = 96
"""Weight of every later window, unless a sentence ends past `SENTENCE_CUT`."""
SENTENCE_CUT = 48

_SENTENCE_END = re.compile(r"[\n。！？｡]|[.!?…](?=\s)")
_MAY_END = re.compile(r"[\n。！？｡.!?…]")
_WIDE = re.compile(r"[ᄀ-ᇿ⺀-\ua4cf가-\ud7ff豈-\ufaff︰-﹏＀-￯\U00020000-\U0003ffff]")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)


def weight(text: str) -> int:
    """Characters, with CJK ones counted double and invisible ones not at all."""
    if text.isascii():
        return len(text)
    return len(text) + len(_WIDE.findall(text)) - len(_INVISIBLE.findall(text))


class Grid:
    """Finds the cuts as text arrives. The same text gives the same cuts for any chunking."""

    __slots__ = ("_length", "_previous", "_soft", "_target", "_weight", "last_cut")

    def __init__(self) -> None:
        self.last_cut = 0
        self._length = 0
        self._weight = 0
        self._target = FIRST_CUT
        self._soft = 1
        self._previous = ""

    def receive(self, text: str) -> None:
        """Move `last_cut` to the last grid point that this text reaches, if any."""
        if text.isascii() and self._weight + len(text) < self._soft:
            self._weight += len(text)
            self._length += len(text)
            self._previous = text[-1:] or self._previous
            return
        if (
            text.isascii()
            and self._weight + len(text) < self._target
            and not _MAY_END.search(self._previous + text)
        ):
            self._weight += len(text)
            self._length += len(text)
            self._previous = text[-1:] or self._previous
            return
        for char in text:
            self._receive_one(char)

    def _receive_one(self, char: str) -> None:
        joined = self._previous + char
        # A full stop ends a sentence only once the space after it has arrived: the cut is then
        # before the space, so that "3.14" is never torn.
        ended_before = len(joined) == 2 and _SENTENCE_END.match(joined) is not None
        if ended_before and joined[0] not in "\n。！？｡" and self._weight >= self._soft:
            self._cut()
        self._length += 1
        self._weight += 1 if char.isascii() else weight(char)
        self._previous = char
        if self._weight >= self._target or (char in "\n。！？｡" and self._weight >= self._soft):
            self._cut()

    def _cut(self) -> None:
        self.last_cut = self._length
        self._weight = 0
        self._target = NEXT_CUT
        self._soft = SENTENCE_CUT
