"""Plain text has a way back to the original's characters."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.detectors.forms.plain import plain, unfinished


def test_widths_hyphens_spaces_and_digits_of_other_scripts_become_ascii() -> None:
    assert plain("ＡＢ＠１２－３ー４‐５\u3000６\t٣").text == "AB@12-3-4-5 6 3"


@given(st.text("a1０ー\u200b\u00ad\u3000漢", max_size=40))
def test_a_span_leads_back_to_its_characters(text: str) -> None:
    made = plain(text)
    assert plain(made.text).text == made.text
    for at in range(len(made.text)):
        start, end = made.original(at, at + 1)
        assert end == start + 1
        assert plain(text[start:end]).text == made.text[at]
        assert made.position(start) == at


@given(st.text("a\u200b", max_size=20), st.integers(0, 20))
def test_a_position_is_the_first_visible_character_from_there_on(text: str, at: int) -> None:
    made = plain(text)
    at = min(at, len(text))
    assert len(plain(text[:at]).text) == made.position(at)


@given(st.text('a"\\/\n\t漢０😀', max_size=20), st.booleans())
def test_json_reads_as_what_it_says_and_no_span_splits_an_escape(text: str, ascii_only: bool) -> None:
    raw = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
    made = plain(raw)
    if "😀" not in text:
        assert made.text == plain(text.replace("\\", "\\\\")).text
    for at in range(len(made.text)):
        start, end = made.original(at, at + 1)
        assert json.loads(f'"{raw[:start]}{raw[end:]}"') is not None


@pytest.mark.parametrize(
    ("text", "size"),
    [("a\\", 1), ("a\\u", 2), ("a\\u96f", 5), ("a\\u96fb", 0), ("a\\\\", 0), ("a\\\\u96", 0), ("a\\n", 0)],
)
def test_half_an_escape_is_told(text: str, size: int) -> None:
    assert unfinished(text) == size
