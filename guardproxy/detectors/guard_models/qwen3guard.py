"""Qwen3Guard-Gen 0.6B, 4B and 8B: asked with a chat; answers lines `Safety:`, `Categories:` and `Refusal:`.

Its third state is `Controversial`; the score is the share of `Unsafe` at the label.
Sources: https://github.com/QwenLM/Qwen3Guard (README, Apache-2.0) and the Qwen3Guard technical report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from guardproxy.detectors.backends import Json
from guardproxy.detectors.base import Detector, Resources
from guardproxy.detectors.given import Given
from guardproxy.detectors.guard_models.categories import UNSAFE
from guardproxy.detectors.guard_models.reply import chat_reply, unreadable
from guardproxy.detectors.guard_models.served import (
    Asked,
    Label,
    ServedGuard,
    Sight,
    backend_of,
    chat_body,
    turns,
)
from guardproxy.detectors.guard_models.states import WORDS, labels_of

NAME = "qwen3guard"
CATEGORY = {
    "violent": "violence",
    "non-violent illegal acts": "crime",
    "sexual content or sexual acts": "sexual",
    "pii": "privacy",
    "personally identifiable information": "privacy",
    "suicide & self-harm": "self_harm",
    "unethical acts": "unethical",
    "politically sensitive topics": "politics",
    "copyright violation": "copyright",
    "jailbreak": "jailbreak",
}
MAX_TOKENS = 64

_SAFETY = re.compile(r"Safety:[ \t]*(Safe|Controversial|Unsafe)[ \t]*(?=\n|\Z)")
_LINE = re.compile(r"(Safety|Categories|Refusal):.*")


class Qwen3Guard:
    """How it is asked and read."""

    path = "/v1/chat/completions"

    def __init__(self, *, logprobs: bool = True) -> None:
        self._logprobs = logprobs

    def bodies(self, asked: Asked) -> Sequence[Json]:
        """One chat."""
        return [chat_body(turns(asked), MAX_TOKENS, self._logprobs)]

    def read(self, answers: Sequence[object], _asked: Asked) -> Sequence[Label]:
        """The label and its categories. A line that is none of the three makes it unreadable."""
        reply = chat_reply(answers[0])
        text, start = reply.after_thinking()
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        match = _SAFETY.search(text)
        if match is None or text[: match.start()].strip() or not all(_LINE.fullmatch(one) for one in lines):
            raise unreadable("it has no line of Safety first, or lines of something else")
        if text[match.start() :].count("Safety:") > 1:
            raise unreadable("it has two labels")
        shares = reply.shares(start + match.start(1), WORDS)
        return labels_of(match[1].lower(), shares, _kinds(lines))


def _kinds(lines: Sequence[str]) -> list[str]:
    named = next((line for line in lines if line.startswith("Categories:")), "Categories: None")
    words = (word.strip().lower() for word in named.partition(":")[2].split(","))
    return [CATEGORY.get(word, UNSAFE) for word in words if word and word != "none"]


def build(parameters: Mapping[str, object], resources: Resources) -> Detector:
    """No keys of its own."""
    given = Given(parameters, NAME)
    model = Qwen3Guard(logprobs=given.flag("logprobs", True))
    return ServedGuard(NAME, backend_of(given, resources), model, given, Sight())
