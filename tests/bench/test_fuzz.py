"""A short run of the fuzzer, and that it finds what it is there to find."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from guardproxy.core.canonical import SpecialTokens
from guardproxy.outward import Outward
from guardproxy.wire import chat
from tests.bench import fuzz, sent
from tests.bench.grammar import DIALECTS, Grammar


def run(cases: int = 400, seed: int = 7) -> fuzz.Bench:
    return asyncio.run(fuzz.run(cases, seed, fuzz.void))


def test_a_short_run_finds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--cases", "3000", "--seed", "5"]) == 0, capsys.readouterr().out
    told = capsys.readouterr().out
    assert "3000 cases" in told
    assert "0 faults" in told
    assert "http 200" in told


def test_the_same_seed_gives_the_same_cases() -> None:
    one, same, other = Grammar(3), Grammar(3), Grammar(4)
    first = [one.case() for _ in range(50)]
    assert first == [same.case() for _ in range(50)]
    assert first != [other.case() for _ in range(50)]
    assert {d for d, _ in first} == set(DIALECTS)


def test_many_cases_are_served() -> None:
    """Else nothing is fuzzed but the parser."""
    outcomes = run(1000).outcomes
    assert outcomes["answered"] > 200
    assert outcomes["blocked"] > 10
    assert outcomes["answer told"] > 50


def test_a_control_token_that_passes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpecialTokens, "neutralise_request", lambda self, request: request)
    assert any("control token" in f for f in run().faults)


def test_a_text_that_no_guard_saw_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = fuzz.Witness.detect

    async def blind(self: fuzz.Witness, content: Any) -> Any:
        found = await seen(self, content)
        self.seen.pop()
        return found

    monkeypatch.setattr(fuzz.Witness, "detect", blind)
    assert any("unjudged text" in f for f in run().faults)


def test_a_hit_that_gets_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outward, "_held", lambda *_: 0)
    assert any("forbidden word" in f for f in run(3000).faults)


def test_a_bug_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(chat, "last_is_asked", broken)
    assert any("ZeroDivisionError" in f for f in run().faults)


def test_a_field_that_is_none_of_the_upstreams_is_found() -> None:
    good = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    assert sent.faults("chat", json.dumps(good).encode(), "hi") == []
    turn = {**good["messages"][0], "uuid": "x"}  # type: ignore[dict-item]
    for bad in ({**good, "echo": True}, {**good, "messages": [turn]}, {**good, "temperature": [1]}):
        assert any("unknown field" in f for f in sent.faults("chat", json.dumps(bad).encode(), "hi x"))


def test_leaks_are_seen_whole_and_in_pieces() -> None:
    def event(**fields: Any) -> bytes:
        return b"data: " + json.dumps(fields).encode() + b"\n\n"

    assert fuzz.leaks(event(delta="a Xylophonist b"))
    assert fuzz.leaks(event(delta="xylo") + event(delta="phonist") + b"data: [DONE]\n\n")
    assert fuzz.leaks(b'{"xylophonist": 1}')
    assert not fuzz.leaks(event(delta="xylo", text="phonist"))
