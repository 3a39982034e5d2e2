"""OR-Bench: seemingly toxic but harmless prompts, and toxic ones (justincui03/or-bench, CC BY 4.0, arXiv 2405.20947).

Layout, of its hub data set `bench-llm/or-bench`: `or-bench-80k.csv`, `or-bench-hard-1k.csv` and
`or-bench-toxic.csv`, each with the columns prompt and category; also its configurations by these names.

Expectation: 80k and hard-1k → comply, toxic → decline. A folder gives hard-1k and toxic; the 80k only
when the file itself is named. The set has no pairs and no wordings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from guardproxy.errors import SuiteError
from guardproxy.evals.adapters.base import COMPLY, DECLINE, Adapter, Hub, Row, Told, case, find_all, table
from guardproxy.evals.case import Case

ID = "bench-llm/or-bench"
TABLES = {"or-bench-hard-1k": COMPLY, "or-bench-toxic": DECLINE, "or-bench-80k": COMPLY}
USUAL = ("or-bench-hard-1k", "or-bench-toxic")


def read(root: Path) -> Iterator[Case]:
    """The tables of a folder, or the one that is named."""
    found = find_all(root, *(f"{name}.csv" for name in USUAL))
    if not found or any(path.stem not in TABLES for path in found):
        raise SuiteError(
            f"{root}: not the published layout: expected {' or '.join(f'{n}.csv' for n in TABLES)}"
        )
    for path in found:
        yield from _cases(path.stem, table(path, "prompt", "category"))


def _hub(hub: Hub) -> Iterator[Case]:
    for name in USUAL:
        yield from _cases(name, hub(ID, name, "train"))


def _cases(name: str, rows: Iterable[Row]) -> Iterator[Case]:
    for number, row in enumerate(rows, 1):
        told = Told(row.needed("category"))
        yield case(row, f"{name}-{number}", row.needed("prompt"), TABLES[name], told)


ADAPTER = Adapter("or_bench", "CC BY 4.0", "OR-Bench: prompts that seem toxic, and toxic ones", read, _hub)
