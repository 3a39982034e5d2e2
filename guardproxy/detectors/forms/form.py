"""What a form is, and the detector that looks for several of them in texts, streams and pictures' lines."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple, Protocol

from guardproxy.core.content import Segment
from guardproxy.core.verdict import Finding, Span
from guardproxy.detectors.base import Content
from guardproxy.detectors.forms.plain import Plain, plain, unfinished

BEHIND = 256
"""Characters before a place that a form may look at for its context; a gate keeps more than that in sight."""

TURN = 4096
"""Characters that are looked at before the event loop gets its turn."""

ACROSS_LINES = 0.85
"""What a score is worth if a hit goes over lines of a picture: they may not belong together."""

_LINE = re.compile(r"(.*/ocr)\[(\d+)\]\Z", re.DOTALL)


class Hit(NamedTuple):
    """Something of a form in plain text: half-open range, category and how strong the evidence is in [0, 1]."""

    start: int
    end: int
    category: str
    score: float


class Form(Protocol):
    """One form, or a family that is looked for at once.

    What it says of a place depends only on the `BEHIND` characters before it and on `longest` from it on: so a
    stream gives the same hits however it is cut.
    """

    longest: int
    """Longest hit with what must be seen behind it, in characters."""

    def find(self, text: str, since: int) -> Iterable[Hit]:
        """Hits that start at `since` or later, as if nothing followed the text."""

    def undecided(self, text: str, since: int) -> int:
        """From where on more text could change what `find` says; the text's length if from nowhere."""


@dataclass(frozen=True, slots=True)
class _Line:
    segment: Segment
    start: int


class FormDetector:
    """Looks for forms. A finding's category is the kind of thing it is, its score the strength of the evidence.

    Args:
        name: Of the detector.
        forms: What is looked for.
        kinds: The categories that are reported.
        made: What was configured, for the version.
    """

    inline = True

    def __init__(self, name: str, forms: Sequence[Form], kinds: Iterable[str], made: str) -> None:
        self.name = name
        self._forms = tuple(forms)
        self._kinds = frozenset(kinds)
        self.version = sha256("\n".join((made, *sorted(self._kinds))).encode()).hexdigest()[:12]
        self.longest = max((f.longest for f in self._forms), default=0)

    def warm_up(self) -> None:
        """Look once, so that the first request does not pay for tables that are made when needed."""
        self.spot("tel. 03-1234-5678, a@b.example")

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """Report what is there. What the rest of a stream could change waits for the next window."""
        found: list[Finding] = []
        for segment in content.segments:
            hits = await self._spot_in_turns(segment.text, content.fresh, final=content.final)
            found += [self._finding(hit, segment) for hit in hits]
        for lines in _pictures(content.segments):
            found += self._over_lines(lines)
        return tuple(found)

    def held_suffix(self, text: str, fresh: int) -> int:
        """How many characters at the end of `text` may belong to a hit that cannot be told yet."""
        seen, base, end = _seen(text, fresh, final=False)
        limit = self._limit(seen.text, seen.position(fresh - base))
        if limit < len(seen.text):
            end = base + seen.original(limit, limit + 1)[0]
        return len(text) - max(end, fresh)

    def spot(self, text: str, fresh: int = 0, *, final: bool = True) -> list[Hit]:
        """Hits that start at `fresh` or later, in characters of `text`."""
        seen, base, _ = _seen(text, fresh, final=final)
        since = seen.position(fresh - base)
        limit = len(seen.text) if final else self._limit(seen.text, since)
        return [
            self._back(hit, seen, base)
            for form in self._forms
            for hit in form.find(seen.text, since)
            if hit.start < limit and hit.category in self._kinds
        ]

    async def _spot_in_turns(self, text: str, fresh: int, *, final: bool) -> list[Hit]:
        """As `spot`; a long text piece by piece, as a stream, so that others get their turn in between."""
        found: list[Hit] = []
        size = TURN
        while len(text) - fresh > size:
            low, end = max(0, fresh - BEHIND), fresh + size
            piece = text[low:end]
            moved = end - self.held_suffix(piece, fresh - low)
            if moved > fresh:
                hits = self.spot(piece, fresh - low, final=False)
                found += [h._replace(start=h.start + low, end=h.end + low) for h in hits]
                fresh, size = moved, TURN
            else:
                size *= 2  # all of it may be one thing, such as a key
            await asyncio.sleep(0)
        return found + self.spot(text, fresh, final=final)

    def _limit(self, text: str, since: int) -> int:
        return max(since, min((f.undecided(text, since) for f in self._forms), default=len(text)))

    @staticmethod
    def _back(hit: Hit, seen: Plain, base: int) -> Hit:
        start, end = seen.original(hit.start, hit.end)
        return hit._replace(start=base + start, end=base + end)

    def _finding(self, hit: Hit, segment: Segment) -> Finding:
        return Finding(self.name, hit.category, hit.score, segment.place, Span(hit.start, hit.end))

    def _over_lines(self, lines: Sequence[Segment]) -> Iterator[Finding]:
        """Hits that begin in one line of a picture and end in another: one finding for each line touched."""
        said: set[tuple[str, int, int]] = set()
        for glue in (" ", ""):
            text, placed = _joined(lines, glue)
            for hit in self.spot(text):
                touched = [
                    p for p in placed if hit.start < p.start + len(p.segment.text) and p.start < hit.end
                ]
                key = (hit.category, lines.index(touched[0].segment), len(touched)) if touched else None
                if key is None or len(touched) < 2 or key in said:
                    continue
                said.add(key)
                for one in touched:
                    start, end = max(hit.start - one.start, 0), hit.end - one.start
                    part = Hit(start, min(end, len(one.segment.text)), hit.category, hit.score * ACROSS_LINES)
                    yield self._finding(part, one.segment)


def _seen(text: str, fresh: int, *, final: bool) -> tuple[Plain, int, int]:
    """The plain text with what precedes it, where it starts and where it ends: before half an escape."""
    base = max(0, fresh - BEHIND)
    end = len(text) if final else len(text) - unfinished(text)
    return plain(text[base:end]), base, end


def _joined(lines: Sequence[Segment], glue: str) -> tuple[str, list[_Line]]:
    placed: list[_Line] = []
    at = 0
    for segment in lines:
        placed.append(_Line(segment, at))
        at += len(segment.text) + len(glue)
    return glue.join(s.text for s in lines), placed


def _pictures(segments: Iterable[Segment]) -> list[list[Segment]]:
    """The lines of each picture that has more than one, in their order."""
    by_picture: dict[str, list[Segment]] = {}
    for segment in segments:
        if segment.kind == "image_text" and (match := _LINE.match(segment.place)):
            by_picture.setdefault(match[1], []).append(segment)
    return [lines for lines in by_picture.values() if len(lines) > 1]
