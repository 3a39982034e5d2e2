"""`guardproxy audit tail | verify`: read the audit record, and whether it is whole."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from guardproxy.errors import AuditError
from guardproxy.settings import read_secret
from guardproxy.telemetry import chain
from guardproxy.telemetry.audit import rotated

FOLLOW_S = 0.2


def verify(directory: Path, key: str | None, head: str | None) -> int:
    """Look whether each worker's chain is whole; returns 0, or 1 if one is not.

    Args:
        directory: Where the chains are.
        key: `env:NAME` or `file:PATH`, if they were made with one.
        head: A hash that was kept elsewhere: the chain must hold it.
    """
    secret = read_secret(key)
    code, is_held = 0, head is None
    for path in _chains(directory):
        try:
            first, last, count, hashes = _verify(path, secret.encode() if secret else None)
        except chain.Broken as broken:
            sys.stdout.write(f"{broken}\n")
            code = 1
            continue
        is_held = is_held or head in hashes
        sys.stdout.write(
            f"{path.name}: records {first} to {last.seq} whole, {count} in all, head {last.hash}\n"
        )
    if not is_held:
        sys.stdout.write(f"head {head}: no chain holds it: records at an end were taken away\n")
        code = 1
    return code


def _chains(directory: Path) -> list[Path]:
    paths = sorted(p for p in directory.glob("audit-*.jsonl") if p.name.count(".") == 1)
    if not paths:
        raise AuditError(f"{directory}: no audit record there")
    return paths


def _verify(path: Path, key: bytes | None) -> tuple[int, chain.Head, int, set[str]]:
    head: chain.Head | None = None
    first, count, removed = 0, 0, 0
    hashes = set()
    for file in [*rotated(path), path]:
        for number, line in enumerate(file.read_bytes().splitlines(keepends=True), 1):
            if not line.endswith(b"\n"):
                break  # being written at this moment, or torn by a kill: never acknowledged
            try:
                head, record = chain.follow(head, line, key)
            except chain.Broken as error:
                raise chain.Broken(f"{file}:{number}: {error}") from None
            first = first or head.seq
            count += 1
            hashes.add(head.hash)
            if b'"removed"' in record:
                removed = max(removed, _removed(record))
    if first - 1 > removed:
        raise chain.Broken(f"{path}: records 1 to {first - 1} are missing, and no rotation removed them")
    return first, head or chain.Head(), count, hashes


def _removed(record: bytes) -> int:
    read = msgspec.json.decode(record)
    return int(read["up_to"]) if read.get("event") == "removed" else 0


def tail(directory: Path, count: int, *, follow: bool, as_json: bool) -> int:
    """Print the last records, and with `follow` those that come."""
    chains = _chains(directory)
    lines: list[bytes] = []
    places = {}
    for path in chains:
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        places[path] = len(whole)
        lines += whole.splitlines()[-count:]
    records = sorted((_record(x) for x in lines), key=lambda r: str(r.get("time")))
    _print(records[-count:], as_json)
    while follow:
        time.sleep(FOLLOW_S)
        for path in places:
            _print(_news(path, places), as_json)
    return 0


def _news(path: Path, places: dict[Path, int]) -> Iterator[dict[str, Any]]:
    if path.stat().st_size < places[path]:
        places[path] = 0  # rotated: a new file
    with path.open("rb") as file:
        file.seek(places[path])
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    places[path] += len(whole)
    return (_record(line) for line in whole.splitlines())


def _record(line: bytes) -> dict[str, Any]:
    try:
        read = msgspec.json.decode(line)
        return dict(read["record"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return {"event": "unreadable line"}


def _print(records: Iterator[dict[str, Any]] | list[dict[str, Any]], as_json: bool) -> None:
    for record in records:
        text = msgspec.json.encode(record).decode() if as_json else _sentence(record)
        sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _sentence(record: dict[str, Any]) -> str:
    if "event" in record:
        more = " ".join(f"{k}={v}" for k, v in record.items() if k not in ("event", "time"))
        return f"{record.get('time', '-')}  — {record['event']} {more}".rstrip()
    hits = ", ".join(
        sorted({f"{v['guard']}:{v['wanted']}" for v in record["verdicts"] if v["wanted"] != "allow"})
    )
    unjudged = ",".join(record["unjudged"])
    return (
        f"{record['time']}  {record['request_id']}  {record['key']}  {record['model']}  "
        f"{record['policy']}@{record['version']}  {record['outcome']}"
        f"{'  ' + hits if hits else ''}{'  unjudged: ' + unjudged if unjudged else ''}"
    )
