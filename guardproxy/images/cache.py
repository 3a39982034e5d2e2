"""What was worked out about pictures, by the hash of their bytes: bounded in bytes, apart by tenant.

Apart, since the time that a shared entry saves would tell one client what another sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol, TypeVar

Key = tuple[str, Hashable]
"""What was worked out (`picture`, `text`, a detector's name), and everything that it depends on, tenant included."""
T = TypeVar("T")


class Counted(Protocol):
    """Told what the cache is good for."""

    def cache_hit(self, kind: str, saved_s: float) -> None:
        """Something was found, that once took so many seconds."""

    def cache_missed(self, kind: str) -> None:
        """Something was not found."""

    def cache_holds(self, size: int) -> None:
        """How many bytes it holds now."""


class NotCounted:
    """Counts nothing."""

    def cache_hit(self, kind: str, saved_s: float) -> None:
        """Found."""

    def cache_missed(self, kind: str) -> None:
        """Not found."""

    def cache_holds(self, size: int) -> None:
        """Its size."""


@dataclass(frozen=True, slots=True)
class _Entry:
    value: object
    size: int
    seconds: float


class Cache:
    """The entries that were used last.

    Args:
        max_bytes: Of all entries; 0 keeps nothing.
        counted: Where its use is counted.
    """

    def __init__(self, max_bytes: int, counted: Counted | None = None) -> None:
        self._max_bytes = max_bytes
        self._counted = counted or NotCounted()
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._size = 0

    def get(self, key: Key, kind: type[T]) -> T | None:
        """The value of a key, if it is still there."""
        entry = self._entries.get(key)
        if entry is None:
            self._counted.cache_missed(key[0])
            return None
        self._entries.move_to_end(key)
        self._counted.cache_hit(key[0], entry.seconds)
        assert isinstance(entry.value, kind)
        return entry.value

    def put(self, key: Key, value: object, size: int, seconds: float) -> None:
        """Keep a value.

        Args:
            key: Under which `get` finds it.
            value: Immutable.
            size: Bytes that it takes, about.
            seconds: What it took to work out.
        """
        before = self._entries.pop(key, None)
        if before is not None:
            self._size -= before.size
        if size <= self._max_bytes // 2:
            self._entries[key] = _Entry(value, size, seconds)
            self._size += size
            while self._size > self._max_bytes:
                self._size -= self._entries.popitem(last=False)[1].size
        self._counted.cache_holds(self._size)
