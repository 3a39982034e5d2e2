"""One true picture, whatever came; clear faults for the rest."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from guardproxy.core.policy import ImageLimits
from guardproxy.errors import WireError
from guardproxy.images.decode import content_of, normalise, split_data_url
from tests.noise import noise

LIMITS = ImageLimits(max_pixels=1_000_000, max_bytes=200_000)


def encoded(image: Image.Image, kind: str = "PNG", **save: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **save)
    return out.getvalue()


def plain_picture(colour: str, size: tuple[int, int] = (12, 9)) -> Image.Image:
    return Image.new("RGB", size, colour)


def canonical(data: bytes, limits: ImageLimits = LIMITS) -> Image.Image:
    picture = normalise(data, "p", limits)
    image = Image.open(io.BytesIO(content_of(picture.sent)))
    image.load()
    assert image.size == (picture.width, picture.height)
    assert "exif" not in image.info
    assert len(picture.sha256) == 64
    return image


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_becomes_plain_eight_bits(mode: str) -> None:
    assert canonical(encoded(Image.new(mode, (8, 6)))).mode in ("RGB", "L")
    for deep in ("F", "I"):
        assert canonical(encoded(Image.new(deep, (8, 6)), "TIFF")).mode == "L"


def test_what_transparency_hides_is_white() -> None:
    assert canonical(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)
    keyed = encoded(Image.new("RGB", (4, 4), (9, 9, 9)), transparency=(9, 9, 9))
    assert canonical(keyed).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_not_cut() -> None:
    image = Image.new("I;16", (2, 1))
    image.putpixel((0, 0), 65535)
    image.putpixel((1, 0), 32768)
    out = canonical(encoded(image))
    assert out.getpixel((0, 0)) == 255
    assert abs(int(str(out.getpixel((1, 0)))) - 128) <= 1


def test_exif_rotation_is_applied_and_metadata_goes() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "secret words"
    out = canonical(encoded(Image.new("RGB", (10, 4)), "JPEG", exif=exif))
    assert out.size == (4, 10)
    assert out.format == "JPEG"


def test_cmyk_and_the_first_frame_only() -> None:
    assert canonical(encoded(Image.new("CMYK", (4, 4)), "JPEG")).mode == "RGB"
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "blue")]
    animated = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert canonical(animated).getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(WireError, match="animated"):
        normalise(animated, "p", ImageLimits(animated="refuse"))


def bomb(side: int) -> bytes:
    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = part(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", zlib.compress(b"\0" * 1000)) + part(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"not a picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4", b"\x89PNG\r\n\x1a\n",
        encoded(noise((200, 200), 50))[:900], bomb(20_000), bomb(13_000), bomb(2000), b"x" * 200_001,
    ],
)  # fmt: skip
def test_broken_and_oversized_files_are_refused(data: bytes) -> None:
    with pytest.raises(WireError) as error:
        normalise(data, "messages[0].content[1].image_url", LIMITS)
    assert error.value.status in (400, 413)
    assert error.value.param == "messages[0].content[1].image_url"


@pytest.mark.parametrize(
    "url",
    ["https://x/y.png", "file:///etc/passwd", "nothing", "data:image/png,abc", "data:image/png;base64", "data:;base64,!!!",
     "data:;base64," + "A" * 400_000],
)  # fmt: skip
def test_only_base64_data_urls_are_taken(url: str) -> None:
    with pytest.raises(WireError):
        split_data_url(url, "p", LIMITS)


def test_the_media_type_and_its_spelling_do_not_matter() -> None:
    for url in ("DATA:text/plain;charset=x;BASE64,aGk=", "data:;base64,aGk="):
        assert split_data_url(url, "p", LIMITS) == b"hi"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_a_picture_or_a_fault(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"]))
    drawn = Image.linear_gradient("L").resize((24, 24)).convert("RGB")
    good = bytearray(encoded(drawn, kind))
    for _ in range(data.draw(st.integers(1, 8))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        normalise(bytes(good), "p", LIMITS)
    except WireError as error:
        assert error.status in (400, 413)  # noqa: PT017 - either outcome is right
