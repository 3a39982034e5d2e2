"""JailBreakV-28K: jailbreak texts with pictures, made from RedTeam-2K (JailbreakV-28K/JailBreakV-28k, MIT, arXiv 2404.03027).

Layout, of its hub data set: `JailBreakV_28K/JailBreakV_28K.csv` and `mini_JailBreakV_28K.csv` (280 of
them) with the columns id, jailbreak_query, redteam_query, format, policy, image_path, from, selected_mini,
transfer_from_llm; `image_path` is relative to the table's folder.

Expectation: decline. All jailbreaks of one red-team query are one group; the category is its policy.
A folder gives the mini set where it is there, else all 28,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from guardproxy.evals.adapters.base import DECLINE, Adapter, Row, Told, case, find, picture, table
from guardproxy.evals.case import Case

COLUMNS = ("id", "jailbreak_query", "redteam_query", "format", "policy", "image_path")
PLACES = tuple(
    f"{folder}{name}.csv"
    for name in ("mini_JailBreakV_28K", "JailBreakV_28K")
    for folder in ("JailBreakV_28K/", "")
)


def read(root: Path) -> Iterator[Case]:
    """The table of a folder, or the one that is named."""
    path = find(root, *PLACES)
    for row in table(path, *COLUMNS):
        yield _case(row, path.parent)


def _case(row: Row, root: Path) -> Case:
    group = sha256(row.needed("redteam_query").encode()).hexdigest()[:12]
    shown = picture(row, root, row.needed("image_path"))
    told = Told(row.needed("policy"), f"jailbreakv-{group}", (shown,))
    name = f"jailbreakv-{row.needed('format')}-{row.needed('id')}"
    return case(row, name, row.needed("jailbreak_query"), DECLINE, told)


ADAPTER = Adapter("jailbreakv", "MIT", "JailBreakV-28K: jailbreak texts with pictures", read)
