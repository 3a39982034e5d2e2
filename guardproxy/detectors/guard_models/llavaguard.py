"""LlavaGuard: one picture with a policy of nine categories; answers JSON of rating, category and rationale.

The rationale comes last and is cut off: nobody reads it. The score is the share of `Unsafe` at the rating.
Sources: https://github.com/ml-research/LlavaGuard (Apache-2.0); arXiv 2406.05113. The names of the categories and the
form of the answer are the model's; the rules for each category are in our words: give `policy` to use others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from guardproxy.detectors.backends import Json
from guardproxy.detectors.base import Detector, Resources
from guardproxy.detectors.given import Given
from guardproxy.detectors.guard_models.categories import UNSAFE
from guardproxy.detectors.guard_models.reply import chat_reply, unreadable
from guardproxy.detectors.guard_models.served import Asked, Label, ServedGuard, Sight, backend_of, chat_body
from guardproxy.detectors.guard_models.states import labels_of

NAME = "llavaguard"
MAX_TOKENS = 48
CATEGORY = {
    "O1": "hate", "O2": "violence", "O3": "sexual", "O4": "nudity", "O5": "crime", "O6": "drugs", "O7": "self_harm",
    "O8": "animal_cruelty", "O9": "disaster",
}  # fmt: skip
POLICY = """\
Assess whether the picture is safe under the policy below.

O1: Hate, Humiliation, Harassment. Not allowed: contempt for people for the group they belong to, humiliation. \
Allowed: reports and teaching about it.
O2: Violence, Harm, or Cruelty. Not allowed: praise of violence, torture, gore for its own sake. \
Allowed: news, history, art and sport.
O3: Sexual Content. Not allowed: sexual acts, pictures meant to arouse. Allowed: sex education, medicine.
O4: Nudity Content. Not allowed: uncovered private parts. Allowed: medicine, and works of art of that kind.
O5: Criminal Planning. Not allowed: how to commit a crime, or praise of it. Allowed: reports and prevention.
O6: Weapons or Substance Abuse. Not allowed: making weapons or illegal drugs, invitations to use them. \
Allowed: weapons in museums, sport and the services; medicine.
O7: Self-Harm. Not allowed: encouraging or glorifying it. Allowed: help and teaching about it.
O8: Animal Cruelty. Not allowed: cruelty to animals, or praise of it. Allowed: general information about it.
O9: Disasters or Emergencies. Not allowed: exposing victims. Allowed: respectful reports and history.

Steps: 1. Choose a "rating": "Unsafe" if the picture violates the policy, else "Safe". 2. Choose the "category"; \
"NA: None applying" if there is none. 3. Give a "rationale".
Answer in this form:
{
  "rating": "Unsafe" or "Safe",
  "category": one of "O1: Hate, Humiliation, Harassment", "O2: Violence, Harm, or Cruelty", "O3: Sexual Content", \
"O4: Nudity Content", "O5: Criminal Planning", "O6: Weapons or Substance Abuse", "O7: Self-Harm", \
"O8: Animal Cruelty", "O9: Disasters or Emergencies", "NA: None applying",
  "rationale": a text
}"""
RATINGS = {"safe": "safe", "controversial": "review needed", "unsafe": "unsafe"}

_RATING = re.compile(
    r'\s*(?:```(?:json)?\s*)?\{\s*"rating"\s*:\s*"(Safe|Unsafe|Review Needed)"'
    r'(?:\s*,\s*"category"\s*:\s*"(O\d|NA)\b)?',
)


class LlavaGuard:
    """How it is asked and read.

    Args:
        policy: The text that comes after the picture.
        logprobs: Whether the server is asked how sure the model is.
    """

    path = "/v1/chat/completions"

    def __init__(self, policy: str = POLICY, *, logprobs: bool = True) -> None:
        self._policy = policy
        self._logprobs = logprobs

    def bodies(self, asked: Asked) -> Sequence[Json]:
        """One chat."""
        content: list[Json] = [
            {"type": "image_url", "image_url": {"url": asked.picture}},
            {"type": "text", "text": self._policy},
        ]
        return [chat_body([{"role": "user", "content": content}], MAX_TOKENS, self._logprobs)]

    def read(self, answers: Sequence[object], _asked: Asked) -> Sequence[Label]:
        """Rating and category, from the beginning of the object; `Review Needed` is the third state."""
        reply = chat_reply(answers[0])
        text, start = reply.after_thinking()
        match = _RATING.match(text)
        if match is None:
            raise unreadable("it does not begin with a rating")
        shares = reply.shares(start + match.start(1), RATINGS)
        word = next(name for name, rating in RATINGS.items() if rating == match[1].lower())
        kinds = [CATEGORY.get(match[2], UNSAFE)] if match[2] and match[2] != "NA" else []
        return labels_of(word, shares, kinds)


def build(parameters: Mapping[str, object], resources: Resources) -> Detector:
    """Keys: `policy`, a whole text in place of the shipped one."""
    given = Given(parameters, NAME)
    model = LlavaGuard(given.text("policy", POLICY), logprobs=given.flag("logprobs", True))
    return ServedGuard(NAME, backend_of(given, resources), model, given, Sight(texts=False, pictures=True))
