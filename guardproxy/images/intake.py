"""Every picture of a request is made canonical, off the event loop, in a bounded pool; once for each tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import perf_counter
from typing import ParamSpec

from blake3 import blake3

from guardproxy.core.content import ImagePart, Message, Part, Request
from guardproxy.core.policy import ImageLimits
from guardproxy.core.redact import Boxes
from guardproxy.errors import WireError
from guardproxy.images.cache import Cache
from guardproxy.images.decode import Picture, normalise, painted, split_data_url
from guardproxy.images.fetch import Fetcher, is_remote

P = ParamSpec("P")
OVERHEAD = 512
"""Bytes of an entry of the cache beside its picture."""


class Intake:
    """Decodes and writes pictures anew.

    Args:
        workers: Threads (Pillow's decoders release the interpreter lock).
        max_waiting: Pictures in work or waiting; more are a 503.
        cache: Where canonical pictures are kept.
        fetcher: Fetches remote ones, where a policy lets them in.
    """

    def __init__(
        self,
        workers: int = 2,
        max_waiting: int = 64,
        cache: Cache | None = None,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="images")
        self._max_waiting = max_waiting
        self._waiting = 0
        self._cache = cache or Cache(0)
        self._fetcher = fetcher or Fetcher()

    async def take(self, request: Request, limits: ImageLimits, tenant: str = "") -> Request:
        """The request with canonical pictures in place of the client's.

        Args:
            request: As it was parsed.
            limits: Of the policy.
            tenant: Who sent it: what is cached for one is not found by another.

        Raises:
            WireError: Too many pictures, or one that is broken, over the limits or not to be had.
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
            picture = await self._one(part, limits, tenant)
            done[part.place] = _as(part, picture)
        return request.with_messages(tuple(_with(m, done) for m in request.messages))

    async def paint(self, request: Request, boxes: Boxes) -> Request:
        """The request with rectangles of its canonical pictures painted over, by the pictures' places."""
        done: dict[str, ImagePart] = {}
        for part in (p for m in request.messages for p in m.parts if isinstance(p, ImagePart)):
            covered = boxes.get(part.place)
            picture = None if covered is None else await self._run(painted, part.sent, covered)
            done[part.place] = part if picture is None else _as(part, picture)
        return request.with_messages(tuple(_with(m, done) for m in request.messages))

    async def _one(self, part: ImagePart, limits: ImageLimits, tenant: str) -> Picture:
        url = part.url
        given: bytes | memoryview
        if isinstance(url, str) and is_remote(url):
            given = await self._fetcher.fetch(url, part.place, limits)
        elif isinstance(url, str):
            given = url.encode("utf-8", "replace")  # only hashed: what is no base64 is refused from `url`
        else:
            given = url
        bounds = (limits.max_pixels, limits.max_bytes, limits.animated)
        key = ("picture", (tenant, bounds, blake3(given).digest()))
        found = self._cache.get(key, Picture)
        if found is not None:
            return found
        began = perf_counter()
        if isinstance(url, str) and is_remote(url):
            picture = await self._run(normalise, bytes(given), part.place, limits)
        else:
            picture = await self._run(_canonical, url, part.place, limits)
        self._cache.put(key, picture, len(picture.sent) + OVERHEAD, perf_counter() - began)
        return picture

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


def _canonical(url: str | memoryview, place: str, limits: ImageLimits) -> Picture:
    return normalise(split_data_url(url, place, limits), place, limits)


def _as(part: ImagePart, picture: Picture) -> ImagePart:
    return replace(
        part,
        url="",
        sent=picture.sent,
        sha256=picture.sha256,
        source_sha256=part.source_sha256 or picture.source_sha256,
        width=picture.width,
        height=picture.height,
    )


def _with(message: Message, done: dict[str, ImagePart]) -> Message:
    if not any(isinstance(p, ImagePart) for p in message.parts):
        return message
    parts: tuple[Part, ...] = tuple(done[p.place] if isinstance(p, ImagePart) else p for p in message.parts)
    return replace(message, parts=parts)
