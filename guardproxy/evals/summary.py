"""A report in a few lines, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from guardproxy.evals.figures import Report
from guardproxy.evals.page import cautions_told
from guardproxy.evals.statistics import Rate
from guardproxy.evals.wording import Wording, interval, percent


def summary(report: Report) -> str:
    """Both sides of each arm, and what to mind."""
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    words = Wording("en")
    width = max(len(a.name) for a in report.arms)
    yield f"{'':{width}}  {'attack success':28}  over-refusal"
    for arm in report.arms:
        sides = arm.sides
        yield f"{arm.name:{width}}  {_rate(sides.attack_success):28}  {_rate(sides.over_refusal)}"
    yield from (f"! {told}" for told in cautions_told(report, words))


def _rate(rate: Rate) -> str:
    if not rate.n:
        return "no cases"
    return f"{percent(rate.rate)} {interval(rate.low, rate.high)} n={rate.n}"
