"""What the policies leave open: models without acting guards, guards that fail open, content nobody looks at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from guardproxy.commands.sign import Level, Sign
from guardproxy.core.policy import INPUT_KINDS, OUTPUT_KINDS, FailMode, GateMode, Mode, Policy
from guardproxy.core.verdict import Stage
from guardproxy.policystore import Revision
from guardproxy.settings import Settings


def look(revision: Revision, models: Iterable[str]) -> Iterator[Sign]:
    """Signs of a set of policies.

    Args:
        revision: As loaded.
        models: Public names that are served; each must meet a policy that acts.
    """
    served: dict[str, list[str]] = {}
    for model in models:
        served.setdefault(revision.route(model, "anonymous").policy.name, []).append(model)
    routed = {name for _, _, name in revision.rules}
    for name in sorted(routed | served.keys()):
        policy = revision.policies[name].policy
        yield from _policy(policy, served.get(name, []))
    unused = sorted(set(revision.policies) - routed)
    if unused:
        yield Sign(Level.NOTE, "routing", f"no rule leads to {', '.join(unused)}")


def _policy(policy: Policy, models: list[str]) -> Iterator[Sign]:
    what = f"policy {policy.name}"
    whom = f" (serves {', '.join(models)})" if models else ""
    acting = [g for stage in Stage for g in policy.acting(stage)]
    if policy.mode is Mode.MONITOR:
        yield Sign(
            Level.WARNING,
            what,
            f"only watches{whom}: nothing is enforced",
            "mode: enforce, once you trust it",
        )
    elif not acting:
        yield Sign(Level.DANGER, what, f"has no guard that acts{whom}", "give it guards")
    else:
        yield Sign(Level.OK, what, f"{len(acting)} guards act{whom}")
    opened = [g.name for g in acting if g.fail_mode is FailMode.OPEN]
    if opened:
        yield Sign(
            Level.WARNING, what, f"guards that fail open: {', '.join(opened)}",
            "fail_mode: closed, unless passing unjudged content is meant",
        )  # fmt: skip
    if policy.gate is GateMode.ASYNC:
        yield Sign(
            Level.WARNING,
            what,
            "gate: async lets text out before it is judged",
            "gate: hold, unless that is meant",
        )
    yield from _unlooked(policy, what)


def _unlooked(policy: Policy, what: str) -> Iterator[Sign]:
    for stage, kinds in ((Stage.INPUT, INPUT_KINDS), (Stage.OUTPUT, OUTPUT_KINDS)):
        nobody = [k for k in kinds if k not in policy.looked_at(stage)]
        if nobody:
            fate = "refused" if policy.unjudged_refused else "passed, and named as unjudged"
            level = Level.OK if policy.unjudged_refused else Level.WARNING
            yield Sign(level, what, f"{stage.value}: nobody looks at {', '.join(nobody)}: {fate}")


def look_at_settings(settings: Settings) -> Iterator[Sign]:
    """Signs of the settings."""
    if not settings.keys and not settings.client_keys:
        yield Sign(Level.NOTE, "keys", "no client keys: the API binds loopback only")
    if settings.audit.directory is None:
        yield Sign(Level.NOTE, "audit", "no audit record is written", "audit.directory")
    if "completions" in settings.dialects:
        yield Sign(
            Level.WARNING, "dialects", "completions are on: no hardening reaches the model there",
            "leave them out of dialects",
        )  # fmt: skip
