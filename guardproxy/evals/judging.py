"""`guardproxy eval judges`: how far judges agree with people and with each other, on a file of labelled answers.

Two kinds of rows: label columns (such as those of XSTest's judges), or answers with a person's label (`task`
`refusal`, `response`, `label`), which the judges named then read.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import msgspec

from guardproxy.errors import EvalError
from guardproxy.evals.agreement import Agreement, agreement_of
from guardproxy.evals.case import Expectation
from guardproxy.evals.judges.base import Judge, judge_all
from guardproxy.evals.outcome import Label
from guardproxy.evals.rundir import Asked
from guardproxy.evals.wording import number, percent
from guardproxy.yamldoc import suggest

CLASSES = {
    "1_full_compliance": "complied",
    "full_compliance": "complied",
    "compliance": "complied",
    "complied": "complied",
    "2_full_refusal": "refused",
    "full_refusal": "refused",
    "refusal": "refused",
    "refused": "refused",
    "3_partial_refusal": "partial",
    "partial_refusal": "partial",
    "partial": "partial",
}
"""Labels as people write them; anything else is unreadable."""
MOSTLY = 0.9
"""Share of a column's values that must be labels, for it to be taken for a judge's."""

Row = Mapping[str, object]
Column = list[str | None]


@dataclass(frozen=True, slots=True)
class Compared:
    """Two columns, in one way of counting.

    Attributes:
        counted: `two classes` (a partial refusal is one), `three classes`, or `two classes, unreadable as complied`.
    """

    counted: str
    agreement: Agreement


def run(
    file: Path, human: str | None, columns: Sequence[str], judges: Sequence[Judge], *, as_json: bool
) -> int:
    """Print every comparison.

    Raises:
        EvalError: A row is none, or there are no labels to compare.
    """
    rows = read(file)
    found = compare(rows, file, human, columns, judges)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    else:
        sys.stdout.writelines(_lines(found))
    return 0


def read(file: Path) -> list[Row]:
    """The rows of a file."""
    found: list[Row] = []
    for number_, line in enumerate(file.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(msgspec.json.decode(line, type=dict[str, object]))
        except (msgspec.DecodeError, UnicodeError) as error:
            raise EvalError(f"{file}:{number_}: not a row: {error}") from None
    return found


def compare(
    rows: Sequence[Row], file: Path, human: str | None, columns: Sequence[str], judges: Sequence[Judge]
) -> list[Compared]:
    """Compare the reference with every other column, and people with each other."""
    answered = [r for r in rows if r.get("task") == "refusal" and isinstance(r.get("response"), str)]
    if judges and not answered:
        raise EvalError(f"{file}: expected rows with task refusal, response and label for --judges to read")
    if answered and not human:
        return _read_by(answered, judges)
    names = [c for c in _label_columns(rows) if not columns or c in columns or c == human]
    for wanted in (*columns, *([human] if human else [])):
        if wanted not in names:
            raise EvalError(
                f"{file}: no column of labels named {wanted!r}{suggest(wanted, _label_columns(rows))}"
            )
    pairs = _pairs_of(names, human)
    if not pairs:
        raise EvalError(f"{file}: expected at least two columns of labels, got {', '.join(names) or 'none'}")
    return [c for a, b in pairs for c in _counted(a, b, _column(rows, a), _column(rows, b))]


def _pairs_of(names: Sequence[str], human: str | None) -> list[tuple[str, str]]:
    """The reference with each judge, then people with each other."""
    people = [n for n in names if n.startswith("human")]
    finals = [n for n in people if n.endswith("final")]
    reference = human or next(iter([*finals, *people, *names]), "")
    pairs = [(reference, n) for n in names if n not in people and n != reference]
    return pairs + [(a, b) for a, b in combinations(people, 2) if reference not in (a, b)]


def _label_columns(rows: Sequence[Row]) -> list[str]:
    names = list(dict.fromkeys(k for r in rows for k in r))
    labels = {n: sum(_label(r.get(n)) is not None for r in rows) for n in names}
    return [n for n in names if labels[n] >= MOSTLY * len(rows)]


def _label(value: object) -> str | None:
    return CLASSES.get(value.strip().lower()) if isinstance(value, str) else None


def _column(rows: Sequence[Row], name: str) -> Column:
    return [_label(r.get(name)) for r in rows]


def _counted(first: str, second: str, one: Column, other: Column) -> Iterator[Compared]:
    three = {"partial"} & {*one, *other}
    yield Compared("two classes", agreement_of(first, second, [*zip(_two(one), _two(other), strict=True)]))
    if None in one or None in other:
        filled = [*zip(_filled(_two(one)), _filled(_two(other)), strict=True)]
        yield Compared("two classes, unreadable as complied", agreement_of(first, second, filled))
    if three:
        yield Compared("three classes", agreement_of(first, second, [*zip(one, other, strict=True)]))


def _two(column: Column) -> Column:
    """A partial refusal is a refusal."""
    return ["refused" if label == "partial" else label for label in column]


def _filled(column: Column) -> Column:
    return ["complied" if label is None else label for label in column]


def _read_by(rows: Sequence[Row], judges: Sequence[Judge]) -> list[Compared]:
    if not judges:
        raise EvalError("expected --judges: the rows hold answers to read, and one column of labels")
    human: Column = ["refused" if r.get("label") in (1, "1", True) else "complied" for r in rows]
    columns = {j.name: asyncio.run(_labels(j, rows)) for j in judges}
    found = [c for name, column in columns.items() for c in _counted("human", name, human, column)]
    names = list(columns)
    for one, other in combinations(names, 2):
        found.extend(_counted(one, other, columns[one], columns[other]))
    return found


async def _labels(judge: Judge, rows: Sequence[Row]) -> Column:
    readable = [r for r in rows if str(r["response"]).strip()]
    said = iter(await judge_all(judge, [(_asked(r), str(r["response"])) for r in readable]))
    labels = [next(said).label if str(r["response"]).strip() else Label.UNREADABLE for r in rows]
    return [None if label is Label.UNREADABLE else label.value for label in labels]


def _asked(row: Row) -> Asked:
    return Asked(
        str(row.get("id")), str(row.get("prompt") or ""), Expectation.COMPLY, str(row.get("category") or ""),
        str(row.get("lang") or "en"), str(row.get("id")),
    )  # fmt: skip


def _lines(found: Sequence[Compared]) -> Iterator[str]:
    for one in found:
        a = one.agreement
        yield f"{a.first} / {a.second}, {one.counted}\n"
        yield f"  n {a.n}, coverage {percent(a.coverage)}, agreement {percent(a.agreement)}\n"
        if a.kappa is None:
            yield "  kappa is not defined: both used one label only\n"
        else:
            yield f"  kappa {number(a.kappa, 3)} [{number(a.low, 3)}, {number(a.high, 3)}], at most {number(a.kappa_max, 3)}\n"
        for name, shares in zip((a.first, a.second), a.marginals, strict=True):
            yield f"  {name}: {', '.join(f'{label} {percent(share)}' for label, share in shares.items())}\n"
