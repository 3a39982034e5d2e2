"""Builds two tiny guard models that vLLM serves: `make_guards.py OUT` writes OUT/chat and OUT/classifier.

They know one thing, learnt here in seconds: a text that holds the word `forbidden` is unsafe. `chat` is a Llama of two
layers whose chat template frames the last turn as Llama Guard's does and which answers `safe` or `unsafe` and a code;
`classifier` is a BERT of two layers with the labels safe and unsafe. Run with the Python of the vLLM environment.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

WORD = "forbidden"
OTHERS = [
    "please",
    "tell",
    "me",
    "how",
    "to",
    "open",
    "the",
    "red",
    "door",
    "and",
    "count",
    "blue",
    "birds",
    "near",
    "a",
    "quiet",
    "river",
    "today",
]
TEMPLATE = (
    "{% if messages | length % 2 == 0 %}{% set role = 'Agent' %}{% else %}{% set role = 'User' %}{% endif %}"
    "{{ '<|begin|>Judge the last ' + role + ' message.\\n' }}"
    "{% for message in messages %}{{ message['role'] + ': ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}{{ '\\n' }}{% endfor %}"
    "{{ 'Verdict:' }}"
)
STEPS, BATCH = 400, 16


def tokenizer_of(template: str | None) -> PreTrainedTokenizerFast:
    """Whole bytes and the few words that matter."""
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    corpus = [
        f" {WORD} safe unsafe\nS9 user: assistant: Judge the last User Agent message.\nVerdict: "
        + " ".join(OTHERS)
    ] * 50
    special = ["<|pad|>", "<|begin|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokens.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        model_max_length=8192,
    )
    made.chat_template = template
    return made


def sentence(generator: random.Random, unsafe: bool) -> str:
    """Some words, with or without the one."""
    words = generator.choices(OTHERS, k=generator.randint(3, 9))
    if unsafe:
        words.insert(generator.randrange(len(words) + 1), WORD)
    return " ".join(words)


def build_chat(out: Path) -> None:
    """Trains on answers only: the loss of the prompt is masked."""
    tokenizer = tokenizer_of(TEMPLATE)
    torch.manual_seed(0)
    generator = random.Random(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=8192, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=False,
    ))  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(STEPS):
        rows = [example(generator, tokenizer) for _ in range(BATCH)]
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([r + [tokenizer.pad_token_id] * (longest - len(r)) for r, _ in rows])
        labels = torch.tensor([[-100] * p + r[p:] + [-100] * (longest - len(r)) for r, p in rows])
        mask = (ids != tokenizer.pad_token_id).long()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"chat: loss {loss.item():.4f}")  # noqa: T201 - a script
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def example(generator: random.Random, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], int]:
    """Token ids of a conversation with its verdict, and how many of them are the conversation."""
    unsafe, has_answer = generator.random() < 0.5, generator.random() < 0.5
    turns = [{"role": "user", "content": sentence(generator, unsafe and not has_answer)}]
    if has_answer:
        turns.append({"role": "assistant", "content": sentence(generator, unsafe)})
    prompt = tokenizer.apply_chat_template(turns, tokenize=False)
    verdict = "\n\nunsafe\nS9" if unsafe else "\n\nsafe"
    asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return asked + tokenizer(verdict, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id], len(
        asked
    )


def build_classifier(out: Path) -> None:
    """Two labels, in this order."""
    tokenizer = tokenizer_of(None)
    torch.manual_seed(0)
    generator = random.Random(0)
    model = BertForSequenceClassification(BertConfig(
        vocab_size=len(tokenizer), hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256,
        max_position_embeddings=512, pad_token_id=tokenizer.pad_token_id, num_labels=2,
        id2label={0: "safe", 1: "unsafe"}, label2id={"safe": 0, "unsafe": 1},
    ))  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    model.train()
    for _ in range(STEPS):
        answers = [generator.random() < 0.5 for _ in range(BATCH)]
        texts = [sentence(generator, a) for a in answers]
        batch = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
        loss = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=torch.tensor(answers).long(),
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"classifier: loss {loss.item():.4f}")  # noqa: T201 - a script
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    build_chat(target / "chat")
    build_classifier(target / "classifier")
    (target / "done.json").write_text(json.dumps({"word": WORD}))
