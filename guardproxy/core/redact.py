"""Spans of a text become placeholders."""

from __future__ import annotations

from collections.abc import Iterable

from guardproxy.core.verdict import Finding


def placeholder(category: str) -> str:
    """The text that stands for a redacted span: `[email]`, `[project-name]`."""
    return f"[{category}]"


def merge_spans(findings: Iterable[Finding], length: int) -> list[tuple[int, int, str]]:
    """Non-overlapping `(start, end, placeholder)` in order; of overlapping hits the first names it.

    A finding without a span covers the whole text of `length` characters.
    """
    spans = sorted(
        (f.span.start if f.span else 0, f.span.end if f.span else length, placeholder(f.category))
        for f in findings
    )
    merged: list[tuple[int, int, str]] = []
    for start, end, label in spans:
        if merged and start < merged[-1][1]:
            last = merged[-1]
            merged[-1] = (last[0], max(last[1], end), last[2])
        elif end > start:
            merged.append((start, end, label))
    return merged


def redact(text: str, findings: Iterable[Finding]) -> str:
    """The text with every finding's span replaced by a placeholder."""
    pieces: list[str] = []
    at = 0
    for start, end, label in merge_spans(findings, len(text)):
        pieces += [text[at:start], label]
        at = end
    pieces.append(text[at:])
    return "".join(pieces)
