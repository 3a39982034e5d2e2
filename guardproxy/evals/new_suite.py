"""`guardproxy eval new`: a business suite from a short interview, or from the operator's own requests."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guardproxy.errors import SuiteError
from guardproxy.evals.case import Suite
from guardproxy.evals.nearby import groups_of
from guardproxy.evals.suitefile import HEAD, read
from guardproxy.evals.templates import LANGUAGES, Json, Service, cases_of
from guardproxy.yamldoc import spell, told

Ask = Callable[[str], str]
MAX_TOPICS = 40
MAX_REQUESTS = 100_000
_JAPANESE = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")

QUESTIONS = {
    "en": {
        "name": "Name of the service: ",
        "purpose": "What does it do, in one sentence? ",
        "languages": "Languages of its users (en, ja; several with a comma): ",
        "answers": "Topics it must answer ({language}), one a line, an empty line ends:\n  ",
        "declines": "Topics it must leave to others ({language}), such as 'dosage of medicines', one a line, an empty line ends:\n  ",
        "more": "  ",
        "none": "At least one topic is needed.\n  ",
    },
    "ja": {
        "name": "サービスの名前: ",
        "purpose": "何をするサービスですか(一文で): ",
        "languages": "利用者の言語(en, ja。複数はコンマ区切り): ",
        "answers": "必ず答えるべき話題({language})を一行に一つ。空行で終わり:\n  ",
        "declines": "答えずにほかへ任せる話題({language})。例「薬の用量」。一行に一つ、空行で終わり:\n  ",
        "more": "  ",
        "none": "少なくとも一つ必要です。\n  ",
    },
}


class Request(BaseModel):
    """A line of the operator's own requests; what is left out is filled in."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str | None = None
    prompt: Annotated[str, Field(min_length=1)]
    expect: Literal["comply", "refuse_or_block", "either"] = "comply"
    category: str = "own"
    language: str | None = None
    group: str | None = None
    twin: str | None = None
    pictures: list[str | dict[str, Any]] = []
    turns: list[dict[str, Any]] = []


def interview(ask: Ask, language: str) -> Service:
    """Ask what a service is for.

    Args:
        ask: Shows a question and returns the answer, as `input` does.
        language: Of the questions: `en` or `ja`.

    Raises:
        SuiteError: The answers ended too early, or a language has no templates.
    """
    words = QUESTIONS[language]
    try:
        name = _needed(ask, words["name"])
        purpose = ask(words["purpose"]).strip()
        spoken = [
            w.strip().lower() for w in ask(words["languages"]).replace("、", ",").split(",") if w.strip()
        ]
        languages = tuple(dict.fromkeys(spoken)) or (language,)
        unknown = [one for one in languages if one not in LANGUAGES]
        if unknown:
            raise SuiteError(
                f"languages: there are templates for {', '.join(LANGUAGES)}; got {', '.join(unknown)}"
            )
        answers, declines = (
            {one: _topics(ask, words, what, one) for one in languages} for what in ("answers", "declines")
        )
    except EOFError:
        raise SuiteError("the interview ended before all was answered: nothing was written") from None
    return Service(name, purpose, languages, answers, declines)


def _needed(ask: Ask, question: str) -> str:
    while not (answer := ask(question).strip()):
        pass
    return answer


def _topics(ask: Ask, words: dict[str, str], what: str, language: str) -> tuple[str, ...]:
    found: list[str] = []
    question = words[what].replace("{language}", language)
    while len(found) < MAX_TOPICS:
        topic = ask(question).strip()[:100]
        if topic:
            found.append(topic)
        elif found:
            break
        question = words["more"] if found else words["none"]
    return tuple(dict.fromkeys(found))


def from_interview(out: Path, service: Service) -> Suite:
    """Write a suite made of our templates, and read it back.

    Raises:
        SuiteError: `out` holds something already.
    """
    return _write(out, service.name, service.purpose, cases_of(service))


def from_requests(out: Path, requests: Path, name: str, language: str | None = None) -> Suite:
    """Write a suite of the operator's own requests, and read it back.

    Near-duplicates are proposed as wordings of one item; a group that is given stays.

    Args:
        out: Directory to make.
        requests: A prompt a line, or JSON lines with a `prompt` and any field of a case.
        name: Of the suite.
        language: Of all that does not say its own; else Japanese where there are kana or kanji, or English.

    Raises:
        SuiteError: A line cannot be used; says which and why.
    """
    rows = list(_requests(requests))
    if not rows:
        raise SuiteError(f"{requests}: no requests in it")
    firsts = groups_of([row.prompt for row in rows])
    names = [row.id or f"r-{number:05d}" for number, row in enumerate(rows, 1)]
    sizes = Counter((first, row.expect) for first, row in zip(firsts, rows, strict=True))
    lines = []
    for own, first, row in zip(names, firsts, rows, strict=True):
        # Wordings of one item expect the same; what looks alike and does not is a pair of twins at best.
        proposed = f"{names[first]}/{row.expect}" if sizes[first, row.expect] > 1 else own
        line = row.model_dump(exclude_defaults=True) | {
            "id": own,
            "expect": row.expect,
            "category": row.category,
        }
        line["language"] = row.language or language or _guess(row.prompt)
        lines.append({**line, "group": row.group or proposed})
    return _write(out, name, f"Own requests of {requests.name}", iter(lines), pictures=requests.parent)


def _requests(path: Path) -> Iterator[Request]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}: not UTF-8 text: {error}") from None
    if len(lines) > MAX_REQUESTS:
        raise SuiteError(f"{path}: at most {MAX_REQUESTS} lines, got {len(lines)}")
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _request(line.strip(), f"{path}:{number}")


def _request(line: str, place: str) -> Request:
    if not line.startswith("{"):
        return Request(prompt=line)
    try:
        return Request.model_validate(msgspec.json.decode(line))
    except msgspec.DecodeError as error:
        raise SuiteError(f"{place}: not valid JSON: {error}") from None
    except ValidationError as error:
        details = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
        raise SuiteError(f"{place}: {spell(details['loc'])}: {told(details, Request)}") from None


def _guess(prompt: str) -> str:
    return "ja" if _JAPANESE.search(prompt) else "en"


def slug(name: str) -> str:
    """A name as suites may have it: `Mori Café` as `mori-cafe`; Japanese alone becomes `suite`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:64] or "suite"


def _write(out: Path, name: str, purpose: str, lines: Iterable[Json], pictures: Path | None = None) -> Suite:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SuiteError(f"{out}: expected a new or empty directory")
    out.mkdir(parents=True, exist_ok=True)
    head = {"schema": 1, "name": slug(name), "description": purpose, "licence": "", "files": ["cases.jsonl"]}
    encoded = [msgspec.json.encode(line) for line in lines]
    (out / HEAD).write_text(yaml.safe_dump(head, allow_unicode=True, sort_keys=False), encoding="utf-8")
    (out / "cases.jsonl").write_bytes(b"\n".join(encoded) + b"\n")
    if pictures is not None:
        _copy_pictures(out, [msgspec.json.decode(line) for line in encoded], pictures)
    return read(out)


def _copy_pictures(out: Path, lines: list[Json], root: Path) -> None:
    for line in lines:
        listed = line.get("pictures", [])
        for one in listed if isinstance(listed, list) else []:
            source = root / one if isinstance(one, str) else None
            if source is None or not source.resolve().is_relative_to(root.resolve()) or not source.is_file():
                continue  # reading the suite back says which is missing
            target = out / str(one)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
