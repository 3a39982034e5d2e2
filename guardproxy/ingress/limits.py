"""How much each key has used, in memory that all workers of one proxy share.

Requests and bytes are token buckets in the form of GCRA (ITU-T I.371: one "theoretical arrival time" a
bucket); exchanges under way are counted by worker, so that a worker that dies takes its count with it.
Every access is under a file lock, which the system lifts when its holder dies.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from guardproxy.keys import Client

SLOTS = 4096
"""Names of keys that the table can hold, revoked ones included; a key beyond them shares a slot."""
MINUTE_S = 60.0
_HEAD = struct.Struct("=Qdd")
_COUNT = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a key must wait.

    Attributes:
        limit: `requests_per_minute`, `concurrent` or `body_bytes_per_minute`.
        wait_s: Until it is worth trying again.
    """

    limit: str
    allowed: int
    wait_s: float


class Ledger:
    """The table of one proxy.

    Args:
        path: A file that all workers open; None makes one of this process's own.
        worker: This worker's number, from 0.
        workers: How many there are.
    """

    def __init__(self, path: Path | None = None, worker: int = 0, workers: int = 1) -> None:
        self._row = _HEAD.size + _COUNT.size * workers
        self._workers = workers
        self._worker = worker
        if path is None:
            self._fd, name = tempfile.mkstemp(prefix="guardproxy-limits-")
            os.unlink(name)
        else:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._fd, SLOTS * self._row)
        self._table = mmap.mmap(self._fd, SLOTS * self._row)
        self._slots: dict[str, int] = {}
        with self._locked():
            for slot in range(SLOTS):
                _COUNT.pack_into(self._table, self._place(slot), 0)

    def enter(self, client: Client, now: float) -> Refused | None:
        """Take one request, and one exchange, unless that is over a limit; `leave` gives the exchange back."""
        limits = client.limits
        with self._locked():
            slot = self._slot(client.name)
            requests_at, bytes_at = self._read(slot)
            if limits.concurrent and self._under_way(slot) >= limits.concurrent:
                return Refused("concurrent", limits.concurrent, 1.0)
            if limits.body_bytes_per_minute and bytes_at - now > MINUTE_S:
                return Refused(
                    "body_bytes_per_minute", limits.body_bytes_per_minute, bytes_at - now - MINUTE_S
                )
            if limits.requests_per_minute:
                then = max(requests_at, now) + MINUTE_S / limits.requests_per_minute
                if then - now > MINUTE_S + 1e-6:
                    return Refused("requests_per_minute", limits.requests_per_minute, then - now - MINUTE_S)
                requests_at = then
            self._write(slot, requests_at, bytes_at)
            self._count(slot, +1)
        return None

    def take_bytes(self, client: Client, size: int, now: float) -> Refused | None:
        """Take the bytes of a body, unless that is over the limit."""
        allowed = client.limits.body_bytes_per_minute
        if not allowed:
            return None
        with self._locked():
            slot = self._slot(client.name)
            requests_at, bytes_at = self._read(slot)
            then = max(bytes_at, now) + size * MINUTE_S / allowed
            if then - now > MINUTE_S + 1e-6:
                return Refused("body_bytes_per_minute", allowed, then - now - MINUTE_S)
            self._write(slot, requests_at, then)
        return None

    def remaining(self, client: Client, now: float) -> int:
        """Requests that the key could send at once; 0 if it has no such limit."""
        allowed = client.limits.requests_per_minute
        if not allowed:
            return 0
        requests_at, _ = self._read(self._slot(client.name))
        return math.floor((MINUTE_S - max(requests_at - now, 0.0)) * allowed / MINUTE_S + 1e-6)

    def leave(self, client: Client) -> None:
        """An exchange is over."""
        with self._locked():
            self._count(self._slot(client.name), -1)

    def close(self) -> None:
        """Let go of the table."""
        self._table.close()
        os.close(self._fd)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _slot(self, name: str) -> int:
        """Where a name's row is: found by its hash, the next free one if another name has it."""
        known = self._slots.get(name)
        if known is not None:
            return known
        wanted = int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) | 1
        for step in range(SLOTS):
            slot = (wanted + step) % SLOTS
            (owner,) = struct.unpack_from("=Q", self._table, slot * self._row)
            if owner in (0, wanted):
                break
        else:
            slot = wanted % SLOTS
        struct.pack_into("=Q", self._table, slot * self._row, wanted)
        self._slots[name] = slot
        return slot

    def _read(self, slot: int) -> tuple[float, float]:
        _, requests_at, bytes_at = _HEAD.unpack_from(self._table, slot * self._row)
        return requests_at, bytes_at

    def _write(self, slot: int, requests_at: float, bytes_at: float) -> None:
        struct.pack_into("=dd", self._table, slot * self._row + 8, requests_at, bytes_at)

    def _place(self, slot: int) -> int:
        return slot * self._row + _HEAD.size + self._worker * _COUNT.size

    def _count(self, slot: int, change: int) -> None:
        (count,) = _COUNT.unpack_from(self._table, self._place(slot))
        _COUNT.pack_into(self._table, self._place(slot), max(count + change, 0))

    def _under_way(self, slot: int) -> int:
        counts: tuple[int, ...] = struct.unpack_from(
            f"={self._workers}I", self._table, slot * self._row + _HEAD.size
        )
        return sum(counts)
