"""Findings and a policy become a verdict; silence is never innocence."""

from __future__ import annotations

from typing import Any

import pytest

from guardproxy.core.judge import judge
from guardproxy.core.policy import (
    Bilingual,
    Block,
    Debounce,
    FailMode,
    GateMode,
    Guard,
    Hardening,
    ImageLimits,
    Mode,
    Policy,
    Slot,
)
from guardproxy.core.redact import merge_spans, redact
from guardproxy.core.verdict import Action, Failure, Finding, Span, Stage


def guard(name: str = "g", **changed: Any) -> Guard:
    fields: dict[str, Any] = {
        "stage": Stage.OUTPUT,
        "detector": "d",
        "looks_at": ("content",),
        "threshold": 0.5,
        "on_hit": Action.BLOCK,
    }
    return Guard(name, **{**fields, **changed})


def policy(*guards: Guard, mode: Mode = Mode.ENFORCE, hardening: tuple[Hardening, ...] = ()) -> Policy:
    block = Block("error", Bilingual("no", "不可"))
    return Policy("p", "v", mode, GateMode.HOLD, False, ImageLimits(), hardening, guards, block)


def finding(score: float) -> Finding:
    return Finding("d", "c", score, "content", Span(0, 3))


@pytest.mark.parametrize(
    ("score", "action"), [(0.49, Action.ALLOW), (0.5, Action.BLOCK), (1.0, Action.BLOCK)]
)
def test_the_threshold_is_the_lowest_hit(score: float, action: Action) -> None:
    verdict = judge(policy(guard()), Stage.OUTPUT, {"g": (finding(score),)})
    assert verdict.action is action
    assert not verdict.unavailable
    assert verdict.guards[0].findings


def test_a_missing_observation_is_a_failure_and_blocks() -> None:
    verdict = judge(policy(guard()), Stage.OUTPUT, {})
    assert verdict.action is Action.BLOCK
    assert verdict.unavailable
    assert verdict.guards[0].failure == Failure("d", "missing")


def test_an_open_guard_passes_and_records_its_failure() -> None:
    verdict = judge(policy(guard(fail_mode=FailMode.OPEN)), Stage.OUTPUT, {"g": Failure("d", "timeout")})
    assert verdict.action is Action.ALLOW
    assert verdict.guards[0].failure is not None


def test_a_recording_guard_does_not_block_when_it_fails() -> None:
    assert judge(policy(guard(on_hit=Action.ALLOW)), Stage.OUTPUT, {}).action is Action.ALLOW


def test_a_hit_beside_a_failure_is_a_block_and_no_unavailability() -> None:
    verdict = judge(policy(guard("a"), guard("b")), Stage.OUTPUT, {"a": (finding(1.0),)})
    assert verdict.action is Action.BLOCK
    assert not verdict.unavailable


def test_the_strictest_action_wins_and_only_then_spans_are_given() -> None:
    redacting, blocking = guard("r", on_hit=Action.REDACT), guard("b")
    both = judge(policy(redacting, blocking), Stage.OUTPUT, {"r": (finding(1.0),), "b": (finding(1.0),)})
    assert both.action is Action.BLOCK
    assert both.redactions == ()
    one = judge(policy(redacting, blocking), Stage.OUTPUT, {"r": (finding(1.0), finding(0.1)), "b": ()})
    assert one.action is Action.REDACT
    assert len(one.redactions) == 1


@pytest.mark.parametrize("watched", ["policy", "guard"])
def test_monitor_mode_wants_and_does_not_act(watched: str) -> None:
    one = guard(mode=Mode.MONITOR) if watched == "guard" else guard()
    mode = Mode.MONITOR if watched == "policy" else Mode.ENFORCE
    verdict = judge(policy(one, mode=mode), Stage.OUTPUT, {"g": (finding(1.0),)})
    assert verdict.action is Action.ALLOW
    assert verdict.wanted is Action.BLOCK


def test_guards_that_are_off_or_stand_elsewhere_are_not_asked() -> None:
    other = guard("in", stage=Stage.INPUT, looks_at=("user",))
    assert judge(policy(guard(mode=Mode.OFF), other), Stage.OUTPUT, {}).guards == ()


def test_debounce_marks_a_suspect_between_its_thresholds() -> None:
    doubtful = guard(debounce=Debounce(0.3, 2))
    assert judge(policy(doubtful), Stage.OUTPUT, {"g": (finding(0.4),)}).suspects == (("g", 2),)
    assert judge(policy(doubtful), Stage.OUTPUT, {"g": (finding(0.2),)}).suspects == ()
    watching = policy(doubtful, mode=Mode.MONITOR)
    assert judge(watching, Stage.OUTPUT, {"g": (finding(0.4),)}).suspects == ()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"threshold": 1.5}, "threshold must be in"),
        ({"budget_ms": 0}, "budget_ms must be above 0"),
        ({"looks_at": ("user",)}, "looks_at: 'user' is not one of"),
        ({"debounce": Debounce(0.9, 2)}, "debounce is for output guards"),
    ],
)
def test_wrong_guards_cannot_be_built(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        guard(**changed)


def test_other_wrong_values_cannot_be_built() -> None:
    for build in (
        lambda: Debounce(2.0, 2),
        lambda: Debounce(0.5, 1),
        lambda: Span(3, 2),
        lambda: Finding("d", "c", 1.1, "p"),
        lambda: policy(guard(), guard()),
    ):
        with pytest.raises(ValueError):
            build()


def test_acting_and_watching_guards_are_told_apart() -> None:
    one = policy(guard("a"), guard("b", on_hit=Action.ALLOW), guard("c", mode=Mode.OFF))
    assert [g.name for g in one.acting(Stage.OUTPUT)] == ["a"]
    assert [g.name for g in one.watching(Stage.OUTPUT)] == ["b"]
    assert one.looked_at(Stage.OUTPUT) == {"content"}
    assert policy(guard(), mode=Mode.MONITOR).acting(Stage.OUTPUT) == ()


def test_per_model_slots_are_found_by_pattern() -> None:
    one = Hardening("vision_caution", per_model={"intern*": Slot.USER_PREFIX, "none*": None})
    assert one.slot_for("internvl2") is Slot.USER_PREFIX
    assert one.slot_for("none-1") is None
    assert one.slot_for("qwen") is Slot.SYSTEM
    assert Action.BLOCK.label == "block"


def test_redaction_merges_overlaps_and_skips_empty_spans() -> None:
    hits = [
        Finding("d", "b", 1.0, "p", Span(4, 8)),
        Finding("d", "a", 1.0, "p", Span(2, 6)),
        Finding("d", "c", 1.0, "p", Span(9, 9)),
    ]
    assert redact("0123456789", hits) == "01[a]89"
    assert merge_spans([Finding("d", "all", 1.0, "p")], 4) == [(0, 4, "[all]")]
