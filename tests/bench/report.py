"""Writes a run down: docs/performance.md for people, docs/performance.json for the next run."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.figures import Figure, Report, Spread

ROWS = tuple(f"P{number}" for number in range(1, 12))

HEAD = """\
# Performance

Written by `{command}`; do not edit. What each row means and how it is measured: [tests/bench/rows.py](../tests/bench/rows.py).

One proxy process (nginx, HAProxy and LiteLLM with one worker, too), the fake model server and the load client on one
machine, over loopback. Contenders are measured in turn, {rounds} rounds; a figure is the median of its rounds with the least
and the most. **CPU time of the proxy's process tree per piece of work is the figure to trust**: it hardly moves with what else
the machine does. Ratios are taken within each round. Times and requests a second are good only as ratios within one run.

| | |
|---|---|
"""


def write(report: Report, folder: Path) -> None:
    """Both files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "performance.json").write_text(
        json.dumps(report.as_json(), indent=1, ensure_ascii=False) + "\n"
    )
    (folder / "performance.md").write_text(markdown(report))


def markdown(report: Report) -> str:
    """The page for people."""
    facts = {"date": report.date, **report.machine, **report.versions}
    out = [HEAD.format(command=report.command, rounds=report.rounds)]
    out += [f"| {name} | {value} |\n" for name, value in facts.items()]
    out += [
        "\n## Against what is asked\n\n| row | what | measured | asked | goal | |\n|---|---|---|---|---|---|\n"
    ]
    for row in ROWS:
        judged = [f for f in report.figures if f.row == row and _is_headline(f)]
        out += [_asked_line(f) for f in judged]
        if not judged:
            out.append(f"| {row} | | | | | not measured |\n")
    out += [
        "\n## All figures\n\n| row | what | who | median | least to most | unit |\n|---|---|---|---|---|---|\n"
    ]
    for figure in report.figures:
        out += [_figure_line(figure, who) for who, values in figure.rounds.items() if values]
    out += _notes(report.figures)
    out += ["\n## What was not run\n\n"]
    out += [f"- {what}: {why}\n" for what, why in report.skipped.items()] or ["Everything was run.\n"]
    return "".join(out)


def _is_headline(figure: Figure) -> bool:
    return figure.ratio is not None or figure.required is not None or figure.goal is not None


def _asked_line(figure: Figure) -> str:
    spread = figure.ratio_spread()
    if spread is not None and figure.ratio is not None:
        measured = f"{_ratio(spread)} (over {figure.ratio[1]})"
    elif figure.ratio is None and figure.judged() is not None:
        who = next(iter(figure.rounds))
        measured = f"{_spread(figure.spread(who))} {figure.unit}"
    else:
        measured = ""
    asked, goal = _target(figure.required), _target(figure.goal)
    return f"| {figure.row} | {figure.what} | {measured} | {asked} | {goal} | {state(figure)} |\n"


def state(figure: Figure) -> str:
    """What the figure says about its targets, in a word or two."""
    value = figure.judged()
    if value is None:
        return "reported" if figure.required is None and figure.goal is None else "not measured"
    if figure.goal is not None and value <= figure.goal:
        return "goal met"
    if figure.required is None:
        return "goal not met"
    return "met" if value <= figure.required else "**not met**"


def _figure_line(figure: Figure, who: str) -> str:
    spread = figure.spread(who)
    between = f"{number(spread.least)} to {number(spread.most)}"
    return f"| {figure.row} | {figure.what} | {who} | {number(spread.median)} | {between} | {figure.unit} |\n"


def _notes(figures: list[Figure]) -> list[str]:
    notes: dict[str, None] = {}
    for figure in figures:
        if figure.note:
            notes[f"- {figure.row}: {figure.note}\n"] = None
    return ["\n## Notes\n\n", *notes] if notes else []


def number(value: float) -> str:
    """Three significant digits, no exponent; small ratios as 1/N."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _share(value: float) -> str:
    return f"1/{1 / value:.3g}" if 0 < value < 0.5 else number(value)


def _ratio(spread: Spread) -> str:
    return f"{_share(spread.median)} [{_share(spread.least)} to {_share(spread.most)}]"


def _spread(spread: Spread) -> str:
    return f"{number(spread.median)} [{number(spread.least)} to {number(spread.most)}]"


def _target(value: float | None) -> str:
    return "" if value is None else f"≤ {_share(value)}"
