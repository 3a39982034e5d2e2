"""Sends a text through the real gate in pieces, as an answer comes, and judges its windows with a detector."""

from __future__ import annotations

from collections.abc import Sequence

from guardproxy.core.content import Segment
from guardproxy.core.gate import Event, Gate
from guardproxy.core.policy import GateMode
from guardproxy.core.redact import redact
from guardproxy.core.verdict import Action, Finding, Span, Verdict
from guardproxy.detectors.base import Content
from guardproxy.detectors.forms.form import FormDetector


def whole(detector: FormDetector, text: str, threshold: float = 0.5) -> str:
    """The text as it is redacted when it is seen at once."""
    return redact(text, hits(detector, text, threshold))


def detect(detector: FormDetector, content: Content) -> tuple[Finding, ...]:
    """What an inline detector finds: it waits for nothing, so no event loop is needed."""
    looking = detector.detect(content)
    while True:
        try:
            looking.send(None)
        except StopIteration as end:
            found: tuple[Finding, ...] = end.value
            return found


def hits(detector: FormDetector, text: str, threshold: float = 0.5) -> list[Finding]:
    found = detect(detector, Content((Segment("content", "c", text),)))
    return [f for f in found if f.score >= threshold]


def found_in(detector: FormDetector, text: str, threshold: float = 0.5) -> set[tuple[str, str]]:
    """Category and text of each hit."""
    return {(f.category, text[f.span.start : f.span.end]) for f in hits(detector, text, threshold) if f.span}


class Stream:
    """An answer on its way through a gate.

    Attributes:
        out: What got out so far.
        seen: What the upstream has sent so far.
    """

    def __init__(
        self, detector: FormDetector, action: Action = Action.REDACT, threshold: float = 0.5
    ) -> None:
        self.gate = Gate(0, {"content": GateMode.HOLD})
        self.out = ""
        self.seen = ""
        self._detector = detector
        self._action = action
        self._threshold = threshold

    def send(self, pieces: Sequence[str], early: Sequence[bool] = ()) -> str:
        """Send everything and end; what got out."""
        for index, piece in enumerate(pieces):
            self.seen += piece
            self.gate.receive(Event(0, (("content", piece),), None))
            self._drain(early=bool(early) and early[index % len(early)])
        self.gate.receive(Event(0, (), None, finish="stop"))
        self.gate.receive_end()
        self._drain(early=False)
        return self.out

    def _drain(self, *, early: bool) -> None:
        while (window := self.gate.next_window(early=early)) is not None:
            fresh = window.start - window.offset
            content = Content((Segment("content", "c", window.text),), "", window.offset, fresh, window.final)
            found = detect(self._detector, content)
            moved = tuple(
                Finding(f.detector, f.category, f.score, f.place, Span(f.span.start + window.offset, f.span.end + window.offset))
                for f in found
                if f.span and f.score >= self._threshold
            )  # fmt: skip
            verdict = Verdict(self._action, self._action, redactions=moved) if moved else Verdict()
            held = 0 if window.final else self._detector.held_suffix(window.text, fresh)
            self.gate.receive_verdict(window, verdict, held)
        self.out += "".join(text for event in self.gate.release() for _, text in event.texts)


def cut_up(text: str, sizes: Sequence[int]) -> list[str]:
    """The text in pieces of these sizes, over and over."""
    pieces, at, turn = [], 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        pieces.append(text[at : at + size])
        at, turn = at + size, turn + 1
    return pieces
