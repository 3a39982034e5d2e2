"""What an arm asks: a case becomes a request, perhaps with another picture, under a policy."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image

from guardproxy.errors import EvalError
from guardproxy.evals.case import Case, Drawing, Picture, Turn

AS_SERVED = "as-served"
"""The arm without a header: whatever policy the target chooses, or none."""
POLICY_HEADER = "x-guardproxy-use-policy"
CHANGES = ("black-image", "text-only")
BLACK_SIDE = 336
"""Pixels: what many vision encoders look at at once, so that no model resizes it."""

LOOKS = ("colour", "currency")
"""Options of a drawing that are words, and do not stand in it."""

PngOf = Callable[[Picture], bytes]


@dataclass(frozen=True, slots=True)
class Arm:
    """A policy, chosen for each request, and perhaps a change of the request.

    Attributes:
        policy: None leaves the choice to the target.
        change: `black-image` adds a black picture to cases without one; `text-only` drops the pictures.
    """

    name: str
    policy: str | None = None
    change: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Of each request."""
        return {} if self.policy is None else {POLICY_HEADER: self.policy}

    def asks(self, case: Case) -> bool:
        """Whether this arm asks the case: a change that would change nothing is not asked again."""
        pictures = pictures_of(case)
        if self.change == "black-image":
            return not pictures
        if self.change == "text-only":
            return bool(pictures) and bool(_text_only(case)[0].text)
        return True

    def messages(self, case: Case, png_of: PngOf) -> list[dict[str, Any]]:
        """The messages of an OpenAI chat completion.

        Args:
            case: One that this arm asks.
            png_of: Reads or draws a picture.
        """
        last, before = Turn("user", case.prompt, case.pictures), case.turns
        if self.change == "text-only":
            last, before = _text_only(case)
        black = self.change == "black-image"
        return [*(_message(t, png_of) for t in before), _message(last, png_of, black=black)]


def parse(names: str) -> tuple[Arm, ...]:
    """`arm-none,arm-all+black-image`, in order; the first one is what the others are compared with.

    Raises:
        EvalError: A name is empty or given twice, or a change unknown.
    """
    arms: list[Arm] = []
    for name in (n.strip() for n in names.split(",")):
        policy, plus, change = name.partition("+")
        if not policy:
            raise EvalError(f"--arms: expected NAME[+{'|+'.join(CHANGES)}], got {name!r}")
        if plus and change not in CHANGES:
            raise EvalError(f"--arms: {name}: expected one of {', '.join(CHANGES)} after +, got {change!r}")
        if any(arm.name == name for arm in arms):
            raise EvalError(f"--arms: {name}: given twice")
        arms.append(Arm(name, None if policy == AS_SERVED else policy, change or None))
    return tuple(arms)


def drawn_text(case: Case) -> str:
    """The words that stand in a case's drawn pictures, each text once: parts of one text repeat it."""
    found: dict[str, None] = {}
    for picture in pictures_of(case):
        if isinstance(picture, Drawing):
            for name, value in picture.options.items():
                if name not in LOOKS:
                    found |= dict.fromkeys(_lines(value))
    return "\n".join(found)


def _lines(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, Mapping):
        return [f"{k}: {v}" for k, v in value.items()]
    if isinstance(value, Sequence):
        return [" ".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for v in value]
    return []


def pictures_of(case: Case) -> list[Picture]:
    """All its pictures, those of earlier turns first."""
    return [p for turn in case.turns for p in turn.pictures] + list(case.pictures)


def _text_only(case: Case) -> tuple[Turn, tuple[Turn, ...]]:
    said = "\n\n".join(t for t in (case.prompt, drawn_text(case)) if t.strip())
    turns = tuple(Turn(t.role, t.text) for t in case.turns if t.text.strip())
    return Turn("user", said), turns


def _message(turn: Turn, png_of: PngOf, *, black: bool = False) -> dict[str, Any]:
    pictures = [png_of(p) for p in turn.pictures]
    if black:
        pictures.append(black_png())
    if not pictures:
        return {"role": turn.role, "content": turn.text}
    parts: list[dict[str, Any]] = [{"type": "text", "text": turn.text}] if turn.text else []
    for png in pictures:
        url = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return {"role": turn.role, "content": parts}


@cache
def black_png() -> bytes:
    """The dummy picture: all black (arXiv 2411.08410: it says nothing, and it weakens models)."""
    out = io.BytesIO()
    Image.new("RGB", (BLACK_SIDE, BLACK_SIDE)).save(out, "PNG")
    return out.getvalue()
