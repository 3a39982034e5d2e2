"""Every picture of a request is made canonical, off the event loop, in a bounded pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ParamSpec

from guardproxy.core.content import ImagePart, Message, Part, Request
from guardproxy.core.policy import ImageLimits
from guardproxy.core.redact import Boxes
from guardproxy.errors import WireError
from guardproxy.images.decode import Picture, normalise, painted, split_data_url

P = ParamSpec("P")


class Intake:
    """Decodes and writes pictures anew.

    Args:
        workers: Threads (Pillow's decoders release the interpreter lock).
        max_waiting: Pictures in work or waiting; more are a 503.
    """

    def __init__(self, workers: int = 2, max_waiting: int = 64) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="images")
        self._max_waiting = max_waiting
        self._waiting = 0

    async def take(self, request: Request, limits: ImageLimits) -> Request:
        """The request with canonical pictures in place of the client's.

        Raises:
            WireError: Too many pictures, or one that is broken or over the limits.
        """
        pictures = [p for m in request.messages for p in m.parts if isinstance(p, ImagePart)]
        if not pictures:
            return request
        if len(pictures) > limits.max_count:
            raise WireError(
                f"messages: at most {limits.max_count} pictures, got {len(pictures)}",
                param=pictures[limits.max_count].place,
                code="too_many_images",
            )
        done: dict[str, ImagePart] = {}
        for part in pictures:
            picture = await self._one(part, limits)
            done[part.place] = _as(part, picture)
        return request.with_messages(tuple(_with(m, done) for m in request.messages))

    async def paint(self, request: Request, boxes: Boxes) -> Request:
        """The request with rectangles of its canonical pictures painted over, by the pictures' places."""
        done: dict[str, ImagePart] = {}
        for part in (p for m in request.messages for p in m.parts if isinstance(p, ImagePart)):
            covered = boxes.get(part.place)
            picture = None if covered is None else await self._run(painted, part.url, covered)
            done[part.place] = part if picture is None else _as(part, picture)
        return request.with_messages(tuple(_with(m, done) for m in request.messages))

    async def _one(self, part: ImagePart, limits: ImageLimits) -> Picture:
        return await self._run(_canonical, part.url, part.place, limits)

    async def _run(self, make: Callable[P, Picture], *args: P.args, **kwargs: P.kwargs) -> Picture:
        if self._waiting >= self._max_waiting:
            raise WireError(
                "Too many pictures are being read at the moment",
                status=503,
                code="overloaded",
                headers=(("retry-after", "1"),),
            )
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._pool.submit(make, *args, **kwargs))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _canonical(url: str, place: str, limits: ImageLimits) -> Picture:
    return normalise(split_data_url(url, place, limits), place, limits)


def _as(part: ImagePart, picture: Picture) -> ImagePart:
    return replace(part, url=picture.url, sha256=picture.sha256, width=picture.width, height=picture.height)


def _with(message: Message, done: dict[str, ImagePart]) -> Message:
    if not any(isinstance(p, ImagePart) for p in message.parts):
        return message
    parts: tuple[Part, ...] = tuple(done[p.place] if isinstance(p, ImagePart) else p for p in message.parts)
    return replace(message, parts=parts)
