"""`guardproxy score`: what a policy decides for each row of a file, one JSON line for each side."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
from tqdm import tqdm

from guardproxy.commands.looking import Case, Looked, Looker
from guardproxy.core.policy import Policy
from guardproxy.core.verdict import Stage
from guardproxy.errors import RowError

CHUNK = 64
ALONE = 256
"""Rows from which on it is quicker to start further processes."""


class Row(msgspec.Struct):
    """One line of the file; keys beyond these are passed over."""

    id: str | int
    prompt: str | None = None
    response: str | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of every row."""

    rows: Path
    policy: str
    policies: Path | None
    stages: tuple[Stage, ...]
    config: Path | None = None


def run(job: Job, processes: int | None = None) -> int:
    """Score a file; lines go to stdout in the order of the rows.

    Returns:
        0; or 1 if rows could not be used: each is named on stderr, the others are scored.

    Raises:
        PolicyError: The policy cannot be used.
        OSError: The file cannot be read.
    """
    Looker(job.policy, job.policies, job.config).close()  # what is wrong with the policy is said once, here
    with job.rows.open("rb") as file:
        total = sum(1 for line in file if line.strip())
    unusable = 0
    count = 1 if total < ALONE else processes or os.cpu_count() or 1
    # stdout is the answer, so the bar goes to stderr, and only where a person looks.
    with tqdm(total=total, unit="row", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        for size, lines, faults in _scored(job, count):
            for fault in faults:
                bar.write(f"guardproxy: {fault}", file=sys.stderr)
            unusable += len(faults)
            sys.stdout.buffer.write(lines)
            bar.update(size)
    sys.stdout.buffer.flush()
    return 1 if unusable else 0


Chunk = list[tuple[int, bytes]]
Scored = tuple[int, bytes, list[str]]


def _scored(job: Job, count: int) -> Iterator[Scored]:
    if count == 1:
        _start(job)
        try:
            yield from map(_score, _chunks(job.rows))
        finally:
            _LOOKERS.pop()[1].close()
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=(job,)) as pool:
        chunks = _chunks(job.rows)
        waiting: list[Future[Scored]] = [pool.submit(_score, c) for c in islice(chunks, 4 * count)]
        while waiting:
            yield waiting.pop(0).result()
            waiting.extend(pool.submit(_score, c) for c in islice(chunks, 1))


def _chunks(path: Path) -> Iterator[Chunk]:
    with path.open("rb") as file:
        numbered = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        while chunk := list(islice(numbered, CHUNK)):
            yield chunk


_LOOKERS: list[tuple[Job, Looker]] = []
"""Of this process: policies are loaded once in each, when it starts."""


def _start(job: Job) -> None:
    _LOOKERS[:] = [(job, Looker(job.policy, job.policies, job.config))]


def _score(chunk: Chunk) -> Scored:
    job, looker = _LOOKERS[0]
    return looker.run(_score_all(job, looker, chunk))


async def _score_all(job: Job, looker: Looker, chunk: Chunk) -> Scored:
    lines: list[bytes] = []
    faults: list[str] = []
    for number, line in chunk:
        try:
            row, case = read_row(line, job.rows, number)
        except RowError as error:
            faults.append(str(error))
            continue
        lines.extend(_line(row, one, looker.policy) for one in await looker.look(case, job.stages))
    return len(chunk), b"".join(lines), faults


def read_row(line: bytes, path: Path, number: int) -> tuple[Row, Case]:
    """One line as a row.

    Raises:
        RowError: It is no row, or names a picture that is not there; the message names file and line.
    """
    try:
        row = msgspec.json.decode(line, type=Row)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise RowError(f"{path}:{number}: not a row: {error}") from None
    image = None if row.image is None else path.parent / row.image
    if image is not None and not image.is_file():
        raise RowError(f"{path}:{number}: image: no such file: {image}")
    return row, Case(row.prompt or "", row.response, image)


def _line(row: Row, looked: Looked, policy: Policy) -> bytes:
    verdict = looked.verdict
    detectors = {g.name: g.detector for g in policy.guards}
    value = {
        "id": row.id,
        "stage": looked.stage.value,
        "action": verdict.action.label,
        "wanted": verdict.wanted.label,
        "findings": [
            {"guard": g.guard, "detector": f.detector, "category": f.category, "score": round(f.score, 6)}
            for g in verdict.guards
            for f in g.findings
        ],
        "failures": [
            {"guard": g.guard, "detector": detectors.get(g.guard, g.guard), "reason": g.failure.reason}
            for g in verdict.guards
            if g.failure is not None
        ],
        "ms": round(looked.ms, 3),
    }
    return msgspec.json.encode(value) + b"\n"


def stages_of(asked: str | None) -> tuple[Stage, ...]:
    """The stages meant by `--stage`; both without it."""
    return (Stage.INPUT, Stage.OUTPUT) if asked is None else (Stage(asked),)
