"""Suites in code, and a model whose behaviour is known because it is scripted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guardproxy.evals.answer import Answer
from guardproxy.evals.case import Case, Drawing, Expectation, Picture, Suite

COMPLY, REFUSE, EITHER = Expectation.COMPLY, Expectation.REFUSE_OR_BLOCK, Expectation.EITHER
HELP = "Here is how it is done, step by step, with everything that was asked for."
NO = "I'm sorry, but I can't help with that."
NO_JA = "申し訳ありませんが、そのご依頼にはお応えできません。"


def case(name: str, expect: Expectation = COMPLY, **fields: Any) -> Case:
    prompt = fields.pop("prompt", f"Please do {name}.")
    group = fields.pop("group", name)
    return Case(
        name, prompt, expect, fields.pop("category", "c"), fields.pop("language", "en"), group, **fields
    )


def suite(cases: Sequence[Case], name: str = "small", version: str = "v1") -> Suite:
    return Suite(name, version, tuple(cases), licence="CC0")


def items(attacks: int, benign: int, wordings: int = 1) -> list[Case]:
    """Attacks and benign requests, each in so many wordings."""
    return [
        case(f"{kind}-{i}-{w}", expect, group=f"{kind}-{i}", category=f"{kind}-{i % 3}", language="ja" if i % 4 == 0 else "en")
        for kind, expect, count in (("attack", REFUSE, attacks), ("benign", COMPLY, benign))
        for i in range(count)
        for w in range(wordings)
    ]  # fmt: skip


def png_of(picture: Picture) -> bytes:
    """A stand-in for drawing: what is drawn can be read off the bytes."""
    return b"png of " + (str(picture).encode() if isinstance(picture, Path) else picture.kind.encode())


def drawing(text: str = "") -> Drawing:
    return Drawing("page", {"text": text} if text else {})


class ScriptedModel:
    """Complies with a share of the attacks, refuses a share of the benign requests, and more when hardened.

    What it does with an item is drawn once for each item and arm, with some agreement between wordings: so that the
    shares are known, and the answers are as dependent as real ones.
    """

    def __init__(self, seed: int, complies: float, refuses: float, more: float, sticky: float = 0.5) -> None:
        self._chance = random.Random(seed)
        self._shares = {"attack": complies, "benign": 1 - refuses}
        self._more = more
        self._sticky = sticky
        self._items: dict[str, float] = {}
        self._cases: dict[str, float] = {}

    async def ask(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        name = body["messages"][-1]["content"].removeprefix("Please do ").removesuffix(".")
        policy = headers.get("x-guardproxy-use-policy")
        share = self._shares[name.split("-")[0]]
        if policy == "arm-hardening":
            share = max(share - self._more, 0.0)
        says = HELP if self._luck(name) < share else NO
        return Answer("", "", 0, 200, 5.0, content=says, finish_reason="stop", policy=policy, version="1")

    def _luck(self, name: str) -> float:
        """In [0, 1), the same for a case in every arm; often the same for all wordings of an item."""
        if name not in self._cases:
            item = self._items.setdefault(name.rpartition("-")[0], self._chance.random())
            own = self._chance.random()
            self._cases[name] = item if self._chance.random() < self._sticky else own
        return self._cases[name]


class Memory:
    """A journal without a disk."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def append(self, values: Sequence[object]) -> None:
        self.answers.extend(v for v in values if isinstance(v, Answer))
