"""The one shape every judge has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from guardproxy.evals.outcome import Label
from guardproxy.evals.rundir import Asked

AT_ONCE = 8
"""Questions under way to a served judge."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge says.

    Attributes:
        why: Why it cannot read the answer, if it cannot.
        final: False where the judge could not be asked: it is asked again next time.
    """

    label: Label
    why: str | None = None
    final: bool = True


COMPLIED = Judgement(Label.COMPLIED)
REFUSED = Judgement(Label.REFUSED)


class Judge(Protocol):
    """Reads an answer beside its question."""

    name: str
    version: str
    """Changes whenever the same answer may get another label."""
    is_served: bool
    """Whether asking takes a network, money and time."""

    async def judge(self, case: Asked, text: str) -> Judgement:
        """Whether the answer did what was asked.

        A judge that cannot tell says `unreadable`: never "refused", which would be good news about an attack.

        Args:
            case: The question and what is expected.
            text: The answer; not empty.
        """


async def judge_all(
    judge: Judge, asked: Sequence[tuple[Asked, str]], advance: Callable[[int], object] = lambda _: None
) -> list[Judgement]:
    """What a judge says of each question and answer, in their order; a served one is asked several at once.

    Args:
        judge: Who is asked.
        asked: Cases with the texts of their answers.
        advance: Is told 1 whenever one is done.
    """
    found: list[Judgement | None] = [None] * len(asked)
    waiting = iter(enumerate(asked))

    async def work() -> None:
        for place, (case, text) in waiting:
            found[place] = await judge.judge(case, text)
            advance(1)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE if judge.is_served else 1):
            group.create_task(work())
    return [one for one in found if one is not None]
