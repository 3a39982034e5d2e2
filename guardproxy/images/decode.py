"""A picture's bytes become canonical bytes: one true picture, bounded, flattened, written anew.

Does not fetch and does not judge. CPU work: call it off the event loop.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

import pybase64
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import get_sampling

from guardproxy.core.policy import ImageLimits
from guardproxy.core.redact import Box
from guardproxy.errors import WireError
from guardproxy.images import png

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
JPEG_QUALITIES = range(75, 96)
"""A JPEG is written anew at the quality nearest to its own, within these: at the same tables little is lost."""
MAX_SIDE = 32_768
MAX_URL_HEAD = 1024
"""Longest media type with its parameters, in characters."""
BROKEN = (
    UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError, LookupError, EOFError,
    ArithmeticError, TypeError, AttributeError, RuntimeError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's decoders raise on broken files: each has been seen, or stands in their source."""


@dataclass(frozen=True, slots=True)
class Jpeg:
    """How a JPEG is written: quality as in libjpeg, and how colour is sampled (0: 4:4:4, 1: 4:2:2, 2: 4:2:0)."""

    quality: int
    sampling: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A canonical picture.

    Attributes:
        sent: `data:` URL of the bytes that the model is sent, as JSON text with its quotes.
        sha256: Hex digest of those bytes.
        source_sha256: Of the client's own file.
    """

    sent: bytes
    sha256: str
    source_sha256: str
    width: int
    height: int


def split_data_url(url: str | memoryview, place: str, limits: ImageLimits) -> bytes:
    """The bytes in a base64 `data:` URL (RFC 2397). Its media type is not believed.

    Args:
        url: As text, or as the bytes of a body.
        place: Where it stands.
        limits: Bounds of its size.

    Raises:
        WireError: Another scheme, not base64, or too long.
    """
    start = url[:MAX_URL_HEAD] if isinstance(url, str) else bytes(url[:MAX_URL_HEAD]).decode("latin-1")
    if start[:5].lower() != "data:":
        scheme = start.split(":", 1)[0][:16] if ":" in start else "none"
        raise WireError(
            f"{place}: only data: URLs are accepted here, got scheme {scheme!r}",
            param=place,
            code="unsupported_image_url",
        )
    head, comma, _ = start[5:].partition(",")
    if not comma or not head.lower().rstrip().endswith(";base64"):
        raise WireError(f"{place}: expected data:image/TYPE;base64,DATA", param=place, code="invalid_image")
    encoded = url[5 + len(head) + 1 :]
    if len(encoded) > limits.max_bytes * 4 // 3 + 4:
        raise _too_large(place, limits)
    try:
        return pybase64.b64decode(encoded, validate=True)
    except ValueError:
        raise WireError(f"{place}: not valid base64", param=place, code="invalid_image") from None


def _too_large(place: str, limits: ImageLimits) -> WireError:
    return WireError(
        f"{place}: a picture may have at most {limits.max_bytes} bytes",
        param=place,
        status=413,
        code="image_too_large",
    )


def normalise(data: bytes, place: str, limits: ImageLimits) -> Picture:
    """Decode once and write anew: EXIF rotation applied, flattened on white, first frame, no metadata.

    Raises:
        WireError: Not a picture, a broken one, or one over the limits.
    """
    if len(data) > limits.max_bytes:
        raise _too_large(place, limits)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _bound(image, place, limits)
            jpeg = _jpeg_of(image)
            image.load()
            flat = flatten(ImageOps.exif_transpose(image))
    except BROKEN:
        raise _broken(place) from None
    return _written(flat, jpeg, sha256(data).hexdigest())


def _jpeg_of(image: Image.Image) -> Jpeg | None:
    """How a JPEG was written; None for other formats. MPO is what many cameras make of a JPEG."""
    if image.format not in ("JPEG", "MPO"):
        return None
    tables: dict[int, list[int]] = getattr(image, "quantization", {})
    brightness = sum(tables.get(0, ()))
    quality = min(JPEG_QUALITIES, key=lambda q: abs(_brightness_table_sum(q) - brightness))
    return Jpeg(quality, max(get_sampling(image), 0))


@cache
def _brightness_table_sum(quality: int) -> int:
    """Of libjpeg's standard table at a quality from 50 (jcparam.c): the larger, the coarser."""
    scale = 200 - 2 * quality
    return sum(max((base * scale + 50) // 100, 1) for base in _BRIGHTNESS_TABLE)


_BRIGHTNESS_TABLE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
"""ITU-T T.81, table K.1."""


def opened(sent: bytes) -> Image.Image:
    """A canonical picture's pixels."""
    with Image.open(io.BytesIO(content_of(sent)), formats=("PNG", "JPEG")) as image:
        return image.copy()


def content_of(sent: bytes) -> bytes:
    """The bytes of a canonical picture's file."""
    return pybase64.b64decode(memoryview(sent)[sent.index(b",") + 1 : -1], validate=True)


def painted(sent: bytes, boxes: Iterable[Box]) -> Picture:
    """A canonical picture with rectangles of it painted black, in its own format."""
    file = content_of(sent)
    with Image.open(io.BytesIO(file), formats=("PNG", "JPEG")) as image:
        jpeg = _jpeg_of(image)
        bare = image.copy()
    brush = ImageDraw.Draw(bare)
    for left, top, right, bottom in boxes:
        brush.rectangle((left, top, right, bottom), fill=0)
    bare.info = {}
    return _written(bare, jpeg, sha256(file).hexdigest())


def _written(flat: Image.Image, jpeg: Jpeg | None, source: str) -> Picture:
    if jpeg is None:
        written, kind = png.write(flat), b"png"
    else:
        out = io.BytesIO()
        flat.save(out, "JPEG", quality=jpeg.quality, subsampling=jpeg.sampling)
        written, kind = out.getvalue(), b"jpeg"
    sent = b"".join((b'"data:image/', kind, b";base64,", pybase64.b64encode(written), b'"'))
    return Picture(sent, sha256(written).hexdigest(), source, flat.width, flat.height)


def _broken(place: str) -> WireError:
    return WireError(
        f"{place}: not a readable picture (accepted: {', '.join(FORMATS)})", param=place, code="invalid_image"
    )


def _bound(image: Image.Image, place: str, limits: ImageLimits) -> None:
    pixels = image.width * image.height
    if pixels > limits.max_pixels or max(image.size) > MAX_SIDE:
        raise WireError(
            f"{place}: at most {limits.max_pixels} pixels, got {image.width} x {image.height}",
            param=place,
            status=413,
            code="image_too_large",
        )
    if pixels == 0:
        raise _broken(place)
    if limits.animated == "refuse" and getattr(image, "is_animated", False):
        raise WireError(f"{place}: animated pictures are refused", param=place, code="unsupported_image")


def flatten(image: Image.Image) -> Image.Image:
    """As 8-bit RGB or grey on white: what transparency hides is neither judged nor sent."""
    if image.mode in ("RGB", "L"):
        bare = image.copy()
        bare.info = {}
        return bare if "transparency" not in image.info else _on_white(image)
    if image.mode.startswith("I") or image.mode == "F":
        low, high = image.getextrema()
        top = 65535.0 if isinstance(high, (int, float)) and high > 255 else 255.0
        del low
        return image.convert("F").point(lambda v: v * (255.0 / top)).convert("L")
    if "A" in image.getbands() or "transparency" in image.info or image.mode in ("P", "PA"):
        return _on_white(image)
    bare = image.convert("RGB")
    bare.info = {}
    return bare


def _on_white(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layer).convert("RGB")
