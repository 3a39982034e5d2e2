"""How the n-gram models' and the encoder's logits are added up: a small regression on rows of sources kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from guardproxy.detectors.classifiers import Joint, log_odds
from guardproxy.training.linear import Floats, balance
from guardproxy.training.rows import Row

DOUBT_SHARE = 0.03
"""Of harmful rows, those which may lie below the logit from which on the encoder is asked."""
OTHER_SHARE = 0.01
"""Of benign rows in other scripts, those which may reach the default policy's threshold."""
_FEW = 20


@dataclass(frozen=True, slots=True)
class Read:
    """A row with what both models say of it, neither having seen its source.

    Attributes:
        ngram: The n-gram model's calibrated logit.
        encoder: The encoder's logit of the same head.
    """

    row: Row
    ngram: float
    encoder: float


def fit(read: Sequence[Read], other_benign: Floats, threshold: float) -> Joint:
    """Fit the weights.

    Args:
        read: Rows in Latin script, with both labels.
        other_benign: The n-gram logits of benign rows in other scripts.
        threshold: Of the default policy, which `OTHER_SHARE` of those rows may reach.
    """
    from sklearn.linear_model import LogisticRegression

    rows = [r.row for r in read]
    given = np.asarray([(r.ngram, r.encoder) for r in read])
    labels = np.asarray([r.label for r in rows])
    model = LogisticRegression(C=1.0, max_iter=500)
    model.fit(given, labels, sample_weight=balance(rows))
    both = model.decision_function(given)
    doubt_from = float(np.quantile(given[labels == 1, 0], DOUBT_SHARE))
    # A straight line through the benign rows around the doubt: no step where the encoder is asked.
    near = (labels == 0) & (given[:, 0] < doubt_from + 1)
    slope, bias = np.polyfit(given[near, 0], both[near], 1) if near.sum() >= _FEW else (1.0, 0.0)
    middle = float(np.median(both[labels == 0]))
    other_slope, other_bias = _aligned(other_benign, middle, log_odds(threshold))
    numbers = (*model.coef_[0], model.intercept_[0], doubt_from, max(float(slope), 0.1), bias)
    return Joint(*(round(float(number), 4) for number in (*numbers, other_slope, other_bias)))


def _aligned(benign: Floats, middle: float, most: float) -> tuple[float, float]:
    """The straight line that brings the median of benign logits to `middle` and their upper end to `most`."""
    if benign.size < _FEW:
        return 1.0, 0.0
    low, high = np.quantile(benign, (0.5, 1 - OTHER_SHARE))
    slope = (most - middle) / max(float(high - low), 0.1)
    return slope, most - slope * float(high)


def logits(joint: Joint, read: Sequence[Read]) -> Floats:
    """As they are served."""
    return np.asarray(
        [joint.alone(r.ngram) if r.ngram < joint.doubt_from else joint.both(r.ngram, r.encoder) for r in read]
    )
