"""`guardproxy key new | list | revoke`: who may use the proxy."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from guardproxy import keys
from guardproxy.errors import KeyFileError
from guardproxy.yamldoc import suggest


def new(path: Path, name: str, rights: Sequence[str], limits: Mapping[str, int | None]) -> int:
    """Make a key: it goes to stdout, what is said about it to stderr."""
    for right in rights:
        if right not in get_args(keys.Right):
            raise KeyFileError(f"--right: unknown right {right!r}{suggest(right, get_args(keys.Right))}")
    try:
        key = keys.add(path, name, rights, keys.KeyLimits.model_validate(limits))  # type: ignore[arg-type]  # looked at above
    except ValidationError as error:
        first = error.errors()[0]
        raise KeyFileError(f"{first['loc'][-1]}: {first['msg']}, got {first['input']!r}") from None
    sys.stderr.write(f"guardproxy: key {name!r} made; {path} keeps its digest only, so keep this:\n")
    sys.stdout.write(key + "\n")
    return 0


def list_all(path: Path) -> int:
    """Print every key: never more of it than the first characters of its digest."""
    for key in keys.read(path).keys:
        limits = ", ".join(f"{n}={v}" for n, v in key.limits.model_dump(exclude_none=True).items())
        state = f"revoked {key.revoked}" if key.revoked else "in force"
        words = (
            key.name,
            state,
            f"created {key.created}",
            f"sha256 {key.sha256[:12]}",
            f"rights: {', '.join(key.rights) or 'none'}",
            f"limits: {limits or 'none'}",
        )
        sys.stdout.write("  ".join(words) + "\n")
    return 0


def revoke(path: Path, name: str) -> int:
    """End a key."""
    keys.revoke(path, name)
    sys.stdout.write(f"{name}: revoked\n")
    return 0
