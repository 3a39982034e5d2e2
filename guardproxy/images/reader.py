"""Reads the text in pictures, in few processes of its own, once for each picture and tenant.

What is read becomes segments of kind `image_text`: somebody else's words, whoever sent the picture.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import struct
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import msgspec

from guardproxy.core.canonical import SpecialTokens
from guardproxy.core.content import ImagePart, Message, Part, ReadText, Request, Segment
from guardproxy.errors import DetectorError
from guardproxy.images.cache import Cache
from guardproxy.images.decode import content_of

log = logging.getLogger("guardproxy.images")

NEEDS = "rapidocr"
EXTRA = "images"
VERSION = "rapidocr-3-ppocrv6-small-2"
"""Of everything that a reading depends on: part of the key under which it is kept."""
COMMAND = (sys.executable, "-m", "guardproxy.images.ocr_worker")
RESTART_S = 5.0
"""How long a place stays empty after its process did not even start."""
MAX_FRAME = 16_000_000
NO_START = "reading pictures does not start"

Lines = list[tuple[str, tuple[int, int, int, int], float]]


def is_installed() -> bool:
    """Whether the extra that reads pictures is."""
    return importlib.util.find_spec(NEEDS) is not None


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """Bounds of reading.

    Attributes:
        processes: Each holds 0.6 to 1.1 GB.
        max_waiting: Pictures in work or waiting; more are turned away.
        picture_s: A process that takes longer for one picture is ended.
        start_s: The same, for its start.
        process_kb: A process that has held more is ended between two pictures, and another takes its place.
    """

    processes: int = 1
    max_waiting: int = 32
    picture_s: float = 60.0
    start_s: float = 60.0
    process_kb: int = 2_000_000


class _Job:
    """One picture to be read, and who waits for it."""

    def __init__(self, file: bytes) -> None:
        self.file = file
        self.lines: asyncio.Future[Lines] = asyncio.get_running_loop().create_future()


class Reader:
    """Hands pictures to the processes that read.

    Args:
        limits: Bounds.
        cache: Where readings are kept.
        tokens: Neutralised in what was read, as in every text.
        command: Starts one process; a test has its own.
    """

    def __init__(
        self,
        limits: ReaderLimits | None = None,
        cache: Cache | None = None,
        tokens: SpecialTokens | None = None,
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        self._limits = limits or ReaderLimits()
        self._cache = cache or Cache(0)
        self._tokens = tokens or SpecialTokens()
        self._command = command
        self._waiting: deque[_Job] = deque()
        self._count = 0
        self._news = asyncio.Condition()
        self._places: list[asyncio.Task[None]] = []
        self._under_way: dict[tuple[str, str], asyncio.Task[tuple[ReadText, ...]]] = {}
        self._ready = 0
        self._does_not_start = False

    def begin(self) -> None:
        """Start the processes, unless they run; nothing waits for them here."""
        if not self._places:
            self._places = [asyncio.create_task(self._attend()) for _ in range(self._limits.processes)]

    @property
    def state(self) -> str:
        """`ok` when it reads, or was never asked to."""
        return "ok" if self._ready or not self._places else "starting"

    async def read(self, request: Request, tenant: str) -> Request:
        """The request with the texts of its pictures.

        Raises:
            DetectorError: `overloaded`: too many wait. `error`: a picture could not be read.
        """
        done: dict[str, tuple[ReadText, ...]] = {}
        for part in pictures_of(request):
            done[part.place] = await self._one(part, tenant)
        return request.with_messages(tuple(_with(m, done) for m in request.messages))

    async def _one(self, part: ImagePart, tenant: str) -> tuple[ReadText, ...]:
        key = ("text", (tenant, VERSION, part.sha256))
        found = self._cache.get(key, list)
        if found is None:
            # Shared with whoever else asks for it, and finished though this one gives up: it may come again.
            task = self._under_way.get((tenant, part.sha256))
            if task is None:
                self.begin()
                task = asyncio.create_task(self._lines(part, key))
                self._under_way[tenant, part.sha256] = task
                task.add_done_callback(partial(self._finished, (tenant, part.sha256)))
            found = list(await asyncio.shield(task))
        return tuple(
            replace(line, place=f"{_place(part)}/ocr[{number}]") for number, line in enumerate(found)
        )

    def _finished(self, key: tuple[str, str], task: asyncio.Task[tuple[ReadText, ...]]) -> None:
        del self._under_way[key]
        _heard(task)

    async def _lines(self, part: ImagePart, key: tuple[str, tuple[str, str, str]]) -> tuple[ReadText, ...]:
        began = perf_counter()
        lines = await self._asked(content_of(part.sent))
        texts = [ReadText(self._tokens.neutralise(text), "", box, score) for text, box, score in lines]
        size = 200 + sum(200 + 4 * len(t.text) for t in texts)
        self._cache.put(key, texts, size, perf_counter() - began)
        return tuple(texts)

    async def _asked(self, file: bytes) -> Lines:
        if self._count >= self._limits.max_waiting:
            raise DetectorError("too many pictures wait to be read", "overloaded")
        if self._does_not_start and not self._ready:
            raise DetectorError(NO_START)
        job = _Job(file)
        self._count += 1
        try:
            async with self._news:
                self._waiting.append(job)
                self._news.notify()
            return await job.lines
        finally:
            self._count -= 1

    # One process in each place.

    async def _attend(self) -> None:
        """Keep one place filled, as long as the proxy runs."""
        while True:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    limit=1 << 20,
                    start_new_session=True,  # what stops the proxy at a terminal lets it finish first
                )
            except OSError as error:
                await self._failed_to_start(str(error))
                continue
            try:
                async with asyncio.timeout(self._limits.start_s):
                    await _receive(process)
                self._ready += 1
                self._does_not_start = False
                try:
                    await self._serve(process)
                finally:
                    self._ready -= 1
            except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                await self._failed_to_start(str(error) or type(error).__name__)
            finally:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    async def _failed_to_start(self, why: str) -> None:
        log.error("pictures cannot be read: a reading process did not start: %s", why)
        self._does_not_start = True
        while self._waiting and not self._ready:
            _fail(self._waiting.popleft(), NO_START)
        await asyncio.sleep(RESTART_S)

    async def _serve(self, process: asyncio.subprocess.Process) -> None:
        """Read until the process ends or has to be ended."""
        while True:
            job = await self._next()
            if job.lines.cancelled():
                continue
            try:
                async with asyncio.timeout(self._limits.picture_s):
                    await _send(process, job.file)
                    lines, held = msgspec.json.decode(await _receive(process), type=tuple[Lines, int])
            except (TimeoutError, OSError, asyncio.IncompleteReadError, msgspec.DecodeError) as error:
                log.error("a picture could not be read: %s", str(error) or type(error).__name__)
                _fail(job, "a picture could not be read")
                return
            except asyncio.CancelledError:
                _fail(job, "the proxy stops")
                raise
            if not job.lines.done():
                job.lines.set_result(lines)
            if held > self._limits.process_kb:
                return

    async def _next(self) -> _Job:
        async with self._news:
            await self._news.wait_for(lambda: bool(self._waiting))
            return self._waiting.popleft()

    async def close(self) -> None:
        """End the processes; what waits fails."""
        for task in (*self._places, *self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._places, *self._under_way.values(), return_exceptions=True)
        self._places = []


class Reading:
    """What is read in the pictures of one exchange: begun when the first guard asks, and only then.

    Args:
        request: Canonical, its pictures too; with what was read in them, once it was.
        read: Reads them.
    """

    def __init__(self, request: Request, read: Callable[[Request], Coroutine[None, None, Request]]) -> None:
        self.request = request
        self.is_read = False
        self._read = read
        self._task: asyncio.Task[Request] | None = None

    def of(self, request: Request) -> Reading:
        """The same for a request that lost something since: not read again, if it was."""
        other = Reading(request, self._read)
        other.is_read = self.is_read
        return other

    async def segments(self) -> tuple[Segment, ...]:
        """Everything the model will read, with what was read in the pictures.

        Raises:
            DetectorError: As `Reader.read`; every guard that asks is told.
        """
        if not self.is_read:
            if self._task is None:
                self._task = asyncio.create_task(self._read(self.request))
                self._task.add_done_callback(_heard)
            # Other guards wait for it too: who runs out of time leaves it to them.
            self.request = await asyncio.shield(self._task)
            self.is_read = True
        return self.request.segments()

    def close(self) -> None:
        """Nobody asks any more."""
        if self._task is not None and not self._task.done():
            self._task.cancel()


def _heard(task: asyncio.Task[Any]) -> None:
    """A fault that nobody waits for any more is no surprise."""
    if not task.cancelled():
        task.exception()


def pictures_of(request: Request) -> list[ImagePart]:
    """All pictures of a request."""
    return [p for m in request.messages for p in m.parts if isinstance(p, ImagePart)]


def _place(part: ImagePart) -> str:
    """Of the part itself, whatever the format calls the field that holds its URL."""
    return part.place.removesuffix(".image_url").removesuffix(".source")


def _with(message: Message, done: dict[str, tuple[ReadText, ...]]) -> Message:
    if not any(isinstance(p, ImagePart) for p in message.parts):
        return message
    parts: tuple[Part, ...] = tuple(
        replace(p, texts=done[p.place]) if isinstance(p, ImagePart) else p for p in message.parts
    )
    return replace(message, parts=parts)


def _fail(job: _Job, why: str) -> None:
    if not job.lines.done():
        job.lines.set_exception(DetectorError(why))


async def _send(process: asyncio.subprocess.Process, frame: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(struct.pack(">I", len(frame)))
    process.stdin.write(frame)
    await process.stdin.drain()


async def _receive(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    (size,) = struct.unpack(">I", await process.stdout.readexactly(4))
    if size > MAX_FRAME:
        raise OSError(f"a frame of {size} bytes")
    return await process.stdout.readexactly(size)
