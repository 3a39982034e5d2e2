"""Reads an upstream's JSON where its shape varies: a field is what it should be, or the answer is unreadable."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeGuard

import msgspec

from guardproxy.errors import UpstreamError
from guardproxy.wire.dialect import Json

UNREADABLE = "The model server's answer cannot be read"
_WORD = re.compile(r"[\w.:\-]{1,128}", re.ASCII)


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


def is_word(value: object) -> TypeGuard[str]:
    """Whether it is a name, as servers call themselves and their answers, and no text."""
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def plain(value: object) -> object:
    """A number or a word as it is; None in place of anything that could hold text."""
    return value if isinstance(value, (int, float)) or is_word(value) else None


def expect_choices(numbers: Sequence[int], n: int, *, is_whole: bool) -> None:
    """Raise an `UpstreamError` at choices that were not asked for, or at one that a whole answer has twice."""
    if not all(0 <= i < n for i in numbers) or (is_whole and len(set(numbers)) < len(numbers)):
        raise UpstreamError(UNREADABLE)


def counts(usage: object, asked: str, answered: str) -> Json | None:
    """Token counts under their common names, from a dialect's."""
    if not is_object(usage):
        return None
    given = (usage.get(name) for name in (asked, answered))
    one, two = (v if isinstance(v, int) and not isinstance(v, bool) else 0 for v in given)
    return {"prompt_tokens": one, "completion_tokens": two, "total_tokens": one + two}
