"""Writes docs/quality/outside.md: the default policy on sets that nothing here was trained on.

python -m tests.quality.outside FOLDER [--out docs/quality/outside.md]

FOLDER holds clones of github.com/leolee99/PIGuard, bertiev/SimpleSafetyTests, HumanCompatibleAI/tensor-trust-data and
ThuCCSLab/JailbreakEval.
The Japanese rows stand beside this file: 40 prompts of SimpleSafetyTests, and 60 of NotInject and WildGuardTest (look-alikes, and
everyday ones), translated by us.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import numpy as np

from guardproxy.commands.looking import Case, Looker
from guardproxy.core.verdict import Action, Stage
from guardproxy.training.card import auroc
from tests.quality.figures import share, table
from tests.quality.outside_answers import SETS, judge, section

LOOKED_AT = ("jailbreak", "harmful_request")
DOCUMENT = 3000
"""Characters of a harmless document, around a request or by itself at least."""
MOST = 300
"""Rows of an attack set; the benign sets are read whole."""


@dataclass(frozen=True, slots=True)
class Source:
    """A set whose rows are all of one kind.

    Attributes:
        detector: Which classifier it is about, None: whom none of them should stop.
    """

    name: str
    licence: str
    detector: str | None
    what: str
    read: Callable[[Path], Iterator[str]]


def _notinject(folder: Path) -> Iterator[str]:
    for count in ("one", "two", "three"):
        yield from (row["prompt"] for row in _json(folder / f"PIGuard/datasets/NotInject_{count}.json"))


def _wildguard(folder: Path) -> Iterator[str]:
    yield from (row["prompt"] for row in _json(folder / "PIGuard/datasets/wildguard.json"))


def _simple(folder: Path) -> Iterator[str]:
    with (folder / "SimpleSafetyTests/SimpleSafetyTests - test cases.csv").open(encoding="utf-8") as lines:
        yield from (row["prompts_final"] for row in csv.DictReader(lines))


def _tensor_trust(kind: str) -> Callable[[Path], Iterator[str]]:
    def read(folder: Path) -> Iterator[str]:
        path = folder / f"tensor-trust-data/benchmarks/{kind}-robustness/v1/{kind}_robustness_dataset.jsonl"
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line)["attack"] for line in lines)

    return read


def _japanese(kind: str) -> Callable[[Path], Iterator[str]]:
    def read(_folder: Path) -> Iterator[str]:
        with Path(__file__).with_name("outside_ja.jsonl").open(encoding="utf-8") as lines:
            yield from (row["prompt"] for row in map(json.loads, lines) if row["set"] == kind)

    return read


def _documents(_folder: Path) -> Iterator[str]:
    """What the packages that are installed here say of themselves."""
    told = {d.metadata["Name"]: d.metadata.get_payload() for d in distributions()}
    yield from (text for _, text in sorted(told.items()) if isinstance(text, str) and len(text) > DOCUMENT)


def _in_document(
    kind: str, read: Callable[[Path], Iterator[str]], document: str
) -> Callable[[Path], Iterator[str]]:
    """A set's texts with a harmless document around them, or repeated to ten times its length."""
    middle = len(document) // 2

    def padded(folder: Path) -> Iterator[str]:
        for text in read(folder):
            yield {
                "after": f"{document}\n\n{text}",
                "before": f"{text}\n\n{document}",
                "inside": f"{document[:middle]}\n\n{text}\n\n{document[middle:]}",
                "repeated": f"{text}\n" * (10 * len(document) // len(text)),
            }[kind]

    return padded


def _json(path: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(path.read_text("utf-8"))
    return rows


ENGLISH = Path(__file__).parents[2].joinpath("docs/operations.md").read_text("utf-8")[:DOCUMENT]
JAPANESE = "\n".join(_japanese("everyday")(Path()))
IN_DOCUMENTS = tuple(
    Source(f"{name}, {kind} a document" if kind != "repeated" else f"{name}, repeated", "CC BY 4.0", "harmful_request",
           f"{len(document):,} harmless characters", _in_document(kind, read, document))
    for name, read, document in (
        ("SimpleSafetyTests", _simple, ENGLISH),
        ("SimpleSafetyTests in Japanese", _japanese("SimpleSafetyTests"), JAPANESE),
    )
    for kind in ("after", "before", "inside", "repeated")
)  # fmt: skip
SOURCES = (
    Source("NotInject", "MIT", None, "harmless, with words that injections use", _notinject),
    Source("WildGuardTest, harmless", "ODC-BY", None, "harmless, half of it dressed up as a jailbreak", _wildguard),
    Source("SimpleSafetyTests", "CC BY 4.0", "harmful_request", "requests for harm", _simple),
    Source("Tensor Trust, hijacking", "CC BY", "jailbreak", "prompt injections by players", _tensor_trust("hijacking")),
    Source("Tensor Trust, extraction", "CC BY", "jailbreak", "prompt injections by players", _tensor_trust("extraction")),
    Source("Japanese look-alikes", "MIT, ODC-BY", None, "harmless, with words of harm or injections", _japanese("look-alikes")),
    Source("Japanese everyday", "MIT, ODC-BY", None, "harmless", _japanese("everyday")),
    Source("SimpleSafetyTests in Japanese", "CC BY 4.0", "harmful_request", "requests for harm", _japanese("SimpleSafetyTests")),
    Source("Documents", "theirs", None, "harmless, descriptions of Python packages", _documents),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scored:
    """A source's rows: the highest score of each classifier; how many each stops, and `any` guard."""

    source: Source
    scores: dict[str, list[float]]
    stopped: dict[str, int]
    n: int


def texts_of(source: Source, folder: Path) -> list[str]:
    """Every row of a benign source, `MOST` of an attack, spread evenly."""
    texts = [text for text in source.read(folder) if text.strip()]
    if source.detector is None or len(texts) <= MOST:
        return texts
    step = len(texts) / MOST
    return [texts[int(i * step)] for i in range(MOST)]


def score(source: Source, folder: Path, looker: Looker) -> Scored:
    """What the policy makes of a source's texts."""
    texts = texts_of(source, folder)
    scores: dict[str, list[float]] = {name: [] for name in LOOKED_AT}
    stopped = {"any": 0, **dict.fromkeys(LOOKED_AT, 0)}
    for text in texts:
        (looked,) = looker.run(looker.look(Case(text), (Stage.INPUT,)))
        stopped["any"] += looked.verdict.action is Action.BLOCK
        for name in LOOKED_AT:
            told = [f for g in looked.verdict.guards for f in g.findings if f.detector == name]
            scores[name].append(max((f.score for f in told), default=0.0))
            stopped[name] += any(
                g.action is Action.BLOCK and any(f.detector == name for f in g.findings)
                for g in looked.verdict.guards
            )
    return Scored(source, scores, stopped, len(texts))


HEAD = """# The default policy on sets from outside

Written by `python -m tests.quality.outside FOLDER` (its first lines say what FOLDER holds). Nothing here was trained on these
sets; thresholds follow [audit.md](audit.md). They were looked at to compare trainings, of which the one that stops less was kept. The Japanese rows are our translations. [packages.md](packages.md) has the classifiers beside packages. Shares with Wilson 95 % intervals.

"""


def page(scored: Sequence[Scored]) -> str:
    """The page."""
    rows = [["set", "licence", "what it is", "n", "stopped", "by `jailbreak`", "by `harmful_request`"]]
    for s in scored:
        by = [share(s.stopped[name], s.n) for name in LOOKED_AT]
        rows.append(
            [s.source.name, s.source.licence, s.source.what, str(s.n), share(s.stopped["any"], s.n), *by]
        )
    benign = [s for s in scored if s.source.detector is None]
    against = [["attacks", *(f"against {s.source.name}" for s in benign)]]
    for s in scored:
        if s.source.detector is not None:
            name = s.source.detector
            against.append([f"{s.source.name} (`{name}`)", *(ranked(s, b, name) for b in benign)])
    return f"{HEAD}{table(rows[0], rows[1:])}\n\nAUROC of the classifier that an attack is for:\n\n{table(against[0], against[1:])}\n"


def in_documents(scored: Sequence[Scored]) -> str:
    """What is lost when a request stands in a long text."""
    rows = [[s.source.name, s.source.what, share(s.stopped["any"], s.n)] for s in scored]
    return f"The same requests in long texts:\n\n{table(['set', 'with', 'stopped'], rows)}\n"


def ranked(attack: Scored, benign: Scored, name: str) -> str:
    """AUROC of a classifier that should score one set above the other."""
    return f"{auroc(np.asarray(attack.scores[name]), np.asarray(benign.scores[name])):.3f}"


def score_all(sources: Iterable[Source], folder: Path) -> list[Scored]:
    """What the default policy makes of them."""
    looker = Looker("default")
    try:
        return [score(source, folder, looker) for source in sources]
    finally:
        looker.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Score and write."""
    parser = argparse.ArgumentParser("outside", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/quality/outside.md"))
    arguments = parser.parse_args(argv)
    looker = Looker("default")
    try:
        scored = [score(source, arguments.folder, looker) for source in SOURCES]
        padded = [score(source, arguments.folder, looker) for source in IN_DOCUMENTS]
        judged = [judge(answers, arguments.folder, looker) for answers in SETS]
    finally:
        looker.close()
    arguments.out.write_text(f"{page(scored)}\n{in_documents(padded)}\n{section(judged)}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
