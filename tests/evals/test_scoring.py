"""Labels are kept, judges are not asked twice for the same words, and probes name a judge that flips."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from guardproxy.evals.answer import Answer
from guardproxy.evals.judges.base import COMPLIED, REFUSED, Judgement
from guardproxy.evals.judges.keywords import Keywords
from guardproxy.evals.outcome import Label
from guardproxy.evals.probes import OFF_TOPIC, PROBES, Probed, probe
from guardproxy.evals.rundir import Asked, Labelled, asked
from guardproxy.evals.scoring import score
from tests.evals.scripted import HELP, NO, REFUSE, case


class Reading:
    """A judge that does as told and remembers what it read."""

    name = "reading"
    is_served = True

    def __init__(self, judge: Callable[[str], Judgement], version: str = "1") -> None:
        self.version = version
        self.read: list[str] = []
        self._judge = judge

    async def judge(self, case: Asked, text: str) -> Judgement:
        self.read.append(text)
        return self._judge(text)


CASES = {c.id: asked(c) for c in (case("a", REFUSE), case("b"), case("ja", REFUSE, language="ja"))}


def answer(name: str, text: str | None, arm: str = "x", **fields: object) -> Answer:
    return Answer(name, arm, 0, fields.pop("status", 200), 1.0, content=text, **fields)  # type: ignore[arg-type]


ANSWERS = [
    answer("a", HELP), answer("a", HELP, "y"), answer("b", NO), answer("b", None, status=400, code="content_filter"),
    answer("b", ""), answer("ja", HELP), answer("gone", HELP),
]  # fmt: skip


def honest(text: str) -> Judgement:
    """A judge that sees through all probes but reads only what it knows."""
    if "every" not in text.lower() and "help" not in text.lower():
        return Judgement(Label.UNREADABLE, "?")
    return REFUSED if "can't help" in text.lower() else COMPLIED


def scored(judge: Reading, before: list[Labelled] | None = None) -> list[Labelled]:
    return asyncio.run(score([judge], CASES, ANSWERS, before or []))


def test_only_answers_that_need_a_judge_are_read_and_equal_ones_once() -> None:
    judge = Reading(honest)
    labels = scored(judge)
    assert [(x.case, x.arm, x.label) for x in labels] == [
        ("a", "x", "complied"), ("a", "y", "complied"), ("b", "x", "refused"), ("ja", "x", "complied"),
    ]  # fmt: skip
    assert sorted(judge.read) == sorted([HELP, NO, HELP])


def test_labels_are_taken_over_unless_judge_or_answer_changed() -> None:
    before = scored(Reading(honest))
    again = Reading(honest)
    assert scored(again, before) == before
    assert again.read == []
    newer = Reading(honest, version="2")
    assert {x.version for x in scored(newer, before)} == {"2"}
    assert len(newer.read) == 3


def test_a_judge_that_could_not_be_asked_is_asked_again() -> None:
    before = scored(Reading(lambda _: Judgement(Label.UNREADABLE, "not asked", final=False)))
    assert {x.label for x in before} == {"unreadable"}
    again = Reading(honest)
    assert {x.label for x in scored(again, before)} == {"complied", "refused"}


def probed(judge: Reading | Keywords) -> dict[str, Probed]:
    answers = {a.key: a for a in (answer("a", HELP), answer("b", NO), answer("ja", HELP))}
    labels = asyncio.run(score([judge], CASES, list(answers.values()), []))
    return {p.probe: p for p in asyncio.run(probe([judge], CASES, answers, labels))}


def test_a_judge_that_sees_through_the_probes_has_no_flips() -> None:
    found = probed(Reading(honest))
    assert set(found) == {p.name for p in PROBES}
    assert {p.flips for p in found.values()} == {0}
    assert found["sorry_appended"].n == 2
    assert found["off_topic"].n == 3


def test_the_keyword_judge_flips_and_the_case_is_named() -> None:
    found = probed(Keywords())
    assert found["sorry_prepended"].flips == 2
    assert found["off_topic"].flips == 3
    assert found["nothing_said"].flips == 3
    assert found["upper_case"].flips == 0
    assert found["sorry_prepended"].example in (("a", "x"), ("ja", "x"))


def test_probes_speak_the_case_s_language() -> None:
    judge = Reading(honest)
    probed(judge)
    assert OFF_TOPIC["ja"] in judge.read
    assert f"申し訳ありません。 {HELP}" in judge.read


def test_a_judge_that_cannot_be_asked_is_not_said_to_flip() -> None:
    calls = iter(range(100))
    judge = Reading(
        lambda _: COMPLIED if next(calls) < 3 else Judgement(Label.UNREADABLE, "gone", final=False)
    )
    assert {(p.n, p.flips) for p in probed(judge).values()} == {(0, 0)}
