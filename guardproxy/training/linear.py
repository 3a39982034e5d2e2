"""The n-gram models: features, fit, folds that keep sources and groups apart, and calibration."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from guardproxy.detectors.joined import ends
from guardproxy.detectors.ngram import BUCKETS, QUESTION_SHARE, features, fold, joined, windows
from guardproxy.training.rows import Row

SEED = 7
FOLDS = 8
MAX_ROWS_A_SOURCE = 2500
PREFIXES = (160, 400)
"""Characters of an answer's beginnings that are learnt from beside the whole: a stream is judged as it grows."""

Floats = npt.NDArray[np.float64]


def thin(rows: list[Row]) -> list[Row]:
    """At most so many rows of a source, spread evenly; identical texts once."""
    unique = list(
        {(r.source, r.text[:400], (r.question or "")[:100]): r for r in rows if r.text.strip()}.values()
    )
    return spread(unique, lambda _source: MAX_ROWS_A_SOURCE)


def spread(rows: Sequence[Row], most: Callable[[str], int]) -> list[Row]:
    """At most so many rows of each source, evenly out of all that it has; sources in the order of their names."""
    kept: list[Row] = []
    for source in sorted({r.source for r in rows}):
        own = [r for r in rows if r.source == source]
        step = max(1.0, len(own) / most(source))
        kept.extend(own[int(i * step)] for i in range(min(len(own), most(source))))
    return kept


def beginning(row: Row, length: int) -> Row:
    """The row with the first characters of its text only."""
    return replace(row, text=row.text[:length])


def with_ends(row: Row) -> list[Row]:
    """A row, and the ends of its text, which are read by themselves too."""
    return [row, *(replace(row, text=text) for text in ends(row.text))]


def with_prefixes(rows: Sequence[Row]) -> list[Row]:
    """The rows, and of each longer answer its beginnings with the label of the whole."""
    grown = list(rows)
    for row in rows:
        if row.question is not None:
            grown += [beginning(row, n) for n in PREFIXES if len(row.text) > n + 80]
    return grown


def matrix(rows: Sequence[Row]) -> Any:
    """One line of features for each row's first window, as the model weighs them."""
    return _sparse([_line(windows(fold(r.text))[0], r.question) for r in rows])


def of_windows(rows: Sequence[Row], weights: Floats, bias: float) -> list[Floats]:
    """The uncalibrated logits of each row's windows."""
    parts = [windows(fold(r.text)) for r in rows]
    lines = [_line(part, r.question) for r, own in zip(rows, parts, strict=True) for part in own]
    if not lines:
        return []
    raw = _sparse(lines) @ weights + bias
    return np.split(raw, np.cumsum([len(own) for own in parts])[:-1])


def of_texts(rows: Sequence[Sequence[Row]], weights: Floats, bias: float) -> list[list[Floats]]:
    """The same for several texts of each row."""
    told = iter(of_windows([one for own in rows for one in own], weights, bias))
    return [[next(told) for _ in own] for own in rows]


def logits(raw: Sequence[Floats], slope: float, intercept: float) -> Floats:
    """Each row's calibrated logit by those of its windows, joined as when it is served."""
    return np.asarray([joined((slope * one + intercept).tolist()) for one in raw])


def _line(window: str, question: str | None) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    own = features(window)
    asked = np.empty(0, np.int32)
    if question is not None:
        asked = features(fold(question), words_only=True, salt=1)
    size = math.sqrt(max(own.size + QUESTION_SHARE**2 * asked.size, 1.0))
    values = np.concatenate((np.full(own.size, 1 / size), np.full(asked.size, QUESTION_SHARE / size)))
    return np.concatenate((own, asked)), values.astype(np.float32)


def _sparse(lines: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]]) -> Any:
    from scipy.sparse import csr_matrix

    starts = np.concatenate(([0], np.cumsum([indices.size for indices, _ in lines])))
    values = np.concatenate([v for _, v in lines])
    return csr_matrix((values, np.concatenate([i for i, _ in lines]), starts), shape=(len(lines), BUCKETS))


def fit(features_of: Any, rows: Sequence[Row], strength: float = 8.0) -> tuple[Floats, float]:
    """Logistic regression, to the optimum; returns weights and bias."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, solver="lbfgs", max_iter=400, tol=1e-4, random_state=SEED)
    model.fit(features_of, np.asarray([r.label for r in rows]), sample_weight=balance(rows))
    return model.coef_[0], float(model.intercept_[0])


def balance(rows: Sequence[Row]) -> Floats:
    """Sources count by the root of their size, labels equally, so that no set's style is the lesson."""
    sizes = Counter((r.source, r.label) for r in rows)
    weights = np.asarray([1 / math.sqrt(sizes[r.source, r.label]) for r in rows])
    labels = np.asarray([r.label for r in rows])
    for label in (0, 1):
        weights[labels == label] *= 0.5 * len(rows) / weights[labels == label].sum()
    return weights


def folds(rows: Sequence[Row]) -> list[set[str]]:
    """Whole sources, dealt out by size."""
    sizes = Counter(r.source for r in rows)
    dealt: list[set[str]] = [set() for _ in range(min(FOLDS, len(sizes)))]
    filled = [0] * len(dealt)
    for source, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        smallest = filled.index(min(filled))
        dealt[smallest].add(source)
        filled[smallest] += size
    return dealt


def apart(rows: Sequence[Row], sources: set[str]) -> list[Row]:
    """The rows that a model may learn from to be judged on these sources.

    Other sources' rows that share a group or a question with theirs are left out too: sets quote each other.
    """
    held = [r for r in rows if r.source in sources]
    groups = {r.group for r in held if r.group}
    asked = {fold(r.question)[:200] for r in held if r.question and len(r.question) > 20}
    return [
        r
        for r in rows
        if r.source not in sources
        and r.group not in groups
        and not (r.question and fold(r.question)[:200] in asked)
    ]


def platt(raw: Sequence[Floats], rows: Sequence[Row]) -> tuple[float, float]:
    """Slope and intercept that make probabilities of logits (Platt, 1999)."""
    from sklearn.linear_model import LogisticRegression

    labels = np.asarray([r.label for r in rows])
    given = logits(raw, 1.0, 0.0).reshape(-1, 1)
    fitted = LogisticRegression(C=1e6).fit(given, labels, sample_weight=balance(rows))
    return max(float(fitted.coef_[0, 0]), 0.1), float(fitted.intercept_[0])
