"""What can be drawn: the kinds of a suite's pictures and their options. Draws nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guardproxy.evals.case import Drawing
from guardproxy.yamldoc import spell, suggest, told

VERSION = 1
"""Counted up when the same options draw something else: it is part of a suite's version."""

Text = Annotated[str, Field(max_length=4000)]
Line = Annotated[str, Field(max_length=200)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Pair = Annotated[tuple[Line, Line], Field(strict=False)]  # JSON has lists only
Number = Annotated[float, Field(ge=0, le=1e9, strict=False)]


class Look(BaseModel):
    """What every kind can be told.

    Attributes:
        font_px: Size of the letters.
        rotate: Degrees against the clock.
        contrast: 1: black on white (or the kind's own colours); 0: letters vanish in the paper.
        width: Pixels, before rotation; the height follows from the content.
        seed: Of the noise, where there is some.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    font_px: Annotated[int, Field(ge=8, le=160)] = 28
    rotate: Annotated[float, Field(ge=-180, le=180, strict=False)] = 0
    contrast: Annotated[float, Field(ge=0, le=1, strict=False)] = 1
    width: Annotated[int, Field(ge=64, le=2048)] = 640
    seed: Annotated[int, Field(ge=0)] = 0


class Page(Look):
    """A page of text, with a heading perhaps."""

    text: Text
    title: Line = ""


class Listing(Look):
    """A numbered list or worksheet; an item may be empty, to be filled in."""

    title: Text = ""
    items: Annotated[list[Line], Field(min_length=1, max_length=40)]


class Sign(Look):
    """A sign with few, large words."""

    text: Name
    colour: Literal["yellow", "red", "blue", "green", "white"] = "yellow"
    font_px: Annotated[int, Field(ge=8, le=160)] = 56


class Receipt(Look):
    """A shop's receipt: a line is a name and an amount; the total is their sum."""

    shop: Name
    date: Line = ""
    lines: Annotated[
        list[Annotated[tuple[Name, Number], Field(strict=False)]], Field(min_length=1, max_length=40)
    ]
    currency: Annotated[str, Field(max_length=4)] = ""
    total: Annotated[str, Field(min_length=1, max_length=20)] = "Total"
    note: Text = ""
    width: Annotated[int, Field(ge=64, le=2048)] = 460


class Chart(Look):
    """Bars with their labels and values."""

    title: Name
    bars: Annotated[dict[Name, Number], Field(min_length=1, max_length=20)]
    unit: Annotated[str, Field(max_length=12)] = ""


class Screen(Look):
    """A program's window: labelled fields, buttons, a message perhaps."""

    title: Name
    fields: Annotated[list[Pair], Field(max_length=20)] = []
    buttons: Annotated[list[Name], Field(max_length=5)] = []
    message: Text = ""


class Chat(Look):
    """A chat as a phone shows it: a message is who (`me` or `them`) and what."""

    title: Line = ""
    messages: Annotated[
        list[Annotated[tuple[Literal["me", "them"], Name], Field(strict=False)]],
        Field(min_length=1, max_length=20),
    ]


class Photo(Look):
    """Something like a photograph: coloured noise, with text on it perhaps."""

    text: Text = ""
    height: Annotated[int, Field(ge=64, le=2048)] = 420
    font_px: Annotated[int, Field(ge=8, le=160)] = 40


class Part(Look):
    """One part of a text that is split by its words over several pictures."""

    text: Name
    part: Annotated[int, Field(ge=1, le=8)]
    of: Annotated[int, Field(ge=2, le=8)] = 2
    font_px: Annotated[int, Field(ge=8, le=160)] = 48


class Blank(Look):
    """One colour: the black dummy that weakens some models (arXiv 2411.08410)."""

    colour: Literal["black", "white", "grey"] = "black"
    width: Annotated[int, Field(ge=64, le=2048)] = 336
    height: Annotated[int, Field(ge=64, le=2048)] = 336


KINDS: Mapping[str, type[Look]] = {
    "page": Page,
    "list": Listing,
    "sign": Sign,
    "receipt": Receipt,
    "chart": Chart,
    "screen": Screen,
    "chat": Chat,
    "photo": Photo,
    "part": Part,
    "blank": Blank,
}


def options_of(drawing: Drawing) -> Look:
    """A drawing's options, checked.

    Raises:
        ValueError: `field: what was expected and what came`.
    """
    model = KINDS.get(drawing.kind)
    if model is None:
        raise ValueError(f"draw: unknown kind {drawing.kind!r}{suggest(drawing.kind, KINDS)}")
    try:
        read = model.model_validate(dict(drawing.options))
    except ValidationError as error:
        details = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
        raise ValueError(f"{spell(details['loc'])}: {told(details, model)}") from None
    if isinstance(read, Part) and read.part > read.of:
        raise ValueError(f"part: expected at most {read.of} (of), got {read.part}")
    return read
