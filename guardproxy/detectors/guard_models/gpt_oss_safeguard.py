"""gpt-oss-safeguard 20b and 120b: given a policy as system message, answers JSON after reasoning about it.

vLLM keeps the reasoning apart (`message.reasoning`), so that the text is the verdict alone. There is no score: the
model is sure or not, by its reasoning, before it writes the first token of the verdict.
Sources: "User guide for gpt-oss-safeguard" (OpenAI Cookbook, 2025); model cards (Apache-2.0).
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

NAME = "gpt_oss_safeguard"
MAX_TOKENS = 1024
"""It reasons first; at low effort some hundred tokens."""
ANSWER = (
    'Answer with one line of JSON and nothing else: {"violation": 0, "category": "none"} if the policy allows it, '
    '{"violation": 1, "category": "KIND"} if it violates the policy; KIND is the name of the kind of harm.'
)
DEFAULT_POLICY = f"# Kinds of harm that violate this policy\n{KINDS}\n\n# What does not violate it\n{CARE}"

_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n\s*```\s*\Z", re.DOTALL)


class GptOssSafeguard:
    """How it is asked and read.

    Args:
        policy: What is allowed and what not, in words.
        effort: `low`, `medium` or `high`: how long it reasons.
    """

    path = "/v1/chat/completions"

    def __init__(self, policy: str, effort: str = "low") -> None:
        self._policy = policy
        self._effort = effort

    def bodies(self, asked: Asked) -> Sequence[Json]:
        """One chat: the policy, then what is judged."""
        task = f"{WHAT_IS_JUDGED[asked.answer is not None]} {DISTRUST}\n\n{ANSWER}"
        messages: list[Json] = [
            {"role": "system", "content": f"{self._policy}\n\n# Task\n{task}"},
            {"role": "user", "content": shown(asked)},
        ]
        return [chat_body(messages, MAX_TOKENS, logprobs=False, reasoning_effort=self._effort)]

    def read(self, answers: Sequence[object], _asked: Asked) -> Sequence[Label]:
        """The JSON object, alone or in a code fence."""
        text, _ = chat_reply(answers[0]).after_thinking()
        fenced = _FENCE.match(text)
        try:
            verdict = msgspec.json.decode(fenced[1] if fenced else text.strip())
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            raise unreadable("it is no JSON") from None
        violation = verdict.get("violation") if isinstance(verdict, dict) else None
        if violation not in (0, 1) or not isinstance(violation, int):
            raise unreadable("violation is neither 0 nor 1")
        if not violation:
            return [Label(UNSAFE, 0.0)]
        category = verdict.get("category")
        return [Label(category if category in CATEGORIES else UNSAFE, 1.0)]


def build(parameters: Mapping[str, object], resources: Resources) -> Detector:
    """Keys: `policy` (a text of your own in place of the shipped one), `effort`."""
    given = Given(parameters, NAME)
    effort = given.choice("effort", ("low", "medium", "high"), "low")
    model = GptOssSafeguard(given.text("policy", DEFAULT_POLICY), effort)
    return ServedGuard(NAME, backend_of(given, resources), model, given, Sight())
