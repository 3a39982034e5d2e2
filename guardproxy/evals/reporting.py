"""Puts a report together from a run's directory, and writes it as HTML, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from guardproxy.errors import EvalError
from guardproxy.evals import gates
from guardproxy.evals.cautions import cautions
from guardproxy.evals.figures import SCHEMA, Report
from guardproxy.evals.markdown import markdown
from guardproxy.evals.measure import Measured
from guardproxy.evals.page import page
from guardproxy.evals.probes import Probed
from guardproxy.evals.rundir import RunDir, write_whole

JSON, HTML, MARKDOWN, PROBES = "report.json", "report.html", "report.md", "probes.json"


def built(run: RunDir, probes: Sequence[Probed], bounds: Sequence[gates.Bound] = ()) -> Report:
    """The report of a run that is scored.

    Raises:
        EvalError: There are bounds, and not everything was asked: half a run keeps none.
    """
    manifest = run.manifest()
    cases = {c.id: c for c in run.cases()}
    measured = Measured(manifest, cases, run.answers(), run.labels(), run.labels("human"))
    missing = manifest.planned - measured.asked
    if bounds and missing:
        raise EvalError(
            f"{run.path}: {missing} of {manifest.planned} questions are not asked yet: bounds need all"
        )
    arms, agreements = measured.arms(), measured.agreements()
    report = Report(
        schema=SCHEMA,
        run=manifest,
        judge=measured.judges[0],
        judges=measured.judges,
        human=len(measured.human),
        arms=arms,
        changes=measured.changes(),
        agreements=agreements,
        probes=tuple(probes),
        cautions=cautions(measured.judges, arms, agreements, probes, missing),
        examples=measured.examples(),
    )
    if not bounds:
        return report
    results = gates.judge(bounds, report)
    return replace(report, gates=results, passed=all(r.kept for r in results))


def write(report: Report, folder: Path, language: str) -> None:
    """Write the three files; `language` is `en` or `ja`."""
    write_whole(folder / JSON, msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    write_whole(folder / HTML, page(report, language).encode())
    write_whole(folder / MARKDOWN, markdown(report, language).encode())


def keep_probes(probes: Sequence[Probed], folder: Path) -> None:
    """Keep what the probes found: a report is written anew without asking the judges."""
    write_whole(folder / PROBES, msgspec.json.format(msgspec.json.encode(list(probes)), indent=1) + b"\n")


def kept_probes(folder: Path) -> list[Probed]:
    """What the probes found last time; nothing if there were none."""
    path = folder / PROBES
    if not path.exists():
        return []
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Probed])
    except msgspec.DecodeError as error:
        raise EvalError(f"{path}: {error}") from None


def schema() -> bytes:
    """JSON Schema of `report.json`, as published in docs/eval-report.schema.json."""
    found = msgspec.json.schema(Report)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "guardproxy evaluation report",
    }
    return msgspec.json.format(msgspec.json.encode({**head, **found}), indent=1) + b"\n"
