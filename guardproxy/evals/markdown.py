"""The report as Markdown: the figures, without the plot and the examples' texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from guardproxy.evals.figures import Report
from guardproxy.evals.page import OUTCOMES, cautions_told
from guardproxy.evals.statistics import Change, Rate
from guardproxy.evals.wording import Wording, interval, number, p_value, percent, signed


def markdown(report: Report, language: str) -> str:
    """The whole file; `language` is `en` or `ja`."""
    words = Wording(language)
    return "\n".join(_lines(report, words)) + "\n"


def _lines(report: Report, words: Wording) -> Iterator[str]:
    run = report.run
    yield f"# {_flat(words('title', suite=run.suite))}\n"
    yield _flat(
        words("about", model=run.model, target=run.target, planned=run.planned, started=run.started, version=run.suite_version)
    )  # fmt: skip
    yield from _gates(report, words)
    yield f"\n## {words('both')}\n\n{words('both_note')}\n"
    head = [words(k) for k in ("arm", "attack_success", "over_refusal", "unknown")]
    yield _table(
        head,
        (
            [a.name, _rate(a.sides.attack_success, words), _rate(a.sides.over_refusal, words), f"{a.missing.events} / {a.missing.n}"]
            for a in report.arms
        ),
    )  # fmt: skip
    yield f"\n## {words('trust')}\n"
    yield from (f"- {_flat(told)}" for told in cautions_told(report, words))
    if not report.cautions:
        yield words("trust_none")
    yield from _changes(report, words)
    yield from _outcomes(report, words)
    yield from _judges(report, words)


def _gates(report: Report, words: Wording) -> Iterator[str]:
    if report.passed is None:
        return
    broken = sum(not g.kept for g in report.gates)
    told = (
        words("gates_kept") if report.passed else words("gates_broken", broken=broken, all=len(report.gates))
    )
    yield f"\n**{told}**\n"
    head = [words(k) for k in ("bound", "arm", "value", "most", "verdict")]
    yield _table(
        head,
        (
            [
                words(g.bound), g.arm, words("nothing") if g.value is None else f"{percent(g.value)} ({g.at}, n={g.n})",
                percent(g.max), words("kept" if g.kept else "broken"),
            ]
            for g in report.gates
        ),
    )  # fmt: skip


def _changes(report: Report, words: Wording) -> Iterator[str]:
    if not report.changes:
        return
    yield f"\n## {words('adds')}\n\n{words('adds_note')}\n"
    keys = ("arm", "attack_success", "over_refusal", "only_here", "attacks_only_here")
    yield _table(
        [words(k) for k in keys],
        (
            [
                words("against", arm=c.arm, baseline=c.baseline), _change(c.attack_success, words), _change(c.over_refusal, words),
                words("refused_blocked", refused=c.refused_only_here, blocked=c.blocked_only_here),
                words("refused_blocked", refused=c.attacks_refused_only_here, blocked=c.attacks_blocked_only_here),
            ]
            for c in report.changes
        ),
    )  # fmt: skip


def _outcomes(report: Report, words: Wording) -> Iterator[str]:
    yield f"\n## {words('outcomes')}\n\n{words('outcomes_note')}\n"
    rows = [
        [f"{arm.name}: {words(expect)}", *(str(counts[o]) for o in OUTCOMES)]
        for arm in report.arms
        for expect, counts in arm.outcomes.items()
    ]
    yield _table([words("arm"), *(words(o) for o in OUTCOMES)], rows)


def _judges(report: Report, words: Wording) -> Iterator[str]:
    yield f"\n## {words('judges')}\n\n{words('judges_note', judge=report.judge)}\n"
    keys = ("judge", "arm", "attack_success", "over_refusal", "coverage")
    yield _table(
        [words(k) for k in keys],
        (
            [by.judge, arm.name, _rate(by.sides.attack_success, words), _rate(by.sides.over_refusal, words), percent(by.coverage)]
            for arm in report.arms
            for by in arm.judges
        ),
    )  # fmt: skip
    if report.agreements:
        yield ""
        yield _table(
            [words(k) for k in ("pair", "same", "kappa", "kappa_max", "coverage")],
            (
                [f"{a.first} / {a.second}", f"{percent(a.agreement)} (n={a.n})", number(a.kappa), number(a.kappa_max), percent(a.coverage)]
                for a in report.agreements
            ),
        )  # fmt: skip


def _rate(rate: Rate, words: Wording) -> str:
    if rate.rate is None:
        return words("no_cases")
    return f"{percent(rate.rate)} {interval(rate.low, rate.high)} {words('of', events=rate.events, n=rate.n)}"


def _change(change: Change, words: Wording) -> str:
    if change.difference is None:
        return words("no_cases")
    p = f"p={p_value(change.p)} ({p_value(change.p_holm)})".replace("=<", "<")
    return f"{signed(change.difference)} [{signed(change.low)} … {signed(change.high)}], n={change.n}, {p}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_flat(c) for c in line) + " |" for line in lines)


def _flat(text: str) -> str:
    """Names come from outside: none may end a cell, a line or a tag."""
    return text.replace("\n", " ").replace("|", "\\|").replace("<", "&lt;")
