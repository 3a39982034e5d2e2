"""Lower-case WordPiece with BERT's vocabulary (Wu et al., 2016; Devlin et al., 2019), in plain Python.

The packages that offer it bring a hub client along, which a proxy that never downloads has no use for.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

Tokens = list[int]
UNKNOWN = 100
LONGEST_WORD = 100
"""Characters; a longer word is unknown."""
_MAX_KNOWN_WORDS = 20_000
_ASCII_WORD = re.compile(r"[a-z0-9]+|[^a-z0-9\s\x00-\x1f\x7f]")
_ASCII_CONTROLS = dict.fromkeys([*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])
_CJK = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))


class WordPiece:
    """Text to ids, without the marks of beginning and end.

    Args:
        vocabulary: File of one piece a line; a piece inside a word begins with `##`.
    """

    def __init__(self, vocabulary: Path) -> None:
        lines = vocabulary.read_text("utf-8").splitlines()
        self._first = {piece: i for i, piece in enumerate(lines) if not piece.startswith("##")}
        self._inner = {piece[2:]: i for i, piece in enumerate(lines) if piece.startswith("##")}
        self._longest = max(map(len, lines))
        self._known: dict[str, tuple[int, ...]] = {}

    def pieces(self, text: str) -> Tokens:
        """The ids of a text's pieces."""
        if text.isascii():
            words = _ASCII_WORD.findall(text.translate(_ASCII_CONTROLS).lower())
        else:
            words = _words(text)
        ids: Tokens = []
        for word in words:
            ids += self._known.get(word) or self._split(word)
        return ids

    def _split(self, word: str) -> tuple[int, ...]:
        found = self._greedy(word)
        if len(self._known) < _MAX_KNOWN_WORDS and len(word) <= 20:
            self._known[word] = found
        return found

    def _greedy(self, word: str) -> tuple[int, ...]:
        """The longest piece first; a word with a part that is in no piece is unknown as a whole."""
        if len(word) > LONGEST_WORD:
            return (UNKNOWN,)
        ids, at = [], 0
        while at < len(word):
            pieces = self._inner if at else self._first
            for end in range(min(len(word), at + self._longest), at, -1):
                piece = pieces.get(word[at:end])
                if piece is not None:
                    ids.append(piece)
                    at = end
                    break
            else:
                return (UNKNOWN,)
        return tuple(ids)


def _words(text: str) -> list[str]:
    """Words and single marks of any text: no accents, no control characters, ideographs apart."""
    folded: list[str] = []
    # Accents go first, as in the original: what it means for kana is part of what was learnt.
    for character in unicodedata.normalize("NFD", "".join(map(_spaced, text)).lower()):
        category = unicodedata.category(character)
        if category == "Mn":
            continue
        folded.append(f" {character} " if category[0] == "P" or _is_ascii_mark(character) else character)
    return "".join(folded).split()


def _spaced(character: str) -> str:
    category = unicodedata.category(character)
    if character in "\t\n\r" or category[0] == "Z":
        return " "
    code = ord(character)
    if code in (0, 0xFFFD) or category[0] == "C":
        return ""
    return f" {character} " if any(low <= code <= high for low, high in _CJK) else character


def _is_ascii_mark(character: str) -> bool:
    return "!" <= character <= "~" and not character.isalnum()
