"""Writes docs/quality/packages.md: the audit beside packages that carry a classifier of their own, on the same rows.

python -m tests.quality.packages FOLDER --judged new/judged.jsonl

FOLDER as for tests.quality.outside; the file is written by `guardproxy train`. Needs pip install 'stackone-defender[onnx]==0.9.4'
securevector-guardian-model==1.4.0 prompt-guardrail==1.0.1 aicordon==1.4.0 alt-profanity-check==1.9.1
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guardproxy.training.card import SHIPPED, auroc
from guardproxy.training.quality import LOOK_ALIKE
from tests.quality import figures
from tests.quality.figures import share, table
from tests.quality.outside import SOURCES, Scored, Source, ranked, score_all, texts_of

DETECTOR = "jailbreak"
Told = tuple[float, bool]
"""A score, and whether the package would stop the text at its own default threshold."""
HEAD = """# The audit beside packages

Written by `python -m tests.quality.packages` (its first lines say what it needs). The packages are those of PyPI that carry a text classifier
which runs offline: stackone-defender 0.9.4 (Apache-2.0, a MiniLM of our encoder's size; as for a tool's result), securevector-guardian-model 1.4.0,
prompt-guardrail 1.0.1, aicordon 1.4.0 (Picket; Apache-2.0, rules without a score: its AUROC is that of yes and no) and alt-profanity-check 1.9.1
(MIT). Each at its own default threshold, ours as in the default policy. What the packages learnt from is not known in full (stackone-defender names
JailbreakBench, ChatGPT jailbreaks and ToxicChat, of which rows are below); what of ours learnt from a source did not judge it. Shares with
Wilson 95 % intervals.
"""


def _stackone() -> Callable[[str], Told]:
    from stackone_defender import create_prompt_defense  # type: ignore[import-not-found]  # installed by hand

    defense = create_prompt_defense(block_high_risk=True)

    def told(text: str) -> Told:
        found = defense.defend_tool_result(text, "tool")
        return float(found.tier2_score or 0.0), not found.allowed

    return told


def _securevector() -> Callable[[str], Told]:
    from svguardian import resolve_runtime  # type: ignore[import-not-found]  # installed by hand
    from svguardian.model.pure_infer import PureGuardian  # type: ignore[import-not-found]  # installed by hand

    guardian = PureGuardian.load(resolve_runtime())

    def told(text: str) -> Told:
        found = guardian.predict(text)
        return float(found["malicious_score"]), found["verdict"] != "benign"

    return told


def _guardrail() -> Callable[[str], Told]:
    import guardify  # type: ignore[import-not-found]  # installed by hand

    def told(text: str) -> Told:
        found = guardify.detect(text)
        is_hit = found["label"] != "safe"
        return float(found["score"] if is_hit else 1 - found["score"]), is_hit

    return told


def _picket() -> Callable[[str], Told]:
    from aicordon import picket  # type: ignore[import-not-found]  # installed by hand

    rules = picket.load()

    def told(text: str) -> Told:
        is_hit = bool(rules.check(text).flagged)
        return float(is_hit), is_hit

    return told


def _profanity() -> Callable[[str], Told]:
    from profanity_check import predict_prob  # type: ignore[import-not-found]  # installed by hand

    def told(text: str) -> Told:
        score = float(predict_prob([text])[0])
        return score, score >= 0.5

    return told


PACKAGES: dict[str, Callable[[], Callable[[str], Told]]] = {
    "stackone-defender": _stackone,
    "securevector-guardian-model": _securevector,
    "prompt-guardrail": _guardrail,
    "aicordon": _picket,
    "alt-profanity-check": _profanity,
}


@dataclass(frozen=True, slots=True)
class System:
    """What one of them, or ours, makes of the rows of one classifier."""

    name: str
    scores: npt.NDArray[np.float64]
    stopped: npt.NDArray[np.bool_]


def _theirs(source: Source, folder: Path, judge: Callable[[str], Told]) -> Scored:
    told = [judge(text) for text in texts_of(source, folder)]
    stopped = sum(is_hit for _, is_hit in told)
    return Scored(source, {DETECTOR: [score for score, _ in told]}, {DETECTOR: stopped}, len(told))


def outside(ours: Sequence[Scored], theirs: Sequence[Scored], name: str) -> str:
    """`jailbreak` beside a package on the sets of outside.md."""
    rows = [
        [a.source.name, a.source.what, share(a.stopped[DETECTOR], a.n), share(b.stopped[DETECTOR], b.n)]
        for a, b in zip(ours, theirs, strict=True)
    ]
    stops = table(["set", "what it is", "stopped by `jailbreak`", f"by {name}"], rows)
    against = [
        [attack.source.name, benign.source.name, ranked(attack, benign, DETECTOR), ranked(*other, DETECTOR)]
        for (attack, benign), other in zip(product(ours, ours), product(theirs, theirs), strict=True)
        if attack.source.detector == DETECTOR and benign.source.detector is None
    ]
    ranks = table(["attacks", "against", "AUROC of `jailbreak`", f"of {name}"], against)
    return f"## Sets from outside: `{DETECTOR}` beside {name}\n\n{stops}\n\n{ranks}\n"


def same_rows(rows: Sequence[dict[str, Any]], judges: dict[str, Callable[[str], Told]]) -> str:
    """All of them on the rows of audit.md."""
    parts = ["## The rows of audit.md\n"]
    for head in ("jailbreak", "harmful_request", "harmful_answer"):
        own = [r for r in rows if r["head"] == head]
        ours = np.asarray([r["default"] for r in own])
        ngram = np.asarray([r["ngram"] for r in own])
        systems = [
            System("default", ours, ours >= SHIPPED[head]),
            System("n-gram alone", ngram, ngram >= SHIPPED[head]),
        ]
        for name, judge in judges.items():
            told = [judge(r["text"]) for r in own]
            systems.append(
                System(name, np.asarray([s for s, _ in told]), np.asarray([hit for _, hit in told]))
            )
        parts.append(f"### {head}\n\n{_table(own, systems)}\n")
    return "\n".join(parts)


def _table(rows: Sequence[dict[str, Any]], systems: Sequence[System]) -> str:
    label = np.asarray([r["label"] for r in rows])
    alike = np.asarray([r["source"] in LOOK_ALIKE for r in rows])
    lang = np.asarray([r["lang"] for r in rows])
    head = ["", "AUROC", "English", "Japanese", "caught", "false stops, look-alikes", "false stops, everyday"]
    lines = []
    for one in systems:
        ranks = [
            f"{auroc(one.scores[of & (label == 1)], one.scores[of & (label == 0)]):.3f}"
            for of in (label >= 0, lang == "en", lang == "ja")
        ]
        chosen = (label == 1, (label == 0) & alike, (label == 0) & ~alike)
        lines.append([one.name, *ranks, *(share(int(one.stopped[c].sum()), int(c.sum())) for c in chosen)])
    return table(head, lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Score and write."""
    parser = argparse.ArgumentParser("packages", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--judged", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/quality/packages.md"))
    arguments = parser.parse_args(argv)
    judges = {name: load() for name, load in PACKAGES.items()}
    sources = [s for s in SOURCES if s.detector in (None, DETECTOR)]
    strongest = next(iter(judges))
    theirs = [_theirs(source, arguments.folder, judges[strongest]) for source in sources]
    parts = [
        HEAD,
        same_rows(figures.load(arguments.judged), judges),
        outside(score_all(sources, arguments.folder), theirs, strongest),
    ]
    arguments.out.write_text("\n".join(parts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
