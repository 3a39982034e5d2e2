"""What a suite is made of, as a hash: two runs are of the same cases, or are not."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import msgspec

from guardproxy.errors import SuiteError
from guardproxy.evals import drawings
from guardproxy.evals.case import Case, Picture


def version_of(cases: Iterable[Case]) -> str:
    """Twelve hex digits over all that is asked and expected, in order.

    A picture file counts by its bytes. A drawing counts by what it was told to draw, so that the
    version is the same on every machine, whichever Japanese font is installed there.

    Raises:
        SuiteError: A picture file cannot be read.
    """
    digest = sha256(f"drawings {drawings.VERSION}\n".encode())
    for case in cases:
        digest.update(msgspec.json.encode(_plain(case), order="sorted"))
        digest.update(b"\n")
    return digest.hexdigest()[:12]


def _plain(case: Case) -> dict[str, object]:
    return {
        "id": case.id,
        "prompt": case.prompt,
        "expect": case.expect.value,
        "category": case.category,
        "language": case.language,
        "group": case.group,
        "twin": case.twin,
        "pictures": [_picture(p) for p in case.pictures],
        "turns": [[t.role, t.text, [_picture(p) for p in t.pictures]] for t in case.turns],
    }


def _picture(picture: Picture) -> object:
    if not isinstance(picture, Path):
        return [picture.kind, dict(picture.options)]
    try:
        return sha256(picture.read_bytes()).hexdigest()
    except OSError as error:
        raise SuiteError(f"{picture}: {error.strerror or error}") from None
