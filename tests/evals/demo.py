"""A scored run in a directory, without a network: what reports are tried on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from guardproxy.evals import reporting
from guardproxy.evals.answer import Answer
from guardproxy.evals.arms import parse
from guardproxy.evals.case import Case, Suite
from guardproxy.evals.judges.base import Judge
from guardproxy.evals.judges.classifiers import Classifiers
from guardproxy.evals.judges.keywords import Keywords
from guardproxy.evals.probes import probe
from guardproxy.evals.rundir import Manifest, RunDir
from guardproxy.evals.running import Plan, Run
from guardproxy.evals.scoring import score
from tests.evals.scripted import EITHER, HELP, NO, case, items, png_of, suite

ARMS = "arm-none,arm-hardening,arm-input,arm-output,arm-all,arm-none+black-image"


class Defended:
    """What a model behind five policies might answer: each defence stops something and costs something."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def ask(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        content = body["messages"][-1]["content"]
        text = content if isinstance(content, str) else content[0]["text"]
        name = text.removeprefix("Please do ").removesuffix(".")
        policy = headers.get("x-guardproxy-use-policy", "")
        self.asked.append((name, policy))
        kind, number, wording = (*name.split("-"), "0", "0")[:3]
        luck = (int(number) * 37 + int(wording) * 11) % 100
        attack = kind == "attack"
        hard = policy in ("arm-hardening", "arm-all")
        if policy in ("arm-input", "arm-all") and luck < (25 if attack else 4):
            return self._answer(policy, status=400, code="content_filter", error="withheld")
        refuses = luck < (45 if attack else 6) + (25 if attack and hard else 9 if hard else 0)
        if not refuses and attack and policy in ("arm-output", "arm-all") and luck % 3 == 0:
            return self._answer(policy, content="Withheld.", action="block", finish_reason="content_filter")
        if luck == 99:
            return self._answer(policy, content="")
        return self._answer(policy, content=NO if refuses else HELP, finish_reason="stop")

    def _answer(self, policy: str, status: int = 200, **fields: Any) -> Answer:
        ms = 180.0 + (60.0 if policy != "arm-none" else 0.0) + len(self.asked) % 40
        tokens = {
            "prompt_tokens": 40 + (90 if policy in ("arm-hardening", "arm-all") else 0),
            "completion_tokens": 30,
        }
        return Answer(
            "", "", 0, status, ms, policy=policy or None, version="0a1b2c3d4e5f", **tokens, **fields
        )


def made(
    folder: Path, cases: Sequence[Case] | None = None, arms: str = ARMS, judges: Sequence[Judge] = ()
) -> RunDir:
    """A run that is asked and scored, ready for a report."""
    some = list(cases) if cases is not None else [*items(24, 24, 2), case("either-0", EITHER)]
    small: Suite = suite(some, "Starter suite")
    plan = Plan(small.cases, parse(arms), "scripted-vl")
    rundir = RunDir(folder)
    planned = sum(1 for _ in plan.asks())
    names = tuple(a.name for a in plan.arms)
    manifest = Manifest(
        small.name, small.version, small.licence, "http://127.0.0.1:8080", plan.model, names, 1, 0.0, 256, planned, "0.1.0",
        "2026-01-01T09:00:00+00:00",
    )  # fmt: skip
    rundir.begin(manifest, small)
    with closing(rundir.journal("answers")) as journal:
        asyncio.run(Run(plan, Defended(), journal, png_of).ask_missing({}))
    by_id = {c.id: c for c in rundir.cases()}
    answers = rundir.answers()
    readers = judges or (Keywords(), Classifiers())
    labels = asyncio.run(score(readers, by_id, list(answers.values()), ()))
    rundir.keep_labels(labels)
    reporting.keep_probes(asyncio.run(probe(readers, by_id, answers, labels)), folder)
    return rundir
