"""Pictures on an operator's list: by the hash of their bytes, or by how they look.

How they look is a perceptual hash of 256 bits (after Zauner, Implementation and Benchmarking of Perceptual Image
Hash Functions, 2010: the low frequencies of the cosine transform against their median), also mirrored and turned.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import numpy.typing as npt

from guardproxy.core.content import ImagePart
from guardproxy.core.verdict import Finding
from guardproxy.detectors.base import Content, Detector, Resources
from guardproxy.detectors.pictures import EachPicture, grey
from guardproxy.errors import PolicyError

log = logging.getLogger("guardproxy")

SIDE = 64
LOW = 16
"""Frequencies in each direction: LOW * LOW bits."""
FURTHEST = 64
"""Bits of difference at which the score is 0. Resized and compressed copies differ in 0 to 14 bits, other
pictures in 72 or more."""
LOOK_AGAIN_S = 1.0
_LINE = re.compile(r"(block|allow)\s+(sha256|perceptual)\s+([0-9a-f]{64})(?:\s+([a-z0-9][a-z0-9_-]{0,63}))?")
Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list.

    Attributes:
        action: `block` or `allow`.
        kind: `sha256` (of the file as it was sent, or as it is sent on) or `perceptual`.
        digest: 64 hex digits.
        label: Category of the finding.
    """

    action: str
    kind: str
    digest: str
    label: str


class ImageHash:
    """One finding for each picture near an entry that blocks, unless one that allows is as near.

    The score is 1 for the same bytes; for looks, `1 - bits / 64`: 0.8 is a close copy, 0.5 is not.
    """

    name = "image_hash"
    inline = False

    def __init__(self, file: Path, resources: Resources) -> None:
        self._file = file
        self._entries = _read(file)
        self._stamp = _stamp(file)
        self._looked = monotonic()
        self.version = "1"  # the list changes while the policy stays: it is the operator's, like a keys file
        self._looks = EachPicture((self.name, self.version), resources, perceptual, str)

    async def detect(self, content: Content) -> tuple[Finding, ...]:
        """Look each picture up."""
        self._refresh()
        found = []
        for part, looks in await self._looks.of(content):
            nearest = self._nearest(part, looks, "block")
            if nearest is not None and nearest[0] > (self._nearest(part, looks, "allow") or (0.0,))[0]:
                found.append(Finding(self.name, nearest[1], nearest[0], part.place))
        return tuple(found)

    def _nearest(self, part: ImagePart, looks: str, action: str) -> tuple[float, str] | None:
        views = [_bits(view) for view in looks.split()]
        best: tuple[float, str] | None = None
        for entry in self._entries:
            if entry.action != action:
                continue
            if entry.kind == "sha256":
                score = float(entry.digest in (part.sha256, part.source_sha256))
            else:
                wanted = _bits(entry.digest)
                bits = min(int(np.count_nonzero(view != wanted)) for view in views)
                score = max(1.0 - bits / FURTHEST, 0.0)
            if score > 0 and (best is None or score > best[0]):
                best = (score, entry.label)
        return best

    def _refresh(self) -> None:
        """Take over a changed list; while it is wrong the old one stays, and the log says so."""
        if monotonic() - self._looked < LOOK_AGAIN_S:
            return
        self._looked = monotonic()
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._entries = _read(self._file)
        except PolicyError as error:
            log.error("list of pictures not read, the old one stays: %s", error)
        else:
            log.info("list of pictures read: %d entries", len(self._entries))


def perceptual(picture: ImagePart) -> str:
    """The 256-bit hashes of a picture's eight views, as hex, the upright one first."""
    brightness = grey(picture, SIDE)
    return " ".join(_hex(view) for view in _views(brightness))


def _views(brightness: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    for mirrored in (brightness, brightness[:, ::-1]):
        for quarter in range(4):
            yield np.rot90(mirrored, quarter)


def _hex(brightness: npt.NDArray[np.float32]) -> str:
    steps = np.arange(SIDE)
    cosine = np.cos(np.pi * (2 * steps[None, :] + 1) * np.arange(LOW)[:, None] / (2 * SIDE))
    low = cosine @ brightness @ cosine.T
    # The mean brightness says nothing about looks, and would outweigh all else.
    median = np.median(low.ravel()[1:])
    return np.packbits(low.ravel() > median).tobytes().hex()


def _bits(digest: str) -> Bits:
    return np.unpackbits(np.frombuffer(bytes.fromhex(digest), np.uint8)).astype(np.bool_)


def _stamp(file: Path) -> tuple[int, int]:
    try:
        stat = file.stat()
    except OSError:
        return (0, 0)
    return stat.st_mtime_ns, stat.st_size


def _read(file: Path) -> tuple[Entry, ...]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"file: {file}: cannot be read: {error}") from None
    entries = []
    for number, line in enumerate(lines, 1):
        written = line.partition("#")[0].strip()
        if not written:
            continue
        match = _LINE.fullmatch(written)
        if match is None:
            raise PolicyError(
                f"{file}:{number}: expected `block|allow sha256|perceptual 64-HEX-DIGITS [label]`, got {written[:60]!r}"
            )
        entries.append(Entry(match[1], match[2], match[3], match[4] or "listed"))
    return tuple(entries)


def build(parameters: Mapping[str, object], resources: Resources) -> Detector:
    """`file`: the list, one entry a line; `guardproxy look PICTURE` prints a picture's hashes."""
    file = parameters.get("file")
    if not isinstance(file, str):
        raise PolicyError("file: the path of a list of pictures is required")
    return ImageHash(Path(file), resources)
