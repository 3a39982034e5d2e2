"""Signals that count together, answers that are neither safe nor unsafe."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guardproxy.core.judge import judge_guards
from guardproxy.core.policy import (
    Bilingual,
    Block,
    Combination,
    Controversial,
    FailMode,
    GateMode,
    Guard,
    ImageLimits,
    Mode,
    Policy,
)  # fmt: skip
from guardproxy.core.verdict import Action, Failure, Finding, Observation, Stage


def guard(name: str, stage: Stage = Stage.INPUT, **more: object) -> Guard:
    kinds = ("user",) if stage is Stage.INPUT else ("content",)
    return replace(Guard(name, stage, "stub", kinds, 0.5, Action.ALLOW), **more)  # type: ignore[arg-type]


def policy(*guards: Guard, combine: tuple[Combination, ...] = (), mode: Mode = Mode.ENFORCE) -> Policy:
    block = Block("error", Bilingual("no", "否"))
    return Policy("p", "1", mode, GateMode.HOLD, False, ImageLimits(), (), guards, block, combine)


def seen(score: float, category: str = "stub") -> Observation:
    return (Finding("stub", category, score, "x"),)


PICTURE, ANSWER = guard("picture"), guard("answer", Stage.OUTPUT)
BOTH = Combination("both", 2, ("picture", "answer"), Action.BLOCK)
TWO = policy(PICTURE, ANSWER, combine=(BOTH,))


def test_one_signal_alone_changes_nothing() -> None:
    verdict = judge_guards(TWO, (PICTURE,), {"picture": seen(0.9)})
    assert (verdict.action, verdict.hits) == (Action.ALLOW, {"picture"})
    assert judge_guards(TWO, (ANSWER,), {"answer": seen(0.9)}).action is Action.ALLOW
    assert judge_guards(TWO, (ANSWER,), {"answer": seen(0.4)}, {"picture"}).action is Action.ALLOW


def test_two_signals_on_both_sides_of_the_model_block() -> None:
    verdict = judge_guards(TWO, (ANSWER,), {"answer": seen(0.9)}, {"picture"})
    assert verdict.action is Action.BLOCK
    assert not verdict.unavailable
    assert [(g.guard, g.action) for g in verdict.guards] == [("answer", Action.ALLOW), ("both", Action.BLOCK)]


def test_a_signal_that_could_not_be_had_counts_unless_it_fails_open() -> None:
    failed = {"answer": Failure("stub", "timeout")}
    assert judge_guards(TWO, (ANSWER,), failed, {"picture"}).action is Action.BLOCK
    open_ = replace(ANSWER, fail_mode=FailMode.OPEN)
    assert (
        judge_guards(policy(PICTURE, open_, combine=(BOTH,)), (open_,), failed, {"picture"}).action
        is Action.ALLOW
    )


def test_members_of_a_combination_stand_in_the_way_though_they_only_record() -> None:
    assert TWO.acting(Stage.INPUT) == (PICTURE,)
    assert policy(PICTURE).acting(Stage.INPUT) == ()


def test_a_combination_only_watches_in_monitor_mode() -> None:
    verdict = judge_guards(replace(TWO, mode=Mode.MONITOR), (ANSWER,), {"answer": seen(0.9)}, {"picture"})
    assert (verdict.action, verdict.wanted) == (Action.ALLOW, Action.BLOCK)


@pytest.mark.parametrize(
    ("at_least", "of", "on_hit", "said"),
    [
        (1, ("picture", "answer"), Action.BLOCK, "at_least must be from 2"),
        (3, ("picture", "answer"), Action.BLOCK, "at_least must be from 2"),
        (2, ("picture", "picture"), Action.BLOCK, "at_least must be from 2"),
        (2, ("picture", "answer"), Action.REDACT, "on_hit must be repair or block"),
        (2, ("picture", "nobody"), Action.BLOCK, "nobody is no guard"),
    ],
)
def test_a_wrong_combination_is_told(at_least: int, of: tuple[str, ...], on_hit: Action, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        policy(PICTURE, ANSWER, combine=(Combination("c", at_least, of, on_hit),))
    with pytest.raises(ValueError, match="that enforces"):
        policy(PICTURE, replace(ANSWER, mode=Mode.MONITOR), combine=(BOTH,))


@pytest.mark.parametrize(
    ("controversial", "action", "reviews"),
    [
        (Controversial.HIT, Action.BLOCK, ()),
        (Controversial.IGNORE, Action.ALLOW, ()),
        (Controversial.REVIEW, Action.ALLOW, ("answer",)),
    ],
)
def test_a_middle_answer_means_what_the_guard_says(
    controversial: Controversial, action: Action, reviews: tuple[str, ...]
) -> None:
    one = replace(ANSWER, on_hit=Action.BLOCK, controversial=controversial)
    middle = judge_guards(policy(one), (one,), {"answer": seen(0.6, "controversial")})
    assert (middle.action, middle.reviews) == (action, reviews)
    clear = judge_guards(policy(one), (one,), {"answer": seen(0.6)})
    assert (clear.action, clear.reviews) == (Action.BLOCK, ())
    low = judge_guards(policy(one), (one,), {"answer": seen(0.4, "controversial")})
    assert (low.action, low.reviews) == (Action.ALLOW, ())


def test_what_is_unsafe_beyond_doubt_is_not_excused_by_what_is_controversial_elsewhere() -> None:
    """A conversation has several texts, and one of them may be plain."""
    one = replace(ANSWER, on_hit=Action.BLOCK, controversial=Controversial.IGNORE)
    both = (*seen(0.6, "controversial"), *seen(0.9, "violence"))
    assert judge_guards(policy(one), (one,), {"answer": both}).action is Action.BLOCK
    doubtful = (*seen(0.6, "controversial"), *seen(0.2, "violence"))
    assert judge_guards(policy(one), (one,), {"answer": doubtful}).action is Action.ALLOW
