"""Every judge reads every answer that needs one. Needs no model, unless a judge is one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from tqdm import tqdm

from guardproxy.evals.answer import Answer
from guardproxy.evals.judges.base import Judge, Judgement, judge_all
from guardproxy.evals.outcome import settled
from guardproxy.evals.rundir import Asked, Labelled

Advance = Callable[[int], object]
Known = Mapping[tuple[str, str, str, str], Labelled]
"""Labels by judge, its version, case and digest of the answer's text."""


async def score(
    judges: Sequence[Judge], cases: Mapping[str, Asked], answers: Sequence[Answer], before: Sequence[Labelled]
) -> list[Labelled]:
    """Labels of all judges; those that stand already (`before`) are taken over, also from equal answers."""
    known = {(x.judge, x.version, x.case, x.digest): x for x in before if x.final}
    wanted = [a for a in answers if settled(a) is None and a.case in cases]
    found: list[Labelled] = []
    total, silent = len(wanted) * len(judges), not sys.stderr.isatty()
    with tqdm(total=total, unit="label", file=sys.stderr, disable=silent) as bar:
        for judge in judges:
            found.extend(await _all_of(judge, cases, wanted, known, bar.update))
    return found


async def _all_of(
    judge: Judge, cases: Mapping[str, Asked], answers: Sequence[Answer], known: Known, advance: Advance
) -> list[Labelled]:
    """One judge's labels, in the order of the answers; equal answers to one case are read once."""
    places = {(a.case, a.digest): a for a in answers}
    new = [a for place, a in places.items() if (judge.name, judge.version, *place) not in known]
    said = await judge_all(judge, [(cases[a.case], a.text) for a in new], advance)
    fresh = {(a.case, a.digest): _label(judge, a, one) for a, one in zip(new, said, strict=True)}
    advance(len(answers) - len(new))
    return [
        _for(a, fresh.get((a.case, a.digest)) or known[judge.name, judge.version, a.case, a.digest])
        for a in answers
    ]


def _label(judge: Judge, answer: Answer, said: Judgement) -> Labelled:
    return Labelled(
        answer.case, answer.arm, answer.repeat, judge.name, said.label.value, judge.version, answer.digest,
        said.why, said.final,
    )  # fmt: skip


def _for(answer: Answer, labelled: Labelled) -> Labelled:
    """The same label for another answer with the same text."""
    return Labelled(
        answer.case, answer.arm, answer.repeat, labelled.judge, labelled.label, labelled.version,
        labelled.digest, labelled.why, labelled.final,
    )  # fmt: skip
