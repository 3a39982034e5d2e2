"""Writes docs/quality/privacy.md: what `pii`, `secrets` and `person_names` find, and whom they alarm wrongly.

python -m tests.quality.privacy [--data ../shared/data] [--out docs/quality/privacy.md]
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from guardproxy.core.content import Segment
from guardproxy.detectors import registry
from guardproxy.detectors.base import Content, Detector, Resources
from guardproxy.detectors.forms.form import Hit
from guardproxy.detectors.pii import ENTITIES
from guardproxy.detectors.pii import detector as pii_detector
from guardproxy.detectors.secrets import detector as secrets_detector
from guardproxy.errors import PolicyError
from tests.detectors.secret_samples import Maker
from tests.quality.figures import load, share, table
from tests.quality.privacy_rows import HELD_OUT, KNOWN, Row, innocent_rows, rows

THRESHOLD = 0.5
Spot = Callable[[str], list[Hit]]
Table = list[list[str]]

PRESIDIO = {
    "CREDIT_CARD": "card",
    "EMAIL_ADDRESS": "email",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "PHONE_NUMBER": "phone",
    "US_SSN": "ssn",
}
EVERYDAY = ("alpaca", "mt_bench", "cyberseceval_frr", "rakuda", "jcommonsenseqa", "stockmark_ner_ja")


def above(spot: Spot) -> Spot:
    """Only what a guard with the default threshold acts on."""
    return lambda text: [hit for hit in spot(text) if hit.score >= THRESHOLD]


@dataclass
class Count:
    """Of one entity: true spans, those found as it, those covered by anything; hits and right ones among them."""

    spans: int = 0
    found: int = 0
    covered: int = 0
    hits: int = 0
    right: int = 0


@dataclass
class Tally:
    """Counts by entity."""

    by_entity: dict[str, Count] = field(default_factory=dict)

    def of(self, entity: str) -> Count:
        return self.by_entity.setdefault(entity, Count())

    def add(self, spans: Sequence[tuple[str, int, int]], hits: Sequence[Hit]) -> None:
        """Count one text: a span is found if one hit of its entity holds all of it."""
        for entity, start, end in spans:
            count = self.of(entity)
            count.spans += 1
            count.found += any(h.category == entity and h.start <= start and end <= h.end for h in hits)
            covered = {at for h in hits for at in range(max(h.start, start), min(h.end, end))}
            count.covered += len(covered) == end - start
        for hit in hits:
            count = self.of(hit.category)
            count.hits += 1
            count.right += any(
                e == hit.category and hit.start < end and start < hit.end for e, start, end in spans
            )

    def lines(self) -> Iterator[list[str]]:
        for entity, c in sorted(self.by_entity.items()):
            yield [entity, share(c.found, c.spans), share(c.covered, c.spans), share(c.right, c.hits)]


HEAD = ("entity", "found as it, whole", "covered by any hit", "precision of its hits")


def presidio(spot: Spot, data: Path, types: dict[str, str]) -> str:
    """Recall and precision on the synthetic English set."""
    tally = Tally()
    for row in load(data / "presidio_synth.jsonl"):
        spans = [(types[s["type"]], s["start"], s["end"]) for s in row["meta"]["spans"] if s["type"] in types]
        tally.add(spans, spot(row["prompt"]))
    return table(HEAD, tally.lines())


def japanese(spot: Spot, made: Sequence[Row]) -> str:
    """Recall and precision on rendered rows: one true span in each."""
    tally = Tally()
    for row in made:
        tally.add([(row.entity, row.start, row.end)], spot(row.text))
    return table(HEAD, tally.lines())


def texts_of(data: Path, source: str) -> list[str]:
    """Prompts and answers of a source, each once."""
    found = [
        text for row in load(data / f"{source}.jsonl") for text in (row["prompt"], row["response"]) if text
    ]
    return list(dict.fromkeys(found))


def false_alarms(spots: dict[str, Spot], sources: dict[str, list[str]]) -> str:
    """Texts with a hit, by source and detector, with what the hits were taken for."""
    lines = []
    for source, texts in sources.items():
        for name, spot in spots.items():
            alarms = [hits for text in texts if (hits := spot(text))]
            kinds = Counter(category for hits in alarms for category in {h.category for h in hits})
            said = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common()) or "-"
            lines.append([source, name, share(len(alarms), len(texts)), said])
    return table(("source", "detector", "texts with a hit", "hits by kind"), lines)


def secrets(spot: Spot, seeds: range) -> str:
    """Made-up secrets of every kind: the rules know their forms, so this says that they work and no more."""
    found, n = Counter[str](), Counter[str]()
    for seed in seeds:
        for kind, text, secret in Maker(seed).samples():
            n[kind] += 1
            at = text.index(secret)
            found[kind] += any(h.start <= at and at + len(secret) <= h.end for h in spot(text))
    missed = [[kind, share(found[kind], n[kind])] for kind in sorted(n) if found[kind] < n[kind]]
    total = f"{len(n)} kinds, all together covered whole: {share(found.total(), n.total())}.\n"
    return total + ("\n" + table(("kind with a miss", "covered whole"), missed) if missed else "")


def cost(spot: Spot, texts: Sequence[str]) -> str:
    """CPU microseconds for 1,000 characters."""
    spot(texts[0])
    started = time.process_time()
    for text in texts:
        spot(text)
    return f"{(time.process_time() - started) * 1e9 / sum(map(len, texts)):.0f}"


def names_spot() -> Spot | None:
    """`person_names`, or None if its extra is not installed."""
    try:
        detector = registry.build("person_names", {}, Resources())
    except PolicyError:
        return None

    async def look(detector: Detector, text: str) -> list[Hit]:
        found = await detector.detect(Content((Segment("content", "c", text),)))
        return [Hit(f.span.start, f.span.end, f.category, f.score) for f in found if f.span]

    loop = asyncio.new_event_loop()
    return lambda text: loop.run_until_complete(look(detector, text))


def report(data: Path) -> str:
    """The whole document."""
    pii, secret = pii_detector(ENTITIES), secrets_detector()
    spots = {"pii": above(pii.spot), "secrets": above(secret.spot)}
    everyday = {source: texts_of(data, source) for source in EVERYDAY}
    known, held_out = rows(KNOWN, 10, 1), rows(HELD_OUT, 10, 2)
    innocent = {"rendered look-alikes (Japanese)": innocent_rows(20, 3)}
    english, japanese_texts = everyday["alpaca"], everyday["stockmark_ner_ja"]
    parts = [
        (Path(__file__).parent / "privacy_head.md").read_text("utf-8").rstrip(),
        "## English: presidio_synth\n\n859 synthetic texts; some telephone numbers in them have forms that nobody "
        "issues.\n\n" + presidio(spots["pii"], data, PRESIDIO),
        f"## Japanese: rendered rows\n\nHeld-out templates ({len(held_out)} rows; written after the rules, never used to change them):\n\n"
        + japanese(spots["pii"], held_out),
        f"Templates seen while the rules were written ({len(known)} rows):\n\n"
        + japanese(spots["pii"], known),
        "## False alarms\n\nTexts in which nobody looked for personal data: a hit may be right. The look-alikes are "
        "order numbers, dates, product codes, prices and versions.\n\n"
        + false_alarms(spots, {**everyday, **innocent}),
        "## Secrets\n\n" + secrets(spots["secrets"], range(100, 120)),
        "## Cost\n\nCPU microseconds for 1,000 characters, one look at each text, on the machine that made this page.\n\n"
        + table(
            ("detector", "English (alpaca)", "Japanese (stockmark_ner_ja)"),
            [[name, cost(spot, english), cost(spot, japanese_texts)] for name, spot in spots.items()],
        ),
        "## Names\n\n" + names(data, everyday),
    ]
    return "\n\n".join(parts) + "\n"


def names(data: Path, everyday: dict[str, list[str]]) -> str:
    """The figures of `person_names`, apart: a model guesses there."""
    spot = names_spot()
    if spot is None:
        return "Not measured: the extra `names` is not installed."
    alarms = {source: everyday[source][:500] for source in ("alpaca", "cyberseceval_frr", "jcommonsenseqa")}
    texts = everyday["alpaca"][:500]
    return (
        "`person_names` on presidio_synth (489 names, many of them not English):\n\n"
        + presidio(above(spot), data, {"PERSON": "person"})
        + "\n\nHits in everyday texts (at most 500 of each; many do name people):\n\n"
        + false_alarms({"person_names": above(spot)}, alarms)
        + f"\n\nCost: {cost(spot, texts)} CPU microseconds for 1,000 characters of English."
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("docs/quality/privacy.md"))
    chosen = parser.parse_args()
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(report(chosen.data), "utf-8")


if __name__ == "__main__":
    main()
