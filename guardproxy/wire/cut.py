"""Long data URLs are cut out of a body before it is parsed: a parser would walk and copy all their megabytes.

A cut changes no meaning: what is taken out lies between two quotes with neither quote nor backslash between them,
so that the body's other strings begin and end where they did. Its alphabet is for who decodes it to verify.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

LEAST = 16_384
"""Bytes of a URL from which on a cut costs less than it saves."""
MAX_CUTS = 64
_START = b'"data:'
_MARK = "data:cut/"

Cuts = Mapping[str, memoryview]
Parent = dict[str, object]


def cut(body: bytes) -> tuple[bytes, Cuts]:
    """The body with a short mark in place of each long data URL, and what the marks stand for."""
    cuts: dict[str, memoryview] = {}
    if len(body) < LEAST:
        return body, cuts
    view = memoryview(body)
    pieces: list[bytes | memoryview] = []
    kept = 0
    at = body.find(_START)
    while at >= 0 and len(cuts) < MAX_CUTS:
        end = body.find(b'"', at + 1)
        if end < 0:
            break
        if end - at > LEAST and body[at - 1 : at] != b"\\" and body.find(b"\\", at, end) < 0:
            mark = f"{_MARK}{len(cuts)}"
            cuts[mark] = view[at + 1 : end]
            pieces += [view[kept : at + 1], mark.encode()]
            kept = end
            at = body.find(_START, end + 1)
        else:
            at = body.find(_START, at + 1)
    if not cuts:
        return body, cuts
    pieces.append(view[kept:])
    small = b"".join(pieces)
    # A client that writes a mark itself is served the slow way.
    return (small, cuts) if small.count(_MARK.encode()) == len(cuts) else (body, {})


def placed(body: Parent, cuts: Cuts) -> bool:
    """Put each cut where a picture stands; false if one of them stands anywhere else."""
    found = 0
    for parent, field in _pictures(body):
        view = cuts.get(str(parent[field]))
        if view is not None:
            parent[field] = view
            found += 1
    return found == len(cuts)


def _pictures(body: Parent) -> Iterator[tuple[Parent, str]]:
    """Every place of a picture's URL in the formats that have one: chat's and Responses'."""
    for field in ("messages", "input"):
        for turn in _objects(body.get(field)):
            for content in ("content", "output"):
                for part in _objects(turn.get(content)):
                    image = part.get("image_url")
                    if isinstance(image, str):
                        yield part, "image_url"
                    elif isinstance(image, dict) and isinstance(image.get("url"), str):
                        yield image, "url"


def _objects(value: object) -> Iterator[Parent]:
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, dict))
