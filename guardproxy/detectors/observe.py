"""Asks a policy's detectors about content, each within its budget. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter

from guardproxy.core.policy import Guard
from guardproxy.core.verdict import Failure, Observation
from guardproxy.detectors.base import Content, Detector
from guardproxy.errors import DetectorError

IMAGE_TEXT = "image_text"

Timed = Callable[[str, float], None]
"""Told the detector's name and the seconds it took."""


async def observe(
    guards: Sequence[Guard],
    detectors: Mapping[str, Detector],
    content: Content,
    timed: Timed,
    *,
    exact: bool = False,
) -> dict[str, Observation]:
    """What each guard's detector says, by guard name.

    A guard that looks at none of these segments observes nothing, which is not a failure.
    Slow detectors run at once, quick ones in place. Where a guard looks at text in pictures, reading it is part
    of its budget, and its failure if it cannot be read. Unless `exact`, a score that is too low to decide need not
    be found out.
    """
    observed: dict[str, Observation] = {}
    slow: list[tuple[Guard, Detector, Content]] = []
    for guard in guards:
        detector = detectors[guard.name]
        asked = content if exact or detector.inline else replace(content, matters_from=_lowest(guard))
        shown = _shown(guard, asked)
        if content.read is not None and IMAGE_TEXT in guard.looks_at:
            slow.append((guard, detector, asked))
        elif not shown.segments:
            observed[guard.name] = ()
        elif detector.inline:
            observed[guard.name] = await _ask(guard, detector, shown, timed)
        elif (told := _at_once(detector, shown, timed)) is not None:
            observed[guard.name] = told
        else:
            slow.append((guard, detector, shown))
    if len(slow) == 1:
        guard, detector, shown = slow[0]
        observed[guard.name] = await _ask_within(guard, detector, shown, timed)
    elif slow:
        async with asyncio.TaskGroup() as group:
            tasks = {g.name: group.create_task(_ask_within(g, d, c, timed)) for g, d, c in slow}
        observed.update((name, task.result()) for name, task in tasks.items())
    return observed


def _at_once(detector: Detector, content: Content, timed: Timed) -> Observation | None:
    """What a slow detector can say in place; None if it has to be asked."""
    at_once = getattr(detector, "at_once", None)
    if at_once is None:
        return None
    started = perf_counter()
    told: Observation | None = at_once(content)
    if told is not None:
        timed(detector.name, perf_counter() - started)
    return told


def _lowest(guard: Guard) -> float:
    return guard.threshold if guard.debounce is None else guard.debounce.threshold


def _shown(guard: Guard, content: Content) -> Content:
    segments = tuple(s for s in content.segments if s.kind in guard.looks_at)
    return content if len(segments) == len(content.segments) else replace(content, segments=segments)


async def _ask(guard: Guard, detector: Detector, content: Content, timed: Timed) -> Observation:
    started = perf_counter()
    try:
        return await detector.detect(content)
    except DetectorError as error:
        return Failure(guard.detector, error.reason)
    finally:
        timed(guard.detector, perf_counter() - started)


async def _ask_within(guard: Guard, detector: Detector, content: Content, timed: Timed) -> Observation:
    budget_s = guard.budget_ms / 1000
    content = replace(content, deadline=perf_counter() + budget_s)
    try:
        async with asyncio.timeout(budget_s):
            if content.read is not None and IMAGE_TEXT in guard.looks_at:
                content = _shown(guard, replace(content, segments=await content.read()))
                if not content.segments:
                    return ()
            return await _ask(guard, detector, content, timed)
    except DetectorError as error:
        return Failure(guard.detector, error.reason)
    except TimeoutError:
        return Failure(guard.detector, "timeout")
