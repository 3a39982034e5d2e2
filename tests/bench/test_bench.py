"""The load tools count right, and the report and its regression rule say what the figures say.

Measurements here are made up; none of them is a figure of any proxy.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import bodies, measure, report, rows, run, servers, tools
from tests.bench.bench import Bench
from tests.bench.figures import Figure, Report, Spread, regressions

needs_gcc = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="gcc is not installed: the load tools cannot be built"
)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    tools.build()
    server = servers.fakeup(tmp_path_factory.mktemp("fakeup"), "-s")
    yield server
    server.stop()


@needs_gcc
def test_json_answers_are_counted(upstream: servers.Server, tmp_path: Path) -> None:
    figures = tools.load(
        upstream.port, bodies.write(tmp_path, "json", max_tokens=20), connections=4, answers=100
    )
    assert figures["total"] == figures["done"] == figures["lat_n"] == 100
    assert figures["total_events"] == 0
    assert figures["rps"] > 0


@needs_gcc
def test_events_of_streams_are_counted_and_their_delays_read(
    upstream: servers.Server, tmp_path: Path
) -> None:
    body = bodies.stream(tmp_path, 30, 1000)
    figures = tools.load(upstream.port, body, connections=4, answers=12, events=30)
    assert (figures["total"], figures["total_events"]) == (12, 360)
    assert (figures["ttft_n"], figures["delay_n"]) == (12, 360)
    assert figures["lat_p50"] >= 29_000
    assert 0 < figures["delay_p50"] < 1_000_000


@needs_gcc
def test_a_stream_without_delays_arrives_whole(upstream: servers.Server, tmp_path: Path) -> None:
    figures = tools.load(
        upstream.port, bodies.stream(tmp_path, 20_000, 0), connections=2, answers=4, events=20_000
    )
    assert figures["total_events"] == 80_000


@needs_gcc
def test_a_wrong_number_of_events_is_a_failure(upstream: servers.Server, tmp_path: Path) -> None:
    with pytest.raises(tools.Failed, match="events: 3"):
        tools.load(upstream.port, bodies.stream(tmp_path, 3, 0), answers=2, events=4)


@needs_gcc
def test_idle_streams_are_held_until_told(upstream: servers.Server, tmp_path: Path) -> None:
    with tools.idle_streams(upstream.port, bodies.stream(tmp_path, 2, rows.HOURS_US), 50):
        pass


@needs_gcc
def test_guardproxy_is_measured_as_a_user_starts_it(tmp_path: Path) -> None:
    tools.build()
    with Bench(tmp_path, rounds=1, seconds=0.2) as bench:
        body = bodies.write(tmp_path, "json", max_tokens=20)
        rounds = bench.alternate(
            "P1", (rows.OPEN,), lambda name: bench.cost_us(bench.server(name), body, answers=50)
        )
    assert not bench.skipped
    assert rounds[rows.OPEN][0] > 1


def test_a_contender_that_is_missing_is_named(tmp_path: Path) -> None:
    def measured(name: str) -> float:
        if name == "absent":
            raise tools.Missing("absent is not installed")
        return 2.0

    with Bench(tmp_path, rounds=2, seconds=1, without=("slow",)) as bench:
        assert bench.alternate("P1", ("ours", "absent", "slow"), measured) == {"ours": [2.0, 2.0]}
    assert bench.skipped == {"absent": "absent is not installed", "slow": "left out of this run"}


def test_cpu_time_of_this_process_grows_with_work() -> None:
    before, spent = measure.cpu_us(os.getpid()), time.process_time()
    while time.process_time() - spent < 0.05:
        pass
    assert 40_000 < measure.cpu_us(os.getpid()) - before < 1_000_000
    assert measure.rss_kb(os.getpid()) > 1000


MADE_UP = Figure(
    "P1", "request", "µs", {"ours": [30.0, 10.0, 20.0], "nginx": [10.0, 10.0, 10.0]}, ("ours", "nginx"), 9, 2
)


def _report(*figures: Figure) -> Report:
    return Report(
        "make bench", "2000-01-01", 3, {"cores": "2"}, {"nginx": "1"}, list(figures), {"HAProxy": "not there"}
    )


def test_ratios_are_taken_within_each_round() -> None:
    assert MADE_UP.ratio_spread() == Spread(2.0, 1.0, 3.0)
    assert report.state(MADE_UP) == "goal met"


@pytest.mark.parametrize(
    ("ours", "worse"), [([20.0], False), ([23.9], False), ([24.1], True), ([5.0], False)]
)
def test_a_ratio_more_than_a_fifth_worse_is_a_regression(ours: list[float], worse: bool) -> None:
    recorded = json.loads(json.dumps(_report(MADE_UP).as_json()))
    now = Figure("P1", "request", "µs", {"ours": ours, "nginx": [10.0]}, ("ours", "nginx"))
    found = regressions([now], recorded)
    assert bool(found) is worse
    assert all("P1: request" in sentence for sentence in found)


def test_what_was_not_recorded_or_not_measured_is_no_regression() -> None:
    alone = Figure("P1", "request", "µs", {"ours": [99.0]}, ("ours", "nginx"))
    assert regressions([MADE_UP], {}) == []
    assert regressions([alone], _report(MADE_UP).as_json()) == []


def test_a_second_measurement_takes_the_place_of_the_first() -> None:
    again = Figure("P1", "request", "µs", {"ours": [11.0], "nginx": [10.0]}, ("ours", "nginx"))
    made = _report(MADE_UP)
    made.put([again])
    assert made.figures == [again]


def test_a_figure_that_is_only_reported_is_no_regression() -> None:
    one = Figure("P11", "workers", "1/s", {"two": [4.0], "one": [2.0]}, ("two", "one"), guarded=False)
    more = Figure("P11", "workers", "1/s", {"two": [9.0], "one": [2.0]}, ("two", "one"), guarded=False)
    assert regressions([more], _report(one).as_json()) == []


def test_the_page_says_what_was_measured_and_what_was_not() -> None:
    failed = Figure("P7", "picture", "ms", {"JPEG": [70.0]}, None, 60, 35, "made up")
    page = report.markdown(_report(MADE_UP, failed))
    assert "| P1 | request | 2 [1 to 3] (over nginx) | ≤ 9 | ≤ 2 | goal met |" in page
    assert "| P7 | picture | 70 [70 to 70] ms | ≤ 60 | ≤ 35 | **not met** |" in page
    assert "| P2 | | | | | not measured |" in page
    assert "- HAProxy: not there" in page
    assert "- P7: made up" in page


def test_the_machine_is_described_without_its_name() -> None:
    facts = " ".join(run.machine().values())
    assert os.uname().nodename not in facts
    assert "/" not in facts.replace(", ", "")
