"""Findings and a policy become a verdict. No state, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from guardproxy.core.policy import FailMode, Guard, Mode, Policy
from guardproxy.core.verdict import (
    Action,
    Failure,
    Finding,
    GuardVerdict,
    Observation,
    Stage,
    Verdict,
)


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


def judge_guards(policy: Policy, guards: Iterable[Guard], observed: Mapping[str, Observation]) -> Verdict:
    """Like `judge`, for some of a policy's guards: those that looked at this content."""
    verdicts: list[GuardVerdict] = []
    action = wanted = Action.ALLOW
    redactions: list[Finding] = []
    suspects: list[tuple[str, int]] = []
    blocked_by_hit = False
    for guard in guards:
        if guard.mode is Mode.OFF:
            continue
        one = _judge_one(guard, observed.get(guard.name, Failure(guard.detector, "missing")))
        if policy.mode is not Mode.ENFORCE or guard.mode is not Mode.ENFORCE:
            one = GuardVerdict(one.guard, Action.ALLOW, one.wanted, one.findings, one.failure)
        verdicts.append(one)
        action, wanted = max(action, one.action), max(wanted, one.wanted)
        if one.action is Action.BLOCK and one.failure is None:
            blocked_by_hit = True
        if guard.debounce and guard.mode is Mode.ENFORCE and _is_suspect(guard, one.findings):
            suspects.append((guard.name, guard.debounce.windows))
        if one.action is Action.REDACT:
            redactions.extend(f for f in one.findings if f.score >= guard.threshold)
    return Verdict(
        action,
        wanted,
        tuple(verdicts),
        unavailable=action is Action.BLOCK and not blocked_by_hit,
        redactions=tuple(redactions) if action is Action.REDACT else (),
        suspects=tuple(suspects) if policy.mode is Mode.ENFORCE else (),
    )


def _judge_one(guard: Guard, observation: Observation) -> GuardVerdict:
    if isinstance(observation, Failure):
        # A guard that could not have acted on a hit does not act on a failure either.
        closed = guard.fail_mode is FailMode.CLOSED and guard.on_hit is not Action.ALLOW
        action = Action.BLOCK if closed else Action.ALLOW
        return GuardVerdict(guard.name, action, action, (), observation)
    hit = any(f.score >= guard.threshold for f in observation)
    action = guard.on_hit if hit else Action.ALLOW
    return GuardVerdict(guard.name, action, action, tuple(observation))


def _is_suspect(guard: Guard, findings: Iterable[Finding]) -> bool:
    debounce = guard.debounce
    return debounce is not None and any(debounce.threshold <= f.score < guard.threshold for f in findings)
