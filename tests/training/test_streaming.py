"""A stream is scored as it grows."""

from __future__ import annotations

from guardproxy.core.grid import FIRST_CUT, NEXT_CUT
from guardproxy.training.rows import Row
from guardproxy.training.streaming import Streamed, describe, stream


def answer(text: str, label: int) -> Row:
    return Row("xstest", label, text, "q", "en")


def test_a_stream_is_stopped_at_the_first_beginning_that_hits() -> None:
    seen: list[int] = []

    def score(_question: str, text: str, before: int | None) -> float:
        if before is not None:
            seen.append(len(text))
        return 0.9 if "bad" in text else 0.1

    found = stream(answer("x" * 250 + "bad" + "y" * 500, 1), score, 0.5)
    assert found == Streamed(1, 0.9, FIRST_CUT + 3 * NEXT_CUT)
    assert seen[:3] == [FIRST_CUT, FIRST_CUT + NEXT_CUT, FIRST_CUT + 2 * NEXT_CUT]
    assert stream(answer("x" * 250, 0), score, 0.5) == Streamed(0, 0.1, None)


def test_the_share_is_of_the_answers_that_are_caught_whole() -> None:
    harmful = [Streamed(1, 0.9, 96), Streamed(1, 0.9, 960), Streamed(1, 0.9, None), Streamed(1, 0.1, 96)]
    text = describe([*harmful, Streamed(0, 0.1, None), Streamed(0, 0.1, 500)], 0.5)
    assert "| 400 | 1 of 3 (33.3%;" in text
    assert "| 1000 | 2 of 3 (66.7%;" in text
    assert "caught whole: 3 of 4" in text
    assert "stopped somewhere in the stream: 3 of 4" in text
    assert "stopped whole: 0 of 2" in text
    assert "all its chances: 1 of 2" in text
