"""A process that reads text in pictures: `python -m guardproxy.images.ocr_worker`. Frames on stdin and stdout.

A process of its own, since the models hold up to a gigabyte, work without pause for seconds, and can be ended.
Each frame is four bytes of length (big endian) and that many bytes: a picture's file in; out comes JSON, the lines and
the most memory that the process has held, in KiB.
"""

from __future__ import annotations

import io
import math
import os
import resource
import struct
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import rapidocr
from PIL import Image, ImageDraw
from rapidocr import RapidOCR

MODELS = Path(rapidocr.__file__).parent / "models"
MAX_SIDE = 2000
"""Longest side that is read, in pixels; a larger picture is read at this size."""
LEAST_PIXELS, MOST_PIXELS, SHORT_SIDE = 800_000, 1_600_000, 736
"""Lines are looked for in a picture enlarged to the first, if small, or reduced to the second; they are then read in
the picture itself. Never enlarged further than the model's own short side."""
LEAST_CONFIDENCE = 0.3
"""What is read with less is noise: textures, logos, parts of letters."""
PARAMETERS = {
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    "Global.max_side_len": MAX_SIDE,
    "Global.text_score": LEAST_CONFIDENCE,
    "Global.log_level": "critical",
    # The models that come inside the package, by their paths: nothing is ever downloaded.
    "Det.model_path": str(MODELS / "PP-OCRv6_det_small.onnx"),
    "Rec.model_path": str(MODELS / "PP-OCRv6_rec_small.onnx"),
    "Cls.model_path": str(MODELS / "ch_ppocr_mobile_v2.0_cls_mobile.onnx"),
}
Line = tuple[str, tuple[int, int, int, int], float]
"""Text, the upright rectangle around it (left, top, right, bottom), confidence."""


def read(engine: RapidOCR, file: bytes) -> list[Line]:
    """The lines of a picture, top to bottom, left to right."""
    with Image.open(io.BytesIO(file), formats=("PNG", "JPEG")) as image:
        if is_plain(image):
            return []
        rgb = image.convert("RGB")
    engine.text_det.limit_type, engine.text_det.limit_side_len = scaling(rgb.width, rgb.height)
    found = engine(
        np.ascontiguousarray(np.asarray(rgb)[:, :, ::-1]), use_det=True, use_cls=True, use_rec=True
    )
    if found.boxes is None or not found.txts:
        return []
    lines = []
    for text, box, score in zip(found.txts, found.boxes, found.scores, strict=True):
        left, top = np.floor(np.min(box, axis=0))
        right, bottom = np.ceil(np.max(box, axis=0))
        corners = (
            max(int(left), 0),
            max(int(top), 0),
            min(int(right), rgb.width),
            min(int(bottom), rgb.height),
        )
        lines.append((text, corners, round(min(max(float(score), 0.0), 1.0), 4)))
    return lines


def scaling(width: int, height: int) -> tuple[str, int]:
    """How lines are looked for, as the engine says it: `min` or `max`, and the length of that side in pixels.

    The engine would enlarge a strip until its short side fills the model, at many times the cost.
    """
    pixels = width * height
    ratio = max(1.0, min(math.sqrt(LEAST_PIXELS / pixels), SHORT_SIDE / min(width, height)))
    if pixels > MOST_PIXELS:
        ratio = math.sqrt(MOST_PIXELS / pixels)
    if ratio >= 1:
        return "min", max(round(ratio * min(width, height)), 32)
    return "max", round(ratio * max(width, height))


def is_plain(image: Image.Image) -> bool:
    """Whether it has one colour only: there is nothing to read in it."""
    extrema = image.getextrema()
    pairs = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(low == high for low, high in pairs)


def warm(engine: RapidOCR) -> None:
    """Load the models, which the engine would do at its first picture, and read a word."""
    engine._load_det_model()
    line = Image.new("RGB", (110, 48), "white")
    ImageDraw.Draw(line).text((12, 6), "ready", "black", font_size=30)
    if not engine(np.asarray(line), use_det=False, use_cls=True, use_rec=True).txts:
        raise RuntimeError("the models do not read what is plainly there")


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer every frame until the other side closes."""
    engine = RapidOCR(params=PARAMETERS)
    warm(engine)
    os.nice(5)  # beside the proxy's own thread, which others wait for
    send(sink, b"ready")
    while (file := receive(source)) is not None:
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        send(sink, msgspec.json.encode((read(engine, file), held)))


def send(sink: BinaryIO, frame: bytes) -> None:
    """Write one frame."""
    sink.write(struct.pack(">I", len(frame)) + frame)
    sink.flush()


def receive(source: BinaryIO) -> bytes | None:
    """Read one frame; None at the end."""
    head = source.read(4)
    if len(head) < 4:
        return None
    (size,) = struct.unpack(">I", head)
    frame = source.read(size)
    return frame if len(frame) == size else None


def main() -> None:
    """Serve on stdin and stdout, which nothing else may write to."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
