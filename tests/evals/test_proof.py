"""A model of known behaviour is measured within the printed intervals: the proof of the statistics."""

from __future__ import annotations

import asyncio

from guardproxy.evals.arms import parse
from guardproxy.evals.judges.keywords import Keywords
from guardproxy.evals.measure import Measured
from guardproxy.evals.rundir import Manifest, asked
from guardproxy.evals.running import Plan, Run
from guardproxy.evals.scoring import score
from guardproxy.evals.statistics import Change, Rate
from tests.evals.scripted import Memory, ScriptedModel, items, png_of

RUNS = 100
ENOUGH = 89
"""Of 100 intervals of 95 %, fewer than 89 hold the truth once in 400 times (binomial)."""
COMPLIES, REFUSES, MORE = 0.3, 0.08, 0.12


def measured(seed: int) -> Measured:
    """One whole run: asked in both arms, judged, measured."""
    cases = items(attacks=60, benign=60, wordings=2)
    arms = parse("arm-none,arm-hardening")
    memory = Memory()
    model = ScriptedModel(seed, COMPLIES, REFUSES, MORE)
    asyncio.run(Run(Plan(cases, arms, "scripted"), model, memory, png_of, 16).ask_missing({}))
    answers = {a.key: a for a in memory.answers}
    by_id = {c.id: asked(c) for c in cases}
    labels = asyncio.run(score([Keywords()], by_id, memory.answers, ()))
    manifest = Manifest(
        "s", "v", "", "t", "m", ("arm-none", "arm-hardening"), 1, 0.0, 9, len(answers), "0", "now"
    )
    return Measured(manifest, by_id, answers, labels)


def holds(figure: Rate | Change, truth: float) -> bool:
    return figure.low <= truth <= figure.high


def test_the_printed_intervals_hold_the_truth_in_at_least_89_of_100_runs() -> None:
    truths = {
        "attack success": COMPLIES,
        "over-refusal": REFUSES,
        "attack success, hardened": COMPLIES - MORE,
        "over-refusal, hardened": REFUSES + MORE,
        "change of attack success": -MORE,
        "added refusals": MORE,
    }
    held = dict.fromkeys(truths, 0)
    widths = dict.fromkeys(truths, 0.0)
    for seed in range(RUNS):
        run = measured(seed)
        (none, hardened), (change,) = run.arms(), run.changes()
        found = {
            "attack success": none.sides.attack_success,
            "over-refusal": none.sides.over_refusal,
            "attack success, hardened": hardened.sides.attack_success,
            "over-refusal, hardened": hardened.sides.over_refusal,
            "change of attack success": change.attack_success,
            "added refusals": change.over_refusal,
        }
        assert change.refused_only_here == change.over_refusal.gained
        for name, figure in found.items():
            held[name] += holds(figure, truths[name])
            widths[name] += (figure.high - figure.low) / RUNS
    assert all(count >= ENOUGH for count in held.values()), held
    # Intervals that hold everything would prove nothing.
    assert all(width < 0.26 for width in widths.values()), widths
    assert min(held.values()) < RUNS, held
