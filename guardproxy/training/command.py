"""`guardproxy train`: from rows to weights and their model card. Reproducible: same rows, same weights."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guardproxy.detectors.ngram import BUCKETS, QUESTION_SHARE, NgramModel, features, fold, save, windows
from guardproxy.errors import SettingsError
from guardproxy.training import card
from guardproxy.training.rows import EVALUATION_ONLY, HEADS, LICENCES, Row, read

SEED = 7
FOLDS = 8
MAX_ROWS_A_SOURCE = 2000
MAX_FALSE_STOPS = 0.01

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows with the probability that a model gave them which had never seen their source."""

    rows: list[Row]
    scores: Floats


def run(rows: Sequence[Path], out: Path) -> int:
    """Train all classifiers; returns the exit code."""
    try:
        import sklearn
    except ImportError:
        raise SettingsError(
            "guardproxy train needs the extra guardproxy[train], which is not installed"
        ) from None
    out.mkdir(parents=True, exist_ok=True)
    heads = read(rows)
    sections = []
    for head in HEADS:
        model, scored, trained_on = train_head(heads[head], out / f"{head}.npz")
        sections.append(card.section(head, model.version, scored, trained_on, MAX_FALSE_STOPS))
        sys.stderr.write(f"{head}: {len(trained_on)} rows, version {model.version}\n")
    (out / "MODEL_CARD.md").write_text(card.write(sections, sklearn.__version__), encoding="utf-8")
    return 0


def train_head(rows: list[Row], path: Path) -> tuple[NgramModel, Scored, list[Row]]:
    """One classifier: scores with whole sources kept apart first, then the shipped weights on all."""
    learn = _thin([r for r in rows if r.source in LICENCES])
    apart = _thin([r for r in rows if r.source in EVALUATION_ONLY])
    if len({r.label for r in learn}) < 2:
        raise SettingsError(f"{path.stem}: rows of both labels are needed, got {len(learn)} of one")
    matrix = _matrix(learn)
    labels = np.asarray([r.label for r in learn])
    raw = np.zeros(len(learn))
    for fold_sources in _folds(learn):
        held = np.asarray([r.source in fold_sources for r in learn])
        if len(set(labels[~held])) < 2:
            continue
        weights, bias = _fit(
            matrix[~held], labels[~held], [r for r, h in zip(learn, held, strict=True) if not h]
        )
        raw[held] = matrix[held] @ weights + bias
    platt = _platt(raw, labels, learn)
    weights, bias = _fit(matrix, labels, learn)
    save(path, weights, bias, platt)
    model = NgramModel.load(path)
    kept = platt[0] * raw + platt[1]
    if apart:
        kept = np.concatenate((kept, platt[0] * (_matrix(apart) @ weights + bias) + platt[1]))
    return model, Scored([*learn, *apart], 1 / (1 + np.exp(-np.clip(kept, -30, 30)))), learn


def _thin(rows: list[Row]) -> list[Row]:
    """At most so many rows of a source, spread evenly; identical texts once."""
    unique = list(
        {(r.source, r.text[:400], (r.question or "")[:100]): r for r in rows if r.text.strip()}.values()
    )
    kept: list[Row] = []
    for source in sorted({r.source for r in unique}):
        own = [r for r in unique if r.source == source]
        step = max(1.0, len(own) / MAX_ROWS_A_SOURCE)
        kept.extend(own[int(i * step)] for i in range(min(len(own), MAX_ROWS_A_SOURCE)))
    return kept


def _matrix(rows: list[Row]) -> Any:
    from scipy.sparse import csr_matrix

    indices: list[npt.NDArray[np.int32]] = []
    values: list[npt.NDArray[np.float32]] = []
    for row in rows:
        own = features(windows(fold(row.text))[0])
        asked = np.empty(0, np.int32)
        if row.question is not None:
            asked = features(fold(row.question), words_only=True, salt=1)
        size = math.sqrt(max(own.size + QUESTION_SHARE**2 * asked.size, 1.0))
        indices.append(np.concatenate((own, asked)))
        values.append(
            np.concatenate((np.full(own.size, 1 / size), np.full(asked.size, QUESTION_SHARE / size))).astype(
                np.float32
            )
        )
    starts = np.concatenate(([0], np.cumsum([i.size for i in indices])))
    return csr_matrix((np.concatenate(values), np.concatenate(indices), starts), shape=(len(rows), BUCKETS))


def _fit(matrix: Any, labels: npt.NDArray[np.int64], rows: list[Row]) -> tuple[Floats, float]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=8.0, solver="lbfgs", max_iter=60, tol=1e-3, random_state=SEED)
    model.fit(matrix, labels, sample_weight=_balance(rows))
    return model.coef_[0], float(model.intercept_[0])


def _balance(rows: list[Row]) -> Floats:
    """Sources count by the root of their size, labels equally, so that no set's style is the lesson."""
    sizes = Counter((r.source, r.label) for r in rows)
    weights = np.asarray([1 / math.sqrt(sizes[r.source, r.label]) for r in rows])
    labels = np.asarray([r.label for r in rows])
    for label in (0, 1):
        weights[labels == label] *= 0.5 * len(rows) / weights[labels == label].sum()
    return weights


def _folds(rows: list[Row]) -> list[set[str]]:
    """Whole sources, dealt out by size."""
    sizes = Counter(r.source for r in rows)
    folds: list[set[str]] = [set() for _ in range(FOLDS)]
    filled = [0] * FOLDS
    for source, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        smallest = filled.index(min(filled))
        folds[smallest].add(source)
        filled[smallest] += size
    return folds


def _platt(raw: Floats, labels: npt.NDArray[np.int64], rows: list[Row]) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1e6).fit(raw.reshape(-1, 1), labels, sample_weight=_balance(rows))
    return max(float(fitted.coef_[0, 0]), 0.1), float(fitted.intercept_[0])
