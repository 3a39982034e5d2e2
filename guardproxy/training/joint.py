"""How the n-gram models' and the encoder's logits are added up: a small regression on rows of sources kept apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from guardproxy.detectors.classifiers import Joint, Sum, log_odds
from guardproxy.detectors.glosses import GLOSSED, LATIN, script
from guardproxy.detectors.ngram import NgramModel
from guardproxy.training.linear import Floats, balance, with_ends
from guardproxy.training.rows import Row

DOUBT_SHARE = 0.01
"""Of harmful rows, those which may lie below the logit from which on the encoder is asked."""
OTHER_SHARE = {"jailbreak": 0.01, "harmful_request": 0.01, "harmful_answer": 0.02}
"""Of benign rows in other scripts, those which may reach the default policy's threshold. Answers: 51 of 100 Japanese harmful ones are
caught in place of 43, for 4.8 % of look-alikes and 0.4 % of everyday ones; of everyday requests 2 % would be too many."""
HIGHEST = 4.25
"""Labels were smoothed in training: one harmful text in a hundred lies above."""
MOST = {"jailbreak": HIGHEST, "harmful_request": 3.0, "harmful_answer": 3.0}
"""No logit of the encoder counts for more. Where the n-grams say more of a text, a lower bound loses little and leaves fewer
to read; of jailbreaks, which they know little of, it would lose one of six that are caught."""
LEAST_NGRAM = 1.1
"""Least weight of a Latin text's n-gram logit, in weights of the encoder's: with the bound above it decides how many benign
texts are read. Requests: 5 to 7 % of everyday ones in place of 74 to 86 %, for 37 of 100 harmful ones caught in place of 40."""
_FEW = 20


@dataclass(frozen=True, slots=True)
class Read:
    """A row with what both models say of it, neither having seen its source.

    Attributes:
        ngram: The n-gram model's calibrated logit.
        encoder: The encoder's logit of the same head.
        ends: The same for the ends of its text, if they are read too.
    """

    row: Row
    ngram: float
    encoder: float
    ends: tuple[Read, ...] = ()


def fit(read: Sequence[Read], other_benign: Floats, threshold: float, most: float, share: float) -> Joint:
    """Fit the weights.

    Args:
        read: Rows that the encoder read, with both labels.
        other_benign: The n-gram logits of benign rows in other scripts than Latin.
        threshold: Of the default policy.
        most: Of the encoder's logits counts no more.
        share: Of the benign rows in other scripts, those which may reach the threshold.
    """
    latin = [r for r in read if script(r.row.text) == LATIN]
    sums, both = _added(latin, LEAST_NGRAM, most)
    given = _given(latin)
    labels = np.asarray([r.row.label for r in latin])
    doubt_from = float(np.quantile(given[labels == 1, 0], DOUBT_SHARE))
    # A straight line through the benign rows around the doubt: no step where the encoder is asked.
    near = (labels == 0) & (given[:, 0] < doubt_from + 1)
    slope, bias = np.polyfit(given[near, 0], both[near], 1) if near.sum() >= _FEW else (1.0, 0.0)
    middle = float(np.median(both[labels == 0]))
    other = _aligned(other_benign, middle, log_odds(threshold), share)
    glossed = _glossed(read, log_odds(threshold), most, share)
    unread = Sum(other[0], 0.0, other[1], most)
    numbers = (doubt_from, max(float(slope), 0.1), float(bias), *other)
    all_sums = {LATIN: sums, **dict.fromkeys(GLOSSED, unread), **glossed}
    rounded = {
        name: Sum(*(round(x, 4) for x in (s.ngram, s.encoder, s.bias, s.most)))
        for name, s in all_sums.items()
    }
    return Joint(rounded, *(round(number, 4) for number in numbers))


def _given(read: Sequence[Read]) -> Floats:
    return np.asarray([(r.ngram, r.encoder) for r in read])


def _added(read: Sequence[Read], least: float, most: float) -> tuple[Sum, Floats]:
    """The weights, the n-gram logit's at least so many times the encoder's, and the sums for these rows."""
    from sklearn.linear_model import LogisticRegression

    rows, given = [r.row for r in read], _given(read)
    given[:, 1] = np.minimum(given[:, 1], most)
    labels, weights = [r.label for r in rows], balance(rows)
    model = LogisticRegression(C=1.0, max_iter=500).fit(given, labels, sample_weight=weights)
    ngram, encoder = model.coef_[0]
    if ngram < least * encoder:
        model.fit(given @ np.asarray([[least], [1.0]]), labels, sample_weight=weights)
        encoder = model.coef_[0, 0]
        ngram = least * encoder
    bias = model.intercept_[0]
    sums: Floats = given @ np.asarray([ngram, encoder]) + bias
    return Sum(float(ngram), float(encoder), float(bias), most), sums


def _glossed(read: Sequence[Read], stop: float, most: float, share: float) -> dict[str, Sum]:
    """The same for each language that is read by its glosses; of its benign rows that share may reach `stop`.

    A language with too few rows to tell gets what all of them together give.
    """
    by_script = {language: [r for r in read if script(r.row.text) == language] for language in GLOSSED}
    pooled = _stopping([r for rows in by_script.values() for r in rows], stop, most, share)
    found = {language: _stopping(rows, stop, most, share) or pooled for language, rows in by_script.items()}
    return {language: one for language, one in found.items() if one is not None}


def _stopping(read: Sequence[Read], stop: float, most: float, share: float) -> Sum | None:
    benign = np.asarray([r.row.label == 0 for r in read], bool)
    if benign.sum() < _FEW or (~benign).sum() < _FEW:
        return None
    found, sums = _added(read, 0.0, most)
    if found.ngram == 0:  # n-grams that know nothing of a language cannot say what need not be read
        found, sums = _added(read, 0.0, HIGHEST)
    beyond = float(np.quantile(sums[benign], 1 - share)) - stop
    return replace(found, bias=found.bias - max(beyond, 0.0))


def _aligned(benign: Floats, middle: float, most: float, share: float) -> tuple[float, float]:
    """The straight line that brings the median of benign logits to `middle` and their upper end to `most`."""
    if benign.size < _FEW:
        return 1.0, 0.0
    low, high = np.quantile(benign, (0.5, 1 - share))
    slope = (most - middle) / max(float(high - low), 0.1)
    return slope, most - slope * float(high)


def is_asked(joint: Joint, read: Read, threshold: float, student: NgramModel | None) -> bool:
    """Whether the encoder reads a row, or one of its ends, when it is served.

    Args:
        joint: Of the classifier.
        read: The row.
        threshold: Log-odds from which on it is stopped.
        student: Foretells what the encoder will say of an answer in Latin script at most.
    """
    row, written_in, most = read.row, script(read.row.text), math.inf
    if not joint.is_clear(written_in, read.ngram):
        if student is not None and written_in == LATIN:
            most = student.highest(row.text, row.question)
        if joint.both(written_in, read.ngram, most) >= threshold:
            return True
    return any(is_asked(joint, end, threshold, student) for end in read.ends)


def logits(joint: Joint, read: Sequence[Read]) -> Floats:
    """As they are served."""
    return np.asarray([_logit(joint, r) for r in read])


def _logit(joint: Joint, read: Read) -> float:
    written_in = script(read.row.text)
    if joint.is_clear(written_in, read.ngram):
        own = joint.unread(written_in, read.ngram)
    else:
        own = joint.both(written_in, read.ngram, read.encoder)
    return max([own, *(_logit(joint, end) for end in read.ends)])


def unread(joint: Joint, row: Row, told: Sequence[float]) -> float:
    """The log-odds by n-grams alone, of a row and its ends."""
    texts = zip(with_ends(row), told, strict=False)  # the ends may not be asked for
    return max(joint.unread(script(part.text), one) for part, one in texts)
