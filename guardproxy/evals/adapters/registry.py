"""The public sets that can be read, by name. A set's file is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from guardproxy.errors import SuiteError
from guardproxy.evals.adapters import hub
from guardproxy.evals.adapters.base import Adapter
from guardproxy.evals.case import Suite
from guardproxy.evals.version import version_of
from guardproxy.yamldoc import suggest

ADAPTERS: Mapping[str, str] = {
    name: f"guardproxy.evals.adapters.{name}"
    for name in (
        "figstep",
        "harmbench",
        "jailbreakbench",
        "jailbreakv",
        "mm_safetybench",
        "mossbench",
        "msts",
        "or_bench",
        "rows",
        "strongreject",
        "vlguard",
        "xstest",
    )
}


def adapter(name: str) -> Adapter:
    """An adapter by its name; `-` and capitals do not matter.

    Raises:
        SuiteError: There is none; says what was meant perhaps.
    """
    plain = name.lower().replace("-", "_")
    if plain not in ADAPTERS:
        raise SuiteError(f"no adapter named {name!r}{suggest(plain, ADAPTERS)}")
    found = import_module(ADAPTERS[plain]).ADAPTER
    assert isinstance(found, Adapter)
    return found


def read(name: str, where: str) -> Suite:
    """A public set as a suite.

    Args:
        name: Of the adapter.
        where: A path, or `hub`.

    Raises:
        SuiteError: The set is not there or not in its published layout.
    """
    known = adapter(name)
    if where == "hub":
        if known.read_hub is None:
            raise SuiteError(
                f"{known.name}: is not published as a table on a hub: fetch it and give its path"
            )
        cases = tuple(known.read_hub(hub.rows))
    else:
        path = Path(where).expanduser()
        if not where or not path.exists():
            raise SuiteError(f"{known.name}: no such path: {where!r}")
        cases = tuple(known.read(path))
    if not cases:
        raise SuiteError(f"{known.name}: {where}: no cases in it")
    try:
        return Suite(known.name, version_of(cases), cases, known.description, known.licence)
    except ValueError as error:
        raise SuiteError(f"{where}: {error}") from None
