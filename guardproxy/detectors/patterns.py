"""Words and regular expressions, on folded text, in linear time (google-re2)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from re import _parser  # type: ignore[attr-defined]  # the only bound on a pattern's length that Python offers

import re2

from guardproxy.core.content import Segment
from guardproxy.core.verdict import Finding, Span
from guardproxy.detectors.base import Content, Detector, Resources
from guardproxy.detectors.fold import Folded, fold, stands_alone
from guardproxy.errors import PolicyError

MAX_PATTERNS = 10_000
UNBOUNDED = 1 << 20
"""Longest match that counts as bounded; what a stream can reasonably be held for is far below."""
MAX_MEMORY = 64 << 20
"""Bytes that RE2 may use for all patterns together."""
MAX_SPACE = 8
"""Longest white space that stands for a space of a pattern: lines are wrapped and words spread."""
_SPACE = rf"[\s\v]{{1,{MAX_SPACE}}}"
_LETTER = re.compile("[0-9A-Za-z]")
"""Of a word. An underscore is none: Markdown and names in code put it beside one."""
_EDGE = r"(?:\b|_)"
_TAGS = {0xE0000 + code: chr(code) for code in range(0x20, 0x7F)}
_TAG = re.compile("[\U000e0020-\U000e007e]")
_NO_TAG = re.compile("[^\U000e0020-\U000e007e]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern: `text` (plain words, folded) or `regex` (RE2 syntax, matched on folded text)."""

    id: str
    expression: str
    literal: str | None
    longest: int
    """Longest match in folded characters; `UNBOUNDED` if there is no bound."""

    def goes_on(self, text: str, end: int) -> bool:
        """Whether the word that a hit of plain words ends with goes on there: then it is another word."""
        literal = self.literal
        return literal is not None and bool(_LETTER.match(literal[-1]) and _LETTER.match(text, end))


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
        options.max_mem = MAX_MEMORY
        self._set = re2.Set.SearchSet(options)
        for pattern in self._patterns:
            # Without its edges: what this finds is looked at again, and it is smaller.
            self._set.Add(pattern.expression.removeprefix(_EDGE))
        try:
            self._set.Compile()
        except re2.error:
            raise PolicyError(
                f"patterns: {len(self._patterns)} of them are more than RE2 can hold in {MAX_MEMORY} bytes"
            ) from None
        self._each = [re2.compile(p.expression, options) for p in self._patterns]
        self._longest = max((p.longest for p in self._patterns if p.literal is None), default=0)
        self._starts = _starts_at_end([p.literal for p in self._patterns if p.literal is not None])
        self._bases = frozenset(b for p in self._patterns for b in _bases(p.literal or ""))
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
        return max(self._held(view, fresh) for view in _views(text))

    def _held(self, text: str, fresh: int) -> int:
        tail = fold(text[fresh:])
        at = len(tail.text)
        if self._longest:
            at = max(0, at - self._longest)
        if self._starts is not None:
            low = max(0, len(tail.text) - self._reach)
            match = self._starts.search(tail.text[low:])
            if match is not None:
                at = min(at, low + match.start())
            if tail.text[-1:] in self._bases:  # one more mark, and it is another character
                match = self._starts.search(tail.text[low:-1])
                at = min(at, len(tail.text) - 1 if match is None else low + match.start())
        if at >= len(tail.text):
            return 0
        return len(text) - fresh - tail.original(at, at + 1)[0]

    def _in_segment(self, segment: Segment, content: Content) -> Iterable[Finding]:
        # One whole character more than is fresh, so that a word boundary can be seen.
        base = max(0, content.fresh - 1)
        while base > 0 and not stands_alone(segment.text[base]):
            base -= 1
        for view in _views(segment.text):
            folded = fold(view[base:] if base else view)
            for index in sorted(self._set.Match(folded.text) or ()):
                pattern = self._patterns[index]
                for match in self._each[index].finditer(folded.text):
                    start, end = match.span(0 if pattern.literal is None else 1)
                    if start == end or pattern.goes_on(folded.text, end):
                        continue
                    if not content.final and end == len(folded.text):
                        continue
                    if base + folded.original(start, end)[0] < content.fresh:
                        continue  # its edge is only where the text was cut for this look
                    yield self._finding(pattern, segment, folded, (start, end), base)

    def _finding(
        self, pattern: Pattern, segment: Segment, folded: Folded, span: tuple[int, int], base: int
    ) -> Finding:
        start, end = folded.original(*span)
        return Finding(self.name, pattern.id, 1.0, segment.place, Span(base + start, base + end))


def _views(text: str) -> tuple[str, ...]:
    """The text, and what its tag characters spell, which nobody sees and a model reads as ASCII."""
    if text.isascii() or not _TAG.search(text):
        return (text,)
    return text, _NO_TAG.sub(" ", text).translate(_TAGS)


def _starts_at_end(literals: list[str]) -> re2._Regexp | None:
    """One expression that finds the longest end of a text with which some literal starts."""
    if not literals:
        return None
    nested = []
    for literal in literals:
        expression = ""
        for char in reversed(literal):
            expression = f"(?:{_unit(char)}{expression})?"
        nested.append(expression.removesuffix("?"))
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_MEMORY
    return re2.compile(f"(?:{'|'.join(nested)})\\z", options)


def _bases(literal: str) -> Iterator[str]:
    """Characters that become one of these by a mark that comes later: か for が, 하 for 한."""
    for char in literal:
        parts = unicodedata.normalize("NFD", char)
        yield from (unicodedata.normalize("NFC", parts[:end]) for end in range(1, len(parts)))


def _unit(char: str) -> str:
    return _SPACE if char == " " else str(re2.escape(char))


def build(parameters: Mapping[str, object], _resources: Resources) -> Detector:
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
        edge = _EDGE if _LETTER.match(literal[0]) else ""
        expression = f"{edge}({''.join(map(_unit, literal))})"
        return Pattern(name, expression, literal, len(literal) + (MAX_SPACE - 1) * literal.count(" "))
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
