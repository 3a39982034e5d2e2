"""Finds a suite by its reference: a path, `starter`, or a public set as `ADAPTER:PATH`."""

from __future__ import annotations

from pathlib import Path

from guardproxy.errors import SuiteError
from guardproxy.evals import suitefile
from guardproxy.evals.adapters import registry
from guardproxy.evals.case import Suite
from guardproxy.yamldoc import suggest

STARTER = Path(__file__).parent / "starter"


def load(reference: str | Path) -> Suite:
    """The suite that a reference names.

    Args:
        reference: A directory with a `suite.yaml` (or that file); `starter`, the shipped suite; or
            `ADAPTER:PATH`, a public set in its published layout, such as `figstep:/sets/FigStep`;
            `ADAPTER:hub` loads it with the `datasets` library where the set is published so.

    Raises:
        SuiteError: It cannot be found or read; says which file, line and field.
    """
    if isinstance(reference, str):
        if reference == "starter":
            return suitefile.read(STARTER)
        name, colon, rest = reference.partition(":")
        if colon and not Path(reference).exists() and len(name) > 1:  # one letter is a drive
            return registry.read(name, rest)
        reference = Path(reference).expanduser()
    if not reference.exists():
        known = ("starter", *(f"{name}:" for name in registry.ADAPTERS))
        raise SuiteError(f"no suite at {str(reference)!r}{suggest(str(reference), known)}")
    return suitefile.read(reference)
