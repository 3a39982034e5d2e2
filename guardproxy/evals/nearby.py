"""Which texts are wordings of one item, perhaps: near-duplicates by their letters."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from zlib import crc32

LATIN, JAPANESE = 3, 2
"""Characters a piece: works without knowing the words; a kanji says as much as several letters."""
SKETCH = 16
"""Pieces a text is looked up by: two texts that share half of theirs meet with near certainty (1 - 2^-16)."""
CROWD = 40
"""Texts that are remembered for a piece: so no text is compared with more than `SKETCH * CROWD` others."""
ALIKE = 0.6
"""Share of pieces in common (Jaccard) from which texts are proposed as wordings of one item."""


def groups_of(texts: Sequence[str], alike: float = ALIKE) -> list[int]:
    """For each text the index of the first text of its group.

    Args:
        texts: Any number; the work grows with the pairs that share rare pieces, not with all pairs.
        alike: In (0, 1].
    """
    shingles = [_shingles(text) for text in texts]
    parents = list(range(len(texts)))
    for one, other in _candidates(shingles):
        first, second = _root(parents, one), _root(parents, other)
        if first != second and _jaccard(shingles[one], shingles[other]) >= alike:
            parents[max(first, second)] = min(first, second)
    return [_root(parents, index) for index in range(len(texts))]


def _shingles(text: str) -> frozenset[int]:
    plain = "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())
    size = LATIN if plain.isascii() else JAPANESE
    return frozenset(crc32(plain[i : i + size].encode()) for i in range(max(1, len(plain) - size + 1)))


def _candidates(shingles: Sequence[frozenset[int]]) -> Iterator[tuple[int, int]]:
    seen: dict[int, list[int]] = defaultdict(list)
    for index, pieces in enumerate(shingles):
        # The lowest hashes are a fair sample: similar sets have similar ones (Broder 1997).
        met = {other for piece in sorted(pieces)[:SKETCH] for other in seen[piece]}
        yield from ((other, index) for other in sorted(met))
        for piece in sorted(pieces)[:SKETCH]:
            if len(seen[piece]) < CROWD:
                seen[piece].append(index)


def _jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    return len(one & other) / len(one | other)


def _root(parents: list[int], index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index
