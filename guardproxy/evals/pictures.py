"""Pictures of a case as PNG: drawn here, or read from a file."""

from __future__ import annotations

import io
from functools import singledispatch
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, UnidentifiedImageError

from guardproxy.errors import SuiteError
from guardproxy.evals import drawings as kinds
from guardproxy.evals.case import Drawing, Picture
from guardproxy.evals.fonts import font_for
from guardproxy.evals.paint import BLACK, GREY, WHITE, Colour, Ink, Sheet, mixed, wrapped

MAX_FILE_BYTES = 50_000_000
_MAGIC = b"\x89PNG\r\n\x1a\n"
_SIGNS: dict[str, tuple[Colour, Colour]] = {
    "yellow": ((250, 204, 21), BLACK),
    "red": ((185, 28, 28), WHITE),
    "blue": ((30, 64, 175), WHITE),
    "green": ((21, 128, 61), WHITE),
    "white": (WHITE, BLACK),
}
_BLANKS: dict[str, Colour] = {"black": BLACK, "white": WHITE, "grey": (128, 128, 128)}
_BAR: Colour = (37, 99, 235)
_BUTTON: Colour = (226, 232, 240)
_BUBBLES: dict[str, Colour] = {"me": (187, 247, 208), "them": (241, 245, 249)}


def png_of(picture: Picture) -> bytes:
    """A picture's bytes as PNG; a drawing gives the same bytes each time.

    Raises:
        SuiteError: It cannot be read or drawn.
    """
    if isinstance(picture, Path):
        return _from_file(picture)
    return _png(drawn(picture))


def drawn(drawing: Drawing) -> Image.Image:
    """A drawing as an RGB picture.

    Raises:
        SuiteError: An option is wrong, or a font is missing.
    """
    try:
        look = kinds.options_of(drawing)
    except ValueError as error:
        raise SuiteError(f"drawing {drawing.kind}: {error}") from None
    image = _draw(look)
    if look.rotate:
        paper = image.getpixel((0, 0))
        image = image.rotate(look.rotate, Image.Resampling.BICUBIC, expand=True, fillcolor=paper)
    return image


def _from_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SuiteError(f"{path}: expected a picture of at most {MAX_FILE_BYTES} bytes")
        raw = path.read_bytes()
        if raw.startswith(_MAGIC):
            return raw
        with Image.open(io.BytesIO(raw)) as image:
            return _png(image.convert("RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise SuiteError(f"{path}: not a picture that can be read: {error}") from None
    except OSError as error:
        raise SuiteError(f"{path}: {error.strerror or error}") from None


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=6)
    return out.getvalue()


@singledispatch
def _draw(look: kinds.Look) -> Image.Image:
    raise AssertionError(f"no brush for {type(look).__name__}")


@_draw.register
def _page(look: kinds.Page) -> Image.Image:
    sheet = Sheet(look.width, contrast=look.contrast)
    if look.title:
        sheet.write(look.title, Ink(round(look.font_px * 1.4)))
        sheet.y += look.font_px // 2
    sheet.write(look.text, Ink(look.font_px))
    return sheet.cut()


@_draw.register
def _list(look: kinds.Listing) -> Image.Image:
    sheet = Sheet(look.width, contrast=look.contrast)
    if look.title:
        sheet.write(look.title, Ink(round(look.font_px * 1.2)))
        sheet.y += look.font_px // 3
    for number, item in enumerate(look.items, 1):
        sheet.write(f"{number}. {item}", Ink(look.font_px))
        sheet.y += look.font_px // 4
    return sheet.cut()


@_draw.register
def _sign(look: kinds.Sign) -> Image.Image:
    paper, letters = _SIGNS[look.colour]
    sheet = Sheet(look.width, paper, look.contrast, margin=48)
    sheet.centred(look.text, Ink(look.font_px, letters))
    image = sheet.cut()
    edge = mixed(letters, paper, look.contrast)
    ImageDraw.Draw(image).rectangle((12, 12, image.width - 13, image.height - 13), outline=edge, width=6)
    return image


@_draw.register
def _receipt(look: kinds.Receipt) -> Image.Image:
    sheet = Sheet(look.width, (253, 253, 248), look.contrast)
    ink = Ink(look.font_px)
    sheet.centred(look.shop, Ink(round(look.font_px * 1.3)))
    if look.date:
        sheet.centred(look.date, Ink(round(look.font_px * 0.8), GREY))
    sheet.rule()
    for name, amount in look.lines:
        sheet.beside(name, _money(amount, look.currency), ink)
    sheet.rule()
    sheet.beside(look.total, _money(sum(a for _, a in look.lines), look.currency), ink)
    if look.note:
        sheet.rule()
        sheet.write(look.note, Ink(round(look.font_px * 0.8)))
    return sheet.cut()


def _money(amount: float, currency: str) -> str:
    return f"{currency}{amount:,.0f}" if amount == round(amount) else f"{currency}{amount:,.2f}"


@_draw.register
def _chart(look: kinds.Chart) -> Image.Image:
    sheet = Sheet(look.width, contrast=look.contrast)
    sheet.write(look.title, Ink(round(look.font_px * 1.1)))
    sheet.y += look.font_px // 2
    most = max(look.bars.values()) or 1.0
    small = Ink(round(look.font_px * 0.75))
    for label, value in look.bars.items():
        sheet.beside(label, f"{value:g}{look.unit}", small)
        length = max(2, round(sheet.inner * value / most))
        sheet.box((sheet.margin, sheet.y, sheet.margin + length, sheet.y + look.font_px), _BAR)
        sheet.y += look.font_px + 14
    return sheet.cut()


@_draw.register
def _screen(look: kinds.Screen) -> Image.Image:
    sheet = Sheet(look.width, (248, 250, 252), look.contrast)
    sheet.box((0, 0, look.width, look.font_px + 28), (51, 65, 85))
    sheet.y = 12
    sheet.write(look.title, Ink(look.font_px, WHITE))
    sheet.y += 14
    for label, value in look.fields:
        sheet.write(label, Ink(round(look.font_px * 0.7), GREY))
        lines = len(list(wrapped(value, look.font_px, sheet.inner - 20)))
        height = round(lines * look.font_px * 1.4) + 10
        sheet.box((sheet.margin, sheet.y, look.width - sheet.margin, sheet.y + height), WHITE, GREY)
        sheet.y += 5
        sheet.write(value, Ink(look.font_px), left=10, width=sheet.inner - 20)
        sheet.y += 14
    if look.message:
        sheet.write(look.message, Ink(look.font_px))
        sheet.y += 10
    _buttons(sheet, look)
    return sheet.cut()


def _buttons(sheet: Sheet, look: kinds.Screen) -> None:
    for label in look.buttons:
        length = round(font_for(label, look.font_px).getlength(label)) + 32
        bottom = sheet.y + round(look.font_px * 1.4) + 12
        sheet.box((sheet.margin, sheet.y, sheet.margin + length, bottom), _BUTTON, GREY)
        sheet.y += 6
        sheet.write(label, Ink(look.font_px), left=16)
        sheet.y = bottom + 10


@_draw.register
def _chat(look: kinds.Chat) -> Image.Image:
    sheet = Sheet(look.width, contrast=look.contrast, margin=16)
    if look.title:
        sheet.centred(look.title, Ink(look.font_px, GREY))
        sheet.rule()
    breadth = round(sheet.inner * 0.72)
    for who, text in look.messages:
        left = sheet.inner - breadth if who == "me" else 0
        lines = list(wrapped(text, look.font_px, breadth - 28))
        height = round(len(lines) * look.font_px * 1.4) + 20
        edge = sheet.margin + left
        sheet.box((edge, sheet.y, edge + breadth, sheet.y + height), _BUBBLES[who])
        sheet.y += 8
        sheet.write(text, Ink(look.font_px), left=left + 14, width=breadth - 28)
        sheet.y += 24
    return sheet.cut()


@_draw.register
def _photo(look: kinds.Photo) -> Image.Image:
    noise = np.random.default_rng(look.seed)
    sky, ground = noise.integers(90, 200, 3), noise.integers(40, 130, 3)
    depth = np.linspace(0, 1, look.height)[:, None, None] ** 1.5
    coarse = Image.fromarray(noise.integers(0, 256, (9, 13), dtype=np.uint8))
    clouds = np.asarray(coarse.resize((look.width, look.height), Image.Resampling.BICUBIC), float) - 128
    grain = noise.normal(0, 9, (look.height, look.width, 3))
    scene = sky * (1 - depth) + ground * depth + clouds[:, :, None] * 0.45 + grain
    image = Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    draw, y = ImageDraw.Draw(image), 30
    for line in wrapped(look.text, look.font_px, look.width - 60) if look.text else ():
        ink = mixed(WHITE, (128, 128, 128), look.contrast)
        edge = round(2 * look.contrast)
        draw.text((30, y), line, ink, font_for(line, look.font_px), stroke_width=edge, stroke_fill=BLACK)
        y += round(look.font_px * 1.4)
    return image


@_draw.register
def _part(look: kinds.Part) -> Image.Image:
    words = look.text.split() if " " in look.text else list(look.text)
    start, end = (len(words) * step // look.of for step in (look.part - 1, look.part))
    sheet = Sheet(look.width, contrast=look.contrast)
    sheet.write((" " if " " in look.text else "").join(words[start:end]), Ink(look.font_px))
    return sheet.cut()


@_draw.register
def _blank(look: kinds.Blank) -> Image.Image:
    return Image.new("RGB", (look.width, look.height), _BLANKS[look.colour])
