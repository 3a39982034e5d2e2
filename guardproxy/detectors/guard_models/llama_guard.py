"""Llama Guard 3, 3-Vision and 4: asked with a chat, whose template holds the taxonomy; answers `unsafe` and a line `S1,S9`.

The model judges the last turn: a user's, or an assistant's in the light of the user's. Its score is the share of
`unsafe` at the first token that is no white space (Llama Guard 3 begins with two line ends).
Sources: the model cards of Llama-Guard-3-8B, Llama-Guard-3-11B-Vision and Llama-Guard-4-12B (meta-llama), and
"Llama Guard 3" in Meta's "Model cards and prompt formats". Categories are those of the MLCommons taxonomy.
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

NAME = "llama_guard"
CATEGORY = {
    "S1": "violence", "S2": "crime", "S3": "sexual", "S4": "minors", "S5": "defamation", "S6": "advice",
    "S7": "privacy", "S8": "copyright", "S9": "weapons", "S10": "hate", "S11": "self_harm", "S12": "sexual",
    "S13": "politics", "S14": "code_abuse",
}  # fmt: skip
MAX_TOKENS = 32
"""All fourteen categories fit; the first line decides and needs one."""

_CODES = re.compile(r"S\d{1,2}(?:\s*,\s*S\d{1,2})*")


class LlamaGuard:
    """How it is asked and read."""

    path = "/v1/chat/completions"

    def __init__(self, *, logprobs: bool = True) -> None:
        self._logprobs = logprobs

    def bodies(self, asked: Asked) -> Sequence[Json]:
        """One chat."""
        return [chat_body(turns(asked), MAX_TOKENS, self._logprobs)]

    def read(self, answers: Sequence[object], _asked: Asked) -> Sequence[Label]:
        """`safe`, or `unsafe` and a line of codes. Anything after `safe` makes it unreadable."""
        reply = chat_reply(answers[0])
        text, start = reply.after_thinking()
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        word = lines[0].lower()
        if word not in ("safe", "unsafe") or (word == "safe" and len(lines) > 1):
            raise unreadable("it is neither safe nor unsafe")
        at = start + len(text) - len(text.lstrip())
        shares = reply.shares(at, {"safe": "safe", "unsafe": "unsafe"})
        score = shares["unsafe"] if shares else float(word == "unsafe")
        if word == "safe":
            return [Label(UNSAFE, score)]
        codes = re.findall(r"S\d+", lines[1]) if len(lines) > 1 and _CODES.fullmatch(lines[1]) else []
        return [Label(c, score) for c in dict.fromkeys(CATEGORY.get(code, UNSAFE) for code in codes)] or [
            Label(UNSAFE, score)
        ]


def build(parameters: Mapping[str, object], resources: Resources) -> Detector:
    """Keys: `pictures: true` for 3-Vision and 4."""
    given = Given(parameters, NAME)
    model = LlamaGuard(logprobs=given.flag("logprobs", True))
    sight = Sight(pictures=given.flag("pictures", False))
    return ServedGuard(NAME, backend_of(given, resources), model, given, sight)
