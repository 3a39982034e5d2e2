"""Linear classifiers on hashed character and word n-grams, with numpy alone.

Feature hashing after Weinberger et al., ICML 2009. A text is a set of hashed n-grams; its logit is
`bias + sum(weights of the set) / sqrt(size of the set)`; Platt scaling makes it a probability.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from guardproxy.detectors.base import Memo

BITS = 18
BUCKETS = 1 << BITS
WINDOW = 2000
"""Characters that are scored at once; a longer text is scored in overlapping windows."""
STRIDE = 1500
MAX_WINDOWS = 16
CHAR_NGRAMS = (2, 3, 4, 5)
QUESTION_SHARE = 0.3
"""How much a question's word counts beside an answer's n-gram, in `score_pair`."""

MAX_REMEMBERED = 32
"""Texts of one exchange; every window of a long stream is another."""

Indices = npt.NDArray[np.int32]
Found = TypeVar("Found")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_BASE = np.uint64(0x100000001B3)
_SHIFT = np.uint64(64 - BITS)
_IS_WORD = np.asarray([chr(c) in "'0123456789abcdefghijklmnopqrstuvwxyz" for c in range(128)] + [True])
"""Of folded ASCII, letters, digits and the apostrophe; of all else, everything."""
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\x00-\x08\x0e-\x1f]")
_ASCII_INVISIBLE = dict.fromkeys((*range(0x09), *range(0x0E, 0x20)))


def _powers(n: int) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        return np.cumprod(np.concatenate(([np.uint64(1)], np.full(n - 1, _BASE))), dtype=np.uint64)


_POWERS = _powers(WINDOW + 8)
_INVERSE = np.uint64(pow(int(_BASE), -1, 1 << 64))


@cache
def _inverse_powers() -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        steps = np.concatenate(([np.uint64(1)], np.full(WINDOW + 7, _INVERSE)))
        return np.cumprod(steps, dtype=np.uint64)


def fold(text: str) -> str:
    """NFKC, lower case, one space between words, no invisible characters."""
    if text.isascii():
        text = text.translate(_ASCII_INVISIBLE)
    else:
        text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    return " ".join(text.split()).lower()


def _bucket(hashes: npt.NDArray[np.uint64], salt: int) -> Indices:
    mixed = (hashes ^ np.uint64(salt * 0x5851F42D4C957F2D & 0xFFFFFFFFFFFFFFFF)) * _MULTIPLIER
    return (mixed >> _SHIFT).astype(np.int32)


def _words(codes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A hash for each word: prefix sums of code × base^position, shifted back to the word's start.

    Args:
        codes: Of a text with a space at both ends.
    """
    is_word = _IS_WORD[np.minimum(codes, _IS_WORD.size - 1)]
    edges = np.flatnonzero(is_word[1:] != is_word[:-1])
    if edges.size == 0:
        return np.empty(0, np.uint64)
    before, last = edges[::2], edges[1::2]
    sums = np.cumsum(codes * _POWERS[: codes.size], dtype=np.uint64)
    return (sums[last] - sums[before]) * _inverse_powers()[before + 1]


def features(folded: str, *, words_only: bool = False, salt: int = 0) -> Indices:
    """The distinct hashed n-grams of a folded text of at most `WINDOW` characters, ascending.

    Args:
        folded: As `fold` returns it.
        words_only: Leave the character n-grams out.
        salt: Keeps two texts' n-grams apart.
    """
    found: list[Indices] = []
    codes = np.frombuffer(f" {folded[:WINDOW]} ".encode("utf-32-le", "replace"), dtype=np.uint32).astype(
        np.uint64
    )
    with np.errstate(over="ignore"):
        words = _words(codes)
        found.append(_bucket(words, salt * 16 + 1))
        if words.size > 1:
            found.append(_bucket(words[:-1] * _BASE + words[1:], salt * 16 + 2))
        if not words_only:
            rolling = codes.copy()
            for n in range(2, max(CHAR_NGRAMS) + 1):
                if codes.size < n:
                    break
                rolling = rolling[:-1] * _BASE + codes[n - 1 :]
                found.append(_bucket(rolling, salt * 16 + 2 + n))
    # Not np.unique: sorting 32-bit integers is vectorised, and many times quicker.
    ordered = np.concatenate(found)
    ordered.sort()
    is_new = np.empty(ordered.size, np.bool_)
    is_new[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    distinct = ordered[is_new]
    distinct.flags.writeable = False
    return distinct


def windows(folded: str) -> list[str]:
    """Overlapping windows of a text: at most `MAX_WINDOWS`, evenly spread, first and last among them."""
    if len(folded) <= WINDOW:
        return [folded]
    last = len(folded) - WINDOW
    count = min(MAX_WINDOWS, 1 + math.ceil(last / STRIDE))
    return [folded[at : at + WINDOW] for at in (round(i * last / (count - 1)) for i in range(count))]


def joined(logits: Sequence[float]) -> float:
    """A text's log-odds by those of its windows: their mean odds; or the first or last one's, halved, if that is more.

    What is harmful all over is as harmful as one window of it, however long; what is so in one place is lost in a long text,
    unless that place is its beginning or its end, where a model heeds it most. A long text must not have many chances to
    be stopped wrongly.
    """
    if len(logits) == 1:
        return logits[0]
    highest = max(logits)
    mean = highest + math.log(sum(math.exp(one - highest) for one in logits) / len(logits))
    return max(mean, max(logits[0], logits[-1]) - math.log(2))


def _of_question(text: str) -> Indices:
    return features(fold(text)[:WINDOW], words_only=True, salt=1)


def _of_windows(text: str) -> tuple[Indices, ...]:
    return tuple(features(part) for part in windows(fold(text)))


def _remembered(memo: Memo, text: str, work_out: Callable[[str], Found]) -> Found:
    key = (work_out, text)
    found = memo.get(key)
    if found is None:
        if len(memo) >= MAX_REMEMBERED:
            memo.clear()
        found = memo[key] = work_out(text)
    return cast("Found", found)


def logistic(logit: float) -> float:
    """`1 / (1 + e^-x)`, safe for any finite x."""
    return 1.0 / (1.0 + math.exp(-min(max(logit, -30.0), 30.0)))


class NgramModel:
    """One trained classifier.

    Args:
        weights: One for each bucket.
        bias: Of the linear model.
        platt: `(slope, intercept)` of the calibration, fitted on sources kept apart.
    """

    def __init__(self, weights: npt.NDArray[np.float32], bias: float, platt: tuple[float, float]) -> None:
        self._weights = weights
        self._bias = bias
        self._platt = platt
        stated = weights.tobytes() + np.asarray([bias, *platt], np.float64).tobytes()
        self.version = sha256(stated).hexdigest()[:12]

    @classmethod
    def load(cls, path: Path) -> NgramModel:
        """Read plain arrays: int8 weights, their scale, bias and calibration. No pickle."""
        with np.load(path, allow_pickle=False) as arrays:
            weights = arrays["weights"].astype(np.float32) * np.float32(arrays["scale"])
            platt = arrays["platt"]
            return cls(weights, float(arrays["bias"]), (float(platt[0]), float(platt[1])))

    def raw(self, indices: Indices, question: Indices | None = None) -> float:
        """The uncalibrated logit of a feature set, and perhaps of a question beside it."""
        total = float(self._weights[indices].sum())
        size = float(indices.size)
        if question is not None and question.size:
            total += QUESTION_SHARE * float(self._weights[question].sum())
            size += QUESTION_SHARE**2 * question.size
        return self._bias + total / math.sqrt(max(size, 1.0))

    def of_windows(self, text: str, question: str | None = None, memo: Memo | None = None) -> list[float]:
        """The calibrated logit of each window of a text.

        Args:
            text: Any length.
            question: Beside which it is read.
            memo: Of the exchange: several guards look at one text, and every window at one question.
        """
        memo = {} if memo is None else memo
        asked = None if question is None else _remembered(memo, question, _of_question)
        slope, intercept = self._platt
        return [slope * self.raw(p, asked) + intercept for p in _remembered(memo, text, _of_windows)]

    def highest(self, text: str, question: str | None = None, memo: Memo | None = None) -> float:
        """The calibrated logit of a text's riskiest window."""
        return max(self.of_windows(text, question, memo))

    def logit(self, text: str, question: str | None = None, memo: Memo | None = None) -> float:
        """The calibrated log-odds of a text: those of its windows, joined."""
        return joined(self.of_windows(text, question, memo))

    def score(self, text: str) -> float:
        """Probability in [0, 1] that the text is what the model looks for."""
        return logistic(self.logit(text))

    def score_pair(self, question: str, answer: str, memo: Memo | None = None) -> float:
        """Probability for an answer, read beside its question."""
        return logistic(self.logit(answer, question, memo))


def save(path: Path, weights: npt.NDArray[np.float64], bias: float, platt: tuple[float, float]) -> None:
    """Write a model as plain arrays, weights in eight bits."""
    scale = float(np.abs(weights).max()) / 127 or 1.0
    np.savez_compressed(
        path,
        weights=np.round(weights / scale).astype(np.int8),
        scale=np.float32(scale),
        bias=np.float64(bias),
        platt=np.asarray(platt, np.float64),
    )
