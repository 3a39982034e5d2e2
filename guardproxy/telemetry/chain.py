"""A hash chain over JSON lines: what was changed or taken away is seen. Reads and writes no file.

A line is `{"seq":…,"prev":"…","record":{…},"hash":"…"}`. Its hash is over every byte before `,"hash"`, and
`prev` is the hash of the line before (the construction of RFC 6962's predecessor, Haber and Stornetta
1991). With a key it is an HMAC (RFC 2104): then nobody without the key can write a new chain either.
What is cut off at the end is seen only against a head that was kept elsewhere.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256

import msgspec

START = "0" * 64
_TAIL = len(b',"hash":""}') + 64


@dataclass(frozen=True, slots=True)
class Head:
    """The last line of a chain."""

    seq: int = 0
    hash: str = START


class Broken(Exception):
    """A line does not continue the chain; the message says how."""


class _Line(msgspec.Struct):
    seq: int
    prev: str
    record: msgspec.Raw
    hash: str


def hash_of(body: bytes, key: bytes | None) -> str:
    """Hex SHA-256, or HMAC-SHA-256 with a key."""
    return sha256(body).hexdigest() if key is None else hmac.new(key, body, sha256).hexdigest()


def seal(head: Head, record: bytes, key: bytes | None) -> tuple[bytes, Head]:
    """The line that continues a chain with a record (JSON, without line breaks), and the new head."""
    body = b'{"seq":%d,"prev":"%s","record":%s' % (head.seq + 1, head.hash.encode(), record)
    value = hash_of(body, key)
    return body + b',"hash":"%s"}\n' % value.encode(), Head(head.seq + 1, value)


def follow(head: Head | None, line: bytes, key: bytes | None) -> tuple[Head, bytes]:
    """Look whether a line continues a chain; gives the new head and the record.

    Args:
        head: Of the chain so far; None takes any beginning.
        line: With or without its line break.
        key: The chain's, if it has one.

    Raises:
        Broken: It does not.
    """
    line = line.rstrip(b"\n")
    try:
        read = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, UnicodeError):
        raise Broken("is not a line of an audit record") from None
    if not line.endswith(b'"}') or not hmac.compare_digest(hash_of(line[:-_TAIL], key), read.hash):
        raise Broken("was changed: its hash is not that of its content (or the key is another one)")
    if head is not None and (read.seq, read.prev) != (head.seq + 1, head.hash):
        missing = read.seq - head.seq - 1
        what = f"{missing} records before it are missing" if missing > 0 else "is not where it was written"
        raise Broken(f"{what}: expected record {head.seq + 1}, got {read.seq}")
    return Head(read.seq, read.hash), bytes(read.record)
