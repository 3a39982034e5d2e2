"""Rates, paired changes and their intervals. Every number that a report prints comes with one of these.

Intervals are 95 %. Where several answers belong to one item (wordings, repeats), they are not independent: the
interval is then the wider of the plain one and a bootstrap over items.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

Z = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""
RESAMPLES = 2000
SEED = 7
MARGIN = 0.02
"""Half width of the interval that is called enough."""

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval.

    Attributes:
        events: How many of `n`.
        rate: `events / n`; None where there is nothing to count.
        low: Of the interval; 0 where n is 0.
        high: Of the interval; 1 where n is 0: nothing is known.
        items: Groups that the n answers belong to.
        more: Further answers for ±2 points, at about this rate; 0 if there are enough.
    """

    events: int
    n: int
    rate: float | None
    low: float
    high: float
    items: int
    more: int


@dataclass(frozen=True, slots=True)
class Change:
    """What a second arm changes about a share, on the same cases.

    Attributes:
        gained: Pairs that had the event only in the second arm.
        lost: Pairs that had it only in the first.
        difference: `(gained - lost) / n`; None where there is no pair.
        p: Of the exact McNemar test; 1 where no pair differs.
        p_holm: The same, adjusted by Holm for all comparisons of the report.
    """

    n: int
    gained: int
    lost: int
    difference: float | None
    low: float
    high: float
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class Flips:
    """Items with several wordings whose outcome depends on the wording."""

    flipped: int
    items: int
    rate: float | None
    low: float
    high: float


def wilson(events: int, n: int) -> Interval:
    """Wilson's score interval (1927); everything is possible where n is 0."""
    if n == 0:
        return 0.0, 1.0
    low, high = proportion_confint(events, n, method="wilson")
    return float(low), float(high)


def cases_for(margin: float, rate: float) -> int:
    """Cases so that the normal interval at this rate is ± margin: 457 for ±2 points at 5 %."""
    return math.ceil(Z * Z * rate * (1 - rate) / margin**2)


def rate_of(observed: Iterable[tuple[Hashable, bool]]) -> Rate:
    """A rate over `(group, event)`; groups of several answers widen the interval as they must."""
    pairs = list(observed)
    n, events = len(pairs), sum(event for _, event in pairs)
    if not n:
        return Rate(0, 0, None, 0.0, 1.0, 0, cases_for(MARGIN, 0.5))
    plain = wilson(events, n)
    hits, sizes = _by_group([(g, float(e)) for g, e in pairs])
    low, high = _wider(plain, _bootstrap(hits, sizes))
    # Planned at the centre of Wilson's interval: the rate itself would plan nothing where it is 0.
    effect = ((high - low) / (plain[1] - plain[0])) ** 2
    needed = math.ceil(cases_for(MARGIN, sum(plain) / 2) * effect)
    return Rate(events, n, events / n, low, high, len(sizes), max(needed - n, 0))


def change_of(observed: Iterable[tuple[Hashable, bool, bool]]) -> Change:
    """What changes over `(group, before, after)`.

    The interval is Agresti and Min's for matched proportions (Statistics in Medicine 2005): half an answer is
    added to each cell of the table.
    """
    pairs = list(observed)
    n = len(pairs)
    gained = sum(after and not before for _, before, after in pairs)
    lost = sum(before and not after for _, before, after in pairs)
    if not n:
        return Change(0, 0, 0, None, -1.0, 1.0, 1.0, 1.0)
    total, up, down = n + 2.0, gained + 0.5, lost + 0.5
    middle = (up - down) / total
    error = math.sqrt((up + down) - (up - down) ** 2 / total) / total
    plain = (max(middle - Z * error, -1.0), min(middle + Z * error, 1.0))
    steps, sizes = _by_group([(g, float(after) - float(before)) for g, before, after in pairs])
    low, high = _wider(plain, _bootstrap(steps, sizes))
    p = float(mcnemar([[0, gained], [lost, 0]], exact=True).pvalue) if gained + lost else 1.0
    return Change(n, gained, lost, (gained - lost) / n, low, high, p, p)


def adjusted(changes: Sequence[Change]) -> list[Change]:
    """The same changes with p values adjusted by Holm (1979): the more one compares, the more one finds."""
    found = list(changes)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(changes)), key=lambda i: changes[i].p)):
        highest = max(highest, min((len(changes) - rank) * changes[place].p, 1.0))
        found[place] = replace(changes[place], p_holm=highest)
    return found


def flips_of(observed: Iterable[tuple[Hashable, Hashable]]) -> Flips:
    """Over `(group, outcome)`: the share of groups of several wordings that have more than one outcome."""
    groups: dict[Hashable, list[Hashable]] = {}
    for group, outcome in observed:
        groups.setdefault(group, []).append(outcome)
    several = [outcomes for outcomes in groups.values() if len(outcomes) > 1]
    flipped = sum(len(set(outcomes)) > 1 for outcomes in several)
    low, high = wilson(flipped, len(several))
    return Flips(flipped, len(several), flipped / len(several) if several else None, low, high)


def _by_group(values: Sequence[tuple[Hashable, float]]) -> tuple[Floats, Floats]:
    """Sum of the values and their count, for each group."""
    places: dict[Hashable, int] = {}
    index = np.asarray([places.setdefault(group, len(places)) for group, _ in values])
    sums = np.bincount(index, weights=np.asarray([v for _, v in values]))
    return sums.astype(np.float64), np.bincount(index).astype(np.float64)


def _bootstrap(sums: Floats, sizes: Floats) -> Interval | None:
    """Percentile interval of the mean, groups drawn anew; None where each group has one answer."""
    if len(sizes) == sizes.sum():
        return None
    drawn = _drawn(len(sizes))
    means = (drawn @ sums.astype(np.float32)) / (drawn @ sizes.astype(np.float32))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


@lru_cache(maxsize=8)
def _drawn(groups: int) -> npt.NDArray[np.float32]:
    """How often each group is drawn in each resample: the same for every figure of a report."""
    chance = np.random.default_rng(SEED)
    return chance.multinomial(groups, np.full(groups, 1 / groups), size=RESAMPLES).astype(np.float32)


def _wider(one: Interval, other: Interval | None) -> Interval:
    if other is None:
        return one
    return min(one[0], other[0]), max(one[1], other[1])
