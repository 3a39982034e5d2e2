"""MOSSBench: harmless questions about pictures that models refuse (xirui-li/MOSSBench, arXiv 2406.17806).

Layout, of its GitHub repository: `data/images_information/information.json` holds an object by problem
id with image (relative to `data`), question, pid and metadata.over (`type 1` exaggerated risk, `type 2`
negated harm, `type 3` counterintuitive interpretation); `data_contrast` holds harmful questions about the
same pictures under the same ids. On the hub the harmless table is `AIcell/MOSSBench`, `oversensitivity`.

Expectation: comply; the contrasts decline, and are the twins of the same id.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from guardproxy.evals.adapters.base import (
    COMPLY,
    DECLINE,
    Adapter,
    Hub,
    Row,
    Told,
    case,
    entries,
    find,
    picture,
)
from guardproxy.evals.case import Case, Expectation

KINDS = {"type 1": "exaggerated risk", "type 2": "negated harm", "type 3": "counterintuitive interpretation"}
INFORMATION = "images_information/information.json"
HUB = ("AIcell/MOSSBench", "oversensitivity", "train")


def read(root: Path) -> Iterator[Case]:
    """The harmless questions, and their contrasts where they are there."""
    harmless = dict(entries(find(root, f"data/{INFORMATION}")))
    contrast_file = root / "data_contrast" / INFORMATION
    contrasts = dict(entries(contrast_file)) if contrast_file.is_file() else {}
    for rows, others, expect in ((harmless, contrasts, COMPLY), (contrasts, harmless, DECLINE)):
        folder = "data" if rows is harmless else "data_contrast"
        for pid, row in rows.items():
            name = row.needed("image")
            stem = name.rpartition(".")[0]
            tried = (name, *(f"{stem}.{end}" for end in ("png", "webp", "jpg")))
            shown = picture(row, root, *(f"{where}/{one}" for where in (folder, "data") for one in tried))
            yield _case(row, pid, shown, expect, twin=pid in others)


def _case(row: Row, pid: str, shown: Path, expect: Expectation, *, twin: bool) -> Case:
    metadata = row.fields.get("metadata")
    over = str(metadata.get("over", "")) if isinstance(metadata, dict) else ""
    names = f"mossbench-{pid}", f"mossbench-contrast-{pid}"
    name, other = names if expect is COMPLY else names[::-1]
    told = Told(KINDS.get(over, over or "unknown"), pictures=(shown,), twin=other if twin else None)
    return case(row, name, row.needed("question"), expect, told)


def _hub(hub: Hub) -> Iterator[Case]:
    for row in hub(*HUB):
        shown = row.fields.get("decoded_image")
        if not isinstance(shown, Path):
            raise row.error("decoded_image: expected a picture")
        yield _case(row, row.needed("pid"), shown, COMPLY, twin=False)


ADAPTER = Adapter(
    "mossbench", "see the repository", "MOSSBench: harmless questions about pictures", read, _hub
)
