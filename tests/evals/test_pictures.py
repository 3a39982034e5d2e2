"""Pictures of a suite: every kind draws, always the same bytes, and what is wrong is told."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardproxy.errors import SuiteError
from guardproxy.evals.case import Drawing
from guardproxy.evals.drawings import KINDS, options_of
from guardproxy.evals.fonts import japanese_file
from guardproxy.evals.paint import NEVER_FIRST, wrapped
from guardproxy.evals.pictures import drawn, png_of

ONE_OF_EACH: dict[str, dict[str, object]] = {
    "page": {"title": "Notice", "text": "Room 3 is closed.\n三号室は使えません。"},
    "list": {"title": "買い物", "items": ["牛乳", "", "パン"]},
    "sign": {"text": "Wet floor", "colour": "blue"},
    "receipt": {"shop": "Cafe", "lines": [["Tea", 3.5], ["Cake", 4]], "currency": "$"},
    "chart": {"title": "Visitors", "bars": {"May": 3, "June": 0.5}, "unit": "k"},
    "screen": {"title": "Login", "fields": [["Name", "mika"]], "buttons": ["OK"], "message": "Wrong name."},
    "chat": {"title": "Mika", "messages": [["me", "Hello"], ["them", "はい"]]},
    "photo": {"text": "Sale", "seed": 4},
    "part": {"text": "one two three", "part": 2},
    "blank": {"colour": "white"},
}


def pixels(kind: str, **options: object) -> np.ndarray:
    return np.asarray(drawn(Drawing(kind, {**ONE_OF_EACH[kind], **options})), dtype=int)


def test_the_examples_cover_every_kind() -> None:
    assert set(ONE_OF_EACH) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawing_gives_the_same_png_each_time(kind: str) -> None:
    drawing = Drawing(kind, ONE_OF_EACH[kind])
    raw = png_of(drawing)
    assert raw == png_of(drawing)
    with Image.open(io.BytesIO(raw)) as image:
        assert image.format == "PNG"
        assert image.mode == "RGB"


@pytest.mark.parametrize("kind", set(KINDS) - {"blank"})
def test_what_is_written_is_seen(kind: str) -> None:
    shown = pixels(kind)
    assert shown.max() - shown.min() > 100


def test_low_contrast_is_faint_and_zero_vanishes() -> None:
    assert 0 < np.ptp(pixels("page", contrast=0.1)) < 40
    assert np.ptp(pixels("page", contrast=0)) == 0


def test_rotation_turns_and_keeps_everything_on_the_picture() -> None:
    straight, turned = pixels("sign"), pixels("sign", rotate=90)
    assert turned.shape[0] >= straight.shape[1]


def test_a_longer_page_is_higher_not_cut() -> None:
    assert pixels("page", text="word " * 300).shape[0] > 2 * pixels("page").shape[0]


def test_the_parts_of_a_split_text_are_different_pictures() -> None:
    assert not np.array_equal(
        pixels("part", part=1), pixels("part", part=2)[: pixels("part", part=1).shape[0]]
    )


def test_noise_follows_the_seed() -> None:
    assert not np.array_equal(pixels("photo", seed=1), pixels("photo", seed=2))


def test_japanese_lines_never_begin_with_a_closing_mark() -> None:
    lines = list(wrapped("会議室は、清掃のため、使えません。" * 6, 28, 300))
    assert len(lines) > 3
    assert not [line for line in lines if line[0] in NEVER_FIRST]


def test_words_are_not_broken_where_they_fit() -> None:
    assert set(" ".join(wrapped("red green blue " * 10, 28, 200)).split()) == {"red", "green", "blue"}


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("pgae", {}, "unknown kind 'pgae'; did you mean 'page'"),
        ("page", {"txt": "a"}, "txt: unknown key; did you mean 'text'"),
        ("page", {}, "text: required"),
        ("page", {"text": 3}, "text: input should be a valid string, got 3"),
        ("page", {"text": "a", "contrast": 2}, "contrast: input should be less than or equal to 1"),
        ("part", {"text": "a b", "part": 3}, r"part: expected at most 2 \(of\), got 3"),
    ],
)
def test_a_wrong_option_is_named(kind: str, options: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        options_of(Drawing(kind, options))
    with pytest.raises(SuiteError, match=told):
        png_of(Drawing(kind, options))


def test_a_file_is_given_as_png_whatever_it_was(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    assert png_of(tmp_path / "a.jpg").startswith(b"\x89PNG")
    assert png_of(tmp_path / "b.png") == (tmp_path / "b.png").read_bytes()


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(SuiteError, match=r"a\.png: not a picture"):
        png_of(tmp_path / "a.png")
    with pytest.raises(SuiteError, match=r"b\.png: No such file"):
        png_of(tmp_path / "b.png")


def test_a_missing_font_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from guardproxy.evals import fonts

    monkeypatch.setattr(fonts, "japanese_file", lambda: japanese_file("no_such_package", ()))
    fonts.japanese.cache_clear()
    with pytest.raises(SuiteError, match=r"guardproxy\[evals\].*fonts-noto-cjk"):
        fonts.japanese(17)
