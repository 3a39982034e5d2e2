"""The audit record: one JSON line for each exchange, chained, rotated, written off the critical path.

It never holds content: texts stand as their place, length and hash.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from guardproxy.errors import AuditError
from guardproxy.telemetry import chain
from guardproxy.telemetry.metrics import Metrics

log = logging.getLogger("guardproxy")
FLUSH_S = 0.1
"""Longest time that a record waits in memory: what a killed process can lose."""
SYNC_S = 1.0
"""Longest time until a written record is on the disk: what a machine without power can lose."""


@dataclass(frozen=True, slots=True)
class AuditPlan:
    """Where and how it is written.

    Attributes:
        directory: One chain for each worker: `audit-0.jsonl`, `audit-1.jsonl`, …
        max_bytes: Of a file; then it is renamed to `audit-0.<number of its last record>.jsonl`.
        keep: Renamed files of each worker that are kept; older ones go, and the chain says so.
        queue: Records that may wait.
        drops: Whether records are lost when the queue is full, which the chain and a metric then say;
            else new exchanges must be refused.
        key: Makes the chain an HMAC, and the hashes of texts too.
    """

    directory: Path
    max_bytes: int = 100_000_000
    keep: int = 50
    queue: int = 10_000
    drops: bool = False
    key: bytes | None = None


class AuditLog:
    """The audit record of one worker.

    Raises:
        AuditError: The directory cannot be written, or the file there does not verify.
    """

    def __init__(self, plan: AuditPlan, worker: int, metrics: Metrics) -> None:
        self.plan = plan
        self._path = plan.directory / f"audit-{worker}.jsonl"
        self._metrics = metrics
        self._waiting: deque[bytes] = deque()
        self._head = chain.Head()
        self._size = 0
        self._dropped = 0
        self._failing = False
        self._stop = threading.Event()
        try:
            plan.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._open()
        except OSError as error:
            raise AuditError(f"{self._path}: cannot be written: {error.strerror}") from None
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    @property
    def refuses(self) -> bool:
        """Whether new exchanges must be refused, since they could not be recorded."""
        return not self.plan.drops and len(self._waiting) >= self.plan.queue

    def text_hash(self, text: str) -> str:
        """What stands for a text."""
        return chain.hash_of(text.encode("utf-8", "surrogatepass"), self.plan.key)

    def write(self, record: Mapping[str, object]) -> None:
        """Queue a record; never waits."""
        # Without `drops` an exchange that was let in is recorded, whatever the queue: their number is bounded.
        if self.plan.drops and len(self._waiting) >= self.plan.queue:
            self._dropped += 1
            self._metrics.audit_records.labels("dropped").inc()
            return
        self._waiting.append(msgspec.json.encode(record))

    def close(self) -> None:
        """Write what waits."""
        self._stop.set()
        self._thread.join(10)
        if self._waiting:
            log.error("audit: %d records could not be written", len(self._waiting))
        log.info("audit: %s ends at record %d %s", self._path.name, self._head.seq, self._head.hash)
        os.close(self._fd)

    # In the writer's thread from here on.

    def _run(self) -> None:
        unsynced = 0.0
        while not self._stop.wait(FLUSH_S):
            if self._flush():
                unsynced += FLUSH_S
            if unsynced >= SYNC_S:
                os.fdatasync(self._fd)
                unsynced = 0.0
        self._flush()
        os.fsync(self._fd)

    def _flush(self) -> bool:
        if self._dropped:
            count, self._dropped = self._dropped, 0
            self._waiting.append(_event("dropped", records=count))
        batch = list(self._waiting)
        if not batch:
            return False
        try:
            self._append(batch)
            if self._size >= self.plan.max_bytes:
                self._rotate()
        except OSError as error:
            if not self._failing:
                log.error("audit: %s cannot be written, records wait: %s", self._path, error.strerror)
            self._failing = True
            self._metrics.audit_records.labels("failed").inc()
            return False
        if self._failing:
            log.info("audit: %s is written again", self._path)
            self._failing = False
        return True

    def _append(self, records: list[bytes]) -> None:
        lines, head = [], self._head
        for record in records:
            line, head = chain.seal(head, record, self.plan.key)
            lines.append(line)
        data = b"".join(lines)
        try:
            _write_all(self._fd, data)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._head = head
        self._size += len(data)
        for _ in records:
            self._waiting.popleft()
        self._metrics.audit_records.labels("written").inc(len(records))

    def _open(self) -> None:
        """Continue the chain of the file; a last line that a kill tore is cut off, and the chain says so."""
        self._fd = _open_locked(self._path)
        data = _last_lines(self._fd)
        whole, _, torn = data.rpartition(b"\n")
        self._size = os.fstat(self._fd).st_size - len(torn)
        if torn:
            os.ftruncate(self._fd, self._size)
        last = whole.rpartition(b"\n")[2] if whole else _last_of(rotated(self._path))
        try:
            self._head = chain.follow(None, last, self.plan.key)[0] if last else chain.Head()
        except chain.Broken as error:
            os.close(self._fd)
            raise AuditError(
                f"{self._path}: the last record {error}; move the file away to begin anew"
            ) from None
        events = [_event("start")]
        if torn:
            events.insert(0, _event("torn", bytes=len(torn), sha256=chain.hash_of(torn, None)))
        # Not by `write`: the thread does not run yet, and these come first.
        self._waiting.extend(events)
        self._append(events)

    def _rotate(self) -> None:
        os.fsync(self._fd)
        self._path.rename(self._path.with_name(f"{self._path.stem}.{self._head.seq:012d}.jsonl"))
        new = _open_locked(self._path)
        os.close(self._fd)
        self._fd, self._size = new, 0
        old = rotated(self._path)[: -self.plan.keep or None]
        for path in old:
            path.unlink()
        if old:
            self._waiting.appendleft(_event("removed", up_to=int(old[-1].name.split(".")[1])))


def _open_locked(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise AuditError(f"{path}: another proxy writes there; give each a directory of its own") from None
    return fd


def _event(name: str, **more: object) -> bytes:
    return msgspec.json.encode({"event": name, "time": now(), **more})


def now() -> str:
    """RFC 3339, in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rotated(path: Path) -> list[Path]:
    """The renamed files of a worker's chain, oldest first."""
    return sorted(path.parent.glob(f"{path.stem}.*.jsonl"))


def _last_of(files: list[Path]) -> bytes:
    return files[-1].read_bytes().rstrip(b"\n").rpartition(b"\n")[2] if files else b""


def _last_lines(fd: int, size: int = 4_000_000) -> bytes:
    end = os.fstat(fd).st_size
    return os.pread(fd, size, max(end - size, 0))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
