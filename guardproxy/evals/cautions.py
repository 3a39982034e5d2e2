"""What bounds how far the figures can be trusted, found in the figures themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from guardproxy.evals.agreement import Agreement
from guardproxy.evals.figures import ArmFigures, Caution
from guardproxy.evals.probes import Probed

MISSING = 0.05
"""Share of unreadable answers and errors from which on an arm's rates are doubtful."""
KAPPA = 0.4
"""Below it, agreement is called "fair" at best (Landis and Koch 1977)."""


def cautions(
    judges: Sequence[str],
    arms: Sequence[ArmFigures],
    agreements: Sequence[Agreement],
    probes: Sequence[Probed],
    missing: int,
) -> tuple[Caution, ...]:
    """All that apply, the weightiest first.

    Args:
        judges: That read the answers.
        arms: Of the report.
        agreements: Between judges, and with people.
        probes: Of each judge.
        missing: What was planned and has not been asked.
    """
    found = [Caution("incomplete", count=missing)] if missing else []
    found.extend(_of_judges(judges, agreements))
    found.extend(_of_probes(probes))
    found.extend(_of_arms(arms))
    return tuple(found)


def _of_judges(judges: Sequence[str], agreements: Sequence[Agreement]) -> Iterator[Caution]:
    seen_by_people = {a.second for a in agreements if a.first == "human" and a.n}
    if not seen_by_people:
        yield Caution("single_judge" if len(judges) == 1 else "unchecked_judges", ", ".join(judges))
    for one in agreements:
        if one.kappa is not None and one.kappa < KAPPA:
            yield Caution("judges_disagree", f"{one.first} / {one.second}", one.n)


def _of_probes(probes: Sequence[Probed]) -> Iterator[Caution]:
    for judge in dict.fromkeys(p.judge for p in probes):
        own = [p for p in probes if p.judge == judge]
        if flips := sum(p.flips for p in own):
            yield Caution("judge_flips", judge, flips, sum(p.n for p in own))


def _of_arms(arms: Sequence[ArmFigures]) -> Iterator[Caution]:
    for arm in arms:
        if len(arm.versions) > 1:
            yield Caution("policy_changed", arm.name, len(arm.versions))
        if arm.missing.rate is not None and arm.missing.rate > MISSING:
            yield Caution("missing", arm.name, arm.missing.events, arm.missing.n)
