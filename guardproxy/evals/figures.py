"""What a report says, as values: computed here, written by others, published as a JSON schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from guardproxy.evals.agreement import Agreement
from guardproxy.evals.probes import Probed
from guardproxy.evals.rundir import Manifest
from guardproxy.evals.statistics import Change, Flips, Rate

SCHEMA = 1

Counts = Mapping[str, int]
Kind = Literal["attack_success", "over_refusal"]


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides of the paradox: neither is ever told without the other.

    Attributes:
        attack_success: Of attacks: the model complied.
        over_refusal: Of benign requests: the model refused, or the proxy blocked.
    """

    attack_success: Rate
    over_refusal: Rate


@dataclass(frozen=True, slots=True)
class Slice:
    """The cases of one category or language."""

    name: str
    sides: Sides


@dataclass(frozen=True, slots=True)
class ByJudge:
    """What the figures would be with another judge.

    Attributes:
        worst: With what it could not read counted as bad. A judge that reads refusals only finds no success.
        coverage: Share of the answers that were there to be read that it could read.
    """

    judge: str
    sides: Sides
    worst: Sides
    coverage: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Time and tokens of one answer. None where no answer said it.

    Attributes:
        n: Answers that are no errors.
    """

    n: int
    ms_median: float | None
    ms_p95: float | None
    prompt_tokens_mean: float | None
    completion_tokens_mean: float | None


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """One arm.

    Attributes:
        versions: Of the policy that served it; more than one: it was changed during the run.
        outcomes: Expectation to outcome to count.
        sides: By the report's first judge; answers that nobody could read, and errors, do not stand in them.
        worst: The same, with unreadable answers and errors counted against the arm: what gates look at.
        missing: Errors and unreadable answers, of all.
        errors: Errors, of all.
        attack_flips: Attacks whose success depends on the wording.
        benign_flips: Benign requests whose refusal depends on the wording.
    """

    name: str
    policy: str | None
    versions: tuple[str, ...]
    outcomes: Mapping[str, Counts]
    sides: Sides
    worst: Sides
    missing: Rate
    errors: Rate
    categories: tuple[Slice, ...]
    languages: tuple[Slice, ...]
    judges: tuple[ByJudge, ...]
    attack_flips: Flips
    benign_flips: Flips
    cost: Cost


@dataclass(frozen=True, slots=True)
class ArmChange:
    """What an arm changes against its baseline, on the same cases: the first arm, or its own policy's.

    Attributes:
        added_refusals: As `over_refusal`, with unreadable answers and errors counted as refused.
        refused_only_here: Benign requests that the model refused in this arm and answered in the first.
        blocked_only_here: Benign requests that were blocked in this arm and answered in the first.
        attacks_refused_only_here: Attacks that the model refused in this arm and complied with in the first.
        attacks_blocked_only_here: Attacks that were blocked in this arm and complied with in the first.
        ms_median: Median of the differences in time, in milliseconds.
        tokens_mean: Mean of the differences in tokens, prompt and answer.
    """

    arm: str
    baseline: str
    attack_success: Change
    over_refusal: Change
    added_refusals: Change
    refused_only_here: int
    blocked_only_here: int
    attacks_refused_only_here: int
    attacks_blocked_only_here: int
    ms_median: float | None
    tokens_mean: float | None


@dataclass(frozen=True, slots=True)
class Example:
    """One answer to look at. `kind` is `attack_success` or `over_refusal`; texts may be cut."""

    kind: Kind
    arm: str
    case: str
    category: str
    language: str
    outcome: str
    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Caution:
    """Something that bounds how far the figures can be trusted.

    Attributes:
        code: One of `single_judge`, `unchecked_judges`, `judges_disagree`, `judge_flips`, `missing`,
            `policy_changed`, `incomplete`.
        about: Judge, arm or pair.
        count: Of whatever it is about.
    """

    code: str
    about: str = ""
    count: int = 0
    of: int = 0


@dataclass(frozen=True, slots=True)
class GateResult:
    """One bound of the gate file.

    Attributes:
        bound: `attack_success`, `over_refusal`, `added_refusals` or `errors`.
        at: `rate` or `upper`: which number is compared.
        value: That number; None where nothing was measured, which breaks the bound.
    """

    bound: str
    arm: str
    at: str
    max: float
    value: float | None
    n: int
    kept: bool


@dataclass(frozen=True, slots=True)
class Report:
    """An evaluation.

    Attributes:
        schema: Of this format; counts up when a field changes its meaning or goes.
        judge: Whose labels the figures use.
        judges: All that read the answers.
        human: Answers that a person labelled.
        passed: Whether every bound is kept; None without a gate file.
    """

    schema: int
    run: Manifest
    judge: str
    judges: tuple[str, ...]
    human: int
    arms: tuple[ArmFigures, ...]
    changes: tuple[ArmChange, ...]
    agreements: tuple[Agreement, ...]
    probes: tuple[Probed, ...]
    cautions: tuple[Caution, ...]
    examples: tuple[Example, ...]
    gates: tuple[GateResult, ...] = ()
    passed: bool | None = None
