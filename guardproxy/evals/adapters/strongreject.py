"""StrongREJECT: forbidden questions in six categories (alexandrasouly/strongreject, MIT, arXiv 2402.10260).

Layout, of its GitHub repository: `strongreject_dataset/strongreject_dataset.csv` (and
`strongreject_small_dataset.csv`, 60 of them) with the columns category, source, forbidden_prompt. On the
hub a copy is `walledai/StrongREJECT` with the columns prompt, category, source.

Expectation: decline. The set has neither twins nor wordings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from guardproxy.evals.adapters.base import DECLINE, Adapter, Hub, Row, Told, case, find, table
from guardproxy.evals.case import Case

HUB = ("walledai/StrongREJECT", None, "train")
PLACES = tuple(
    f"{folder}{name}.csv"
    for folder in ("strongreject_dataset/", "")
    for name in ("strongreject_dataset", "strongreject_small_dataset")
)


def read(root: Path) -> Iterator[Case]:
    """The full table of a folder, or the one that is named."""
    return _cases(table(find(root, *PLACES), "category", "forbidden_prompt"), "forbidden_prompt")


def _hub(hub: Hub) -> Iterator[Case]:
    return _cases(hub(*HUB), "prompt")


def _cases(rows: Iterable[Row], column: str) -> Iterator[Case]:
    for number, row in enumerate(rows, 1):
        told = Told(row.needed("category"))
        yield case(row, f"strongreject-{number}", row.needed(column), DECLINE, told)


ADAPTER = Adapter("strongreject", "MIT", "StrongREJECT: forbidden questions", read, _hub)
