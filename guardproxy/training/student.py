"""The student of the encoder for answers: n-gram weights that foretell its logit, so that few benign answers are read.

Distillation after Hinton et al., 2015 (arXiv 1503.02531): what is learnt is the teacher's logit, not a label, so any
text serves. It is served as a bound: the forecast and a margin which one in twenty of the answers that are stopped
exceeds; those are lost unless another window of theirs is read.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guardproxy.detectors.classifiers import Joint
from guardproxy.detectors.encoder import HEADS, Encoder
from guardproxy.detectors.glosses import LATIN, script
from guardproxy.detectors.ngram import WINDOW, NgramModel, save
from guardproxy.training import linear
from guardproxy.training.linear import PREFIXES, SEED, Floats
from guardproxy.training.rows import LICENCES, Row

NAME = "student.npz"
EXCEEDED = 0.05
"""Of the answers that the encoder helps to stop, those which it may find riskier than the bound."""
MOST_ROWS = 900
"""Of a labelled source; unlabelled rows are all read."""
_BEGINNINGS = 0.4
_RIDGE = 0.3


@dataclass(frozen=True, slots=True)
class Lesson:
    """Answers, or beginnings of them, and what the encoder says of each."""

    rows: list[Row]
    logits: Floats


@dataclass(frozen=True, slots=True)
class Audit:
    """What the student serves.

    Attributes:
        encoder: The teacher.
        ngram: The first stage.
        joint: How both are added up.
        threshold: Log-odds from which on the default policy stops an answer.
    """

    encoder: Encoder
    ngram: NgramModel
    joint: Joint
    threshold: float

    def stops(self, row: Row, logit: float) -> bool:
        """Whether it stops an answer of which the encoder says this."""
        return self.joint.both(LATIN, self.ngram.logit(row.text, row.question), logit) >= self.threshold


def teach(audit: Audit, rows: Sequence[Row], path: Path) -> float:
    """Write the student.

    Args:
        audit: As it is shipped.
        rows: Answers with their questions; those of sources without a licence are passed over.
        path: To write to.

    Returns:
        The share of the teacher's variance that is foretold on sources kept apart.
    """
    most = audit.joint.sums[LATIN].most
    lesson = listen(audit.encoder, [r for r in rows if r.source in LICENCES], most)
    features = linear.matrix(lesson.rows)
    told = _held_out(features, lesson)
    missing = lesson.logits - told
    is_hit = np.asarray([audit.stops(r, said) for r, said in zip(lesson.rows, lesson.logits, strict=True)])
    margin = float(np.quantile(missing[is_hit], 1 - EXCEEDED)) if is_hit.any() else most
    weights, bias = _fit(features, lesson.logits)
    save(path, weights, bias, (1.0, margin))
    share = 1 - float(missing.var() / lesson.logits.var())
    sys.stderr.write(
        f"student: {len(lesson.rows)} texts, {share:.2f} of the variance foretold, margin {margin:.2f}\n"
    )
    return share


def listen(encoder: Encoder, rows: Sequence[Row], most: float) -> Lesson:
    """What the encoder says of the answers it can read, `most` at most, and of some of their beginnings."""
    rng = random.Random(SEED)
    chosen: list[Row] = []
    for row in rows:
        if not (row.text.strip() and script(row.text) == LATIN):
            continue
        chosen.append(row)
        if len(row.text) > PREFIXES[0] + 80 and rng.random() < _BEGINNINGS:
            chosen.append(linear.beginning(row, rng.choice(PREFIXES)))
    at = HEADS.index("harmful_answer")
    said = [encoder.read_answer(r.question or "", r.text[:WINDOW])[at] for r in chosen]
    return Lesson(
        [linear.beginning(r, WINDOW) for r in chosen], np.minimum(np.asarray(said, np.float64), most)
    )


def _fit(features: Any, logits: Floats) -> tuple[Floats, float]:
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=_RIDGE, solver="lsqr", tol=1e-4).fit(features, logits)
    return model.coef_, float(model.intercept_)


def _held_out(features: Any, lesson: Lesson) -> Floats:
    """Each answer's logit as foretold by a student that did not hear its source."""
    sources = np.asarray([r.source for r in lesson.rows])
    told = np.zeros(len(sources))
    for held in linear.folds(lesson.rows):
        is_held = np.isin(sources, list(held))
        if is_held.all():
            continue
        weights, bias = _fit(features[~is_held], lesson.logits[~is_held])
        told[is_held] = features[is_held] @ weights + bias
    return told
