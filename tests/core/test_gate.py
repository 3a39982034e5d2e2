"""The gate's promises, as properties."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.core.gate import Event, Gate, State, Window
from guardproxy.core.grid import Grid, weight
from guardproxy.core.policy import GateMode
from guardproxy.core.verdict import Action, Finding, Span, Verdict

ALLOW = Verdict()
BLOCK = Verdict(Action.BLOCK, Action.BLOCK)
SECRET = "blue heron"

texts = st.text("ab .\n。あ🙂", max_size=300)


def cut_up(text: str, sizes: list[int]) -> list[str]:
    pieces, at, turn = [], 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)] if sizes else 1
        pieces.append(text[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


def held(text: str) -> int:
    """Longest end of the text with which the secret starts."""
    return next((k for k in range(min(len(SECRET), len(text)), 0, -1) if text.endswith(SECRET[:k])), 0)


def verdict_on(window: Window, action: Action = Action.BLOCK) -> Verdict:
    at = window.text.find(SECRET)
    touches_end = at >= 0 and at + len(SECRET) == len(window.text) and not window.final
    if at < 0 or touches_end:
        return ALLOW
    start = window.offset + at
    hit = Finding("words", "secret", 1.0, "content", Span(start, start + len(SECRET)))
    return Verdict(action, action, redactions=(hit,) if action is Action.REDACT else ())


def run(gate: Gate, pieces: list[str], early: list[bool], action: Action = Action.BLOCK) -> str:
    out = ""
    for index, piece in enumerate(pieces):
        gate.receive(Event(0, (("content", piece),), None))
        out += drain(gate, bool(early) and early[index % len(early)], action)
    gate.receive(Event(0, (), None, finish="stop"))
    gate.receive_end()
    return out + drain(gate, False, action)


def drain(gate: Gate, early: bool, action: Action) -> str:
    while (window := gate.next_window(early=early)) is not None:
        gate.receive_verdict(window, verdict_on(window, action), 0 if window.final else held(window.text))
    return "".join(text for event in gate.release() for _, text in event.texts)


sizes = st.lists(st.integers(1, 40), min_size=1, max_size=6)
flags = st.lists(st.booleans(), max_size=5)
modes = st.sampled_from([GateMode.HOLD, GateMode.FULL])


@given(texts, sizes, flags, modes)
def test_a_harmless_answer_gets_out_whole(
    text: str, chunks: list[int], early: list[bool], mode: GateMode
) -> None:
    gate = Gate(0, {"content": mode})
    assert run(gate, cut_up(text, chunks), early) == text
    assert gate.state is State.DONE
    assert gate.held == 0


@given(texts, texts, sizes, flags, modes)
def test_nothing_from_a_hit_on_gets_out(
    before: str, after: str, chunks: list[int], early: list[bool], mode: GateMode
) -> None:
    """Whatever the chunks and the timing: what got out is a prefix that ends before the hit."""
    gate = Gate(0, {"content": mode})
    out = run(gate, cut_up(before + SECRET + after, chunks), early)
    assert before.startswith(out)
    assert gate.state is State.CUT
    assert gate.release() == []


@given(texts, texts, sizes, flags)
def test_a_redaction_replaces_exactly_the_hit(
    before: str, after: str, chunks: list[int], early: list[bool]
) -> None:
    gate = Gate(0, {"content": GateMode.HOLD})
    out = run(gate, cut_up(before + SECRET + after, chunks), early, Action.REDACT)
    assert out == before + "[secret]" + after


@given(texts, sizes, sizes)
def test_the_grid_is_the_same_for_any_chunking(text: str, one: list[int], other: list[int]) -> None:
    def cuts(chunks: list[int]) -> set[int]:
        grid, found = Grid(), set()
        for piece in cut_up(text, chunks):
            for char in cut_up(piece, [1]):
                grid.receive(char)
                found.add(grid.last_cut)
        return found

    def last(chunks: list[int]) -> int:
        grid = Grid()
        for piece in cut_up(text, chunks):
            grid.receive(piece)
        return grid.last_cut

    assert last(one) == last(other)
    assert cuts(one) == cuts(other)


def test_the_first_window_is_short_and_cjk_counts_double() -> None:
    grid = Grid()
    grid.receive("a" * 31)
    assert grid.last_cut == 0
    grid.receive("a")
    assert grid.last_cut == 32
    japanese = Grid()
    japanese.receive("あ" * 16)
    assert japanese.last_cut == 16
    assert weight("あ\u200ba") == 3


def test_a_number_is_not_torn_but_a_sentence_ends() -> None:
    grid = Grid()
    grid.receive("Pi is 3.14")
    assert grid.last_cut == 0
    grid.receive("! Yes")
    assert grid.last_cut == 11


def test_async_lets_go_at_once_and_cuts_late() -> None:
    gate = Gate(0, {"content": GateMode.ASYNC})
    gate.receive(Event(0, (("content", "x" * 40),), None))
    assert len(gate.release()) == 1
    window = gate.next_window()
    assert window is not None
    gate.receive_verdict(window, BLOCK)
    gate.receive_verdict(window, ALLOW)
    gate.receive(Event(0, (("content", "more"),), None))
    assert gate.release() == []
    assert gate.state is State.CUT


def test_debounce_holds_one_suspect_window_and_cuts_at_the_second() -> None:
    suspect = Verdict(suspects=(("doubtful", 2),))
    gate = Gate(0, {"content": GateMode.HOLD})
    gate.receive(Event(0, (("content", "x" * 32),), None))
    gate.receive_verdict(_next(gate), suspect)
    assert gate.release() == []
    gate.receive(Event(0, (("content", "y" * 96),), None))
    gate.receive_verdict(_next(gate), suspect)
    assert gate.state is State.CUT


def test_a_suspect_window_is_let_go_when_the_next_one_is_clear() -> None:
    gate = Gate(0, {"content": GateMode.HOLD})
    gate.receive(Event(0, (("content", "x" * 32),), None))
    gate.receive_verdict(_next(gate), Verdict(suspects=(("doubtful", 2),)))
    gate.receive(Event(0, (("content", "y" * 96),), None))
    assert gate.waiting
    gate.receive_verdict(_next(gate), ALLOW)
    assert len(gate.release()) == 2


def test_a_channel_without_a_guard_passes_and_is_named() -> None:
    gate = Gate(0, {})
    gate.receive(Event(0, (("reasoning", "hm"),), None))
    assert gate.next_window() is None
    assert len(gate.release()) == 1
    assert gate.unjudged == {"reasoning"}
    gate.receive_end()
    gate.receive_end()
    assert gate.state is State.DONE
    assert gate.next_window() is None


def test_a_policy_may_refuse_what_nobody_judges() -> None:
    gate = Gate(0, {}, refuse_unjudged=True)
    gate.receive(Event(0, (("reasoning", "hm"),), None))
    assert gate.state is State.CUT


def test_one_window_of_a_lane_is_in_flight() -> None:
    gate = Gate(0, {"content": GateMode.HOLD})
    gate.receive(Event(0, (("content", "x" * 40),), None))
    assert gate.next_window() is not None
    assert gate.next_window() is None


def test_overlapping_redactions_of_two_windows_become_one() -> None:
    gate = Gate(0, {"content": GateMode.HOLD})
    gate.receive(Event(0, (("content", "x" * 40 + "\n"),), None))
    window = _next(gate)
    hits = (Finding("d", "a", 1.0, "p", Span(2, 6)), Finding("d", "b", 1.0, "p", Span(10, 12)))
    gate.receive_verdict(window, Verdict(Action.REDACT, Action.REDACT, redactions=hits), held=30)
    gate.receive(Event(0, (("content", "y" * 100),), None))
    again = (Finding("d", "a", 1.0, "p", Span(4, 8)),)
    gate.receive_verdict(_next(gate), Verdict(Action.REDACT, Action.REDACT, redactions=again))
    gate.receive_end()
    gate.receive_verdict(_next(gate), ALLOW)
    out = "".join(t for e in gate.release() for _, t in e.texts)
    assert out.startswith("xx[a]xx[b]xxx")


def _next(gate: Gate) -> Window:
    window = gate.next_window()
    assert window is not None
    return window


@settings(max_examples=30)
@given(st.integers(1, 5000))
def test_a_long_answer_is_shown_with_a_bounded_look_back(size: int) -> None:
    gate = Gate(0, {"content": GateMode.HOLD})
    longest = 0
    for piece in cut_up("word " * size, [50]):
        gate.receive(Event(0, (("content", piece),), None))
        while (window := gate.next_window()) is not None:
            longest = max(longest, len(window.text))
            gate.receive_verdict(window, ALLOW)
        gate.release()
    assert longest <= 2048 + 200


def test_a_last_suspect_window_is_let_go_for_want_of_a_next_one() -> None:
    gate = Gate(0, {"content": GateMode.HOLD})
    gate.receive(Event(0, (("content", "x" * 40),), None, finish="stop"))
    gate.receive_end()
    gate.receive_verdict(_next(gate), Verdict(suspects=(("doubtful", 2),)))
    assert len(gate.release()) == 1


def test_a_hit_at_the_end_of_a_window_waits_for_the_next() -> None:
    gate = Gate(0, {"content": GateMode.HOLD})
    gate.receive(Event(0, (("content", "x" * 32),), None))
    hit = Finding("d", "a", 1.0, "p", Span(30, 32))
    gate.receive_verdict(_next(gate), Verdict(Action.REDACT, Action.REDACT, redactions=(hit,)))
    assert gate.release() == []


def test_a_finish_waits_until_everything_is_judged() -> None:
    gate = Gate(0, {"content": GateMode.HOLD, "reasoning": GateMode.HOLD})
    gate.receive(Event(0, (("content", "x" * 32),), None))
    gate.receive_verdict(_next(gate), ALLOW)
    gate.receive(Event(0, (), None, finish="stop"))
    assert len(gate.release()) == 1
    gate.receive_end()
    assert gate.release() == []
    gate.receive_verdict(_next(gate), ALLOW)
    assert [e.finish for e in gate.release()] == ["stop"]
    assert weight("abc") == 3


def test_async_stays_open_while_windows_are_clear() -> None:
    gate = Gate(0, {"content": GateMode.ASYNC})
    gate.receive(Event(0, (("content", "x" * 40),), None))
    gate.receive_verdict(_next(gate), ALLOW)
    assert gate.state is State.OPEN


def test_a_channel_that_is_watched_beside_the_exchange_is_not_unjudged() -> None:
    gate = Gate(0, {}, watched=frozenset(("reasoning",)), refuse_unjudged=True)
    gate.receive(Event(0, (("reasoning", "hm"),), None))
    assert gate.unjudged == set()
    assert len(gate.release()) == 1
