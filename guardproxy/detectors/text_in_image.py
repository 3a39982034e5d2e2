"""How much of a picture is text: a page of writing is another thing than a photograph with a sign in it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from guardproxy.core.content import ImagePart
from guardproxy.core.verdict import Finding
from guardproxy.detectors.base import Content, Detector, Resources
from guardproxy.detectors.joined import lines_by_picture

CELLS = 100
"""In each direction: overlapping lines are counted once."""


class TextInImage:
    """One finding for each picture with text: the share of its area inside the lines' rectangles."""

    name = "text_in_image"
    version = "1"
    inline = True

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """The share of each picture; a picture without text gives none."""
        found = []
        for place, lines in lines_by_picture(content.segments).items():
            picture = lines[0].image
            if picture is not None:
                found.append(Finding(self.name, "text_in_image", share(picture), place))
        return tuple(found)


def share(picture: ImagePart) -> float:
    """Share of a picture that its lines cover, in [0, 1]."""
    covered = np.zeros((CELLS, CELLS), np.bool_)
    for line in picture.texts:
        left, top, right, bottom = line.box
        rows = slice(top * CELLS // picture.height, -(-bottom * CELLS // picture.height))
        covered[rows, left * CELLS // picture.width : -(-right * CELLS // picture.width)] = True
    return float(covered.mean())


def build(_parameters: Mapping[str, object], _resources: Resources) -> Detector:
    """No parameters."""
    return TextInImage()
