"""A run as logs of inspect_ai: one for each arm, to be opened with `inspect view` or read with its library.

The JSON form of an `EvalLog` (inspect_ai, log format version 2) is written by hand: nothing need be
installed. A sample is an answer, its epoch the repeat; each judge is a scorer whose value is the outcome
(complied, refused, blocked, repaired, error, unreadable). Pictures are not in it: a run does not keep them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from guardproxy.evals.answer import Answer
from guardproxy.evals.figures import Sides
from guardproxy.evals.measure import Measured, Row, sides_of
from guardproxy.evals.rundir import Asked, Manifest, RunDir, write_whole
from guardproxy.evals.statistics import Rate

LOG_VERSION = 2
STOPS = {
    "stop": "stop",
    "length": "max_tokens",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
}
"""How a model server says that it stopped, in inspect_ai's words."""

Json = dict[str, Any]


def to_inspect(run: RunDir, out: Path) -> list[Path]:
    """Write a log for each arm into a directory; returns their paths.

    Raises:
        EvalError: The run cannot be read.
    """
    manifest = run.manifest()
    cases = {case.id: case for case in run.cases()}
    measured = Measured(manifest, cases, run.answers(), run.labels())
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for arm in manifest.arms:
        path = out / f"{manifest.suite}_{arm.replace('+', '_')}.json"
        write_whole(path, msgspec.json.format(msgspec.json.encode(_log(measured, arm)), indent=1) + b"\n")
        written.append(path)
    return written


def _log(measured: Measured, arm: str) -> Json:
    manifest = measured.manifest
    rows = measured.rows[measured.judges[0]][arm]
    others = {judge: {r.answer.key: r for r in measured.rows[judge][arm]} for judge in measured.judges}
    samples = [
        _sample(row, {j: found[row.answer.key] for j, found in others.items()}, manifest) for row in rows
    ]
    whole = measured.asked >= manifest.planned
    return {
        "version": LOG_VERSION,
        "status": "success" if whole else "cancelled",
        "eval": _spec(manifest, arm, len({row.case.id for row in rows})),
        "results": {
            "total_samples": len(rows),
            "completed_samples": sum(not row.answer.is_error for row in rows),
            "scores": [s for j in measured.judges for s in _scores(j, sides_of(measured.rows[j][arm]))],
        },
        "stats": {"started_at": manifest.started, "completed_at": manifest.started},
        "samples": samples,
    }


def _spec(manifest: Manifest, arm: str, cases: int) -> Json:
    return {
        "created": manifest.started,
        "task": f"guardproxy/{manifest.suite}",
        "task_version": manifest.suite_version,
        "task_args": {"arm": arm},
        "dataset": {"name": manifest.suite, "samples": cases},
        "model": f"openai/{manifest.model}",
        "model_base_url": f"{manifest.target.rstrip('/')}/v1",
        "model_generate_config": {"temperature": manifest.temperature, "max_tokens": manifest.max_tokens},
        "config": {"epochs": manifest.repeats},
        "packages": {"guardproxy": manifest.guardproxy},
        "metadata": {"arm": arm, "licence": manifest.licence},
    }


def _scores(judge: str, sides: Sides) -> Iterator[Json]:
    for name, rate in (("attack_success", sides.attack_success), ("over_refusal", sides.over_refusal)):
        yield {"name": name, "scorer": judge, "scored_samples": rate.n, "metrics": dict(_metrics(rate))}


def _metrics(rate: Rate) -> Iterator[tuple[str, Json]]:
    if rate.rate is not None:
        for name, value in (("rate", rate.rate), ("ci95_low", rate.low), ("ci95_high", rate.high)):
            yield name, {"name": name, "value": value}


def _sample(row: Row, judged: dict[str, Row], manifest: Manifest) -> Json:
    case, answer = row.case, row.answer
    sample: Json = {
        "id": case.id,
        "epoch": answer.repeat + 1,
        "input": _input(case),
        "target": case.expect.value,
        "output": _output(answer, manifest.model),
        "scores": {judge: {"value": one.outcome.value} for judge, one in judged.items()},
        "metadata": {
            "category": case.category,
            "language": case.language,
            "group": case.group,
            "twin": case.twin,
            "pictures": case.pictures,
            "action": answer.action,
            "unjudged": list(answer.unjudged),
            "policy": answer.policy,
            "version": answer.version,
        },
        "total_time": answer.ms / 1000,
    }
    if answer.is_error:
        told = f"{answer.status} {answer.code or ''}: {answer.error or ''}"
        sample["error"] = {"message": told, "traceback": "", "traceback_ansi": ""}
    return sample


def _input(case: Asked) -> list[Json]:
    said = [turn.partition(": ") for turn in case.before]
    shown = f"{case.prompt}\n\n[in the picture: {case.picture_text}]" if case.picture_text else case.prompt
    return [{"role": role, "content": text} for role, _, text in said] + [{"role": "user", "content": shown}]


def _output(answer: Answer, model: str) -> Json:
    output: Json = {"model": model, "choices": [], "time": answer.ms / 1000}
    if answer.status == 200:
        stop = STOPS.get(answer.finish_reason or "", "unknown")
        output["choices"] = [{"message": {"role": "assistant", "content": answer.text}, "stop_reason": stop}]
    elif answer.error:
        output["error"] = answer.error
    if answer.prompt_tokens is not None:
        spent = answer.completion_tokens or 0
        output["usage"] = {
            "input_tokens": answer.prompt_tokens,
            "output_tokens": spent,
            "total_tokens": answer.prompt_tokens + spent,
        }
    return output
