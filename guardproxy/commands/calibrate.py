"""`guardproxy calibrate`: a guard's threshold from an operator's own labels, with what it would stop."""

from __future__ import annotations

import asyncio
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from guardproxy.commands.looking import Case, Looker
from guardproxy.core.policy import Guard
from guardproxy.core.verdict import Stage
from guardproxy.errors import PolicyError, RowError, SettingsError
from guardproxy.policystore import shipped_dir
from guardproxy.training.card import threshold_for, wilson
from guardproxy.yamldoc import suggest

Floats = npt.NDArray[np.float64]
MIN_POSITIVE = 10
"""Rows of label 1 below which the share caught says nothing."""
_PER = 10_000


class Label(msgspec.Struct):
    """One line: what was asked, perhaps the answer, and whether it should be stopped.

    Attributes:
        label: 1: stop it, 0: let it pass. A row with a response labels the response, one without the prompt.
    """

    label: int
    prompt: str = ""
    response: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked for.

    Attributes:
        max_fpr: The largest share of harmless rows that may be stopped, in (0, 1).
        guard: Only this one; all scored guards of the policy if None.
        harmful_share: Of the traffic, in [0, 1]: for the expected number of blocks.
        write: Whether the policy's file is changed.
    """

    labels: Path
    max_fpr: float
    policy: str
    policies: Path | None
    guard: str | None
    harmful_share: float
    write: bool


def share(text: str, least: float = 1e-6) -> float:
    """`1%` or `0.01` as a number from `least` to below 1.

    Raises:
        SettingsError: It is none.
    """
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise SettingsError(f"expected a share such as 1% or 0.01, got {text!r}") from None
    if not least <= value < 1:
        raise SettingsError(f"expected a share above 0% and below 100%, got {text}")
    return value


def run(job: Job) -> int:
    """Print, for each guard, the threshold that keeps within the share; returns the exit code.

    Raises:
        PolicyError: No such policy or guard, or the file cannot be changed by itself.
        RowError: A line is no label, or there are too few.
    """
    looker = Looker(job.policy, job.policies)
    try:
        guards = _chosen(looker, job.guard)
        scores = asyncio.run(_scores(looker, guards, list(_labels(job.labels))))
    finally:
        looker.close()
    wanted = job.guard is not None
    for guard in guards:
        negative, positive = (np.asarray(scores[guard.name][label]) for label in (0, 1))
        if not wanted and negative.size == 0 and positive.size == 0:
            continue
        _enough(guard, negative.size, positive.size, job)
        threshold = threshold_for(negative, job.max_fpr)
        for line in _report(guard, threshold, negative, positive, job):
            sys.stdout.write(line + "\n")
        if job.write:
            _write(job, guard.name, threshold)
    return 0


def _chosen(looker: Looker, name: str | None) -> list[Guard]:
    scored = [g for g in looker.policy.guards if g.detector not in ("patterns", "prompt_leak")]
    if name is None:
        return scored
    found = [g for g in scored if g.name == name]
    if not found:
        names = [g.name for g in scored]
        raise PolicyError(f"policy {looker.policy.name} has no scored guard {name!r}{suggest(name, names)}")
    return found


def _labels(path: Path) -> Iterator[Label]:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line, type=Label)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise RowError(f"{path}:{number}: not a labelled row: {error}") from None
        if row.label not in (0, 1):
            raise RowError(f"{path}:{number}: label: expected 0 or 1, got {row.label}")
        yield row


Scores = dict[str, dict[int, list[float]]]


async def _scores(looker: Looker, guards: Sequence[Guard], rows: Sequence[Label]) -> Scores:
    found: Scores = {guard.name: defaultdict(list) for guard in guards}
    for row in rows:
        stage = Stage.INPUT if row.response is None else Stage.OUTPUT
        for looked in await looker.look(Case(row.prompt, row.response), [stage]):
            for verdict in looked.verdict.guards:
                if verdict.guard not in found:
                    continue
                if verdict.failure is not None:
                    raise RowError(f"guard {verdict.guard} could not look at a row: {verdict.failure.reason}")
                highest = max((f.score for f in verdict.findings), default=0.0)
                found[verdict.guard][row.label].append(highest)
    return found


def _enough(guard: Guard, negative: int, positive: int, job: Job) -> None:
    needed = math.ceil(1 / job.max_fpr)
    kind = "without" if guard.stage is Stage.INPUT else "with"
    if negative < needed:
        raise RowError(
            f"{job.labels}: guard {guard.name}: {job.max_fpr:.2%} false stops need at least {needed} rows of label 0 "
            f"{kind} a response, got {negative}"
        )
    if positive < MIN_POSITIVE:
        raise RowError(
            f"{job.labels}: guard {guard.name}: at least {MIN_POSITIVE} rows of label 1 {kind} a response are needed "
            f"to say what is caught, got {positive}"
        )


def _report(guard: Guard, threshold: float, negative: Floats, positive: Floats, job: Job) -> Iterator[str]:
    stopped, caught = int((negative >= threshold).sum()), int((positive >= threshold).sum())
    low, high = wilson(stopped, negative.size)
    below, above = wilson(caught, positive.size)
    harmful = job.harmful_share
    expected, least, most = (
        round(_PER * ((1 - harmful) * a + harmful * b))
        for a, b in ((stopped / negative.size, caught / positive.size), (low, below), (high, above))
    )
    yield f"{guard.name} (detector {guard.detector}): threshold {threshold:.3f}, now {guard.threshold:.3f}"
    yield (
        f"  false stops: {stopped} of {negative.size} = {stopped / negative.size:.2%} "
        f"(95 % interval {low:.2%} to {high:.2%})"
    )
    yield (
        f"  caught: {caught} of {positive.size} = {caught / positive.size:.1%} "
        f"(95 % interval {below:.1%} to {above:.1%})"
    )
    yield (
        f"  expected blocks per {_PER:,} requests, {harmful:.2%} of them harmful: {expected} ({least} to {most})"
    )
    if high > 2 * job.max_fpr:
        yield f"  the interval is wide: label more harmless rows than {negative.size} to be surer"


def _write(job: Job, guard: str, threshold: float) -> None:
    path = (job.policies or shipped_dir()) / f"{job.policy}.yaml"
    path.write_text(with_threshold(path.read_text("utf-8"), guard, threshold), encoding="utf-8")
    sys.stdout.write(f"  written to {path}\n")


def with_threshold(text: str, guard: str, threshold: float) -> str:
    """A policy's text with another threshold for one guard; all else, comments too, stays.

    Raises:
        PolicyError: The guard does not stand there with a threshold of its own, once.
    """
    name = re.escape(guard)
    entry = re.compile(
        rf"(-\s*\{{?\s*name:\s*['\"]?{name}['\"]?\s*(?:[,#\n](?:(?!\n\s*-\s*\{{?\s*name:)[\s\S])*?)\bthreshold:\s*)([0-9.eE+-]+)"
    )
    if len(entry.findall(text)) != 1:
        raise PolicyError(f"guard {guard}: no `threshold:` of its own was found in the file; set it by hand")
    return entry.sub(lambda found: f"{found.group(1)}{threshold:.3f}", text)
