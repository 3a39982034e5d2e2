"""How far two judges agree: more than one number, since one misleads.

"Always safe" agrees with people on 95.5 % of MSTS: agreement alone is never printed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from statsmodels.stats.inter_rater import cohens_kappa


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two judges over the same answers.

    Attributes:
        n: Answers that both could read.
        coverage: Share of all answers that both could read.
        agreement: Share of the n with the same label; None where n is 0.
        kappa: Cohen's (1960); None where it is not defined: both judges used one and the same label.
        low: Of kappa's 95 % interval (Fleiss, Cohen and Everitt 1969).
        kappa_max: The largest kappa that the two marginals allow.
        marginals: Of the first judge and of the second: label to share.
    """

    first: str
    second: str
    n: int
    coverage: float
    agreement: float | None
    kappa: float | None
    low: float | None
    high: float | None
    kappa_max: float | None
    marginals: tuple[Mapping[str, float], Mapping[str, float]]


def agreement_of(first: str, second: str, labels: Sequence[tuple[str | None, str | None]]) -> Agreement:
    """Compare two judges.

    Args:
        first: Name of the first judge; people, if they are one of the two.
        second: Name of the second.
        labels: For each answer, both labels; None where a judge could not read it.
    """
    both = [(a, b) for a, b in labels if a is not None and b is not None]
    n = len(both)
    coverage = n / len(labels) if labels else 0.0
    shares = (_shares(a for a, _ in both), _shares(b for _, b in both))
    if not n:
        return Agreement(first, second, 0, coverage, None, None, None, None, None, shares)
    agreed = sum(a == b for a, b in both) / n
    classes = sorted({label for pair in both for label in pair})
    if len(classes) == 1:
        return Agreement(first, second, n, coverage, agreed, None, None, None, None, shares)
    counts = Counter(both)
    with np.errstate(divide="ignore", invalid="ignore"):  # its z value, which is not used, may not exist
        found = cohens_kappa(np.asarray([[counts[a, b] for b in classes] for a in classes]))
    low, high = float(found.kappa_low), float(found.kappa_upp)
    return Agreement(
        first, second, n, coverage, agreed, float(found.kappa), max(low, -1.0), min(high, 1.0),
        float(found.kappa_max), shares,
    )  # fmt: skip


def _shares(labels: Iterable[str]) -> Mapping[str, float]:
    counts = Counter(labels)
    total = sum(counts.values())
    return {label: count / total for label, count in sorted(counts.items())}
