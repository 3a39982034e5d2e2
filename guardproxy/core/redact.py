"""Spans of a text become placeholders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from guardproxy.core.content import ImagePart, Message, Part, Request, TextPart, ToolCall, call_text
from guardproxy.core.verdict import Finding, Span


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


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|.)", re.DOTALL)


def stays_json(text: str, hits: Iterable[Finding]) -> bool:
    """Whether JSON stays JSON when its hits are replaced: each lies within a string and tears no escape."""
    spans = [f.span for f in hits]
    strings = [match.span() for match in _STRING.finditer(text)]
    escapes = [match.span() for match in _ESCAPE.finditer(text)] if "\\" in text else []
    return all(
        span is not None
        and any(a < span.start and span.end < b for a, b in strings)
        and not any(a < end < b for end in (span.start, span.end) for a, b in escapes)
        for span in spans
    )


Box = tuple[int, int, int, int]
Boxes = Mapping[str, tuple[Box, ...]]
"""Place of a picture to the rectangles (left, top, right, bottom, in pixels) that are painted over in it."""


def redact_request(request: Request, hits: Iterable[Finding]) -> tuple[Request, Boxes] | None:
    """The request with every hit replaced in its texts, and what is to be painted over in its pictures.

    A hit in text that was read in a picture covers the whole line: characters have no boxes of their own.

    Returns:
        None if a hit stands where nothing can be replaced, such as in a tool's schema or a bare number of a call's
        arguments: then only a block helps.
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

    def call_of(call: ToolCall, place: str) -> ToolCall:
        if place not in by_place:
            return call
        start = len(call_text(call)) - len(call.arguments)
        hits = [_moved(f, -start) for f in by_place[place] if f.span and f.span.start >= start]
        if len(hits) < len(by_place[place]) or not stays_json(call.arguments, hits):
            return call
        placed.add(place)
        return replace(call, arguments=redact(call.arguments, hits))

    def message_of(message: Message) -> Message:
        calls = (call_of(c, f"{message.place}.tool_calls[{i}]") for i, c in enumerate(message.tool_calls))
        return replace(message, parts=tuple(part_of(p) for p in message.parts), tool_calls=tuple(calls))

    redacted = request.with_messages(tuple(message_of(m) for m in request.messages))
    return (redacted, boxes) if placed == by_place.keys() else None


def _moved(hit: Finding, by: int) -> Finding:
    assert hit.span is not None
    return replace(hit, span=Span(hit.span.start + by, hit.span.end + by))


def _boxes(picture: ImagePart, by_place: Mapping[str, object]) -> tuple[Box, ...]:
    if picture.place in by_place:
        return ((0, 0, picture.width, picture.height),)
    return tuple(read.box for read in picture.texts if read.place in by_place)
