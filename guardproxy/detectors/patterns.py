"""Words and regular expressions, on folded text, in linear time (google-re2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from re import _parser  # type: ignore[attr-defined]  # the only bound on a pattern's length that Python offers

import re2

from guardproxy.core.content import Segment
from guardproxy.core.verdict import Finding, Span
from guardproxy.detectors.base import Content, Detector
from guardproxy.detectors.fold import Folded, fold, stands_alone
from guardproxy.errors import PolicyError

MAX_PATTERNS = 10_000
UNBOUNDED = 1 << 20
"""Longest match that counts as bounded; what a stream can reasonably be held for is far below."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern: `text` (plain words, folded) or `regex` (RE2 syntax, matched on folded text)."""

    id: str
    expression: str
    literal: str | None
    longest: int
    """Longest match in folded characters; `UNBOUNDED` if there is no bound."""


MAX_SPACES = 8
"""Spaces, tabs and line ends that a space between two words stands for: a line may be broken and indented there."""


class Patterns:
    """Finds each pattern's hits with their spans. The finding's category is the pattern's id."""

    name = "patterns"
    inline = True

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self._patterns = tuple(patterns)
        spelled = "\n".join(f"{p.id}\t{p.expression}" for p in self._patterns)
        self.version = sha256(spelled.encode()).hexdigest()[:12]
        options = re2.Options()
        options.log_errors = False
        self._set = re2.Set.SearchSet(options)
        for pattern in self._patterns:
            self._set.Add(pattern.expression)
        self._set.Compile()
        self._each = [re2.compile(p.expression, options) for p in self._patterns]
        self._longest = max((p.longest for p in self._patterns if p.literal is None), default=0)
        self._starts = _starts_at_end([p.literal for p in self._patterns if p.literal is not None])
        self._reach = max((p.longest for p in self._patterns), default=0)

    @property
    def longest(self) -> int:
        """Longest possible hit in folded characters."""
        return self._reach

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """Report each hit. One that touches the end of unfinished text waits for the next window."""
        found: list[Finding] = []
        for segment in content.segments:
            found.extend(self._in_segment(segment, content))
        return tuple(found)

    def held_suffix(self, text: str, fresh: int) -> int:
        """How many characters at the end of `text` may be the start of a hit.

        Args:
            text: Ends where the stream stands.
            fresh: No hit can start before this character.
        """
        tail = fold(text[fresh:])
        at = len(tail.text)
        if self._longest:
            at = max(0, at - self._longest)
        if self._starts is not None:
            low = max(0, len(tail.text) - self._reach)
            match = self._starts.search(tail.text[low:])
            if match is not None:
                at = min(at, low + match.start())
        if at >= len(tail.text):
            return 0
        return len(text) - fresh - tail.original(at, at + 1)[0]

    def _in_segment(self, segment: Segment, content: Content) -> Iterable[Finding]:
        # One whole character more than is fresh, so that a word boundary can be seen.
        base = max(0, content.fresh - 1)
        while base > 0 and not stands_alone(segment.text[base]):
            base -= 1
        folded = fold(segment.text[base:] if base else segment.text)
        for index in sorted(self._set.Match(folded.text) or ()):
            for match in self._each[index].finditer(folded.text):
                if match.end() == match.start():
                    continue
                if not content.final and match.end() == len(folded.text):
                    continue
                yield self._finding(self._patterns[index], segment, folded, match.span(), base)

    def _finding(
        self, pattern: Pattern, segment: Segment, folded: Folded, span: tuple[int, int], base: int
    ) -> Finding:
        start, end = folded.original(*span)
        return Finding(self.name, pattern.id, 1.0, segment.place, Span(base + start, base + end))


def _starts_at_end(literals: list[str]) -> re2._Regexp | None:
    """One expression that finds the longest end of a text with which some literal starts."""
    if not literals:
        return None
    nested = []
    for literal in literals:
        expression = ""
        for char in reversed(literal):
            expression = f"(?:{_spelled(char)}{expression})?"
        nested.append(expression.removesuffix("?"))
    options = re2.Options()
    options.max_mem = 64 << 20
    return re2.compile(f"(?:{'|'.join(nested)})\\z", options)


def _spelled(char: str) -> str:
    return rf"\s{{1,{MAX_SPACES}}}" if char == " " else re2.escape(char)


def build(parameters: Mapping[str, object]) -> Detector:
    """The detector for a guard's `patterns`, a list of `{id, text}` or `{id, regex}`."""
    listed = parameters.get("patterns")
    if not isinstance(listed, (list, tuple)) or not listed:
        raise PolicyError("patterns: expected a list of {id, text} or {id, regex}, got nothing")
    if len(listed) > MAX_PATTERNS:
        raise PolicyError(f"patterns: at most {MAX_PATTERNS}, got {len(listed)}")
    return Patterns(_pattern(index, one) for index, one in enumerate(listed))


def _pattern(index: int, one: Mapping[str, str]) -> Pattern:
    name = one.get("id", "")
    text, regex = one.get("text"), one.get("regex")
    if (text is None) == (regex is None):
        raise PolicyError(f"patterns[{index}] ({name}): expected either text or regex")
    if text is not None:
        literal = " ".join(fold(text).text.split())
        if not literal:
            raise PolicyError(f"patterns[{index}].text ({name}): holds nothing to look for, got {text!r}")
        expression = "".join(map(_spelled, literal))
        if re.match(r"\w", literal[0], re.ASCII):
            expression = rf"\b{expression}"
        if re.match(r"\w", literal[-1], re.ASCII):
            expression = rf"{expression}\b"
        return Pattern(name, expression, literal, len(literal) + literal.count(" ") * (MAX_SPACES - 1))
    assert regex is not None
    try:
        re2.compile(regex)
    except re2.error as error:
        raise PolicyError(f"patterns[{index}].regex ({name}): not valid RE2 syntax: {error}") from None
    return Pattern(name, f"(?i:{regex})", None, longest_match(regex))


def longest_match(regex: str) -> int:
    """Longest match of an expression in characters; `UNBOUNDED` if it has none or it is unknown."""
    try:
        _, longest = _parser.parse(regex).getwidth()
    except (re.error, OverflowError, RecursionError):
        return UNBOUNDED
    return min(int(longest), UNBOUNDED)
