"""HarmBench: harmful behaviours, in text and about pictures (centerforaisafety/HarmBench, MIT, arXiv 2402.04249).

Layout, of its GitHub repository: `data/behavior_datasets/harmbench_behaviors_text_{all,test,val}.csv` with
the columns Behavior, FunctionalCategory, SemanticCategory, Tags, ContextString, BehaviorID, and
`harmbench_behaviors_multimodal_all.csv` with ImageFileName instead of ContextString; the pictures are
`data/multimodal_behavior_images/<ImageFileName>`, all of them stored as .png whatever the name ends in.
On the hub a copy of the text is `walledai/HarmBench` (`standard`) with prompt and category.

Expectation: decline. A context goes before the behaviour with a line between them, as the set's own
prompts do. A folder gives `text_all` and `multimodal_all`, where they are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from guardproxy.errors import SuiteError
from guardproxy.evals.adapters.base import DECLINE, Adapter, Hub, Row, Told, case, find_all, picture, table
from guardproxy.evals.case import Case

HUB = ("walledai/HarmBench", "standard", "train")
FOLDER = "data/behavior_datasets"
PLACES = tuple(f"{FOLDER}/harmbench_behaviors_{name}_all.csv" for name in ("text", "multimodal"))


def read(root: Path) -> Iterator[Case]:
    """The tables of a folder, or the one that is named."""
    found = find_all(root, *PLACES)
    if not found:
        raise SuiteError(f"{root}: not the published layout: expected {' or '.join(PLACES)}")
    for path in found:
        for row in table(path, "Behavior", "SemanticCategory", "BehaviorID"):
            yield _case(row, path)


def _case(row: Row, path: Path) -> Case:
    context = row.text("ContextString")
    prompt = f"{context}\n\n---\n\n{row.needed('Behavior')}" if context else row.needed("Behavior")
    name = row.text("ImageFileName")
    pictures: tuple[Path, ...] = ()
    if name:
        images = path.parent.parent / "multimodal_behavior_images"
        pictures = (picture(row, images, name, f"{name.rpartition('.')[0]}.png"),)
    told = Told(row.needed("SemanticCategory"), pictures=pictures)
    return case(row, f"harmbench-{row.needed('BehaviorID')}", prompt, DECLINE, told)


def _hub(hub: Hub) -> Iterator[Case]:
    for number, row in enumerate(hub(*HUB), 1):
        yield case(row, f"harmbench-{number}", row.needed("prompt"), DECLINE, Told(row.needed("category")))


ADAPTER = Adapter("harmbench", "MIT", "HarmBench: harmful behaviours", read, _hub)
