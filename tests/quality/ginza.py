"""Prints how well GiNZA finds Japanese names, and what it takes: why it is not taken (docs/privacy.md).

pip install ginza ja-ginza && python -m tests.quality.ginza [../shared/data]
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import ja_ginza

from tests.quality.figures import load, share

TEXTS = 400


def overlaps(one: tuple[int, int], others: list[tuple[int, int]]) -> bool:
    """Whether a span touches any of the others."""
    return any(one[0] < end and start < one[1] for start, end in others)


def main() -> None:
    """Measure on the first held-out rows and print."""
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    model = ja_ginza.load(exclude=["parser", "morphologizer", "compound_splitter", "bunsetu_recognizer"])
    rows = [r for r in load(data / "stockmark_ner_ja.jsonl") if r["split"] == "valid"][:TEXTS]
    model(rows[0]["prompt"])
    found = names = right = hits = 0
    started = time.process_time()
    for row in rows:
        got = [(e.start_char, e.end_char) for e in model(row["prompt"]).ents if e.label_ == "Person"]
        true = [(s["start"], s["end"]) for s in row["meta"]["spans"] if s["type"] == "人名"]
        names, hits = names + len(true), hits + len(got)
        found += sum(overlaps(span, got) for span in true)
        right += sum(overlaps(span, true) for span in got)
    ms = (time.process_time() - started) * 1e6 / sum(len(r["prompt"]) for r in rows)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"recall {share(found, names)}, precision {share(right, hits)}\n")
    sys.stdout.write(f"{ms:.0f} CPU milliseconds for 1,000 characters, {peak_mb:.0f} MB of memory\n")


if __name__ == "__main__":
    main()
