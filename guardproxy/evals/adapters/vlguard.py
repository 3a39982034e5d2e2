"""VLGuard: safe and unsafe pictures with instructions (ys-zong/VLGuard, ICML 2024, arXiv 2402.02207).

Layout, of its hub data set: `test.json` (in the GitHub repository `data/test.json`), a list of image,
safe, harmful_category, harmful_subcategory and `instr-resp`; pictures in `test/<image>` once `test.zip` is
unpacked. A safe picture has a `safe_instruction` and an `unsafe_instruction`, an unsafe one an `instruction`.

Expectation: safe picture with safe instruction → comply; unsafe instruction, or unsafe picture → decline.
Twins: the two instructions about one safe picture. The published answers are not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from guardproxy.evals.adapters.base import COMPLY, DECLINE, Adapter, Row, Told, case, entries, find, picture
from guardproxy.evals.case import Case


def read(root: Path) -> Iterator[Case]:
    """The test half."""
    metadata = find(root, "test.json", "data/test.json")
    images = find(metadata.parent, "test", "VLGuard/test") if root.is_dir() else root.parent / "test"
    for number, row in entries(metadata):
        yield from _cases(row, f"vlguard-{row.text('id') or number}", images)


def _cases(row: Row, name: str, images: Path) -> Iterator[Case]:
    shown = (picture(row, images, row.needed("image")),)
    safe, pairs = row.fields.get("safe"), row.fields.get("instr-resp")
    if not isinstance(safe, bool) or not isinstance(pairs, list):
        raise row.error("expected the fields safe (true, false) and instr-resp (a list)")
    merged = {key: value for pair in pairs for key, value in pair.items()}
    asked = Row(merged, row.place)
    if not safe:
        yield case(row, name, asked.needed("instruction"), DECLINE, Told(_category(row), pictures=shown))
        return
    benign = Told("safe picture, safe instruction", pictures=shown, twin=f"{name}-unsafe")
    attack = Told("safe picture, unsafe instruction", pictures=shown, twin=f"{name}-safe")
    yield case(row, f"{name}-safe", asked.needed("safe_instruction"), COMPLY, benign)
    yield case(row, f"{name}-unsafe", asked.needed("unsafe_instruction"), DECLINE, attack)


def _category(row: Row) -> str:
    parts = (row.text("harmful_category"), row.text("harmful_subcategory"))
    return ", ".join(part for part in parts if part) or "unsafe picture"


ADAPTER = Adapter("vlguard", "see the data set's terms", "VLGuard test: safe and unsafe pictures", read)
