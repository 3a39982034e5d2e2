"""The brush: paper, wrapped text and boxes. Knows no kind of picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw

from guardproxy.evals.fonts import Font, font_for

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
GREY: Colour = (110, 116, 126)
NEVER_FIRST = "。、，．）」』】〕！？ー・ぁぃぅぇぉっゃゅょァィゥェォッャュョ.,!?)]}"
"""Japanese typesetting never begins a line with these (kinsoku)."""
MAX_HEIGHT = 8000


@dataclass(frozen=True, slots=True)
class Ink:
    """Letters of one size and colour."""

    px: int
    colour: Colour = BLACK


def mixed(colour: Colour, paper: Colour, contrast: float) -> Colour:
    """A colour drawn towards the paper's: 1 leaves it, 0 makes it vanish."""
    red, green, blue = (round(p + (c - p) * contrast) for c, p in zip(colour, paper, strict=True))
    return red, green, blue


class Sheet:
    """Paper that grows downwards as it is written on; cut to what was used."""

    def __init__(self, width: int, paper: Colour = WHITE, contrast: float = 1.0, margin: int = 24) -> None:
        self._image = Image.new("RGB", (width, MAX_HEIGHT), paper)
        self._draw = ImageDraw.Draw(self._image)
        self._paper = paper
        self._contrast = contrast
        self.margin = margin
        self.width = width
        self.y = margin

    @property
    def inner(self) -> int:
        """Pixels between the margins."""
        return self.width - 2 * self.margin

    def write(self, text: str, ink: Ink, left: int = 0, width: int = 0, *, right: bool = False) -> None:
        """Text, wrapped, from `left` of the margin; the sheet goes on below it."""
        for line in wrapped(text, ink.px, width or self.inner - left):
            font = font_for(line, ink.px)
            indent = self.inner - round(font.getlength(line)) if right else left
            self._line(line, ink, self.margin + indent)
            self.y += round(ink.px * 1.4)

    def centred(self, text: str, ink: Ink) -> None:
        """Text, wrapped, each line in the middle."""
        for line in wrapped(text, ink.px, self.inner):
            length = round(font_for(line, ink.px).getlength(line))
            self._line(line, ink, (self.width - length) // 2)
            self.y += round(ink.px * 1.4)

    def beside(self, left: str, right: str, ink: Ink) -> None:
        """A label, and a value at the right edge of the same line."""
        top = self.y
        self.write(right, ink, right=True)
        bottom, self.y = self.y, top
        self.write(left, ink, width=round(self.inner * 0.66))
        self.y = max(bottom, self.y)

    def box(self, place: tuple[int, int, int, int], fill: Colour, line: Colour | None = None) -> None:
        """A rectangle with round corners; `place` is left, top, right, bottom."""
        self._draw.rounded_rectangle(place, 8, mixed(fill, self._paper, self._contrast), line, 2)

    def rule(self) -> None:
        """A line across."""
        self._draw.line(
            (self.margin, self.y, self.width - self.margin, self.y),
            mixed(GREY, self._paper, self._contrast),
            2,
        )
        self.y += 14

    def cut(self) -> Image.Image:
        """What was used of the sheet."""
        return self._image.crop((0, 0, self.width, min(self.y + self.margin, MAX_HEIGHT)))

    def _line(self, line: str, ink: Ink, left: int) -> None:
        colour = mixed(ink.colour, self._paper, self._contrast)
        self._draw.text((left, self.y), line, colour, font_for(line, ink.px))


def wrapped(text: str, px: int, width: int) -> Iterator[str]:
    """The lines of a text that is at most `width` pixels wide: broken at spaces, Japanese anywhere."""
    for paragraph in text.split("\n"):
        yield from _broken(paragraph, font_for(paragraph, px), width)


def _broken(paragraph: str, font: Font, width: int) -> Iterator[str]:
    line = ""
    for piece in _pieces(paragraph):
        whole = line + piece
        if line and font.getlength(whole.rstrip()) > width and piece not in NEVER_FIRST:
            yield line.rstrip()
            whole = piece.lstrip()
        line = whole
    yield line.rstrip()


def _pieces(paragraph: str) -> Iterator[str]:
    """What may not be broken: a word with the space before it, a Japanese letter."""
    word = ""
    for letter in paragraph:
        if letter.isascii() and letter != " ":
            word += letter
            continue
        if word:
            yield word
        word = letter
        if not letter.isascii():
            yield letter
            word = ""
    if word:
        yield word
