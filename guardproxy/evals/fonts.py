"""Fonts for drawn pictures: Pillow's own for plain Latin, an installed one for everything else."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

from guardproxy.errors import SuiteError

Font = ImageFont.FreeTypeFont

PACKAGE = "noto_cjk_sans_jp_regular"
"""Ships Noto Sans CJK JP under the SIL Open Font Licence 1.1; part of the extra `evals`."""

PLACES = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-sans-cjk-vf-fonts/NotoSansCJK-VF.ttc",
    "/usr/share/fonts/opentype/ipafont-gothic/ipag.ttf",
    "/usr/share/fonts/truetype/fonts-japanese-gothic.ttf",
    "/System/Library/Fonts/ヒラギノ角ゴシック W3.ttc",
    "C:/Windows/Fonts/meiryo.ttc",
    "C:/Windows/Fonts/msgothic.ttc",
)

MISSING = (
    "a picture with Japanese text needs a font: pip install 'guardproxy[evals]', "
    "or install Debian's fonts-noto-cjk or fonts-ipafont-gothic"
)


def font_for(text: str, px: int) -> Font:
    """A font that has the text's letters.

    Raises:
        SuiteError: No Japanese font is installed; says what to install.
    """
    # Pillow's own font has a limited character set; ASCII is in it.
    return _latin(px) if text.isascii() else japanese(px)


@cache
def _latin(px: int) -> Font:
    font = ImageFont.load_default(px)
    if not isinstance(font, Font):
        raise SuiteError("drawing pictures needs a Pillow built with FreeType")
    return font


@cache
def japanese(px: int) -> Font:
    """A font with kana and kanji.

    Raises:
        SuiteError: None is installed.
    """
    place = japanese_file()
    if place is None:
        raise SuiteError(MISSING)
    # Raqm may be there or not; the basic layout draws the same picture everywhere.
    return ImageFont.truetype(str(place), px, layout_engine=ImageFont.Layout.BASIC)


def japanese_file(package: str = PACKAGE, places: tuple[str, ...] = PLACES) -> Path | None:
    """Where a Japanese font is: in the package of the extra `evals`, else where systems put one."""
    spec = find_spec(package)
    inside = Path(spec.origin).parent.glob("*.otf") if spec is not None and spec.origin else ()
    found = (*sorted(inside), *(Path(p) for p in places))
    return next((p for p in found if p.is_file()), None)
