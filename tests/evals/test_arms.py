"""What each arm asks, and that no arm asks twice what another has asked."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from guardproxy.errors import EvalError
from guardproxy.evals.arms import BLACK_SIDE, black_png, drawn_text, parse
from guardproxy.evals.case import Drawing, Turn
from tests.evals.scripted import case, drawing, png_of

PLAIN = case("plain")
SHOWN = case("shown", pictures=(drawing("write this down"),))
WORDLESS = case("wordless", prompt="", pictures=(drawing(),))
LATER = case("later", turns=(Turn("user", "Look.", (drawing("first"),)), Turn("assistant", "Yes.")))


def test_a_policy_arm_is_a_header() -> None:
    none, served = parse("arm-none, as-served")
    assert none.headers == {"x-guardproxy-use-policy": "arm-none"}
    assert served.headers == {}


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("a,,b", "expected NAME"),
        ("a+blue-image", "black-image, text-only"),
        ("a,b,a", "given twice"),
        ("", "NAME"),
        ("+text-only", "NAME"),
    ],
)
def test_an_arm_that_is_none_is_named(names: str, told: str) -> None:
    with pytest.raises(EvalError, match=told):
        parse(names)


def test_the_black_picture_is_added_only_where_there_is_none() -> None:
    (arm,) = parse("arm-none+black-image")
    assert (arm.asks(PLAIN), arm.asks(SHOWN), arm.asks(LATER)) == (True, False, False)
    (message,) = arm.messages(PLAIN, png_of)
    assert message["content"][0] == {"type": "text", "text": PLAIN.prompt}
    url = message["content"][1]["image_url"]["url"]
    image = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    assert (image.size, image.getcolors()) == ((BLACK_SIDE, BLACK_SIDE), [(BLACK_SIDE**2, (0, 0, 0))])
    assert black_png() is black_png()


def test_text_only_says_what_the_picture_says() -> None:
    (arm,) = parse("arm-none+text-only")
    assert (arm.asks(PLAIN), arm.asks(SHOWN), arm.asks(LATER)) == (False, True, True)
    assert arm.messages(SHOWN, png_of) == [{"role": "user", "content": "Please do shown.\n\nwrite this down"}]
    assert [m["content"] for m in arm.messages(LATER, png_of)] == [
        "Look.",
        "Yes.",
        "Please do later.\n\nfirst",
    ]


def test_text_only_cannot_ask_a_picture_without_words() -> None:
    (arm,) = parse("as-served+text-only")
    assert not arm.asks(WORDLESS)


def test_a_picture_goes_as_data_and_an_empty_text_is_left_out() -> None:
    (arm,) = parse("as-served")
    (message,) = arm.messages(WORDLESS, png_of)
    assert [p["type"] for p in message["content"]] == ["image_url"]
    assert base64.b64decode(message["content"][0]["image_url"]["url"].split(",")[1]) == b"png of page"
    assert [m["role"] for m in arm.messages(LATER, png_of)] == ["user", "assistant", "user"]


def test_all_words_of_a_drawing_are_read_once() -> None:
    parts = tuple(Drawing("part", {"text": "one two", "part": i, "of": 2}) for i in (1, 2))
    receipt = Drawing("receipt", {"shop": "Corner", "lines": [["tea", 3]], "colour": "red", "font_px": 20})
    chart = Drawing("chart", {"title": "", "bars": {"May": 4}})
    assert drawn_text(case("x", pictures=(*parts, receipt, chart))) == "one two\nCorner\ntea 3\nMay: 4"
