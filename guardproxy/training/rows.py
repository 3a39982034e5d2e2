"""Labelled rows, and which of them a shipped model may learn from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from guardproxy.errors import SettingsError

OWN = Path(__file__).parent / "own_rows.jsonl"
LICENCES = {
    "advbench": "MIT", "bipia": "MIT", "cyberseceval_frr": "MIT", "cyberseceval_pi": "MIT",
    "figstep": "MIT", "garak": "Apache-2.0", "gptfuzz": "MIT", "harmbench": "MIT",
    "inthewild_jailbreak": "MIT", "jailbreakbench": "MIT / Apache-2.0", "mt_bench": "Apache-2.0",
    "multijail": "MIT", "openai_guardrails_demo": "MIT", "pyrit_scored": "MIT", "rakuda": "Apache-2.0",
    "red_instruct": "Apache-2.0", "role_prompts_benign": "CC0-1.0 / MIT", "self_instruct": "Apache-2.0",
    "xsafety": "Apache-2.0", "xstest": "CC BY 4.0", "guardproxy": "Apache-2.0",
}  # fmt: skip
"""Sources that may be learnt from. Left out: non-commercial and share-alike ones, and those that label
comments instead of requests (openai_moderation, coldataset, japanese_toxic)."""
EVALUATION_ONLY = ("alpaca", "do_not_answer", "qualifire_pi", "jcommonsenseqa")
"""Never learnt from: their licences do not allow it in a shipped product. Used to measure."""

HEADS = ("jailbreak", "harmful_request", "harmful_answer", "refusal")


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text, or question and answer."""

    source: str
    label: int
    text: str
    question: str | None
    lang: str


def read(paths: Iterable[Path]) -> dict[str, list[Row]]:
    """Rows for each classifier, out of `.jsonl` files or directories of them, and our own."""
    heads: dict[str, list[Row]] = {head: [] for head in HEADS}
    known = {*LICENCES, *EVALUATION_ONLY}
    for file in [*_files(paths), OWN]:
        source = "guardproxy" if file == OWN else file.stem
        if source not in known:
            continue
        for raw in _lines(file):
            for head, row in _assign(source, raw):
                heads[head].append(row)
    return heads


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.glob("*.jsonl"))
        elif path.is_file():
            yield path
        else:
            raise SettingsError(f"{path}: no such file or directory of rows")


def _lines(file: Path) -> Iterator[dict[str, object]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise SettingsError(f"{file}:{number}: not JSON: {error}") from None
            if "task" in value:
                yield value


def _assign(source: str, raw: dict[str, object]) -> Iterator[tuple[str, Row]]:
    task, prompt, response = raw["task"], str(raw.get("prompt") or ""), raw.get("response")
    label, lang = int(str(raw["label"])), str(raw.get("lang") or "en")
    if task == "injection":
        # One fixed sentence goes with every FigStep picture: nothing can be learnt from it.
        if source != "figstep":
            yield "jailbreak", Row(source, label, prompt, None, lang)
    elif task in ("prompt_harm", "overrefusal"):
        yield "harmful_request", Row(source, label, prompt, None, lang)
        # Asking for harm is no jailbreak, and everyday requests are none either.
        if label == 0 or source in ("advbench", "xstest"):
            yield "jailbreak", Row(source, 0, prompt, None, lang)
    elif task == "response_harm" and isinstance(response, str):
        yield "harmful_answer", Row(source, label, response, prompt, lang)
    elif task == "refusal" and isinstance(response, str):
        yield "refusal", Row(source, label, response[:600], None, lang)
        if source in ("rakuda", "mt_bench", "guardproxy", "self_instruct"):
            yield "harmful_answer", Row(source, 0, response, prompt, lang)
