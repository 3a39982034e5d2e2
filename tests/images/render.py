"""Draws text for tests, in whatever fonts the machine has."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from PIL import ImageFont

FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
CJK = ("NotoSansCJK", "NotoSerifCJK", "ipag", "ipaexg", "TakaoGothic", "VL-Gothic")


@cache
def fonts(cjk: bool) -> tuple[Path, ...]:
    """Files of fonts that have Japanese, or those that have not."""
    found = sorted(p for f in FOLDERS for p in f.rglob("*.[to]t[fc]"))
    letters = [p for p in found if "glyphicons" not in p.name and "Math" not in p.name]
    return tuple(p for p in letters if any(name in p.name for name in CJK) is cjk)


def font(size: int, cjk: bool = True, number: int = 0) -> ImageFont.FreeTypeFont:
    """One font; without any that has Japanese the test skips."""
    files = fonts(cjk)
    if not files:
        pytest.skip("no such font is installed (Debian: fonts-noto-cjk)")
    return ImageFont.truetype(str(files[number % len(files)]), size)
