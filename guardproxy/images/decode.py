"""A picture's bytes become canonical bytes: one true picture, bounded, flattened, written anew.

Does not fetch and does not judge. CPU work: call it off the event loop.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

import pybase64
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from guardproxy.core.policy import ImageLimits
from guardproxy.core.redact import Box
from guardproxy.errors import WireError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
JPEG_QUALITY = 95
MAX_SIDE = 32_768


@dataclass(frozen=True, slots=True)
class Picture:
    """A canonical picture.

    Attributes:
        url: `data:` URL of the bytes that the model is sent.
        sha256: Hex digest of those bytes.
    """

    url: str
    sha256: str
    width: int
    height: int


def split_data_url(url: str, place: str, limits: ImageLimits) -> bytes:
    """The bytes in a base64 `data:` URL (RFC 2397). Its media type is not believed.

    Raises:
        WireError: Another scheme, not base64, or too long.
    """
    if url[:5].lower() != "data:":
        scheme = url.split(":", 1)[0][:16] if ":" in url else "none"
        raise WireError(
            f"{place}: only data: URLs are accepted here, got scheme {scheme!r}",
            param=place,
            code="unsupported_image_url",
        )
    head, comma, encoded = url[5:].partition(",")
    if not comma or not head.lower().rstrip().endswith(";base64"):
        raise WireError(f"{place}: expected data:image/TYPE;base64,DATA", param=place, code="invalid_image")
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
            source = image.format
            _bound(image, place, limits)
            image.load()
            flat = flatten(ImageOps.exif_transpose(image))
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise _broken(place) from None
    except (OSError, ValueError, SyntaxError, IndexError, KeyError, EOFError, OverflowError, TypeError):
        # What Pillow's decoders raise on broken files.
        raise _broken(place) from None
    return _written(flat, "jpeg" if source == "JPEG" else "png")


def painted(url: str, boxes: Iterable[Box]) -> Picture:
    """A canonical picture with rectangles of it painted black, in its own format."""
    head, _, encoded = url.partition(",")
    with Image.open(io.BytesIO(pybase64.b64decode(encoded, validate=True)), formats=FORMATS) as image:
        bare = image.copy()
    brush = ImageDraw.Draw(bare)
    for left, top, right, bottom in boxes:
        brush.rectangle((left, top, right, bottom), fill=0)
    return _written(bare, "jpeg" if "jpeg" in head else "png")


def _written(flat: Image.Image, kind: str) -> Picture:
    out = io.BytesIO()
    if kind == "jpeg":
        flat.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        flat.save(out, "PNG", compress_level=1)
    written = out.getvalue()
    url = f"data:image/{kind};base64,{pybase64.b64encode(written).decode('ascii')}"
    return Picture(url, sha256(written).hexdigest(), flat.width, flat.height)


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
    if limits.animated == "refuse" and getattr(image, "n_frames", 1) > 1:
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
