"""Reads an upstream's JSON where its shape varies: a field is what it should be, or the answer is unreadable."""

from __future__ import annotations

from typing import TypeGuard

import msgspec

from guardproxy.errors import UpstreamError
from guardproxy.wire.dialect import Json

UNREADABLE = "The model server's answer cannot be read"


def read_object(data: bytes) -> Json:
    """A JSON object.

    Raises:
        UpstreamError: It is anything else.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise UpstreamError(UNREADABLE) from None
    if not is_object(value):
        raise UpstreamError(UNREADABLE)
    return value


def is_object(value: object) -> TypeGuard[Json]:
    """Whether it is a JSON object."""
    return isinstance(value, dict)


def objects(parent: Json, field: str) -> list[Json]:
    """A field that holds a list of objects; empty if it is not there."""
    value = parent.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(is_object(v) for v in value):
        raise UpstreamError(UNREADABLE)
    return value


def text_of(parent: Json, field: str) -> str:
    """A field that holds text; empty if it is not there."""
    value = parent.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UpstreamError(UNREADABLE)
    return value


def integer_of(parent: Json, field: str) -> int:
    """A field that holds a number from 0."""
    value = parent.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UpstreamError(UNREADABLE)
    return value


def counts(usage: object, asked: str, answered: str) -> Json | None:
    """Token counts under their common names, from a dialect's."""
    if not is_object(usage):
        return None
    given = {name: usage.get(name) for name in (asked, answered)}
    one, two = (v if isinstance(v, int) else 0 for v in given.values())
    return {"prompt_tokens": one, "completion_tokens": two, "total_tokens": one + two}
