"""What the encoder learns from: texts as tokens, each with the labels of the heads that know one."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from guardproxy.detectors.encoder import (
    HEADS,
    REFUSAL_TOKENS,
    pair_input,
    reads,
    text_input,
)
from guardproxy.detectors.glosses import legible
from guardproxy.detectors.wordpiece import Tokens, WordPiece
from guardproxy.training.linear import apart, spread
from guardproxy.training.rows import LICENCES, Row

MAX_ROWS_A_SOURCE = 700
MORE_ROWS = {"s_labs": 3000, "red_instruct": 1500, "hh_rlhf": 3000} | dict.fromkeys(
    ("own_dialogues", "own_documents", "own_prompts", "own_requests"), 2500
)
"""Short and varied: much is learnt from them for little time."""
_LEARNT_TEXT = 64
_LEARNT_ANSWER = 80
"""Tokens of a text and of an answer that are learnt from at once: fewer than are read, for the time it takes."""
_SURROUNDINGS = 80
"""Characters on both sides of a planted attack that are learnt from with it."""
_SHORTEST = 24
_BEGINNINGS = 0.4
_INSIDE = 0.4

Labels = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sample:
    """One text; `weights` is 0 for a head that has no label for it."""

    text: Tokens
    question: Tokens | None
    is_refusal: bool
    labels: Labels
    weights: Labels


def thin(rows: Sequence[Row]) -> list[Row]:
    """The rows that the encoder can read: at most so many of a source, identical texts once."""
    unique = list(
        {
            (r.source, r.text[:400], (r.question or "")[:100]): r
            for r in rows
            if r.text.strip() and reads(r.text)
        }.values()
    )
    return spread(unique, lambda source: MORE_ROWS.get(source, MAX_ROWS_A_SOURCE))


def collect(rows: Mapping[str, Sequence[Row]], held: set[str], tokenizer: WordPiece) -> list[Sample]:
    """Samples of all heads; sources in `held` and rows that share a group with theirs stay out."""
    found: dict[tuple[str, str | None, bool], tuple[Labels, Labels]] = {}
    for index, head in enumerate(HEADS):
        learn = apart(thin([r for r in rows[head] if r.source in LICENCES]), held)
        for row, weight in zip(learn, _weights(learn), strict=True):
            key = (told_by(row), row.question if head == "harmful_answer" else None, head == "refusal")
            labels, weights = found.setdefault(
                key, (np.zeros(len(HEADS), np.float32), np.zeros(len(HEADS), np.float32))
            )
            labels[index], weights[index] = row.label, weight
    samples = []
    for (text, question, is_refusal), (labels, weights) in found.items():
        asked = None if question is None else tokenizer.pieces(legible(question))
        samples.append(Sample(tokenizer.pieces(legible(text)), asked, is_refusal, labels, weights))
    return samples


def told_by(row: Row) -> str:
    """What of a text makes it a hit: the attack that is planted in it and its surroundings, or all of it."""
    at = row.text.find(row.attack) if row.attack else -1
    if row.label == 0 or at < 0:
        return row.text
    return row.text[max(0, at - _SURROUNDINGS) : at + len(row.attack) + _SURROUNDINGS].strip()


def _weights(rows: Sequence[Row]) -> list[float]:
    """Sources count by the root of their size, both labels equally; the mean is 1."""
    sizes = Counter((r.source, r.label) for r in rows)
    roots = {key: 1 / math.sqrt(size) for key, size in sizes.items()}
    totals = {
        label: sum(roots[r.source, r.label] for r in rows if r.label == label)
        for label in {r.label for r in rows}
    }
    return [0.5 * len(rows) * roots[r.source, r.label] / totals[r.label] for r in rows]


def varied(sample: Sample, rng: random.Random) -> tuple[Tokens, int]:
    """A sample as the encoder may meet it: a part of a long text, the beginning of an answer."""
    text = sample.text
    if sample.is_refusal:
        return text_input(text, REFUSAL_TOKENS)
    if sample.question is not None:
        return pair_input(sample.question, _answer_part(text, rng))
    if len(text) > _LEARNT_TEXT:
        text = _text_part(text, rng, bool(sample.labels.max() > 0))
    return text_input(text)


def _answer_part(text: Tokens, rng: random.Random) -> Tokens:
    if rng.random() < _BEGINNINGS and len(text) > _SHORTEST:
        return text[: rng.randint(_SHORTEST, min(len(text), _LEARNT_ANSWER))]
    if len(text) > _LEARNT_ANSWER and rng.random() < _INSIDE:
        start = rng.randrange(len(text) - _LEARNT_ANSWER + 1)
        return text[start : start + _LEARNT_ANSWER]
    return text[:_LEARNT_ANSWER]


def _text_part(text: Tokens, rng: random.Random, is_hit: bool) -> Tokens:
    """What makes a long text a hit is mostly at its beginning or end; a clean one is clean everywhere."""
    if is_hit:
        return text[:_LEARNT_TEXT] if rng.random() < 0.5 else text[-_LEARNT_TEXT:]
    start = rng.randrange(len(text) - _LEARNT_TEXT + 1)
    return text[start : start + _LEARNT_TEXT]
