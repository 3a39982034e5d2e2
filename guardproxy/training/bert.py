"""The small encoder, in torch: MiniLM-L6 (Wang et al., NeurIPS 2020) with one linear head for each classifier.

Mean pooling over the tokens, as in all-MiniLM-L6-v2 (Apache-2.0), whose weights it starts from. Word
embeddings and the lowest layers stay as they were: what they know about words that no row holds is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 384
ATTENTION_HEADS = 12
LAYERS = 6
_EPSILON = 1e-12


class Layer(nn.Module):
    """One transformer layer, normalised after each half (Devlin et al., 2019)."""

    def __init__(self, weights: dict[str, Tensor], prefix: str, dropout: float) -> None:
        super().__init__()
        names = [f"{prefix}attention.self.{n}" for n in ("query", "key", "value")]
        self.qkv = _linear(
            torch.cat([weights[f"{n}.weight"] for n in names]),
            torch.cat([weights[f"{n}.bias"] for n in names]),
        )
        self.mixed = _linear_of(weights, f"{prefix}attention.output.dense")
        self.norm_mixed = _norm(weights, f"{prefix}attention.output.LayerNorm")
        self.wide = _linear_of(weights, f"{prefix}intermediate.dense")
        self.narrow = _linear_of(weights, f"{prefix}output.dense")
        self.norm = _norm(weights, f"{prefix}output.LayerNorm")
        self.dropout = dropout

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """One step; `mask` is added to the attention's logits."""
        batch, length, width = x.shape
        parts = self.qkv(x).view(batch, length, 3, ATTENTION_HEADS, width // ATTENTION_HEADS)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = self.mixed(seen.transpose(1, 2).reshape(batch, length, width))
        x = self.norm_mixed(x + functional.dropout(mixed, self.dropout, self.training))
        wide = self.narrow(functional.gelu(self.wide(x)))
        out: Tensor = self.norm(x + functional.dropout(wide, self.dropout, self.training))
        return out


class Encoder(nn.Module):
    """Token ids to one logit for each head.

    Args:
        weights: Of the published model, by their published names.
        heads: How many.
        frozen: The lowest layers that are not trained.
    """

    def __init__(self, weights: dict[str, Tensor], heads: int, frozen: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        words = weights["embeddings.word_embeddings.weight"]
        self.words = nn.Embedding(words.shape[0], words.shape[1])
        self.words.weight = nn.Parameter(words.clone(), requires_grad=False)
        self.places = nn.Parameter(
            weights["embeddings.position_embeddings.weight"].clone(), requires_grad=False
        )
        self.kinds = nn.Parameter(
            weights["embeddings.token_type_embeddings.weight"].clone(), requires_grad=False
        )
        self.norm = _norm(weights, "embeddings.LayerNorm")
        self.layers = nn.ModuleList(Layer(weights, f"encoder.layer.{i}.", dropout) for i in range(LAYERS))
        self.heads = nn.Linear(WIDTH, heads)
        self.frozen = frozen
        for module in (self.norm, *self.layers[:frozen]):
            module.requires_grad_(False)

    def forward(self, ids: Tensor, kinds: Tensor, mask: Tensor) -> Tensor:
        """Logits, one row a text; `kinds` is 0 for a question or a text alone, 1 for an answer."""
        x = self.norm(self.words(ids) + self.places[: ids.shape[1]] + self.kinds[kinds])
        blocked = (1.0 - mask[:, None, None, :].to(x.dtype)) * -1e4
        for index, layer in enumerate(self.layers):
            if index == self.frozen and self.training:
                x = functional.dropout(x, 0.1, True)
            x = layer(x, blocked)
        counted = mask.unsqueeze(-1).to(x.dtype)
        logits: Tensor = self.heads((x * counted).sum(1) / counted.sum(1))
        return logits


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0])
    made.weight.data = weight.clone()
    made.bias.data = bias.clone()
    return made


def _linear_of(weights: dict[str, Tensor], name: str) -> nn.Linear:
    return _linear(weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(weights: dict[str, Tensor], name: str) -> nn.LayerNorm:
    made = nn.LayerNorm(WIDTH, eps=_EPSILON)
    made.weight.data = weights[f"{name}.weight"].clone()
    made.bias.data = weights[f"{name}.bias"].clone()
    return made
