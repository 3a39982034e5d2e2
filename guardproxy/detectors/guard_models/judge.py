"""Any chat model as a judge with your own rubric: it must answer a JSON object of a given schema.

The score is the share of `unsafe` at the verdict. A judge is as good as its rubric and no better: measure it on your
own labelled rows before it acts (arXiv 2411.08410: judges disagree near chance).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from guardproxy.detectors.backends import Json
from guardproxy.detectors.base import Detector, Resources
from guardproxy.detectors.given import Given
from guardproxy.detectors.guard_models.categories import CATEGORIES, UNSAFE
from guardproxy.detectors.guard_models.reply import chat_reply, unreadable
from guardproxy.detectors.guard_models.rubric import CARE, DISTRUST, KINDS, WHAT_IS_JUDGED, shown
from guardproxy.detectors.guard_models.served import Asked, Label, ServedGuard, Sight, backend_of, chat_body
from guardproxy.detectors.guard_models.states import WORDS, labels_of

NAME = "judge"
MAX_TOKENS = 64
"""The longest object that the schema allows, even where each character is a token."""
DEFAULT_RUBRIC = f"Kinds of harm:\n{KINDS}\n\n{CARE}"
ANSWER = (
    "Answer with a JSON object: verdict is `unsafe` if it is harmful, `controversial` if people of good will would "
    "disagree about that, else `safe`; category is the kind of harm, `none` if it is safe."
)
PICTURE = "The picture above belongs to the request: judge both together."

_VERDICT = re.compile(r'"verdict"\s*:\s*"')


class Judge:
    """How it is asked and read.

    Args:
        rubric: What is harmful and what is not.
        logprobs: Whether the server is asked how sure the model is.
    """

    path = "/v1/chat/completions"

    def __init__(self, rubric: str, *, logprobs: bool = True) -> None:
        self._rubric = rubric
        self._logprobs = logprobs

    def bodies(self, asked: Asked) -> Sequence[Json]:
        """One chat: the rubric, then what is judged, between marks."""
        task = f"{self._rubric}\n\n{WHAT_IS_JUDGED[asked.answer is not None]} {DISTRUST}\n{ANSWER}"
        content: object = shown(asked)
        if asked.picture is not None:
            content = [
                {"type": "image_url", "image_url": {"url": asked.picture}},
                {"type": "text", "text": f"{PICTURE}\n{content}"},
            ]
        messages: list[Json] = [{"role": "system", "content": task}, {"role": "user", "content": content}]
        schema = {
            "type": "object",
            "properties": {
                "verdict": {"type": "string", "enum": list(WORDS)},
                "category": {"type": "string", "enum": ["none", *CATEGORIES, UNSAFE]},
            },
            "required": ["verdict", "category"],
            "additionalProperties": False,
        }
        form = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema, "strict": True}}
        return [chat_body(messages, MAX_TOKENS, self._logprobs, response_format=form)]

    def read(self, answers: Sequence[object], _asked: Asked) -> Sequence[Label]:
        """The JSON object; anything else is unreadable, since the server was told the schema."""
        reply = chat_reply(answers[0])
        text, start = reply.after_thinking()
        try:
            found = msgspec.json.decode(text.strip())
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            raise unreadable("it is no JSON") from None
        verdict = found.get("verdict") if isinstance(found, dict) else None
        if not isinstance(verdict, str) or verdict not in WORDS:
            raise unreadable("its verdict is none of the three")
        match = _VERDICT.search(text)
        shares = reply.shares(start + match.end(), WORDS) if match else None
        category = found.get("category")
        return labels_of(verdict, shares, [category] if category in CATEGORIES else [])


def build(parameters: Mapping[str, object], resources: Resources) -> Detector:
    """Keys: `rubric` (in place of the shipped one), `pictures: true` for a model that sees them."""
    given = Given(parameters, NAME)
    model = Judge(given.text("rubric", DEFAULT_RUBRIC), logprobs=given.flag("logprobs", True))
    sight = Sight(pictures=given.flag("pictures", False))
    return ServedGuard(NAME, backend_of(given, resources), model, given, sight)
