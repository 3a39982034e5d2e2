"""Requests that the benchmarks send. Their wishes to the fake model server stand in ordinary fields."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pybase64
from PIL import Image, ImageDraw

MODEL = "bench"
SYSTEM = "You are a helpful assistant of a small bakery. Answer briefly, and stay with what the notes say."
QUESTION = (
    "I have baked bread at home for two months now, and my loaves come out flat more often than not. "
    "I use about five hundred grams of flour, three hundred and fifty of water, ten of salt and a spoon "
    "of leaven that I feed every evening. The dough rests in a glass bowl on the window sill, where it "
    "is warm in the afternoon and rather cool at night. I fold it three or four times, shape it after "
    "dinner and leave it in the fridge until the morning. My oven reaches two hundred and thirty degrees, "
    "and I bake in a heavy pot with its lid on for the first twenty minutes. Could you tell me in a few "
    "sentences what I should look at first, how I can see that the dough is ready, and what notes other "
    "bakers keep from one day to the next? My family likes a dark crust and an open crumb, and I would "
    "rather change one thing at a time than start again with another recipe."
)
"""About 1 KB of ordinary text with the system message."""


def write(folder: Path, name: str, content: object = QUESTION, **fields: Any) -> Path:
    """A chat request in a file.

    Args:
        folder: Where.
        name: Of the file.
        content: Of the user's message.
        fields: More of the request; `max_tokens` and `seed` are what the fake server goes by.
    """
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"model": MODEL, "messages": messages, **fields}))
    return path


def stream(folder: Path, tokens: int, delay_us: int) -> Path:
    """A request for a stream of so many words with so many microseconds between them."""
    return write(folder, f"stream-{tokens}-{delay_us}", stream=True, max_tokens=tokens, seed=delay_us)


def picture(width: int, height: int, kind: str, noise: float = 18.0) -> bytes:
    """A picture with smooth parts and grain, as a camera's has: its size on disk is that of a real one."""
    rng = np.random.default_rng(1)
    across = np.linspace(0, 100, width, dtype=np.float32)[None, :, None]
    down = np.linspace(0, 100, height, dtype=np.float32)[:, None, None]
    grain = rng.normal(0, noise, (height, width, 3)).astype(np.float32)
    pixels = (across + down + grain).clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, quality=85)
    return out.getvalue()


def screenshot(width: int, height: int) -> bytes:
    """A PNG of black text on white."""
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    for y in range(10, height - 20, 16):
        pen.text((10, y), f"{y} {QUESTION[y % 400 :]}"[: width // 6], fill="black")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def with_picture(folder: Path, megabytes: int) -> Path:
    """A request whose body has about so many megabytes, nearly all of them one JPEG."""
    wanted = megabytes * 1_000_000 * 3 // 4
    side = int((wanted / 0.42) ** 0.5)
    data = picture(side, side, "JPEG")
    side = int(side * (wanted / len(data)) ** 0.5)
    url = "data:image/jpeg;base64," + pybase64.b64encode(picture(side, side, "JPEG")).decode()
    content = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": url}}]
    return write(folder, f"picture-{megabytes}", content, max_tokens=300)
