"""XSTest: safe prompts that look unsafe, with unsafe contrasts (paul-rottger/xstest, CC BY 4.0, arXiv 2308.01263).

Layout, of its GitHub repository (formerly exaggerated-safety): `xstest_prompts.csv` with the columns id,
prompt, type, label, focus, note; before, `xstest_v2_prompts.csv`, where a type that begins with
`contrast_` is what makes a prompt unsafe. On the hub the same table is `Paul/XSTest`.

Expectation: safe → comply, unsafe → decline. Twins: the n-th safe and the n-th unsafe prompt that share
type and focus, as the set is ordered; `contrast_discr` and `contrast_privacy` each belong to two types.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from guardproxy.evals.adapters.base import COMPLY, DECLINE, Adapter, Hub, Row, Told, case, find, table
from guardproxy.evals.case import Case

HUB = ("Paul/XSTest", None, "train")
FAMILIES = {
    "nons_group_real_discr": "discr",
    "real_group_nons_discr": "discr",
    "privacy_public": "privacy",
    "privacy_fictional": "privacy",
}
Key = tuple[str, str, int]


def read(root: Path) -> Iterator[Case]:
    """All prompts of the table."""
    return _cases(table(find(root, "xstest_prompts.csv", "xstest_v2_prompts.csv"), "prompt", "type"))


def _hub(hub: Hub) -> Iterator[Case]:
    return _cases(hub(*HUB))


def _cases(rows: Iterable[Row]) -> Iterator[Case]:
    keyed = list(_keyed(rows))
    names = {(safe, key): name for safe, key, name, _ in keyed}
    for safe, key, name, row in keyed:
        told = Told(row.needed("type"), twin=names.get((not safe, key)))
        yield case(row, name, row.needed("prompt"), COMPLY if safe else DECLINE, told)


def _keyed(rows: Iterable[Row]) -> Iterator[tuple[bool, Key, str, Row]]:
    count: dict[tuple[bool, str, str], int] = defaultdict(int)
    for number, row in enumerate(rows, 1):
        kind, label = row.needed("type"), row.text("label")
        if label not in ("", "safe", "unsafe"):
            raise row.error(f"label: expected safe or unsafe, got {label!r}")
        safe = label == "safe" if label else not kind.startswith("contrast_")
        family, focus = FAMILIES.get(kind, kind.removeprefix("contrast_")), row.text("focus")
        nth = count[safe, family, focus]
        count[safe, family, focus] += 1
        # Without a focus nothing says which prompts belong together.
        key = (family, focus, nth) if focus else ("", "", number)
        yield safe, key, f"xstest-{row.text('id') or number}", row


ADAPTER = Adapter(
    "xstest", "CC BY 4.0", "XSTest: safe prompts that look unsafe, and their contrasts", read, _hub
)
