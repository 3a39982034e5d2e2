"""Figures: what was measured of each contender round by round, their ratio, and when a ratio is a regression."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

TOLERANCE = 1.2
"""A ratio may be that much worse than the recorded one."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Rounds in three numbers."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of some values."""
        ordered = sorted(values)
        return cls(median(ordered), ordered[0], ordered[-1])


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured of several contenders.

    Attributes:
        row: The requirement it answers, such as `P1`.
        what: In words; with the row it is the figure's name.
        unit: Of the values.
        rounds: Each contender's values, one a round.
        ratio: Whose value is divided by whose; the figure's target is of this ratio, else of the first contender.
        required: At most this much is asked for.
        goal: At most this much is wished for.
        note: What a reader must know.
        guarded: Whether a worse ratio is a regression.
    """

    row: str
    what: str
    unit: str
    rounds: Mapping[str, list[float]]
    ratio: tuple[str, str] | None = None
    required: float | None = None
    goal: float | None = None
    note: str = ""
    guarded: bool = True

    @property
    def name(self) -> str:
        """What it is recorded under."""
        return f"{self.row}: {self.what}"

    def spread(self, contender: str) -> Spread:
        """Of one contender's rounds."""
        return Spread.of(self.rounds[contender])

    def ratio_spread(self) -> Spread | None:
        """Of the ratio, taken within each round; None if one of the two was not measured."""
        if self.ratio is None or not all(self.rounds.get(name) for name in self.ratio):
            return None
        over, under = (self.rounds[name] for name in self.ratio)
        return Spread.of(a / b for a, b in zip(over, under, strict=False) if b)

    def judged(self) -> float | None:
        """The value that the targets are about; None if there is none or it was not measured."""
        if self.required is None and self.goal is None:
            return None
        if self.ratio is not None:
            spread = self.ratio_spread()
            return spread.median if spread else None
        first = next(iter(self.rounds.values()), [])
        return median(first) if first else None


@dataclass(slots=True)
class Report:
    """A whole run.

    Attributes:
        command: That made it.
        machine: Facts of it, none that name it.
        versions: Of every contender.
        skipped: What was not run, and why.
    """

    command: str
    date: str
    rounds: int
    machine: dict[str, str]
    versions: dict[str, str]
    figures: list[Figure] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def put(self, figures: Iterable[Figure]) -> None:
        """Put figures in the place of those of the same name."""
        anew = {figure.name: figure for figure in figures}
        self.figures = [anew.get(figure.name, figure) for figure in self.figures]

    def as_json(self) -> dict[str, Any]:
        """What `docs/performance.json` holds."""
        out = {key: value for key, value in asdict(self).items() if key != "figures"}
        out["figures"] = {f.name: _figure_json(f) for f in self.figures}
        return out


def _figure_json(figure: Figure) -> dict[str, Any]:
    ratio = figure.ratio_spread()
    return {
        "unit": figure.unit,
        "rounds": {name: [_round(v) for v in values] for name, values in figure.rounds.items()},
        "median": {name: _round(median(values)) for name, values in figure.rounds.items() if values},
        "ratio_of": list(figure.ratio) if figure.ratio else None,
        "ratio": {key: _round(value) for key, value in asdict(ratio).items()} if ratio else None,
        "required": figure.required,
        "goal": figure.goal,
    }


def _round(value: float) -> float:
    """Four significant digits: more would pretend to be known."""
    return float(f"{value:.4g}")


def regressions(figures: Iterable[Figure], recorded: Mapping[str, Any]) -> list[str]:
    """Sentences about ratios that are more than 20 % worse than the recorded ones."""
    found = []
    for figure in figures:
        now = figure.ratio_spread()
        before = (recorded.get("figures", {}).get(figure.name) or {}).get("ratio")
        if not figure.guarded or now is None or before is None:
            continue
        if now.median > before["median"] * TOLERANCE:
            found.append(
                f"{figure.name}: ratio {now.median:.3g}, recorded {before['median']:.3g} "
                f"({100 * (now.median / before['median'] - 1):+.0f} %, at most +{100 * (TOLERANCE - 1):.0f} %)"
            )
    return found
