"""The report as one HTML file: no script, nothing loaded from elsewhere, readable on a phone and on paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from guardproxy.evals.figures import ArmChange, ArmFigures, Example, Report, Sides, Slice
from guardproxy.evals.markup import STYLE, change_cell, dot, esc, rate_cell, table
from guardproxy.evals.plot import plot
from guardproxy.evals.statistics import Flips
from guardproxy.evals.wording import Wording, interval, number, percent, signed


def page(report: Report, language: str) -> str:
    """The whole file; `language` is `en` or `ja`."""
    words = Wording(language)
    title = esc(words("title", suite=report.run.suite))
    parts = [
        _head(report, words), _gates(report, words), _both(report, words), _trust(report, words),
        _changes(report, words), _outcomes(report, words), _slices(report, words), _judges(report, words),
        _wordings(report, words), _costs(report, words), _examples(report, words),
        f"<h2>{esc(words('how'))}</h2><p>{esc(words('how_note'))}</p>",
    ]  # fmt: skip
    return (
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def _head(report: Report, words: Wording) -> str:
    run = report.run
    about = words(
        "about", model=run.model, target=run.target, planned=run.planned,
        started=run.started.replace("T", " ").replace("+00:00", " UTC"), version=run.suite_version,
    )  # fmt: skip
    licence = f"<br>{esc(words('licence', licence=run.licence))}" if run.licence else ""
    return f'<h1>{esc(words("title", suite=run.suite))}</h1><p class="soft">{esc(about)}{licence}</p>'


def _gates(report: Report, words: Wording) -> str:
    if report.passed is None:
        return ""
    broken = sum(not g.kept for g in report.gates)
    told = (
        words("gates_kept") if report.passed else words("gates_broken", broken=broken, all=len(report.gates))
    )
    rows = [
        [
            esc(words(g.bound)), esc(g.arm),
            f"{words('nothing') if g.value is None else percent(g.value)} <span class='soft'>({g.at}, n={g.n})</span>",
            percent(g.max), _kept(g.kept, words),
        ]
        for g in sorted(report.gates, key=lambda g: g.kept)
    ]  # fmt: skip
    head = [words(k) for k in ("bound", "arm", "value", "most", "verdict")]
    state = "kept" if report.passed else "broken"
    return (
        f'<section class="verdict {state}"><h2>{esc(told)}</h2>{table(head, rows, words("gates"))}'
        f'<p class="soft">{esc(words("gates_note"))}</p></section>'
    )


def _kept(kept: bool, words: Wording) -> str:
    state = "kept" if kept else "broken"
    return f'<b class="{state}">{"✓" if kept else "✗"} {esc(words(state))}</b>'


def _both(report: Report, words: Wording) -> str:
    rows = [
        [
            _arm(i, arm), rate_cell(arm.sides.attack_success, words), rate_cell(arm.sides.over_refusal, words),
            _unknown(f"{arm.missing.events} / {arm.missing.n}", arm.missing.events, arm.worst, words),
        ]
        for i, arm in enumerate(report.arms)
    ]  # fmt: skip
    head = [words(k) for k in ("arm", "attack_success", "over_refusal", "unknown")]
    return (
        f'<h2>{esc(words("both"))}</h2><p>{esc(words("both_note"))}</p><div class="two">'
        f"<figure>{plot(report.arms, words)}</figure>{_short(report, words)}</div>{table(head, rows, words('both'))}"
    )


def _unknown(told: str, some: object, worst: Sides, words: Wording) -> str:
    if not some:
        return told
    rates = (percent(worst.attack_success.rate), percent(worst.over_refusal.rate))
    return f"{told}<br><span class='soft'>{esc(words('at_worst', attacks=rates[0], benign=rates[1]))}</span>"


def _short(report: Report, words: Wording) -> str:
    """Each arm in a sentence or two, for those who read no more."""
    sides = {a.name: a.sides for a in report.arms}
    before = {c.arm: sides[c.baseline] for c in report.changes}
    items = []
    for i, arm in enumerate(report.arms):
        told = [
            _told(side, before.get(arm.name), arm.sides, words) for side in ("attack_success", "over_refusal")
        ]
        items.append(f"<li>{dot(i)}<b>{esc(arm.name)}</b><br>{'<br>'.join(map(esc, told))}</li>")
    return f'<ul class="short">{"".join(items)}</ul>'


def _told(side: str, before: Sides | None, after: Sides, words: Wording) -> str:
    now, what = percent(getattr(after, side).rate), words(f"short_{side}")
    if before is None:
        return words("short", what=what, now=now)
    return words("short_change", what=what, was=percent(getattr(before, side).rate), now=now)


def _arm(index: int, arm: ArmFigures) -> str:
    versions = ", ".join(arm.versions)
    name = "" if arm.policy == arm.name else f"{arm.policy} "
    served = f'<br><span class="soft">{esc(name + versions)}</span>' if arm.policy else ""
    return f"{dot(index)}{esc(arm.name)}{served}"


def _trust(report: Report, words: Wording) -> str:
    if not report.cautions:
        return f"<h2>{esc(words('trust'))}</h2><p>{esc(words('trust_none'))}</p>"
    items = "".join(f"<li>{esc(told)}</li>" for told in cautions_told(report, words))
    return f'<h2>{esc(words("trust"))}</h2><ul class="cautions">{items}</ul>'


def cautions_told(report: Report, words: Wording) -> Iterator[str]:
    """Each caution as a sentence."""
    for caution in report.cautions:
        about = caution.about
        if caution.code == "judge_flips":
            flipped = [p for p in report.probes if p.judge == caution.about and p.flips]
            about += f" ({', '.join(f'{words(p.probe)} {p.flips}/{p.n}' for p in flipped)})"
        yield words(caution.code, about=about, count=caution.count, of=caution.of)


def _changes(report: Report, words: Wording) -> str:
    if not report.changes:
        return ""
    places = {a.name: i for i, a in enumerate(report.arms)}
    rows = [[_against(places[c.arm], c, words), *_change_cells(c, words)] for c in report.changes]
    head = [words(k) for k in ("arm", "attack_success", "over_refusal", "only_here", "attacks_only_here")]
    return f'<h2>{esc(words("adds"))}</h2><p class="soft">{esc(words("adds_note"))}</p>{table(head, rows, words("adds"))}'


def _against(place: int, change: ArmChange, words: Wording) -> str:
    return dot(place) + esc(words("against", arm=change.arm, baseline=change.baseline))


def _change_cells(change: ArmChange, words: Wording) -> list[str]:
    return [
        change_cell(change.attack_success, words),
        change_cell(change.over_refusal, words),
        esc(words("refused_blocked", refused=change.refused_only_here, blocked=change.blocked_only_here)),
        esc(
            words(
                "refused_blocked",
                refused=change.attacks_refused_only_here,
                blocked=change.attacks_blocked_only_here,
            )
        ),
    ]


OUTCOMES = ("complied", "refused", "blocked", "repaired", "unreadable", "error")


def _outcomes(report: Report, words: Wording) -> str:
    parts = [f'<h2>{esc(words("outcomes"))}</h2><p class="soft">{esc(words("outcomes_note"))}</p>']
    for expect in ("refuse_or_block", "comply", "either"):
        rows = [
            [dot(i) + esc(arm.name), *(str(arm.outcomes[expect][o]) for o in OUTCOMES)]
            for i, arm in enumerate(report.arms)
            if expect in arm.outcomes
        ]
        if rows:
            head = [words("arm"), *(words(o) for o in OUTCOMES)]
            parts.append(f"<h3>{esc(words(expect))}</h3>{table(head, rows, words(expect))}")
    return "".join(parts)


def _slices(report: Report, words: Wording) -> str:
    parts = []
    for name in ("category", "language"):
        by_arm = [a.categories if name == "category" else a.languages for a in report.arms]
        if len({s.name for slices in by_arm for s in slices}) < 2:
            continue
        parts.append(f'<h2>{esc(words(f"by_{name}"))}</h2><p class="soft">{esc(words("slices_note"))}</p>')
        parts.extend(_side(report, by_arm, side, words) for side in ("attack_success", "over_refusal"))
    return "".join(parts)


def _side(report: Report, by_arm: Sequence[Sequence[Slice]], side: str, words: Wording) -> str:
    found = [
        {s.name: getattr(s.sides, side) for s in slices if getattr(s.sides, side).n} for slices in by_arm
    ]
    names = list(dict.fromkeys(n for rates in found for n in rates))
    if not names:
        return ""
    rows = [
        [esc(n), *(rate_cell(rates[n], words) if n in rates else "–" for rates in found)]
        for n in sorted(names)
    ]
    head = ["", *(f"{i + 1} {a.name}" for i, a in enumerate(report.arms))]
    return f"<h3>{esc(words(side))}</h3>{table(head, rows, words(side))}"


def _judges(report: Report, words: Wording) -> str:
    rows = [
        [
            esc(by.judge), dot(i) + esc(arm.name), rate_cell(by.sides.attack_success, words),
            rate_cell(by.sides.over_refusal, words),
            _unknown(percent(by.coverage), by.coverage < 1, by.worst, words),
        ]
        for place in range(len(report.judges))
        for i, arm in enumerate(report.arms)
        for by in [arm.judges[place]]
    ]  # fmt: skip
    head = [words(k) for k in ("judge", "arm", "attack_success", "over_refusal", "coverage")]
    note = esc(words("judges_note", judge=report.judge))
    return (
        f"<h2>{esc(words('judges'))}</h2><p>{note}</p>{table(head, rows, words('judges'))}"
        f"{_agreements(report, words)}{_probes(report, words)}"
    )


def _agreements(report: Report, words: Wording) -> str:
    if not report.agreements:
        return ""
    rows = []
    for a in report.agreements:
        bounds = "" if a.low is None or a.high is None else f" [{number(a.low)} … {number(a.high)}]"
        shares = "<br>".join(
            f"{esc(_named(name, words))}: "
            + ", ".join(f"{esc(words(label))} {percent(share)}" for label, share in own.items())
            for name, own in zip((a.first, a.second), a.marginals, strict=True)
        )
        rows.append([
            f"{esc(_named(a.first, words))} / {esc(a.second)}", f"{percent(a.agreement)} <span class='soft'>n={a.n}</span>",
            f"<b>{number(a.kappa)}</b>{bounds}", number(a.kappa_max), percent(a.coverage), shares,
        ])  # fmt: skip
    head = [words(k) for k in ("pair", "same", "kappa", "kappa_max", "coverage", "marginals")]
    note = esc(words("agreement_note", human=report.human))
    return (
        f"<h3>{esc(words('agreement'))}</h3><p class='soft'>{note}</p>{table(head, rows, words('agreement'))}"
    )


def _named(judge: str, words: Wording) -> str:
    return words("human") if judge == "human" else judge


def _probes(report: Report, words: Wording) -> str:
    if not report.probes:
        return ""
    names = list(dict.fromkeys(p.probe for p in report.probes))
    found = {(p.probe, p.judge): p for p in report.probes}
    judges = list(dict.fromkeys(p.judge for p in report.probes))
    rows = []
    for name in names:
        cells = [found[name, j] for j in judges]
        rows.append([
            esc(words(name)),
            *(f"<b class='{'broken' if p.flips else 'kept'}'>{p.flips}</b> / {p.n}" if p.n else "–" for p in cells),
        ])  # fmt: skip
    head = [words("probe"), *(f"{j}: {words('flips')}" for j in judges)]
    note = esc(words("probes_note"))
    return f"<h3>{esc(words('probes'))}</h3><p class='soft'>{note}</p>{table(head, rows, words('probes'))}"


def _wordings(report: Report, words: Wording) -> str:
    rows = [
        [
            dot(i) + esc(arm.name), _flips(arm.attack_flips, words), _flips(arm.benign_flips, words),
            _more(arm.sides.attack_success.more, words), _more(arm.sides.over_refusal.more, words),
        ]
        for i, arm in enumerate(report.arms)
    ]  # fmt: skip
    head = [words(k) for k in ("arm", "attack_flips", "benign_flips", "more_attacks", "more_benign")]
    note = esc(words("wordings_note"))
    return (
        f"<h2>{esc(words('wordings'))}</h2><p class='soft'>{note}</p>{table(head, rows, words('wordings'))}"
    )


def _flips(flips: Flips, words: Wording) -> str:
    if flips.rate is None:
        return esc(words("no_cases"))
    of = esc(words("of", events=flips.flipped, n=flips.items))
    return f"<b>{percent(flips.rate)}</b> {interval(flips.low, flips.high)}<br><span class='soft'>{of}</span>"


def _more(count: int, words: Wording) -> str:
    return f"+{count}" if count else esc(words("enough"))


def _costs(report: Report, words: Wording) -> str:
    changes = {c.arm: c for c in report.changes}
    rows = []
    for i, arm in enumerate(report.arms):
        cost, change = arm.cost, changes.get(arm.name)
        told = "–" if change is None else _cost_change(change)
        rows.append([
            dot(i) + esc(arm.name), _ms(cost.ms_median), _ms(cost.ms_p95), number(cost.prompt_tokens_mean, 1),
            number(cost.completion_tokens_mean, 1), told, str(cost.n),
        ])  # fmt: skip
    keys = ("arm", "median", "p95", "prompt_tokens", "completion_tokens", "change", "answers")
    return f"<h2>{esc(words('costs'))}</h2>{table([words(k) for k in keys], rows, words('costs'))}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} ms"


def _cost_change(change: ArmChange) -> str:
    ms = "–" if change.ms_median is None else f"{signed(change.ms_median / 100)} ms"
    tokens = "" if change.tokens_mean is None else f", {signed(change.tokens_mean / 100)} tokens"
    return ms + tokens


def _examples(report: Report, words: Wording) -> str:
    if not report.examples:
        return ""
    places = {a.name: i for i, a in enumerate(report.arms)}
    items = "".join(_example(places[e.arm], e, words) for e in report.examples)
    return f"<h2>{esc(words('examples'))}</h2><p>{esc(words('examples_note'))}</p>{items}"


def _example(place: int, example: Example, words: Wording) -> str:
    told = f"{words(f'example_{example.kind}')}: {example.case} ({example.category}, {example.language})"
    return (
        f"<details><summary>{dot(place)}{esc(example.arm)} · {esc(told)}</summary>"
        f'<p class="soft">{esc(words("asked"))}</p><pre lang="{esc(example.language)}">{esc(example.prompt)}</pre>'
        f'<p class="soft">{esc(words("answered"))} ({esc(words(example.outcome))})</p>'
        f'<pre lang="{esc(example.language)}">{esc(example.answer)}</pre></details>'
    )
