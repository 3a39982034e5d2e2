"""Findings and a policy become a verdict. No state, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from guardproxy.core.policy import Combination, Controversial, FailMode, Guard, Mode, Policy
from guardproxy.core.verdict import (
    Action,
    Failure,
    Finding,
    GuardVerdict,
    Observation,
    Stage,
    Verdict,
)

CONTROVERSIAL = "controversial"
"""Category by which a three-state guard model says that it is of two minds."""


def judge(policy: Policy, stage: Stage, observed: Mapping[str, Observation]) -> Verdict:
    """Decide what to do with content, given what each detector answered.

    A guard whose detector is missing from `observed` counts as failed: silence is
    never taken for innocence.

    Args:
        policy: The policy in force.
        stage: Whose guards are asked.
        observed: What was observed, by guard name.
    """
    return judge_guards(policy, (g for g in policy.guards if g.stage is stage), observed)


def judge_guards(
    policy: Policy,
    guards: Iterable[Guard],
    observed: Mapping[str, Observation],
    hits: Collection[str] = (),
) -> Verdict:
    """Like `judge`, for some of a policy's guards: those that looked at this content.

    Args:
        policy: The policy in force.
        guards: Who looked.
        observed: What was observed, by guard name.
        hits: Names of guards that hit earlier in this exchange, for the policy's combinations.
    """
    seen = [_see(g, observed) for g in guards if g.mode is not Mode.OFF]
    new = frozenset(s.guard.name for s in seen if s.is_hit)
    verdicts = [_act(policy, s) for s in seen]
    verdicts += (_acted(policy, c.name, c.on_hit) for c in policy.combine if _holds(c, new, hits))
    action = max((v.action for v in verdicts), default=Action.ALLOW)
    failed = {v.guard for v in verdicts if v.failure is not None}
    blocked_by_hit = any(v.action is Action.BLOCK and v.guard not in failed for v in verdicts)
    enforced = [s for s in seen if policy.mode is Mode.ENFORCE and s.guard.mode is Mode.ENFORCE]
    return Verdict(
        action,
        max((v.wanted for v in verdicts), default=Action.ALLOW),
        tuple(verdicts),
        unavailable=action is Action.BLOCK and not blocked_by_hit,
        redactions=_redactions(enforced) if action is Action.REDACT else (),
        suspects=tuple(
            (s.guard.name, s.guard.debounce.windows) for s in enforced if s.is_suspect and s.guard.debounce
        ),
        hits=new,
        reviews=tuple(s.guard.name for s in seen if s.is_for_review),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one guard saw, before it is said what that leads to."""

    guard: Guard
    observation: Observation
    is_hit: bool
    is_suspect: bool = False
    is_for_review: bool = False


def _see(guard: Guard, observed: Mapping[str, Observation]) -> _Seen:
    observation = observed.get(guard.name, Failure(guard.detector, "missing"))
    if isinstance(observation, Failure):
        return _Seen(guard, observation, is_hit=guard.fail_mode is FailMode.CLOSED)
    found = deciding(guard, observation)
    is_hit = any(f.score >= guard.threshold for f in found)
    # What is unsafe beyond doubt in one text is not excused by what is controversial in another.
    is_sure = any(f.score >= guard.threshold and f.category != CONTROVERSIAL for f in found)
    if is_hit and not is_sure and guard.controversial is not Controversial.HIT:
        return _Seen(
            guard, observation, is_hit=False, is_for_review=guard.controversial is Controversial.REVIEW
        )
    low = guard.debounce
    is_suspect = low is not None and any(low.threshold <= f.score < guard.threshold for f in found)
    return _Seen(guard, observation, is_hit, is_suspect)


def _act(policy: Policy, seen: _Seen) -> GuardVerdict:
    guard, observation = seen.guard, seen.observation
    action = guard.on_hit if seen.is_hit else Action.ALLOW
    if not isinstance(observation, Failure):
        verdict = _acted(policy, guard.name, action, tuple(observation))
    else:
        # A guard that could not have acted on a hit does not act on a failure either.
        closed = Action.BLOCK if action is not Action.ALLOW else Action.ALLOW
        verdict = _acted(policy, guard.name, closed, failure=observation)
    return verdict if guard.mode is Mode.ENFORCE else replace(verdict, action=Action.ALLOW)


def _acted(
    policy: Policy,
    name: str,
    action: Action,
    findings: tuple[Finding, ...] = (),
    failure: Failure | None = None,
) -> GuardVerdict:
    taken = action if policy.mode is Mode.ENFORCE else Action.ALLOW
    return GuardVerdict(name, taken, action, findings, failure)


def _holds(combination: Combination, new: frozenset[str], hits: Collection[str]) -> bool:
    of = set(combination.of)
    return bool(of & new) and len(of & new | of.intersection(hits)) >= combination.at_least


def _redactions(seen: Iterable[_Seen]) -> tuple[Finding, ...]:
    return tuple(
        f
        for s in seen
        if s.guard.on_hit is Action.REDACT and s.is_hit and not isinstance(s.observation, Failure)
        for f in deciding(s.guard, s.observation)
        if f.score >= s.guard.threshold
    )


def deciding(guard: Guard, findings: Iterable[Finding]) -> list[Finding]:
    """Those that count: the guard's own detector's. A cascade's keeps what its stages saw for the record only."""
    return [f for f in findings if f.detector == guard.detector]
