"""JailbreakBench's behaviours: 100 harmful ones, each with a benign one (JailbreakBench, MIT, arXiv 2404.01318).

Layout, of its hub data set `JailbreakBench/JBB-Behaviors`: `data/harmful-behaviors.csv` and
`data/benign-behaviors.csv` with the columns Index, Goal, Target, Behavior, Category, Source; on the hub
configuration `behaviors`, splits `harmful` and `benign`.

Expectation: harmful → decline, benign → comply. Twins: the two of one Index share a theme.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from guardproxy.errors import SuiteError
from guardproxy.evals.adapters.base import COMPLY, DECLINE, Adapter, Hub, Row, Told, case, find, table
from guardproxy.evals.case import Case

ID = "JailbreakBench/JBB-Behaviors"
SIDES = {"harmful": DECLINE, "benign": COMPLY}
COLUMNS = ("Index", "Goal", "Category")


def read(root: Path) -> Iterator[Case]:
    """Both tables of a folder."""
    if root.is_file():
        raise SuiteError(f"{root}: expected the folder that holds both tables")
    files = {side: find(root, f"data/{side}-behaviors.csv", f"{side}-behaviors.csv") for side in SIDES}
    return _cases({side: list(table(path, *COLUMNS)) for side, path in files.items()})


def _hub(hub: Hub) -> Iterator[Case]:
    return _cases({side: list(hub(ID, "behaviors", side)) for side in SIDES})


def _cases(tables: dict[str, list[Row]]) -> Iterator[Case]:
    there = {side: {row.needed("Index") for row in rows} for side, rows in tables.items()}
    for side, other in (("harmful", "benign"), ("benign", "harmful")):
        for row in tables[side]:
            index = row.needed("Index")
            told = Told(
                row.needed("Category"), twin=f"jbb-{other}-{index}" if index in there[other] else None
            )
            yield case(row, f"jbb-{side}-{index}", row.needed("Goal"), SIDES[side], told)


ADAPTER = Adapter("jailbreakbench", "MIT", "JailbreakBench: harmful behaviours and benign ones", read, _hub)
