"""Numbers as people write them: groups of digits with separators, and what the whole must look like."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from guardproxy.detectors.forms.form import Hit

LONGEST = 56
"""Longest number with an extension and what must be seen behind it: 19 digits in 8 groups, three apart, and 10."""

SURE = 0.6
"""A hit as strong as this stands against any that lies within it."""

MAX_GROUPS = 8
MIN_DIGITS = 3
MAX_DIGITS = 19
_GROUP = re.compile("[0-9]+")
MAX_GAP = 3
_BETWEEN = re.compile(r"[ \-./()]+\Z")
_TAIL = re.compile(r"[+(0-9][0-9 \-./()+x]*\Z")
_BEFORE_PLACE = re.compile(r"[0-9]{3}-[0-9]{4} ?\n?[一-龥々ヶケ]{0,5}\Z")
_EXTENSION = re.compile(r" ?x ?[0-9]{1,6}(?![0-9])")


@dataclass(frozen=True, slots=True)
class Number:
    """Some groups of digits in a text.

    Attributes:
        text: The whole text.
        start: Of the number, an opening bracket or plus included.
        end: Behind it.
        groups: The digits of each group.
        digits: All digits.
        lengths: Digits in each group.
        between: The separators between them.
        lead: What stands before the first digit and belongs to it: `+`, `(` or nothing.
        is_run: Whether no further group stands beside it.
    """

    text: str
    start: int
    end: int
    groups: tuple[str, ...]
    digits: str
    lengths: tuple[int, ...]
    between: tuple[str, ...]
    lead: str
    is_run: bool

    @property
    def is_spaced(self) -> bool:
        """Whether spaces alone stand between the groups."""
        return all(not s.strip() for s in self.between)

    def is_joined_by(self, sign: str) -> bool:
        """Whether exactly this stands between all groups."""
        return all(s == sign for s in self.between)


Rule = Callable[[Number], float]
"""How strong the evidence is that a number is of a kind; 0 if it is none."""


class Numbers:
    """All kinds of numbers at once: each start is tried with every kind that its groups' lengths allow.

    Args:
        rules: For each category, the lengths of groups that are tried and the rule; `None` for any lengths.
    """

    longest = LONGEST

    def __init__(self, rules: Sequence[tuple[str, Sequence[tuple[int, ...]] | None, Rule]]) -> None:
        by_lengths: dict[tuple[int, ...], list[tuple[str, Rule]]] = {}
        for category, shapes, rule in rules:
            for shape in shapes or ():
                by_lengths.setdefault(shape, []).append((category, rule))
        self._by_lengths: Mapping[tuple[int, ...], list[tuple[str, Rule]]] = by_lengths
        self._any = [(category, rule) for category, shapes, rule in rules if shapes is None]

    def find(self, text: str, since: int) -> Iterator[Hit]:
        """As `Form.find`. What lies within a stronger hit is none: part of a card is no individual number."""
        groups = [m.span() for m in _GROUP.finditer(text, max(0, since - 2 * LONGEST))]
        outer: list[Hit] = []
        for index, (start, _) in enumerate(groups):
            if start < since - LONGEST or not _may_start(text, start) or _is_list(text, groups, index):
                continue
            outer = [hit for hit in outer if hit.end > start]
            for hit in self._from(text, groups, index):
                if any(_lies_within(hit, other) for other in outer):
                    continue
                outer.append(hit)
                if hit.start >= since:
                    yield hit

    def undecided(self, text: str, since: int) -> int:
        """As `Form.undecided`: from the first digit of the run at the end, or of what may be a postal code."""
        low = max(since, len(text) - LONGEST)
        tails = _TAIL.search(text, low), _BEFORE_PLACE.search(text, low)
        return min((tail.start() for tail in tails if tail), default=len(text))

    def _from(self, text: str, groups: list[tuple[int, int]], index: int) -> list[Hit]:
        found: dict[str, Hit] = {}
        for number in _numbers(text, groups, index):
            for category, rule in (*self._by_lengths.get(number.lengths, ()), *self._any):
                score = rule(number)
                best = found.get(category)
                if score and (best is None or (score, number.end) >= (best.score, best.end)):
                    end = _with_extension(text, number.end, category)
                    found[category] = Hit(number.start, end, category, score)
        return sorted(found.values(), key=lambda hit: -hit.score)


def _lies_within(hit: Hit, other: Hit) -> bool:
    is_part = hit.end <= other.end and (hit.start, hit.end) != (other.start, other.end)
    return is_part and other.score >= min(hit.score, SURE)


def _numbers(text: str, groups: list[tuple[int, int]], index: int) -> Iterator[Number]:
    """Every number that starts with a group, from the shortest to the longest."""
    first, _ = groups[index]
    lead = _lead(text, first)
    apart = index == 0 or _gap(text, groups, index - 1) is None
    digits: tuple[str, ...] = ()
    between: tuple[str, ...] = ()
    total = 0
    for at in range(index, min(index + MAX_GROUPS, len(groups))):
        start, end = groups[at]
        total += end - start
        if total > MAX_DIGITS:
            return
        digits = (*digits, text[start:end])
        gap = _gap(text, groups, at)
        if total >= MIN_DIGITS and _may_end(text, end):
            own = lead if lead != "(" or any(")" in g for g in between) else ""
            lengths = tuple(map(len, digits))
            run = apart and gap is None
            yield Number(text, first - len(own), end, digits, "".join(digits), lengths, between, own, run)
        if gap is None:
            return
        between = (*between, gap)


def _gap(text: str, groups: list[tuple[int, int]], at: int) -> str | None:
    """What stands between a group and the next, if it may stand within a number."""
    if at + 1 >= len(groups) or groups[at + 1][0] - groups[at][1] > MAX_GAP:
        return None
    gap = text[groups[at][1] : groups[at + 1][0]]
    return gap if _BETWEEN.match(gap) else None


def _is_list(text: str, groups: list[tuple[int, int]], index: int) -> bool:
    """Whether single digits follow each other without dots: no number is written so, and lists of them are long."""
    if index + 1 >= len(groups):
        return False
    (start, end), (following, last) = groups[index : index + 2]
    return (
        end - start == 1 == last - following and text[end:following] != "." and text[start - 1 : start] != "+"
    )


def _lead(text: str, at: int) -> str:
    if at and text[at - 1] in "+(":
        return "+(" if text[max(0, at - 2) : at] == "+(" else text[at - 1]
    return ""


def _is_word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")


def _may_start(text: str, at: int) -> bool:
    before = text[max(0, at - 2) : at]
    if not before:
        return True
    if _is_word(before[-1]):
        return False
    return not (before[-1] in ".-" and len(before) == 2 and "0" <= before[0] <= "9")


def _may_end(text: str, at: int) -> bool:
    after = text[at : at + 3]
    if not after:
        return True
    if after[0] == "x" and len(after) > 1 and "0" <= after[1] <= "9":
        return True
    if _is_word(after[0]):
        return False
    return not (after[0] in ".-" and len(after) > 1 and "0" <= after[1] <= "9")


def _with_extension(text: str, end: int, category: str) -> int:
    match = _EXTENSION.match(text, end) if category == "phone" else None
    return match.end() if match else end
