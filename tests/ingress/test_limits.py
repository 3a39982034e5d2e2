"""A key's limits hold over all workers, and a worker that died takes its count with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from guardproxy.ingress.limits import Ledger
from guardproxy.keys import Client, KeyLimits


def client(name: str = "app", **limits: int) -> Client:
    return Client(name, limits=KeyLimits(**limits))


@given(
    st.integers(1, 20), st.lists(st.floats(0, 30, allow_nan=False), max_size=60), st.integers(0, 1_000_000)
)
def test_no_minute_holds_more_than_a_bucket_and_its_refill(
    limit: int, gaps: list[float], start: float
) -> None:
    ledger, who, now, taken = Ledger(), client(requests_per_minute=limit), float(start), []
    for gap in gaps:
        now += gap
        left = ledger.remaining(who, now)
        refused = ledger.enter(who, now)
        assert (refused is None) == (left >= 1)
        if refused is None:
            taken.append(now)
        else:
            assert 0 < refused.wait_s <= 60 / limit + 1e-6
    for first in taken:
        assert sum(first <= t < first + 60 for t in taken) <= 2 * limit
    ledger.close()


def test_waiting_as_long_as_told_is_enough() -> None:
    ledger, who = Ledger(), client(requests_per_minute=3)
    assert [ledger.enter(who, 100.0) for _ in range(3)] == [None] * 3
    refused = ledger.enter(who, 100.0)
    assert refused is not None
    assert refused.limit == "requests_per_minute"
    assert ledger.enter(who, 100.0 + refused.wait_s) is None


def test_bytes_fill_a_bucket_too() -> None:
    ledger, who = Ledger(), client(body_bytes_per_minute=1000)
    assert ledger.take_bytes(who, 1000, 0.0) is None
    refused = ledger.take_bytes(who, 500, 0.0)
    assert refused is not None
    assert refused.wait_s == pytest.approx(30)
    assert ledger.take_bytes(who, 500, 30.0) is None


def test_workers_share_what_a_key_may_use(tmp_path: Path) -> None:
    first, second = (Ledger(tmp_path / "limits", n, 2) for n in (0, 1))
    who = client(concurrent=2, requests_per_minute=3)
    assert first.enter(who, 0.0) is None
    assert second.enter(who, 0.0) is None
    for ledger in (first, second):
        refused = ledger.enter(who, 0.0)
        assert refused is not None
        assert refused.limit == "concurrent"
    first.leave(who)
    assert second.enter(who, 0.0) is None
    second.leave(who)
    refused = first.enter(who, 0.0)
    assert refused is not None
    assert refused.limit == "requests_per_minute"


def test_a_worker_that_is_replaced_holds_no_exchanges(tmp_path: Path) -> None:
    open_ledger: Callable[[int], Ledger] = lambda n: Ledger(tmp_path / "limits", n, 2)  # noqa: E731 - a shorthand
    first, second, who = open_ledger(0), open_ledger(1), client(concurrent=2)
    assert first.enter(who, 0.0) is None
    assert second.enter(who, 0.0) is None
    open_ledger(1)  # in its place after it died
    assert first.enter(who, 0.0) is None
    assert first.enter(who, 0.0) is not None


def test_names_do_not_share_a_bucket() -> None:
    ledger = Ledger()
    for n in range(300):
        assert ledger.enter(client(f"key-{n}", requests_per_minute=1), 0.0) is None
    for n in range(300):
        assert ledger.enter(client(f"key-{n}", requests_per_minute=1), 0.0) is not None


def test_a_full_table_still_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guardproxy.ingress.limits.SLOTS", 4)
    ledger = Ledger()
    entered = [ledger.enter(client(f"key-{n}", requests_per_minute=1), 0.0) for n in range(12)]
    assert sum(one is None for one in entered) >= 4
    assert ledger.enter(client("key-0", requests_per_minute=1), 0.0) is not None
