"""Rows in one form: JSON lines of id, source, task, prompt, label, category, lang, image and meta.

Expectation: for the tasks prompt_harm and injection, label 1 → decline, 0 → comply; for overrefusal the same
(1: truly unsafe). Rows that label an answer (response_harm, refusal) or personal data are no requests and
are passed over, as are repeated requests. `meta.group` is the group, apart for each side; where a
group has both sides, the twin is the first request of the other. Sets that label content (posts,
comments) and not requests are passed over. Pictures are relative to the file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from guardproxy.errors import SuiteError
from guardproxy.evals.adapters.base import COMPLY, DECLINE, Adapter, Row, Told, case, picture
from guardproxy.evals.case import Case

CONTENT = ("coldataset", "japanese_toxic", "openai_moderation")
REQUESTS = ("prompt_harm", "injection", "overrefusal")


def read(root: Path) -> Iterator[Case]:
    """The requests of a file, or of every file of a folder."""
    files = [root] if root.is_file() else sorted(root.glob("*.jsonl"))
    if not files:
        raise SuiteError(f"{root}: expected a file of JSON lines, or a folder with some")
    found = [one for file in files for one in _file(file)]
    sides: dict[str, dict[bool, list[str]]] = defaultdict(lambda: {True: [], False: []})
    for one in found:
        sides[_shared(one)][one.expect is COMPLY].append(one.id)
    for one in found:
        others = sides[_shared(one)][one.expect is not COMPLY]
        yield replace(one, twin=others[0]) if others else one


def _shared(one: Case) -> str:
    return one.group.rpartition("/")[0]


def _file(path: Path) -> Iterator[Case]:
    seen: set[tuple[object, ...]] = set()
    for row in _rows(path):
        if row.text("task") not in REQUESTS or row.text("source") in CONTENT:
            continue
        if row.fields.get("label") not in (0, 1):
            raise row.error(f"label: expected 0 or 1, got {row.fields.get('label')!r}")
        one = _case(row, path.parent)
        key = (one.prompt, one.pictures, one.expect)
        if key not in seen:
            seen.add(key)
            yield one


def _case(row: Row, root: Path) -> Case:
    expect = DECLINE if row.fields["label"] == 1 else COMPLY
    meta = row.fields.get("meta")
    group = str(meta.get("group") or "") if isinstance(meta, dict) else ""
    image = row.text("image")
    shown = (picture(row, root, image),) if image else ()
    name = row.needed("id")
    told = Told(
        row.text("category") or row.text("source") or "unknown",
        f"{group or name}/{expect.value}",
        shown,
        row.text("lang") or "und",
    )
    return case(row, name, row.text("prompt"), expect, told)


def _rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            place = f"{path}:{number}"
            try:
                fields = msgspec.json.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise SuiteError(f"{place}: not valid JSON: {error}") from None
            if not isinstance(fields, dict):
                raise SuiteError(f"{place}: expected an object, got {type(fields).__name__}")
            yield Row(fields, place)


ADAPTER = Adapter("rows", "of each source; see its README", "Requests out of rows in one form", read)
