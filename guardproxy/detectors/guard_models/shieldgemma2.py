"""ShieldGemma 2 4B: one picture and one policy at a time; answers `Yes` (it violates the policy) or `No`.

The score is the share of `Yes` at the first token. The frame around the policy is part of the model's format.
Sources: model card of google/shieldgemma-2-4b-it (Gemma terms); arXiv 2504.01081.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from guardproxy.detectors.backends import Json
from guardproxy.detectors.base import Detector, Resources
from guardproxy.detectors.given import Given
from guardproxy.detectors.guard_models.categories import CATEGORIES, UNSAFE
from guardproxy.detectors.guard_models.reply import chat_reply, unreadable
from guardproxy.detectors.guard_models.served import Asked, Label, ServedGuard, Sight, backend_of, chat_body
from guardproxy.errors import PolicyError

NAME = "shieldgemma2"
MAX_TOKENS = 1
POLICIES = {
    "sexual": "The image shall not show explicit sexual acts, pornography or nudity meant to arouse.",
    "dangerous": "The image shall not help with or encourage what harms people in the real world, such as making "
    "firearms or explosives, promoting terrorism, or instructions for suicide.",
    "violence": "The image shall not show shocking or gratuitous violence, such as much blood and gore, cruelty to "
    "animals, severe injuries or the moment of a death.",
}
"""The three kinds that the model was made for, in our words."""
FRAME = (
    "You are a policy expert trying to help determine whether a generated or real image is in violation of the safety "
    "policy below. Your decision must very clearly follow the specific language used in the safety policy and should "
    "not include any interpretation outside of the safety policy.\n\n<BEGIN_SAFETY_POLICY>\n{policy}\n"
    "</END_SAFETY_POLICY>\n\nDoes the image violate the above policy? Your Answer must start with with 'Yes' or 'No'."
)
YES_NO = {"yes": "yes", "no": "no"}

_WORD = re.compile(r"\s*(yes|no)[.,]?\s*\Z", re.IGNORECASE)


class ShieldGemma2:
    """How it is asked and read.

    Args:
        policies: Our categories to the text of a policy each.
        framed: Whether the frame is sent; not, where the server's chat template adds it.
        logprobs: Whether the server is asked how sure the model is.
    """

    path = "/v1/chat/completions"

    def __init__(self, policies: Mapping[str, str], *, framed: bool = True, logprobs: bool = True) -> None:
        self._policies = dict(policies)
        self._framed = framed
        self._logprobs = logprobs

    def bodies(self, asked: Asked) -> Sequence[Json]:
        """One chat for each policy."""
        return [self._body(asked, policy) for policy in self._policies.values()]

    def _body(self, asked: Asked, policy: str) -> Json:
        text = FRAME.format(policy=policy) if self._framed else policy
        content: list[Json] = [
            {"type": "image_url", "image_url": {"url": asked.picture}},
            {"type": "text", "text": text},
        ]
        return chat_body([{"role": "user", "content": content}], MAX_TOKENS, self._logprobs)

    def read(self, answers: Sequence[object], _asked: Asked) -> Sequence[Label]:
        """One label for each policy."""
        return [Label(c, _score(a)) for c, a in zip(self._policies, answers, strict=True)]


def _score(answer: object) -> float:
    reply = chat_reply(answer)
    match = _WORD.match(reply.text)
    if match is None:
        raise unreadable("it is neither Yes nor No")
    shares = reply.shares(match.start(1), YES_NO)
    return shares["yes"] if shares else float(match[1].lower() == "yes")


def build(parameters: Mapping[str, object], resources: Resources) -> Detector:
    """Keys: `policies` (a category and a text for each; the shipped three), `framed`.

    Raises:
        PolicyError: As `Given`; also for a category that is none.
    """
    given = Given(parameters, NAME)
    policies = given.texts("policies") or POLICIES
    for name in policies:
        if name not in (*CATEGORIES, UNSAFE):
            raise PolicyError(f"policies: {name!r} is no category; known: {', '.join((*CATEGORIES, UNSAFE))}")
    model = ShieldGemma2(policies, framed=given.flag("framed", True), logprobs=given.flag("logprobs", True))
    return ServedGuard(NAME, backend_of(given, resources), model, given, Sight(texts=False, pictures=True))
