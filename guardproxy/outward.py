"""The way out: answer events go into the gates, windows to the detectors, judged events out."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from guardproxy.core.content import Segment
from guardproxy.core.gate import Event, Gate, State, Window, channel_of
from guardproxy.core.judge import judge_guards
from guardproxy.core.policy import GateMode, Guard, Mode, Policy, Repair
from guardproxy.core.redact import stays_json
from guardproxy.core.verdict import Action, Finding, Span, Stage, Verdict
from guardproxy.detectors.base import Content, Detector
from guardproxy.detectors.observe import Timed, observe

_ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\(.)", re.DOTALL)
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
"""Escapes of one character (RFC 8259, section 7) that do not stand for themselves."""

MAX_WATCHED_CHARS = 100_000
"""Characters of each channel that watching guards and the refusal count are shown."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A policy's output side, worked out once when it is loaded.

    Attributes:
        by_channel: The acting guards of each channel.
        modes: The gate mode of each of those channels.
        inline: Channels whose guards all answer in place.
        watched: Channels that any guard looks at, acting or watching.
        looked_at_input: Kinds of content of a request that any guard looks at.
        acting_input: The acting guards that stand before the model.
        concurrent_input: Those that are asked while the model begins its answer.
        watching: The guards of each stage that only watch.
        watches_inline: Whether the guards that only watch, on both sides, all answer in place.
    """

    policy: Policy
    detectors: Mapping[str, Detector]
    by_channel: Mapping[str, tuple[Guard, ...]]
    modes: dict[str, GateMode]
    inline: frozenset[str]
    watched: frozenset[str]
    looked_at_input: frozenset[str]
    acting_input: tuple[Guard, ...]
    concurrent_input: tuple[Guard, ...]
    watching: Mapping[Stage, tuple[Guard, ...]]
    watches_inline: bool

    @property
    def reads_pictures(self) -> bool:
        """Whether any guard looks at the text in pictures."""
        return "image_text" in self.looked_at_input

    @property
    def refuses_unjudged(self) -> bool:
        """Whether text on a channel that no guard looks at cuts the answer."""
        return self.policy.unjudged_refused and self.policy.mode is Mode.ENFORCE

    def repair_of(self, verdict: Verdict) -> Repair:
        """How the first guard that wants a repair wants it; a combination gives the template."""
        guards = {g.name: g for g in self.policy.guards}
        wanting = (guards.get(one.guard) for one in verdict.guards if one.action is Action.REPAIR)
        return next((g.repair for g in wanting if g is not None), Repair.TEMPLATE)

    @classmethod
    def of(cls, policy: Policy, detectors: Mapping[str, Detector]) -> Plan:
        """The plan of a policy."""
        acting = policy.acting(Stage.OUTPUT)
        channels = {c for g in acting for c in g.looks_at}
        by_channel = {c: tuple(g for g in acting if c in g.looks_at) for c in channels}
        # A call's arguments are held until they are complete: half a JSON text cannot be judged.
        modes = {c: GateMode.FULL if c == "tool_arguments" else policy.gate for c in channels}
        inline = frozenset(
            c for c, guards in by_channel.items() if all(detectors[g.name].inline for g in guards)
        )
        watching = {stage: policy.watching(stage) for stage in Stage}
        return cls(
            policy,
            detectors,
            by_channel,
            modes,
            inline,
            policy.looked_at(Stage.OUTPUT),
            policy.looked_at(Stage.INPUT),
            tuple(g for g in policy.acting(Stage.INPUT) if not g.concurrent),
            tuple(g for g in policy.acting(Stage.INPUT) if g.concurrent),
            watching,
            all(detectors[g.name].inline for guards in watching.values() for g in guards),
        )


class Told(Protocol):
    """Who is told what is observed of an exchange; see `account.Account`.

    Attributes:
        hits: Names of the guards that hit in this exchange so far.
    """

    hits: set[str]

    @property
    def timed(self) -> Timed:
        """Told how long each detector took."""

    def judged(self, stage: Stage, verdict: Verdict) -> None:
        """A verdict came in."""


class Outward:
    """The gates of one answer and the judging of their windows.

    Args:
        plan: Of the policy that the exchange started with.
        asked: The question that the answer is judged against, and the exchange's memo.
        told: Told every verdict.
        wake: Called when a verdict came in while the driver waits for the upstream.

    Attributes:
        texts: What the model said, by choice and lane.
        repairs: Of each choice that was cut for a repair before its first character left: the verdict.
    """

    def __init__(
        self,
        plan: Plan,
        asked: Content,
        told: Told,
        wake: Callable[[], None],
    ) -> None:
        self.gates: dict[int, Gate] = {}
        self.unavailable: set[int] = set()
        self.texts: dict[tuple[int, str], list[str]] = {}
        self.repairs: dict[int, Verdict] = {}
        self._plan = plan
        self._asked = asked
        self._told = told
        self._wake = wake
        self._tasks: set[asyncio.Task[None]] = set()
        self._watched: dict[tuple[int, str], int] = {}
        self._arrived = 0

    def receive(self, event: Event) -> bool:
        """Take one event of the upstream; whether there is something to judge or to release by it."""
        self._arrived += 1
        for lane, text in event.texts:
            channel = event.choice, channel_of(lane)
            seen = self._watched.get(channel, 0)
            if seen < MAX_WATCHED_CHARS:
                self._watched[channel] = seen + len(text)
                self.texts.setdefault((event.choice, lane), []).append(text)
        gate = self.gates.get(event.choice)
        if gate is None:
            plan = self._plan
            gate = Gate(event.choice, plan.modes, watched=plan.watched, refuse_unjudged=plan.refuses_unjudged)
            self.gates[event.choice] = gate
        event.number = self._arrived
        is_news = gate.receive(event)
        if event.finish is not None:
            gate.receive_end()
        return is_news

    def receive_end(self) -> None:
        """The upstream is done with every choice."""
        for gate in self.gates.values():
            gate.receive_end()

    async def judge(self, *, early: bool = False) -> None:
        """Judge what the gates hand out: in place where it is quick, else in a task."""
        for gate in self.gates.values():
            while (window := gate.next_window(early=early)) is not None:
                if window.channel in self._plan.inline:
                    await self._judge(gate, window)
                else:
                    task = asyncio.create_task(self._judge(gate, window))
                    self._tasks.add(task)
                    task.add_done_callback(self._judged)

    def _judged(self, _task: asyncio.Task[None]) -> None:
        self._wake()

    def raise_faults(self) -> None:
        """Raise what a judging task raised: a bug ends the answer closed."""
        for task in [t for t in self._tasks if t.done()]:
            self._tasks.discard(task)
            task.result()

    async def settle(self) -> None:
        """Wait until no window is in flight."""
        while self._tasks:
            await asyncio.wait(self._tasks)
            self.raise_faults()
            await self.judge()

    def release(self) -> list[Event]:
        """Events of all choices that may go out, in the order in which they came."""
        gates = self.gates
        if len(gates) == 1:
            return next(iter(gates.values())).release()
        out = [event for gate in gates.values() for event in gate.release()]
        out.sort(key=lambda event: event.number)
        return out

    @property
    def in_flight(self) -> bool:
        """Whether a verdict is still to come."""
        return bool(self._tasks)

    @property
    def waiting(self) -> bool:
        """Whether text waits that no window has covered."""
        return any(g.waiting and g.state is State.OPEN for g in self.gates.values())

    @property
    def held(self) -> int:
        """Characters held back."""
        return sum(g.held for g in self.gates.values())

    @property
    def cuts(self) -> int:
        """Choices that were cut."""
        return len(self.cut_choices)

    @property
    def cut_choices(self) -> list[int]:
        """Which choices were cut."""
        return [index for index, gate in self.gates.items() if gate.state is State.CUT]

    @property
    def exposed(self) -> list[int]:
        """Characters of each choice that was cut which had been released by then."""
        return [self.gates[index].released for index in self.cut_choices]

    @property
    def is_told(self) -> bool:
        """Whether every choice is done or cut and nothing of them is held."""
        return self.ended and self.held == 0

    @property
    def finished(self) -> bool:
        """Whether the upstream has finished every choice."""
        return bool(self.gates) and all(g.state is not State.OPEN for g in self.gates.values())

    @property
    def ended(self) -> bool:
        """Whether every choice is done or cut."""
        return all(g.state in (State.DONE, State.CUT) for g in self.gates.values())

    def unjudged(self) -> set[str]:
        """Channels that carried text and that no guard looks at."""
        gates = tuple(self.gates.values())
        return gates[0].unjudged if len(gates) == 1 else set().union(*(g.unjudged for g in gates))

    def close(self) -> None:
        """Stop judging; what is held stays held."""
        for task in self._tasks:
            task.remove_done_callback(self._judged)
            task.cancel()
        self._tasks.clear()

    async def _judge(self, gate: Gate, window: Window) -> None:
        plan = self._plan
        guards = plan.by_channel[window.channel]
        place = f"choices[{window.choice}].{window.lane}"
        segments = [Segment(window.channel, place, window.text, untrusted=True)]
        if window.channel == "tool_arguments" and (decoded := unescaped(window.text)):
            segments.append(Segment(window.channel, f"{place}.decoded", decoded, untrusted=True))
        asked = self._asked
        content = Content(
            tuple(segments),
            asked.context,
            window.offset,
            window.start - window.offset,
            window.final,
            asked.memo,
            asked.hidden,
        )
        observed = await observe(guards, plan.detectors, content, self._told.timed)
        verdict = judge_guards(plan.policy, guards, observed, self._told.hits)
        verdict = _placed(verdict, place, window)
        self._told.judged(Stage.OUTPUT, verdict)
        if verdict.unavailable:
            self.unavailable.add(gate.choice)
        if verdict.action is Action.REPAIR and gate.released == 0:
            self.repairs[gate.choice] = verdict
        gate.receive_verdict(window, verdict, self._held(guards, window))

    async def clears(self, text: str) -> bool:
        """Whether a whole text may be said to the client as it is."""
        plan, asked = self._plan, self._asked
        guards = plan.by_channel.get("content", ())
        segment = Segment("content", "repair.content", text, untrusted=True)
        content = Content((segment,), asked.context, memo=asked.memo, hidden=asked.hidden)
        observed = await observe(guards, plan.detectors, content, self._told.timed)
        verdict = judge_guards(plan.policy, guards, observed, self._told.hits)
        return verdict.action is Action.ALLOW

    def _held(self, guards: tuple[Guard, ...], window: Window) -> int:
        if window.final:
            return 0
        fresh = window.start - window.offset
        suffixes = (getattr(self._plan.detectors[g.name], "held_suffix", None) for g in guards)
        return max((suffix(window.text, fresh) for suffix in suffixes if suffix is not None), default=0)


def _placed(verdict: Verdict, place: str, window: Window) -> Verdict:
    """Spans counted from the channel's start; a redaction that cannot be placed there becomes a block."""
    offset = window.offset
    if verdict.action is Action.REDACT and not _can_be_placed(verdict.redactions, place, window):
        verdict = replace(verdict, action=Action.BLOCK, redactions=())
    if offset and any(f.span is not None for g in verdict.guards for f in g.findings):
        guards = tuple(
            replace(g, findings=tuple(_shift(f, offset) for f in g.findings)) for g in verdict.guards
        )
        verdict = replace(verdict, guards=guards)
    here = (f for f in verdict.redactions if f.place == place)
    return replace(verdict, redactions=tuple(_shift(f, offset) for f in here))


def _can_be_placed(hits: tuple[Finding, ...], place: str, window: Window) -> bool:
    """Whether what is left is still what its reader expects: arguments stay JSON only if a string alone changes.

    A hit in the strings as they read unescaped has no place of its own: it is covered if the text as it stands
    shows as many of the kind.
    """
    here = [f for f in hits if f.place == place]
    if window.channel != "tool_arguments":
        return len(here) == len(hits)
    shown = Counter((f.detector, f.category) for f in here)
    if Counter((f.detector, f.category) for f in hits if f.place != place) - shown:
        return False
    return stays_json(window.text, here)


def _shift(finding: Finding, offset: int) -> Finding:
    span = finding.span
    return finding if span is None else replace(finding, span=Span(span.start + offset, span.end + offset))


def unescaped(arguments: str) -> str:
    """Calls' JSON arguments without any escape, wherever it stands; empty if there is none.

    Not read as JSON: a name or a broken string before them would shift what counts as a string.
    """
    return _ESCAPE.sub(_plain, arguments) if "\\" in arguments else ""


def _plain(match: re.Match[str]) -> str:
    if match[1] is not None:
        return _SHORT.get(match[1], match[1])
    units = bytes.fromhex(match[0].replace("\\u", ""))
    return units.decode("utf-16-be", "replace")
