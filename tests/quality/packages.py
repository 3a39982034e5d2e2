"""Writes docs/quality/packages.md: `jailbreak` beside a package that is made for the same, on sets that neither learnt from here.

python -m tests.quality.packages FOLDER   (FOLDER as for tests.quality.outside; needs pip install 'stackone-defender[onnx]==0.9.4')
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from tests.quality.figures import share, table
from tests.quality.outside import SOURCES, Scored, Source, ranked, read_arguments, score_all, texts_of

PACKAGE = "stackone-defender"
DETECTOR = "jailbreak"
HEAD = """# `jailbreak` beside a package

Written by `python -m tests.quality.packages FOLDER`. {package} {version} (Apache-2.0, a MiniLM of the same size) at its own default threshold, as
for a tool's result; `jailbreak` in the default policy. Nothing of ours was trained on these sets; what the package was trained on is
not known in full (its configuration names JailbreakBench, ChatGPT jailbreaks and ToxicChat). Shares with Wilson 95 % intervals.

"""


def _theirs(source: Source, folder: Path, defense: Any) -> Scored:
    texts = texts_of(source, folder)
    scores, stopped = [], 0
    for text in texts:
        told = defense.defend_tool_result(text, "tool")
        stopped += not told.allowed
        scores.append(float(told.tier2_score or 0.0))
    return Scored(source, {DETECTOR: scores}, {DETECTOR: stopped}, len(texts))


def page(ours: Sequence[Scored], theirs: Sequence[Scored]) -> str:
    """The page."""
    rows = [
        [
            a.source.name,
            a.source.what,
            str(a.n),
            share(a.stopped[DETECTOR], a.n),
            share(b.stopped[DETECTOR], b.n),
        ]
        for a, b in zip(ours, theirs, strict=True)
    ]
    stops = table(["set", "what it is", "n", "stopped by `jailbreak`", f"by {PACKAGE}"], rows)
    against = [
        [attack.source.name, benign.source.name, ranked(attack, benign, DETECTOR), ranked(*other, DETECTOR)]
        for (attack, benign), other in zip(product(ours, ours), product(theirs, theirs), strict=True)
        if attack.source.detector == DETECTOR and benign.source.detector is None
    ]
    ranks = table(["attacks", "against", "AUROC of `jailbreak`", f"of {PACKAGE}"], against)
    return f"{HEAD.format(package=PACKAGE, version=version(PACKAGE))}{stops}\n\n{ranks}\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Score and write."""
    from stackone_defender import create_prompt_defense  # type: ignore[import-not-found]  # installed by hand

    arguments = read_arguments("packages", __doc__, argv)
    sources = [s for s in SOURCES if s.detector in (None, DETECTOR)]
    defense = create_prompt_defense(block_high_risk=True)
    theirs = [_theirs(source, arguments.folder, defense) for source in sources]
    arguments.out.write_text(page(score_all(sources, arguments.folder), theirs), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
