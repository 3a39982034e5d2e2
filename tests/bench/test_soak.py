"""A short soak, and the slope of its memory."""

from __future__ import annotations

from random import Random

import pytest

from tests.bench import soak


@pytest.mark.slow
def test_a_short_soak_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--minutes", "0.25", "--streams", "40", "--seed", "3"]) == 0, capsys.readouterr().out
    told = capsys.readouterr().out
    assert "0 left running" in told
    assert told.endswith("passed\n")


def test_a_slope_is_found_with_its_interval() -> None:
    pick = Random(1)
    grows = [(m / 10, 1000 + 5 * m / 10 + pick.gauss(0, 3)) for m in range(200)]
    found = soak.slope(grows)
    assert found.low < 5 < found.high
    assert found.low > 3
    flat = soak.slope([(m / 10, 1000 + pick.gauss(0, 3)) for m in range(200)])
    assert flat.low < 0.1
    assert flat.high > -0.1


def test_a_ledger_that_differs_is_no_agreement() -> None:
    ledger = soak.Ledger()
    ledger.note("answered", right=True, said=b"")
    told = {"answered": 1.0, "others": 0.0}
    assert soak.Result(ledger, told, 0, 0, [], 0, 0).agrees
    assert not soak.Result(ledger, {**told, "others": 1.0}, 0, 0, [], 0, 0).agrees
    ledger.note("answered", right=False, said=b"x")
    assert not soak.Result(ledger, {"answered": 2.0, "others": 0.0}, 0, 0, [], 0, 0).agrees
