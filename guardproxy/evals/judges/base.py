"""The one shape every judge has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from guardproxy.evals.outcome import Label
from guardproxy.evals.rundir import Asked


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
