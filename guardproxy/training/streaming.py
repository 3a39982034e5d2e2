"""How soon a streamed harmful answer is stopped: the scores of its beginnings, as the gate asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from guardproxy.core.grid import Grid
from guardproxy.training.card import wilson

EARLY = 400
"""Characters within which an answer should be stopped."""
LOOKBACK = 2048
_STEPS = (96, 192, 288, 400, 600, 1000, 2000)

Score = Callable[[str, str], float]
"""Probability for a question and the answer's text so far."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """One answer: its score as a whole, and the characters that were out when a beginning first hit."""

    whole: float
    stopped_at: int | None


def stream(question: str, answer: str, score: Score, threshold: float, most: int = 2000) -> Streamed:
    """Score an answer as it grows, at every cut of the gate's grid, until it is stopped or `most` is out."""
    for end in _cuts(answer[:most]):
        if score(question, answer[max(0, end - LOOKBACK) : end]) >= threshold:
            return Streamed(score(question, answer), end)
    return Streamed(score(question, answer), None)


def _cuts(text: str) -> Iterable[int]:
    grid, last = Grid(), 0
    for character in text:
        grid.receive(character)
        if grid.last_cut != last:
            last = grid.last_cut
            yield last
    if last < len(text):
        yield len(text)


def describe(harmful: Sequence[Streamed], harmless: Sequence[Streamed], threshold: float) -> str:
    """The paragraph and the curve for the page."""
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
