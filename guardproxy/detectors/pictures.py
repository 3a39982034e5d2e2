"""What detectors of pictures have in common: pixels once decoded, off the event loop, kept by the picture's hash."""

from __future__ import annotations

import io
from collections.abc import Callable
from time import perf_counter
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pybase64
from PIL import Image

from guardproxy.core.content import ImagePart
from guardproxy.detectors.base import Content, Resources

T = TypeVar("T")
SIZE = 64
"""Bytes of a kept result, about."""
Grey = npt.NDArray[np.float32]


def pixels(picture: ImagePart, side: int | None = None) -> Image.Image:
    """A canonical picture.

    Args:
        picture: After intake.
        side: A JPEG may be decoded smaller, but both its sides stay at least so long, in pixels.
    """
    file = pybase64.b64decode(memoryview(picture.sent)[picture.sent.index(b",") + 1 : -1], validate=True)
    with Image.open(io.BytesIO(file), formats=("PNG", "JPEG")) as image:
        if side is not None:
            image.draft(None, (side, side))
        image.load()
        return image.copy()


def grey(picture: ImagePart, side: int) -> Grey:
    """Brightness in [0, 255] of a square of so many pixels, each the mean of its part of the picture."""
    small = pixels(picture, side).convert("L").resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


class EachPicture(Generic[T]):
    """Works something out about each picture of an exchange.

    Args:
        name: Of the detector and its version: what was worked out by another version is not used.
        resources: Shared by all detectors.
        work: Called in a thread.
        kind: Type of its result.
    """

    def __init__(
        self, name: tuple[str, str], resources: Resources, work: Callable[[ImagePart], T], kind: type[T]
    ) -> None:
        self._name, self._version = name
        self._resources = resources
        self._work = work
        self._kind = kind

    async def of(self, content: Content) -> list[tuple[ImagePart, T]]:
        """Each picture with its result.

        Raises:
            DetectorError: `overloaded`: too many wait.
        """
        found = []
        for segment in content.segments:
            if segment.kind == "image" and segment.image is not None:
                found.append((segment.image, await self._one(segment.image, content.tenant)))
        return found

    async def _one(self, picture: ImagePart, tenant: str) -> T:
        key = (self._name, (tenant, self._version, picture.sha256))
        kept = self._resources.pictures.get(key, self._kind)
        if kept is not None:
            return kept
        began = perf_counter()
        result = await self._resources.offload.run(self._work, picture)
        self._resources.pictures.put(key, result, SIZE, perf_counter() - began)
        return result
