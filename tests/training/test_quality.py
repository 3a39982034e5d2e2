"""The quality page's figures are the textbooks'."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guardproxy.detectors.classifiers import Sum
from guardproxy.training import joint, quality
from guardproxy.training.joint import Read
from guardproxy.training.rows import Row

pytest.importorskip("sklearn")


def judged(n: int = 60) -> quality.Judged:
    rows = [
        Row("xstest", i % 2, f"text {i}", None, "ja" if i % 4 < 2 else "en", f"g{i // 2}") for i in range(n)
    ]
    scores = np.asarray([0.6 + i / 1000 if r.label else 0.3 - i / 1000 for i, r in enumerate(rows)])
    asked = np.asarray([i % 10 == 0 for i in range(n)])
    return quality.Judged("jailbreak", rows, scores, 1 - scores, 0.5, asked)


def test_the_calibration_error_of_right_probabilities_is_nothing() -> None:
    scores = np.asarray([0.25] * 4 + [1.0] * 4)
    labels = np.asarray([1, 0, 0, 0, 1, 1, 1, 1])
    assert quality.ece(scores, labels) == pytest.approx(0.0)
    assert quality.ece(scores, 1 - labels) == pytest.approx(0.75)


def test_the_interval_holds_the_figure_and_needs_groups_apart() -> None:
    low, high = quality.interval(judged(), judged().default)
    assert low == high == 1.0
    mixed = judged()
    noisy = np.random.default_rng(1).random(len(mixed.rows))
    low, high = quality.interval(mixed, noisy)
    assert 0 <= low < high <= 1


def test_the_partial_area_is_a_share_of_what_is_possible() -> None:
    assert quality.partial(np.asarray([0.9, 0.8]), np.linspace(0, 0.5, 50)) == 1.0
    assert quality.partial(np.asarray([0.1]), np.linspace(0.2, 0.5, 50)) == 0.0


def test_the_page_tells_language_source_threshold_and_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    quality.write([judged()], tmp_path, {"head": "how it was made", "tail": "the end"})
    text = (tmp_path / "audit.md").read_text("utf-8")
    for words in (
        "0.500 (shipped)",
        "| ja | 15 / 15 |",
        "| xstest | CC BY 4.0 | 30 / 30 | 1.000 (1.000 to 1.000) | 0.000 |",
        "Read by the encoder, of benign rows: look-alikes 20.0% (9.5% to 37.3%; n 30), everyday ones -:",
        "the end",
    ):
        assert words in text
    assert (tmp_path / "audit-jailbreak.png").stat().st_size > 5000


def test_joining_leaves_the_ngrams_their_least_weight() -> None:
    rng = np.random.default_rng(3)
    reads = [
        Read(Row("xstest", i % 2, "t", None, "en"), rng.normal(), float(2 * (i % 2) - 1 + rng.normal() / 2))
        for i in range(200)
    ]
    other = rng.normal(size=500)
    fitted = joint.fit(reads, other, 0.9, 4.0, 0.01)
    assert fitted.sums["latin"].ngram == pytest.approx(
        joint.LEAST_NGRAM * fitted.sums["latin"].encoder, rel=1e-3
    )
    assert fitted.sums["latin"].encoder > 1
    logits = joint.logits(fitted, reads)
    below = [i for i, r in enumerate(reads) if r.ngram < fitted.doubt_from]
    assert below
    assert all(logits[i] == fitted.unread("latin", reads[i].ngram) for i in below)
    assert not any(joint.is_asked(fitted, reads[i], -9.0, None) for i in below)
    sure = max(reads, key=lambda r: r.ngram)
    assert joint.is_asked(fitted, sure, 1.0, None)
    assert not joint.is_asked(fitted, sure, 99.0, None), "nothing it may say would decide"
    long = replace(reads[below[0]], ends=(sure,))
    assert joint.is_asked(fitted, long, 1.0, None)
    assert joint.logits(fitted, [long]) == joint.logits(fitted, [sure])
    reached = sum(fitted.unread("other", logit) >= np.log(9) for logit in other)
    assert 1 <= reached <= 6


def test_glossed_texts_have_weights_of_their_own_and_few_benign_ones_reach_the_threshold() -> None:
    rng = np.random.default_rng(3)
    latin = [Read(Row("xstest", i % 2, "t", None, "en"), rng.normal(), 0.0) for i in range(60)]
    glossed = [
        Read(
            Row("own_rows", i % 2, "この車", None, "ja"),
            rng.normal(),
            float(8 * (i % 2) - 4 + 3 * rng.normal()),
        )
        for i in range(400)
    ]
    fitted = joint.fit([*latin, *glossed], rng.normal(size=500), 0.9, 8.0, 0.01)
    assert fitted.sums["ja"].encoder > abs(fitted.sums["ja"].ngram)
    sums = joint.logits(fitted, glossed)
    benign = np.asarray([r.row.label == 0 for r in glossed])
    assert (sums[benign] >= np.log(9)).mean() <= 0.011
    assert (sums[~benign] >= np.log(9)).mean() > 0.3
    few = joint.fit([*latin, *glossed[:9]], rng.normal(size=500), 0.9, 8.0, 0.01)
    assert few.sums["ja"] == few.sums["zh"] == Sum(few.other_slope, 0.0, few.other_bias, 8.0)
