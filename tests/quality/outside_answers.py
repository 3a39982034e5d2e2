"""The output side of docs/quality/outside.md: labelled answers that nothing here was trained on."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guardproxy.commands.looking import Case, Looker
from guardproxy.core.verdict import Action, Stage
from guardproxy.training.card import auroc
from tests.quality.figures import share, table

NAME = "harmful_answer"
MOST = 1000
"""Answers of a set."""


@dataclass(frozen=True, slots=True)
class Answers:
    """A set of questions and answers, each with a label: 1 is harmful.

    Attributes:
        file: In the folder of the page.
    """

    name: str
    licence: str
    what: str
    file: str


SETS = (
    Answers("JAILJUDGE", "MIT", "answers to jailbreaks, human labels", "JailbreakEval/data/JAILJUDGEmini.csv"),
    Answers("Safe-RLHF", "CC BY-NC 4.0", "answers of a small model to risky questions, human labels",
            "JailbreakEval/data/Safe-RLHFmini.csv"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judged:
    """A set's labels, the classifier's score of each answer and whether the policy stops it."""

    answers: Answers
    labels: list[int]
    scores: list[float]
    stopped: list[bool]


def judge(answers: Answers, folder: Path, looker: Looker) -> Judged:
    """What the policy makes of a sample of a set."""
    with (folder / answers.file).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    rows = random.Random(1).sample(rows, min(MOST, len(rows)))
    judged = Judged(answers, [], [], [])
    for row in rows:
        (looked,) = looker.run(looker.look(Case(row["question"], row["answer"]), (Stage.OUTPUT,)))
        told = [f.score for g in looked.verdict.guards for f in g.findings if f.detector == NAME]
        judged.labels.append(int(row["label"]))
        judged.scores.append(max(told, default=0.0))
        judged.stopped.append(looked.verdict.action is Action.BLOCK)
    return judged


def section(judged: Sequence[Judged]) -> str:
    """The page's second part."""
    head = ["set", "licence", "what it is", "AUROC", "harmful ones stopped", "harmless ones stopped"]
    lines = []
    for one in judged:
        labels, scores = np.asarray(one.labels), np.asarray(one.scores)
        stopped = [
            [s for s, own in zip(one.stopped, one.labels, strict=True) if own == label] for label in (1, 0)
        ]
        ranked = f"{auroc(scores[labels == 1], scores[labels == 0]):.3f}"
        a = one.answers
        lines.append([a.name, a.licence, a.what, ranked, *(share(sum(own), len(own)) for own in stopped)])
    return f"Answers, by all guards of the output side; AUROC of `{NAME}`:\n\n{table(head, lines)}\n"
