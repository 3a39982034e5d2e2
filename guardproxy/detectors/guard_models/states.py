"""Guard models with a state between safe and unsafe: how it is told on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guardproxy.detectors.guard_models.categories import CONTROVERSIAL, UNSAFE
from guardproxy.detectors.guard_models.served import Label

WORDS = {"safe": "safe", "controversial": "controversial", "unsafe": "unsafe"}
BETWEEN = 0.5
"""Score of what is controversial where the model does not tell how sure it is."""


def labels_of(word: str, shares: Mapping[str, float] | None, kinds: Sequence[str]) -> list[Label]:
    """The labels for a verdict.

    What was named gets the share of `unsafe` alone. `controversial` comes beside it, with the share of
    everything that is not safe: so a policy can take it for a hit, leave it out, or have it reviewed.

    Args:
        word: `safe`, `controversial` or `unsafe`.
        shares: How sure the model was of each of the three.
        kinds: Categories that it named.
    """
    unsafe = shares["unsafe"] if shares else float(word == "unsafe")
    if word == "safe":
        return [Label(UNSAFE, unsafe)]
    found = [Label(kind, unsafe) for kind in dict.fromkeys(kinds)] or [Label(UNSAFE, unsafe)]
    if word == "controversial":
        between = min(unsafe + shares["controversial"], 1.0) if shares else BETWEEN
        found.append(Label(CONTROVERSIAL, between))
    return found
