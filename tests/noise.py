"""Grain for pictures, the same in every run: Pillow's own comes from a generator that cannot be seeded."""

from __future__ import annotations

import numpy as np
from PIL import Image


def noise(size: tuple[int, int], sigma: float) -> Image.Image:
    """A grey picture of normal noise around the middle."""
    grain = np.random.default_rng(size).normal(128, sigma, size[::-1])
    return Image.fromarray(grain.clip(0, 255).astype(np.uint8))
