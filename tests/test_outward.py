"""The way out as a whole: whatever the chunks, choices, channels, windows and times, nothing flagged gets out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.core import grid
from guardproxy.core.content import Segment
from guardproxy.core.gate import Event, State
from guardproxy.core.policy import (
    OUTPUT_KINDS,
    Bilingual,
    Block,
    GateMode,
    Guard,
    ImageLimits,
    Mode,
    Policy,
)
from guardproxy.core.verdict import Action, Finding, Stage, Verdict
from guardproxy.detectors.base import Content, Resources
from guardproxy.detectors.patterns import Patterns, build
from guardproxy.outward import Outward, Plan

NAMED = {
    "patterns": [
        {"id": "p", "text": "Blue Heron"}, {"id": "j", "text": "青鷺計画"}, {"id": "n", "regex": r"\d{3}-\d{4}"},
        {"id": "w", "text": "ab"},
    ]
}  # fmt: skip
HITS = ["blue heron", "Blue\n Heron", "ＢＬＵＥ ＨＥＲＯＮ", "blu\u200be heron", "青鷺計画", "555-1234", "ab"]


class Slow:
    """The same patterns, answered later: a guard that does not stand in line."""

    name, version, inline = "patterns", "1", False

    def __init__(self, patterns: Patterns, turns: int) -> None:
        self._patterns, self._turns = patterns, turns
        self.held_suffix = patterns.held_suffix

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        for _ in range(self._turns):
            await asyncio.sleep(0)
        return await self._patterns.detect(content)


@dataclass(frozen=True)
class Setting:
    """How an answer comes, and how it is held."""

    mode: GateMode
    slow: int
    cuts: tuple[int, int, int]
    early: tuple[bool, ...]
    pause: tuple[int, ...]

    def plan(self) -> Plan:
        guards = tuple(
            Guard(name, Stage.OUTPUT, "patterns", kinds, 0.5, Action.BLOCK, budget_ms=60_000)
            for name, kinds in (("said", ("content", "refusal")), ("other", ("reasoning", "tool_arguments")))
        )
        block = Block("error", Bilingual("no", "不可"))
        policy = Policy("p", "v", Mode.ENFORCE, self.mode, False, ImageLimits(), (), guards, block)
        patterns = build(NAMED, Resources())
        assert isinstance(patterns, Patterns)
        return Plan.of(policy, {g.name: Slow(patterns, self.slow) if self.slow else patterns for g in guards})


class Told:
    """Takes every verdict."""

    def __init__(self, record: Callable[[Verdict], None]) -> None:
        self.hits: set[str] = set()
        self._record = record

    def timed(self, _detector: str, _seconds: float, /) -> None:
        return

    def judged(self, _stage: Stage, verdict: Verdict) -> None:
        self._record(verdict)


@contextmanager
def windows(cuts: tuple[int, int, int]) -> Iterator[None]:
    """Other window sizes for a while."""
    names = ("FIRST_CUT", "NEXT_CUT", "SENTENCE_CUT")
    usual = [getattr(grid, n) for n in names]
    try:
        for name, value in zip(names, cuts, strict=True):
            setattr(grid, name, value)
        yield
    finally:
        for name, value in zip(names, usual, strict=True):
            setattr(grid, name, value)


settings_ = st.builds(
    Setting,
    st.sampled_from([GateMode.HOLD, GateMode.FULL]),
    st.integers(0, 4),
    st.tuples(st.integers(1, 64), st.integers(1, 128), st.integers(1, 96)),
    st.lists(st.booleans(), min_size=1, max_size=5).map(tuple),
    st.lists(st.integers(0, 5), min_size=1, max_size=5).map(tuple),
)
noise = st.text("blue hron \n。.青鷺1-\u0301\u200bЬа🙂", max_size=60)
harmless = st.text("xyz \n。.、いろは漢字🙂\u0301", max_size=120)
lanes = st.tuples(st.integers(0, 2), st.sampled_from(OUTPUT_KINDS))


@st.composite
def answers(draw: st.DrawFn, text: st.SearchStrategy[str]) -> list[Event]:
    """The events of an answer: some lanes, each in pieces, interleaved, several channels in one event at times."""
    said = draw(st.dictionaries(lanes, text, min_size=1, max_size=5))
    pieces: list[tuple[tuple[int, str], str]] = []
    for lane, whole in said.items():
        size = draw(st.integers(1, 30))
        pieces += [(lane, whole[i : i + size]) for i in range(0, len(whole), size)]
    order = draw(st.permutations(range(len(pieces)))) if len(pieces) < 40 else range(len(pieces))
    queues: dict[tuple[int, str], list[str]] = {}
    for lane, piece in pieces:
        queues.setdefault(lane, []).append(piece)
    events: list[Event] = []
    for index in order:
        lane = pieces[index][0]
        events.append(Event(lane[0], ((lane[1], queues[lane].pop(0)),), None))
    choices = sorted({lane[0] for lane in said})
    return [*events, *(Event(choice, (), None, finish="stop") for choice in choices)]


async def run(
    events: list[Event], setting: Setting
) -> tuple[dict[tuple[int, str], str], list[Event], Outward]:
    """What got out of each lane, the events that got out, and the way out at its end."""
    out: list[Event] = []

    def recorded(_: Verdict) -> None:
        return

    outward = Outward(setting.plan(), Content((), "q"), Told(recorded), lambda: None)
    for index, event in enumerate(events):
        outward.receive(event)
        await outward.judge(early=setting.early[index % len(setting.early)])
        for _ in range(setting.pause[index % len(setting.pause)]):
            await asyncio.sleep(0)
        outward.raise_faults()
        out += outward.release()
    outward.receive_end()
    await outward.judge()
    await outward.settle()
    out += outward.release()
    outward.close()
    released: dict[tuple[int, str], str] = {}
    for event in out:
        for channel, text in event.texts:
            lane = (event.choice, channel)
            released[lane] = released.get(lane, "") + text
    return released, out, outward


def said_by(events: list[Event]) -> dict[tuple[int, str], str]:
    said: dict[tuple[int, str], str] = {}
    for event in events:
        for channel, text in event.texts:
            said[event.choice, channel] = said.get((event.choice, channel), "") + text
    return said


def first_hit(text: str) -> int | None:
    """Where the first hit in a whole text starts."""
    found = asyncio.run(build(NAMED, Resources()).detect(Content((Segment("content", "c", text),))))
    return min((f.span.start for f in found if f.span is not None), default=None)


with_hits = st.lists(noise | st.sampled_from(HITS), min_size=1, max_size=5).map("".join)


@settings(max_examples=300)
@given(answers(with_hits), settings_)
def test_34_nothing_from_a_hit_on_gets_out(events: list[Event], setting: Setting) -> None:
    """In no choice and no channel: what got out is a prefix that ends before the lane's first hit."""
    with windows(setting.cuts):
        released, out, outward = asyncio.run(run(events, setting))
    hits = {lane: first_hit(text) for lane, text in said_by(events).items()}
    for lane, text in said_by(events).items():
        end = hits[lane]
        assert text.startswith(released.get(lane, ""))
        assert len(released.get(lane, "")) <= (len(text) if end is None else end)
    bad = {choice for (choice, _), at in hits.items() if at is not None}
    assert set(outward.cut_choices) == bad
    assert {e.choice for e in out if e.finish} == {e.choice for e in events} - bad
    for choice in {e.choice for e in events} - bad:
        assert outward.gates[choice].state is State.DONE


@settings(max_examples=200)
@given(answers(harmless), settings_)
def test_36_with_guards_allowing_the_answer_is_the_upstreams(events: list[Event], setting: Setting) -> None:
    """The same events, in the same order within each choice, and over all choices in a sensible one."""
    with windows(setting.cuts):
        released, out, outward = asyncio.run(run(events, setting))
    assert released == {lane: text for lane, text in said_by(events).items() if text}
    for choice in {e.choice for e in events}:
        assert [e for e in out if e.choice == choice] == [e for e in events if e.choice == choice]
    assert not outward.cut_choices
    assert outward.held == 0
