"""Spans of a text become placeholders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from guardproxy.core.content import ImagePart, Message, Part, Request, TextPart
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


Box = tuple[int, int, int, int]
Boxes = Mapping[str, tuple[Box, ...]]
"""Place of a picture to the rectangles (left, top, right, bottom, in pixels) that are painted over in it."""


def redact_request(request: Request, hits: Iterable[Finding]) -> tuple[Request, Boxes] | None:
    """The request with every hit replaced in its texts, and what is to be painted over in its pictures.

    A hit in text that was read in a picture covers the whole line: characters have no boxes of their own.

    Returns:
        None if a hit stands where nothing can be replaced, such as in a tool's schema: then only a block helps.
    """
    by_place: dict[str, list[Finding]] = {}
    for hit in hits:
        by_place.setdefault(hit.place, []).append(hit)
    placed: set[str] = set()
    boxes: dict[str, tuple[Box, ...]] = {}

    def part_of(part: Part) -> Part:
        if isinstance(part, TextPart):
            if part.place not in by_place:
                return part
            placed.add(part.place)
            return replace(part, text=redact(part.text, by_place[part.place]))
        if covered := _boxes(part, by_place):
            boxes[part.place] = covered
            placed.update(by_place.keys() & {part.place, *(read.place for read in part.texts)})
            left = () if part.place in by_place else part.texts
            return replace(part, texts=tuple(read for read in left if read.place not in by_place))
        return part

    def message_of(message: Message) -> Message:
        return replace(message, parts=tuple(part_of(p) for p in message.parts))

    redacted = request.with_messages(tuple(message_of(m) for m in request.messages))
    return (redacted, boxes) if placed == by_place.keys() else None


def _boxes(picture: ImagePart, by_place: Mapping[str, object]) -> tuple[Box, ...]:
    if picture.place in by_place:
        return ((0, 0, picture.width, picture.height),)
    return tuple(read.box for read in picture.texts if read.place in by_place)
