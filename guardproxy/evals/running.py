"""Asks what is missing: every case, in every arm, as often as wanted, with bounded concurrency."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Protocol

from tqdm import tqdm

from guardproxy.errors import EvalError
from guardproxy.evals.answer import Answer, Key
from guardproxy.evals.arms import Arm, PngOf, pictures_of
from guardproxy.evals.asking import Asker
from guardproxy.evals.case import Case

HOPELESS = 20
"""Errors in a row after which the run stops: it is resumed when the target is well again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked.

    Attributes:
        temperature: 0 asks for the likeliest answer; repeats then differ little.
        max_tokens: Longest answer.
    """

    cases: Sequence[Case]
    arms: Sequence[Arm]
    model: str
    repeats: int = 1
    temperature: float = 0.0
    max_tokens: int = 256

    def asks(self) -> Iterator[tuple[Case, Arm, int]]:
        """Everything, arms innermost: what is interrupted is still the same cases in every arm."""
        for repeat in range(self.repeats):
            for case in self.cases:
                for arm in self.arms:
                    if arm.asks(case):
                        yield case, arm, repeat

    def body(self, case: Case, arm: Arm, repeat: int, png_of: PngOf) -> dict[str, Any]:
        """The request's body."""
        return {
            "model": self.model,
            "messages": arm.messages(case, png_of),
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": repeat,
        }


PICTURES_KEPT = 64


class Keeper(Protocol):
    """Where answers are kept: a `rundir.Journal`."""

    def append(self, values: Sequence[object]) -> None:
        """Keep these; they are safe when it returns."""


class Run:
    """One run, or the rest of it.

    Args:
        plan: What is asked.
        asker: Who answers.
        journal: Where answers are kept, in the order in which they come.
        png_of: Reads or draws a picture.
        concurrency: Requests under way at once.
    """

    def __init__(
        self, plan: Plan, asker: Asker, journal: Keeper, png_of: PngOf, concurrency: int = 8
    ) -> None:
        self._plan = plan
        self._asker = asker
        self._journal = journal
        self._pictures = {id(p): p for c in plan.cases for p in pictures_of(c)}
        # Each arm asks the same case in turn: its pictures are drawn once.
        self._drawn = lru_cache(PICTURES_KEPT)(lambda place: png_of(self._pictures[place]))
        self._concurrency = concurrency
        self._errors_in_a_row = 0
        self._given_up: EvalError | None = None

    async def ask_missing(self, known: dict[Key, Answer]) -> int:
        """Ask what has no answer yet; how many were asked.

        Args:
            known: Answers that are there; those that are errors are asked again.

        Raises:
            EvalError: The target does not take the key, the model or the policy, or only errors come.
        """
        todo = [
            (case, arm, repeat)
            for case, arm, repeat in self._plan.asks()
            if (before := known.get((case.id, arm.name, repeat))) is None or before.is_error
        ]
        waiting = iter(todo)
        # stdout is for results, so the bar goes to stderr, and only where a person looks.
        with tqdm(total=len(todo), unit="answer", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self._concurrency, len(todo))):
                        group.create_task(self._work(waiting, bar.update))
            except* EvalError as errors:
                raise errors.exceptions[0] from None
        if self._given_up is not None:
            raise self._given_up
        return len(todo)

    async def _work(self, waiting: Iterator[tuple[Case, Arm, int]], advance: Callable[[int], object]) -> None:
        for case, arm, repeat in waiting:
            if self._given_up is not None:
                return  # what is under way elsewhere is waited for: an answer that came is never asked for again
            build = partial(self._plan.body, case, arm, repeat, lambda picture: self._drawn(id(picture)))
            # Drawing takes a while, and other answers arrive meanwhile.
            body = await asyncio.to_thread(build) if pictures_of(case) else build()
            got = await self._asker.ask(body, arm.headers)
            answer = replace(got, case=case.id, arm=arm.name, repeat=repeat)
            _same_policy(arm, answer)
            self._journal.append([answer])
            advance(1)
            self._give_up_if_hopeless(answer)

    def _give_up_if_hopeless(self, answer: Answer) -> None:
        self._errors_in_a_row = self._errors_in_a_row + 1 if answer.is_error else 0
        if self._errors_in_a_row >= HOPELESS:
            self._given_up = EvalError(
                f"stopped after {HOPELESS} errors in a row, the last: {answer.status or 'no answer'} "
                f"{answer.code}: {answer.error}; run the same command again to resume"
            )


def _same_policy(arm: Arm, answer: Answer) -> None:
    """An arm that another policy served would be measured under the wrong name."""
    if arm.policy is None or not answer.status or answer.policy == arm.policy:
        return
    if answer.is_error:
        return  # the error says more
    served = "no guardproxy" if answer.policy is None else f"policy {answer.policy}"
    raise EvalError(
        f"arm {arm.name}: asked for policy {arm.policy}, but was served by {served}; "
        "the target must be guardproxy, and --key one with the right may_choose_policy"
    )
