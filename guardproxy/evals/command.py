"""`guardproxy eval run | score | report`: ask, judge, report, and say whether the bounds are kept."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx

from guardproxy import __version__
from guardproxy.errors import EvalError
from guardproxy.evals import arms as arms_module
from guardproxy.evals import gates, pictures, reporting
from guardproxy.evals import suite as suite_module
from guardproxy.evals.asking import HttpAsker, base_url
from guardproxy.evals.case import Case, Suite
from guardproxy.evals.figures import Report
from guardproxy.evals.judges import registry
from guardproxy.evals.judges.base import Judge
from guardproxy.evals.probes import probe
from guardproxy.evals.rundir import Manifest, RunDir
from guardproxy.evals.running import Plan, Run
from guardproxy.evals.scoring import score as score_all
from guardproxy.evals.summary import summary

BROKEN = 3
"""Exit code where a bound is broken."""
JUDGE_TIMEOUT_S = 120.0


def run(arguments: argparse.Namespace) -> int:
    """Ask what is missing, then score and report.

    Returns:
        0; or 3 if a bound of the gate file is broken.

    Raises:
        EvalError: Something is not usable as given, or the target does not answer.
    """
    suite = limited(suite_module.load(arguments.suite), arguments.limit)
    arms = arms_module.parse(arguments.arms)
    bounds = gates.load(arguments.gate) if arguments.gate else ()
    gates.known_arms(bounds, [a.name for a in arms])
    judges_of(arguments.judges, arguments.judge_key)  # what is wrong with it is said before hours are spent
    folder = arguments.out or _fresh(suite.name)
    sys.stderr.write(f"guardproxy: {suite.name}, {len(suite.cases)} cases, {len(arms)} arms, into {folder}\n")
    try:
        asyncio.run(_ask(arguments, suite, arms, RunDir(folder), pictures.png_of))
    except KeyboardInterrupt:
        sys.stderr.write(f"guardproxy: stopped; the same command with --out {folder} asks the rest\n")
        raise
    arguments.directory = folder
    return score(arguments)


async def _ask(
    arguments: argparse.Namespace,
    suite: Suite,
    arms: Sequence[arms_module.Arm],
    rundir: RunDir,
    png_of: arms_module.PngOf,
) -> None:
    client = client_for(
        base_url(arguments.target), arguments.key, arguments.timeout, arguments.concurrency, flag="--key"
    )
    async with client:
        asker = HttpAsker(client)
        plan = Plan(
            suite.cases, arms, arguments.model or await asker.first_model(), arguments.repeat,
            arguments.temperature, arguments.max_tokens,
        )  # fmt: skip
        rundir.begin(_manifest(arguments.target, suite, plan), suite)
        with contextlib.closing(rundir.journal("answers")) as journal:
            known = rundir.answers()
            await Run(plan, asker, journal, png_of, arguments.concurrency).ask_missing(known)


def _manifest(target: str, suite: Suite, plan: Plan) -> Manifest:
    return Manifest(
        suite.name, suite.version, suite.licence, target, plan.model, tuple(a.name for a in plan.arms),
        plan.repeats, plan.temperature, plan.max_tokens, sum(1 for _ in plan.asks()), __version__,
        datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


def limited(suite: Suite, items: int | None) -> Suite:
    """A suite with only so many groups, spread evenly over it: wordings and twins stay together."""
    if items is None:
        return suite
    by_id = {c.id: c for c in suite.cases}
    groups = list(dict.fromkeys(c.group for c in suite.cases))
    step = max(len(groups) / items, 1.0)
    kept = {groups[int(i * step)] for i in range(min(items, len(groups)))}
    kept |= {by_id[c.twin].group for c in suite.cases if c.group in kept and c.twin in by_id}
    cases: tuple[Case, ...] = tuple(c for c in suite.cases if c.group in kept)
    return Suite(suite.name, f"{suite.version}/{len(cases)}", cases, suite.description, suite.licence)


def score(arguments: argparse.Namespace) -> int:
    """Let the judges read every answer, try them with probes, and report.

    Returns:
        As `run`.
    """
    rundir = RunDir.opened(arguments.directory)
    judges = judges_of(arguments.judges, arguments.judge_key)
    asyncio.run(_score(rundir, judges))
    return report(arguments)


async def _score(rundir: RunDir, judges: Sequence[Judge]) -> None:
    cases, answers = {c.id: c for c in rundir.cases()}, rundir.answers()
    labels = await score_all(judges, cases, list(answers.values()), rundir.labels())
    rundir.keep_labels(labels)
    reporting.keep_probes(await probe(judges, cases, answers, labels), rundir.path)


def report(arguments: argparse.Namespace) -> int:
    """Write the report of a run that is scored.

    Returns:
        As `run`.
    """
    rundir = RunDir.opened(arguments.directory)
    bounds = gates.load(arguments.gate) if arguments.gate else ()
    if not (rundir.path / "labels.jsonl").exists():
        raise EvalError(f"{rundir.path}: is not scored yet; run `guardproxy eval score {rundir.path}`")
    built = reporting.built(rundir, reporting.kept_probes(rundir.path), bounds)
    reporting.write(built, rundir.path, arguments.language)
    sys.stdout.write(summary(built))
    sys.stdout.write(f"{rundir.path / reporting.HTML}\n")
    return _verdict(built)


def _verdict(built: Report) -> int:
    broken = [g for g in built.gates if not g.kept]
    for gate in broken:
        value = "nothing measured" if gate.value is None else f"{gate.value:.4f}"
        sys.stderr.write(
            f"guardproxy: bound broken: {gate.bound} of {gate.arm}: {gate.at} is {value}, at most {gate.max} (n={gate.n})\n"
        )
    return BROKEN if broken else 0


def judges_of(names: str | None, key: str | None) -> tuple[Judge, ...]:
    """The judges that were asked for."""
    return registry.parse(
        names or registry.DEFAULT, lambda url: client_for(url, key, JUDGE_TIMEOUT_S, 8, flag="--judge-key")
    )


def client_for(url: str, key: str | None, timeout_s: float, at_once: int, *, flag: str) -> httpx.AsyncClient:
    """A client for an OpenAI-compatible server.

    Raises:
        EvalError: The key is not there.
    """
    headers = {} if key is None else {"authorization": f"Bearer {secret(key, flag)}"}
    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout_s, limits=limits)


def secret(reference: str, flag: str) -> str:
    """What `env:NAME` or `file:PATH` holds; never the secret itself on a command line.

    Raises:
        EvalError: It is neither, or holds nothing.
    """
    kind, _, place = reference.partition(":")
    if kind == "env":
        found = os.environ.get(place, "")
    elif kind == "file":
        found = Path(place).read_text("utf-8")
    else:
        raise EvalError(f"{flag}: expected env:NAME or file:PATH")
    if not found.strip():
        raise EvalError(f"{flag}: {reference} holds nothing")
    return found.strip()


def _fresh(suite: str) -> Path:
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return Path(f"eval-{re.sub(r'[^A-Za-z0-9._-]+', '-', suite)}-{now}")
