"""A failing server is left alone, then tried with one request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.detectors.breaker import LONGEST_OPEN_S, Breaker, State


def opened(told: list[State] | None = None) -> Breaker:
    breaker = Breaker(2, 5.0, (told if told is not None else []).append)
    for _ in range(2):
        assert breaker.admit(0.0)
        breaker.failed(0.0)
    assert breaker.state is State.OPEN
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(2, 5.0, lambda _: None)
    for end in (breaker.failed, lambda _: breaker.succeeded(), breaker.failed):
        assert breaker.admit(0.0)
        end(0.0)
    assert breaker.state is State.CLOSED
    breaker.admit(0.0)
    breaker.failed(0.0)
    assert breaker.state is State.OPEN


def test_one_trial_after_its_time_decides() -> None:
    told: list[State] = []
    breaker = opened(told)
    assert not breaker.admit(4.9)
    assert breaker.admit(5.0)
    assert not breaker.admit(5.0), "one trial at a time"
    breaker.succeeded()
    assert breaker.admit(5.1)
    assert told == [State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_a_failed_trial_doubles_the_time_up_to_the_longest() -> None:
    breaker, now, waits = opened(), 0.0, []
    for _ in range(6):
        waited = 0.5
        while not breaker.admit(now + waited):
            waited += 0.5
        waits.append(waited)
        now += waited
        breaker.failed(now)
    assert waits == [5, 10, 20, 40, LONGEST_OPEN_S, LONGEST_OPEN_S]


def test_a_trial_that_says_nothing_gives_the_trial_to_the_next() -> None:
    breaker = opened()
    assert breaker.admit(5.0)
    breaker.told_nothing()
    assert breaker.state is State.HALF_OPEN
    assert breaker.admit(5.0)


def test_what_began_before_it_opened_does_not_keep_it_open() -> None:
    breaker = opened()
    breaker.failed(4.0)
    assert breaker.admit(5.0)


def test_a_server_seen_alive_is_tried_and_one_not_alive_is_not() -> None:
    breaker = opened()
    breaker.half_open()
    assert breaker.state is State.HALF_OPEN
    breaker.not_alive(6.0)
    assert not breaker.admit(15.9)
    assert breaker.admit(16.0)
    breaker.not_alive(16.0)
    assert breaker.state is State.HALF_OPEN, "the trial decides"
    breaker.succeeded()
    breaker.half_open()
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("failures", [1, 3])
@given(steps=st.lists(st.tuples(st.sampled_from(["ok", "bad", "gone"]), st.floats(0, 30)), max_size=60))
def test_it_never_stays_shut_for_longer_than_its_longest_time(
    failures: int, steps: list[tuple[str, float]]
) -> None:
    breaker, now = Breaker(failures, 1.0, lambda _: None), 0.0
    for end, wait in steps:
        now += wait
        if not breaker.admit(now):
            continue
        {"ok": breaker.succeeded, "bad": lambda: breaker.failed(now), "gone": breaker.told_nothing}[end]()  # noqa: B023 - called at once
    assert breaker.admit(now + LONGEST_OPEN_S)
