"""The tokenizer gives the ids that the encoder learnt with."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from guardproxy.detectors.classifiers import WEIGHTS
from guardproxy.detectors.wordpiece import UNKNOWN, WordPiece

TOKENIZER = WordPiece(WEIGHTS / "encoder_vocabulary.txt")


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello, world!", [7592, 1010, 2088, 999]),
        ("unaffable", [14477, 20961, 3468]),
        ("Où est l'été ?", [15068, 9765, 1048, 1005, 3802, 2063, 1029]),
        ("a\x00b\tc", [11113, 1039]),
        ("日本", [1864, 1876]),
        ("x" * 101, [UNKNOWN]),
        ("🙂", [UNKNOWN]),
        ("", []),
    ],
)
def test_known_texts_have_their_published_ids(text: str, ids: list[int]) -> None:
    assert TOKENIZER.pieces(text) == ids


@given(st.text(st.characters(max_codepoint=127), max_size=200))
def test_plain_text_is_cut_like_any_other(text: str) -> None:
    assert TOKENIZER.pieces(text) == TOKENIZER.pieces(text + "\u00a0é")[: len(TOKENIZER.pieces(text))]


@given(st.text(max_size=200))
def test_every_text_has_ids_of_the_vocabulary(text: str) -> None:
    assert all(0 <= i < 30522 for i in TOKENIZER.pieces(text))
