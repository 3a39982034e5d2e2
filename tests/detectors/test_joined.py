"""Lines read in pictures become texts that can be judged, and every classifier sees them alike."""

from __future__ import annotations

from guardproxy.core.content import ImagePart, ReadText, Segment
from guardproxy.detectors.joined import LONG, blocks, ends, joined_lines, judged_texts, lines_by_picture


def line(text: str, picture: int = 1, number: int = 0) -> Segment:
    return Segment("image_text", f"messages[0].content[{picture}]/ocr[{number}]", text, untrusted=True)


def test_a_pictures_lines_are_one_text_and_all_with_the_users_words_another() -> None:
    segments = (Segment("user", "u", "hi"), line("Steps to"), line("bake bread", number=1), line("now", 2))
    assert judged_texts(segments, "fill it in") == [
        ("u", "hi"),
        ("messages[0].content[1]/ocr", "Steps to bake bread"),
        ("messages[0].content[2]/ocr", "now"),
        ("messages[0].content[2]/ocr", "fill it in\nSteps to bake bread\nnow"),
    ]
    assert list(lines_by_picture(segments)) == ["messages[0].content[1]", "messages[0].content[2]"]


def test_one_picture_without_words_is_judged_once_and_nothing_is_nothing() -> None:
    assert judged_texts((line("a"),), " ") == [("messages[0].content[1]/ocr", "a")]
    assert judged_texts((Segment("image", "p"), line(" ")), "") == []
    assert judged_texts((), "words") == []


def test_japanese_lines_are_joined_without_a_space() -> None:
    assert (
        joined_lines(["女の子を連れ去", "る方法", "Step one", "東京"]) == "女の子を連れ去る方法 Step one 東京"
    )
    assert joined_lines(["", "a", ""]).strip() == "a"


def test_lines_that_stand_together_are_a_block() -> None:
    boxes = [
        (0, 0, 100, 20), (300, 0, 500, 20), (0, 24, 90, 44), (300, 25, 480, 45), (0, 200, 100, 220),
    ]  # fmt: skip
    texts = ["left one", "right one", "left two", "right two", "far below"]
    read = tuple(ReadText(t, f"p/ocr[{n}]", b) for n, (t, b) in enumerate(zip(texts, boxes, strict=True)))
    assert blocks(ImagePart("", "p", width=600, height=300, texts=read)) == [
        "left one left two",
        "right one right two",
        "far below",
    ]


def test_the_ends_of_a_long_text_are_its_outer_lines() -> None:
    middle = "\n".join(f"This is line number {i}." for i in range(40))
    text = f"The first line of all.\n\n  and the second one\n{middle}\nThe one before the last.\nThe last line.\nThanks!"
    assert ends(text) == [
        "The first line of all.",
        "and the second one",
        "The one before the last.",
        "The last line.",
    ]
    assert ends("x" * LONG) == []
    assert ends("one line and no more " * 40) == []
    assert ends("y" * 600 + "x" * 600) == ["y" * 400, "x" * 400]
    assert ends("\n" * 5000) == []
    assert sum(map(len, ends(("word " * 100 + "\n") * 100_000))) <= 4 * 400
