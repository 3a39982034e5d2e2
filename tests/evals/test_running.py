"""Nothing is asked twice, nothing is lost, and no arm is measured under another's name."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from guardproxy.errors import EvalError
from guardproxy.evals.answer import Answer
from guardproxy.evals.arms import parse
from guardproxy.evals.rundir import Labelled, Manifest, RunDir
from guardproxy.evals.running import HOPELESS, Plan, Run
from tests.evals.scripted import Memory, case, drawing, items, png_of, suite

CASES = [*items(3, 3), case("shown", pictures=(drawing("a"),))]


class Counting:
    """Answers everything, and counts; every third answer is a fault if asked for."""

    def __init__(
        self, *, faults: bool = False, stop_after: int | None = None, policy: str | None = "same"
    ) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.running = self.most = 0
        self._faults, self._stop_after, self._policy = faults, stop_after, policy

    async def ask(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        self.bodies.append(body)
        count = len(self.bodies)
        if self._stop_after is not None and count > self._stop_after:
            raise KeyboardInterrupt
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.001)
        self.running -= 1
        if self._faults and count % 3 == 0:
            return Answer("", "", 0, 0, 1.0, "timeout", "slow")
        policy = headers.get("x-guardproxy-use-policy") if self._policy == "same" else self._policy
        return Answer("", "", 0, 200, 1.0, content=f"answer {count}", policy=policy)


def plan(**more: Any) -> Plan:
    return Plan(CASES, parse("arm-none,arm-none+black-image"), "m", **more)


def run(asker: Counting, rundir: RunDir, concurrency: int = 4) -> int:
    journal = rundir.journal("answers")
    try:
        return asyncio.run(Run(plan(), asker, journal, png_of, concurrency).ask_missing(rundir.answers()))
    finally:
        journal.close()


def begun(folder: Path, **changes: Any) -> RunDir:
    fields: dict[str, Any] = {
        "suite": "s", "suite_version": "v", "licence": "", "target": "t", "model": "m", "arms": ("a", "b"), "repeats": 1,
        "temperature": 0.0, "max_tokens": 9, "planned": 13, "guardproxy": "0", "started": "now",
    }  # fmt: skip
    rundir = RunDir(folder / "run")
    rundir.begin(Manifest(**{**fields, **changes}), suite(CASES))
    return rundir


def test_every_case_is_asked_once_in_every_arm_that_asks_it(tmp_path: Path) -> None:
    asker, rundir = Counting(), begun(tmp_path)
    assert run(asker, rundir) == len(rundir.answers()) == 13
    assert {a.arm for a in rundir.answers().values() if a.case == "shown"} == {"arm-none"}
    assert 1 < asker.most <= 4


def test_an_interrupted_run_asks_only_the_rest(tmp_path: Path) -> None:
    rundir, first, second = begun(tmp_path), Counting(stop_after=5), Counting()
    with pytest.raises(KeyboardInterrupt):
        run(first, rundir, concurrency=1)
    before = rundir.answers()
    assert len(before) == 5
    assert run(second, rundir) == 8
    assert before.items() <= rundir.answers().items()
    assert len(rundir.answers()) == 13
    assert run(Counting(), rundir) == 0


def test_errors_are_asked_again_and_replaced(tmp_path: Path) -> None:
    rundir = begun(tmp_path)
    run(Counting(faults=True), rundir)
    bad = {k for k, a in rundir.answers().items() if a.is_error}
    assert len(bad) == 4
    again = Counting()
    assert run(again, rundir) == 4
    assert not any(a.is_error for a in rundir.answers().values())


def test_a_line_cut_short_is_asked_again(tmp_path: Path) -> None:
    """As when the power fails in the middle of a write."""
    rundir = begun(tmp_path)
    run(Counting(), rundir)
    path = rundir.path / "answers.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert len(rundir.answers()) == 12
    assert run(Counting(), rundir) == 1
    assert len(rundir.answers()) == 13


def test_a_broken_line_elsewhere_is_named(tmp_path: Path) -> None:
    rundir = begun(tmp_path)
    run(Counting(), rundir)
    path = rundir.path / "answers.jsonl"
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(EvalError, match=r"answers\.jsonl:1: not a line of this file"):
        rundir.answers()


def test_two_runs_do_not_write_to_one_directory(tmp_path: Path) -> None:
    rundir = begun(tmp_path)
    first = rundir.journal("answers")
    with pytest.raises(EvalError, match="another run is writing"):
        rundir.journal("answers")
    first.close()
    rundir.journal("answers").close()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("suite_version", "w"),
        ("target", "u"),
        ("arms", ("a",)),
        ("model", "n"),
        ("repeats", 2),
        ("temperature", 1.0),
    ],
)
def test_a_run_is_resumed_only_with_the_same_questions(tmp_path: Path, field: str, value: object) -> None:
    begun(tmp_path)
    begun(tmp_path, started="later", guardproxy="1")
    with pytest.raises(EvalError, match=f"begun with {field}"):
        begun(tmp_path, **{field: value})


def test_a_directory_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(EvalError, match=r"run\.json"):
        RunDir.opened(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(EvalError, match="not a run's manifest"):
        RunDir.opened(tmp_path).manifest()


@pytest.mark.parametrize(
    ("served", "told"), [("default", "served by policy default"), (None, "no guardproxy")]
)
def test_an_arm_served_by_another_policy_ends_the_run(tmp_path: Path, served: str | None, told: str) -> None:
    """A proxy that does not know the header would otherwise give five equal arms."""
    rundir = begun(tmp_path)
    with pytest.raises(EvalError, match=told):
        run(Counting(policy=served), rundir)
    assert rundir.answers() == {}


def test_a_target_that_only_fails_ends_the_run() -> None:
    class Failing(Counting):
        async def ask(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
            self.bodies.append(body)
            return Answer("", "", 0, 0, 1.0, "transport", "ConnectError")

    asker, memory = Failing(), Memory()
    with pytest.raises(EvalError, match=r"errors in a row.*ConnectError.*resume"):
        asyncio.run(Run(plan(repeats=9), asker, memory, png_of, 1).ask_missing({}))
    assert len(asker.bodies) == len(memory.answers) == HOPELESS


def test_an_answer_under_way_when_a_run_gives_up_is_kept() -> None:
    class Late(Counting):
        async def ask(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
            self.bodies.append(body)
            if len(self.bodies) > 1:
                return Answer("", "", 0, 0, 1.0, "transport", "ConnectError")
            await asyncio.sleep(0.05)
            policy = headers.get("x-guardproxy-use-policy")
            return Answer("", "", 0, 200, 1.0, content="late", policy=policy)

    asker, memory = Late(), Memory()
    with pytest.raises(EvalError, match="errors in a row"):
        asyncio.run(Run(plan(repeats=9), asker, memory, png_of, 2).ask_missing({}))
    assert [a.content for a in memory.answers if not a.is_error] == ["late"]
    assert len(asker.bodies) == HOPELESS + 1


def test_repeats_are_asked_with_seeds_of_their_own() -> None:
    asker, memory = Counting(), Memory()
    asyncio.run(Run(plan(repeats=3, temperature=1.0), asker, memory, png_of).ask_missing({}))
    assert len(memory.answers) == 39
    assert {b["seed"] for b in asker.bodies} == {0, 1, 2}
    assert len({a.key for a in memory.answers}) == 39
    assert json.dumps(asker.bodies[0])


def test_a_picture_is_drawn_once_for_all_arms_and_repeats() -> None:
    drawn: list[object] = []

    def draw(picture: object) -> bytes:
        drawn.append(picture)
        return b"png"

    both = Plan(CASES, parse("arm-none,arm-all"), "m", repeats=2)
    asyncio.run(Run(both, Counting(), Memory(), draw, 1).ask_missing({}))
    assert len(drawn) == 1


def test_what_people_said_is_kept_line_by_line(tmp_path: Path) -> None:
    rundir = begun(tmp_path)
    journal = rundir.journal("human")
    journal.append([Labelled("a", "b", 0, "human", "refused")])
    journal.close()
    assert rundir.labels("human") == [Labelled("a", "b", 0, "human", "refused")]
    assert rundir.labels() == []
    assert [c.id for c in rundir.cases()] == [c.id for c in CASES]
