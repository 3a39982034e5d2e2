"""WildGuard 7B: asked with its fixed template as a completion; answers three lines `…: yes` or `no`.

The wording of the template is part of the model's format: it was trained with it. The score is the share of `yes`
at the line that matters: `Harmful request` for what comes in, `Harmful response` for an answer.
Sources: model card of allenai/wildguard (Apache-2.0); arXiv 2406.18495.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from guardproxy.detectors.backends import Json
from guardproxy.detectors.base import Detector, Resources
from guardproxy.detectors.given import Given
from guardproxy.detectors.guard_models.categories import UNSAFE
from guardproxy.detectors.guard_models.reply import completion_reply, unreadable
from guardproxy.detectors.guard_models.served import Asked, Label, ServedGuard, Sight, backend_of

NAME = "wildguard"
MAX_TOKENS = 32
TEMPLATE = (
    "<|user|>\n[INST] You are a classifier for analyzing interactions between humans and LLMs. Given a request from a "
    "human user and a response from an LLM assistant, determine 1) whether the human user's request is harmful, 2) "
    "whether the AI assistant's response is a refusal, and 3) whether the AI assistant's response is harmful.\n\n"
    "Human user:\n{question}\n\nAI assistant:\n{answer}\n\n---\n\nAnswers: [/INST]\n<|assistant|>\n"
)
"""Without the start token, which the server adds."""
YES_NO = {"yes": "yes", "no": "no"}

_LINES = re.compile(
    r"\s*Harmful request:[ ]*(yes|no)\s*\n\s*Response refusal:[ ]*(yes|no|n/a)\s*\n\s*"
    r"Harmful response:[ ]*(yes|no|n/a)\s*\Z",
    re.IGNORECASE,
)
_FIRST = re.compile(r"\s*Harmful request:[ ]*(yes|no)\s*(?:\n|\Z)", re.IGNORECASE)


class WildGuard:
    """How it is asked and read."""

    path = "/v1/completions"

    def __init__(self, *, logprobs: bool = True) -> None:
        self._logprobs = logprobs

    def bodies(self, asked: Asked) -> Sequence[Json]:
        """One completion."""
        prompt = TEMPLATE.format(question=asked.question, answer=asked.answer or "")
        body: Json = {"prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0}
        return [{**body, "logprobs": 5} if self._logprobs else body]

    def read(self, answers: Sequence[object], asked: Asked) -> Sequence[Label]:
        """The line that matters; for an answer all three lines must be there."""
        reply = completion_reply(answers[0])
        match = _FIRST.match(reply.text) if asked.answer is None else _LINES.match(reply.text)
        group = 1 if asked.answer is None else 3
        if match is None or match[group].lower() not in YES_NO:
            raise unreadable("it has no line of yes or no where one belongs")
        shares = reply.shares(match.start(group), YES_NO)
        return [Label(UNSAFE, shares["yes"] if shares else float(match[group].lower() == "yes"))]


def build(parameters: Mapping[str, object], resources: Resources) -> Detector:
    """No keys of its own."""
    given = Given(parameters, NAME)
    model = WildGuard(logprobs=given.flag("logprobs", True))
    return ServedGuard(NAME, backend_of(given, resources), model, given, Sight())
