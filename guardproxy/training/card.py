"""The model card: what was learnt from, how well it does on sources it never saw, and where it is weak."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import numpy.typing as npt

from guardproxy.training.rows import EVALUATION_ONLY, LICENCES, Row

SHIPPED = {"jailbreak": 0.955, "harmful_request": 0.88, "harmful_answer": 0.85, "refusal": 0.75}
"""Thresholds of the default policy."""
_Z = 1.959964
_FEW = 20
_INTRODUCTION = """# Model card: the embedded classifiers

Written by `guardproxy train`. Four logistic regressions on hashed character 2- to 5-grams and word
uni- and bigrams (2^18 buckets, eight-bit weights, plain arrays), Platt-calibrated on rows whose
source was kept apart. scikit-learn {version}.

**Every figure below is for rows of a source that the scoring model had not seen** (whole sources in
eight folds; {evaluation} are never learnt from). They are a cheap first stage: they know
words, not intent. A threshold chosen on these rows is not a promise for yours.

AUROC compares a source's rows with all rows of the other label where the source has only one.

Behind three of them stands an encoder (`encoder.onnx`): all-MiniLM-L6-v2 (Apache-2.0, sentence-transformers; from Microsoft's
MiniLM, MIT), changed by us: fine-tuned on the same rows with four heads, weights in eight bits. What both do
together, and how they were kept apart, is in docs/quality/audit.md; how to make them, in docs/training.md. Learnt from are the
sources below with a licence, and S-Labs/prompt-injection-dataset (`s_labs`, MIT) among them.
"""


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a rate (Wilson, JASA 1927)."""
    if n == 0:
        return 0.0, 1.0
    rate = hits / n
    centre = rate + _Z**2 / (2 * n)
    spread = _Z * math.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n * n))
    below = 1 + _Z**2 / n
    return max(0.0, (centre - spread) / below), min(1.0, (centre + spread) / below)


def auroc(positive: npt.NDArray[np.float64], negative: npt.NDArray[np.float64]) -> float:
    """Chance that a positive scores above a negative (ties half)."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left")
    upto = np.searchsorted(ordered, positive, "right")
    return float(((below + upto) / 2).sum() / (positive.size * negative.size))


def threshold_for(negative: npt.NDArray[np.float64], share: float) -> float:
    """The lowest threshold (rounded up to 0.001) that at most this share of scores reaches."""
    allowed = int(share * negative.size)
    ordered = np.sort(negative)[::-1]
    return min(1.0, math.floor(float(ordered[allowed]) * 1000 + 1) / 1000)


def section(  # noqa: PLR0913 - what is told of one classifier
    head: str, version: str, rows: list[Row], scores: npt.NDArray[np.float64], learnt: int, share: float
) -> str:
    """One n-gram model's part of the card."""
    labels = np.asarray([r.label for r in rows])
    positive, negative = scores[labels == 1], scores[labels == 0]
    low, high = threshold_for(negative, share), threshold_for(negative, 5 * share)
    lines = [f"## {head}", "", f"Version `{version}`, learnt from {learnt} rows.", ""]
    lines += [
        f"Pooled: AUROC {auroc(positive, negative):.3f}; {positive.size} rows of label 1, {negative.size} of label 0.",
        "",
        "| threshold | false stops | 95 % interval | caught | 95 % interval |",
        "|---|---|---|---|---|",
        _threshold_line(low, positive, negative),
        _threshold_line(high, positive, negative),
        *([_threshold_line(SHIPPED[head], positive, negative)] if head in SHIPPED else []),
        "",
        f"| source | licence | n (0 / 1) | AUROC | false stops at {low:.3f} | caught at {low:.3f} | at {high:.3f} |",
        "|---|---|---|---|---|---|---|",
    ]
    for source in sorted({r.source for r in rows}):
        own = np.asarray([r.source == source for r in rows])
        lines.append(_source_line(source, scores[own], labels[own], positive, negative, (low, high)))
    lines.append("")
    lines += _languages(rows, scores, labels, low)
    return "\n".join(lines)


def _threshold_line(
    threshold: float, positive: npt.NDArray[np.float64], negative: npt.NDArray[np.float64]
) -> str:
    stopped, caught = int((negative >= threshold).sum()), int((positive >= threshold).sum())
    a, b = wilson(stopped, negative.size)
    c, d = wilson(caught, positive.size)
    return (
        f"| {threshold:.3f} | {stopped} of {negative.size} ({stopped / negative.size:.2%}) | {a:.2%} to {b:.2%} "
        f"| {caught} of {positive.size} ({caught / positive.size:.1%}) | {c:.1%} to {d:.1%} |"
    )


def _source_line(  # noqa: PLR0913 - one argument for each column
    source: str,
    scores: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    positive: npt.NDArray[np.float64],
    negative: npt.NDArray[np.float64],
    thresholds: tuple[float, float],
) -> str:
    own_negative, own_positive = scores[labels == 0], scores[labels == 1]
    against = own_negative if own_negative.size >= _FEW else negative
    of = own_positive if own_positive.size >= _FEW else positive
    rates = [
        "-" if some.size == 0 else f"{(some >= t).mean():.1%}"
        for some, t in (
            (own_negative, thresholds[0]),
            (own_positive, thresholds[0]),
            (own_positive, thresholds[1]),
        )
    ]
    licence = LICENCES.get(source, "not learnt from")
    figure = f"{auroc(of, against):.3f}"
    return f"| {source} | {licence} | {own_negative.size} / {own_positive.size} | {figure} | {' | '.join(rates)} |"


def _languages(
    rows: list[Row], scores: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], threshold: float
) -> list[str]:
    lines = ["By language at the first threshold:", ""]
    for lang, size in Counter(r.lang for r in rows).most_common(6):
        own = np.asarray([r.lang == lang for r in rows])
        stopped = int((scores[own & (labels == 0)] >= threshold).sum())
        caught = int((scores[own & (labels == 1)] >= threshold).sum())
        benign, harmful = int((own & (labels == 0)).sum()), int((own & (labels == 1)).sum())
        lines.append(f"- {lang} ({size}): false stops {stopped} of {benign}, caught {caught} of {harmful}")
    return [*lines, ""]


def write(sections: list[str], version: str) -> str:
    """The whole card."""
    head = _INTRODUCTION.format(version=version, evaluation=", ".join(EVALUATION_ONLY))
    return "\n".join([head, *sections, _WEAK])


_WEAK = """## Weak places

- They are word-level: a harmless question in scary words scores high, a harmful one in plain words low.
- Japanese: few labelled rows exist; refusals and injections in Japanese are mostly our own sentences.
- Harmful answers: most positives come from jailbroken small models of 2023 and 2024.
- Encoded or paraphrased attacks (base64, ciphers, rare languages) are not seen.
"""
