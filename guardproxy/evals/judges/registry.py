"""Every judge by name."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from guardproxy.errors import EvalError
from guardproxy.evals.asking import base_url
from guardproxy.evals.judges.base import Judge
from guardproxy.evals.judges.chat import ChatJudge
from guardproxy.evals.judges.classifiers import Classifiers, Guard
from guardproxy.evals.judges.keywords import Keywords

KNOWN = "keywords, classifiers, guard:DETECTOR or chat:URL#MODEL"
DEFAULT = "keywords,classifiers"

ClientOf = Callable[[str], httpx.AsyncClient]


def parse(names: str, client_of: ClientOf) -> tuple[Judge, ...]:
    """Judges, in order; the first one's labels are the report's.

    Args:
        names: `keywords,classifiers,chat:http://judge:8000#qwen`.
        client_of: Makes a client for a base address.

    Raises:
        EvalError: A name is unknown or given twice.
    """
    judges: list[Judge] = []
    for name in (n.strip() for n in names.split(",")):
        judge = _one(name, client_of)
        if any(j.name == judge.name for j in judges):
            raise EvalError(f"--judges: {name}: given twice")
        judges.append(judge)
    return tuple(judges)


def _one(name: str, client_of: ClientOf) -> Judge:
    kind, _, rest = name.partition(":")
    if name == "keywords":
        return Keywords()
    if name == "classifiers":
        return Classifiers()
    if kind == "guard" and rest:
        return Guard(rest)
    if kind == "chat":
        where, _, model = rest.partition("#")
        if not model:
            raise EvalError(f"--judges: {name}: expected chat:URL#MODEL")
        return ChatJudge(client_of(base_url(where)), where, model)
    raise EvalError(f"--judges: unknown judge {name!r}; known: {KNOWN}")
