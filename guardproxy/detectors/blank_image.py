"""Pictures that show nothing: they add no information, and yet weaken a model's own guardrail.

Arxiv 2411.08410: a black picture beside a harmful request doubled the success of attacks on LLaVA-1.5-7B
(41.9 to 83.2 %). Means over parts of the picture are compared, so that noise on an empty ground shows nothing either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from guardproxy.core.content import ImagePart
from guardproxy.core.verdict import Finding
from guardproxy.detectors.base import Content, Detector, Resources
from guardproxy.detectors.pictures import EachPicture, grey

SIDE = 96
"""Parts in each direction. A word in small letters on a whole page still darkens one of them."""
SCALE = 16.0
"""Difference between the brightest and the darkest part, of 255, at which the score is 1/e."""


class BlankImage:
    """One finding for each picture: 1 for a single colour, near 0 for any motif."""

    name = "blank_image"
    version = "1"
    inline = False

    def __init__(self, resources: Resources) -> None:
        self._scores = EachPicture((self.name, self.version), resources, score, float)

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """How empty each picture is."""
        return tuple(
            Finding(self.name, "blank_image", value, part.place)
            for part, value in await self._scores.of(content)
        )


def score(picture: ImagePart) -> float:
    """`exp(-range / SCALE)` over the parts' brightness."""
    parts = grey(picture, SIDE)
    return math.exp(-float(parts.max() - parts.min()) / SCALE)


def build(_parameters: Mapping[str, object], resources: Resources) -> Detector:
    """No parameters."""
    return BlankImage(resources)
