"""What a suite holds, and what is doubtful about it, in lines for a person."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from guardproxy.errors import SuiteError
from guardproxy.evals.case import Case, Drawing, Expectation, Picture, Suite
from guardproxy.evals.pictures import png_of

SHOWN = 8
"""Names shown of a kind of doubt; the rest is a number."""
ENOUGH = 50
"""Cases on a side below which a rate says little: the 95 % interval of 0 of 50 reaches 7.1 % (Wilson)."""


def counts(suite: Suite) -> Iterator[str]:
    """How many cases there are, by expectation, category, language and kind of input."""
    groups = {c.group for c in suite.cases}
    many = sum(n > 1 for n in Counter(c.group for c in suite.cases).values())
    drawn = sum(isinstance(p, Drawing) for c in suite.cases for p in _pictures(c))
    files = sum(not isinstance(p, Drawing) for c in suite.cases for p in _pictures(c))
    yield f"{suite.name}  version {suite.version}  licence {suite.licence or 'not stated'}"
    yield f"{len(suite.cases)} cases in {len(groups)} groups, {many} with several wordings"
    yield f"{sum(c.twin is not None for c in suite.cases)} with a twin; pictures: {drawn} drawn, {files} files"
    for title, of in (("expectation", _expect), ("language", _language), ("category", _category)):
        yield f"by {title}:"
        table = Counter((of(c), c.expect) for c in suite.cases)
        for word in sorted({word for word, _ in table}):
            yield f"  {word:<32} " + "  ".join(
                f"{e.value} {table[word, e]}" for e in Expectation if table[word, e]
            )


def doubts(suite: Suite) -> Iterator[str]:
    """What may be a mistake: each is worth a look, none stops a run."""
    cases = {c.id: c for c in suite.cases}
    yield from _told("twins that do not exist", (c.id for c in suite.cases if c.twin and c.twin not in cases))
    yield from _told("twins on the same side", (c.id for c in suite.cases if _same_side(c, cases)))
    yield from _told("attacks without a benign twin", (c.id for c in suite.cases if _alone(c)), named=False)
    sides: dict[str, set[Expectation]] = defaultdict(set)
    for case in suite.cases:
        sides[case.group].add(case.expect)
    yield from _told("groups with several expectations", (g for g, e in sides.items() if len(e) > 1))
    same = Counter((c.prompt.strip(), repr(c.pictures), repr(c.turns)) for c in suite.cases)
    twice = [c.id for c in suite.cases if same[c.prompt.strip(), repr(c.pictures), repr(c.turns)] > 1]
    yield from _told("cases that ask the same", iter(twice))
    for expect in (Expectation.COMPLY, Expectation.REFUSE_OR_BLOCK):
        number = sum(c.expect is expect for c in suite.cases)
        if number < ENOUGH:
            yield f"only {number} cases expect {expect.value}: rates of this side will be wide (see docs/suites.md)"


def faults(suite: Suite) -> Iterator[str]:
    """Pictures that cannot be drawn or read: a run would stop at them."""
    for case in suite.cases:
        for picture in _pictures(case):
            try:
                png_of(picture)
            except SuiteError as error:
                yield f"{case.id}: {error}"


def _pictures(case: Case) -> Iterator[Picture]:
    yield from case.pictures
    for turn in case.turns:
        yield from turn.pictures


def _told(what: str, names: Iterator[str], *, named: bool = True) -> Iterator[str]:
    listed = list(names)
    if listed:
        more = f", and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
        yield f"{what}: {len(listed)}" + (f" ({', '.join(listed[:SHOWN])}{more})" if named else "")


def _same_side(case: Case, cases: dict[str, Case]) -> bool:
    return case.twin in cases and cases[str(case.twin)].expect is case.expect


def _alone(case: Case) -> bool:
    return case.expect is Expectation.REFUSE_OR_BLOCK and case.twin is None


def _expect(case: Case) -> str:
    return case.expect.value


def _language(case: Case) -> str:
    return case.language


def _category(case: Case) -> str:
    return case.category
