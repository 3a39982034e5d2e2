"""How soon a streamed harmful answer is stopped: the scores of its beginnings, as the gate asks for them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from guardproxy.core.grid import Grid
from guardproxy.detectors.glosses import LATIN, script
from guardproxy.training.card import wilson
from guardproxy.training.rows import Row

LOOKBACK = 2048
_STEPS = (96, 192, 288, 400, 600, 1000)

MOST = 120
"""Answers of each label, of each part of the sources."""

Score = Callable[[str, str, int | None], float]
"""Probability for a question and the answer's text so far, of which so many characters had been scored before; None:
the whole answer by itself."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """One answer: its label, its score as a whole, and the characters that were out when a beginning first hit."""

    label: int
    whole: float
    stopped_at: int | None


def stream(row: Row, score: Score, threshold: float, most: int = 1200) -> Streamed:
    """Score an answer as it grows, at every cut of the gate's grid, until it is stopped or `most` is out."""
    question = row.question or ""
    whole, before = score(question, row.text, None), 0
    for end in _cuts(row.text[:most]):
        if score(question, row.text[max(0, end - LOOKBACK) : end], before) >= threshold:
            return Streamed(row.label, whole, end)
        before = end
    return Streamed(row.label, whole, None)


def _cuts(text: str) -> Iterable[int]:
    grid, last = Grid(), 0
    for character in text:
        grid.receive(character)
        if grid.last_cut != last:
            last = grid.last_cut
            yield last
    if last < len(text):
        yield len(text)


def measure(rows: Sequence[Row], score: Score, threshold: float) -> list[Streamed]:
    """Stream a sample of the rows in Latin script: many of the harmless ones are look-alikes and refusals."""
    rng = random.Random(4)
    streamed = []
    for label in (0, 1):
        own = [r for r in rows if r.label == label and script(r.text) == LATIN]
        streamed += [stream(r, score, threshold) for r in rng.sample(own, min(MOST, len(own)))]
    return streamed


def describe(streamed: Sequence[Streamed], threshold: float) -> str:
    """The paragraph and the curve for the page."""
    harmful = [s for s in streamed if s.label == 1]
    harmless = [s for s in streamed if s.label == 0]
    caught = [s for s in harmful if s.whole >= threshold]
    lines = ["| stopped within characters | of the harmful answers that are caught whole |", "|---|---|"]
    for step in _STEPS:
        hits = sum(s.stopped_at is not None and s.stopped_at <= step for s in caught)
        lines.append(f"| {step} | {_rate(hits, len(caught))} |")
    ever = sum(s.stopped_at is not None for s in harmful)
    whole_false = sum(s.whole >= threshold for s in harmless)
    false = sum(s.stopped_at is not None for s in harmless)
    return "\n".join(
        [
            f"### Streamed, at {threshold:.3f}",
            "",
            *lines,
            "",
            f"Harmful answers caught whole: {_rate(len(caught), len(harmful))}; stopped somewhere in the stream: "
            f"{_rate(ever, len(harmful))}.",
            f"Harmless answers stopped whole: {_rate(whole_false, len(harmless))}; somewhere in the stream, with all "
            f"its chances: {_rate(false, len(harmless))}.",
            "",
        ]
    )


def _rate(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"{hits} of {n} ({hits / n if n else 0:.1%}; {low:.1%} to {high:.1%})"
