"""What a model server answered, read with distrust: a text, its tokens, and how sure the model was of a word."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from guardproxy.errors import DetectorError

_AROUND = "\"'<>{}.,:;"
_THINKING = re.compile(r"\s*<think>.*?</think>", re.DOTALL)


def unreadable(what: str) -> DetectorError:
    """The answer says nothing: neither safe nor unsafe."""
    return DetectorError(f"the guard model's answer cannot be read: {what}", "unreadable")


@dataclass(frozen=True, slots=True)
class Token:
    """One token with what else could have stood there: `(text, natural logarithm of its probability)`."""

    text: str
    could_be: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer.

    Attributes:
        text: All of it.
        tokens: Empty where the server gives none.
        is_cut: Whether it ended because it was long enough.
    """

    text: str
    tokens: tuple[Token, ...] = ()
    is_cut: bool = False

    def after_thinking(self) -> tuple[str, int]:
        """What comes after a leading `<think>` block, and where it starts.

        Raises:
            DetectorError: `unreadable`: there is nothing, or the thinking never ends.
        """
        match = _THINKING.match(self.text)
        start = match.end() if match else 0
        rest = self.text[start:]
        if not rest.strip():
            raise unreadable("it is empty")
        if rest.lstrip().startswith("<think>"):
            raise unreadable("it never stops thinking")
        return rest, start

    def shares(self, at: int, words: Mapping[str, str]) -> dict[str, float] | None:
        """How sure the model was of each of some words that could begin at a character of the text.

        Tokens are compared without white space, which servers give back differently.

        Args:
            at: Where the word begins.
            words: Names to words; none may be the start of another.

        Returns:
            Shares that add up to 1, or None if the tokens do not tell.
        """
        wanted = len("".join(self.text[:at].split()))
        seen, spelled = 0, "".join(self.text.split())
        for token in self.tokens:
            bare = "".join(token.text.split())
            if bare and not spelled.startswith(bare, seen):
                return None
            # A token may begin with the quote or bracket before the word.
            if seen <= wanted < seen + len(bare) and not bare[: wanted - seen].strip(_AROUND):
                return _shares(token, words)
            seen += len(bare)
        return None


def _shares(token: Token, words: Mapping[str, str]) -> dict[str, float] | None:
    found = dict.fromkeys(words, 0.0)
    for text, logarithm in token.could_be:
        start = text.strip().strip(_AROUND).lower()
        meant = [name for name, word in words.items() if start and word.lower().startswith(start)]
        if len(meant) == 1:
            found[meant[0]] += math.exp(min(logarithm, 0.0))
    total = sum(found.values())
    return {name: share / total for name, share in found.items()} if total > 0 else None


def _choice(answer: object) -> Mapping[str, object]:
    choices = answer.get("choices") if isinstance(answer, Mapping) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise unreadable("it has no choice")
    return choices[0]


def chat_reply(answer: object) -> Reply:
    """Of `/v1/chat/completions`.

    Raises:
        DetectorError: `unreadable`: it is no such answer, or it has no text.
    """
    choice = _choice(answer)
    message = choice.get("message")
    text = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(text, str):
        raise unreadable("it has no text")
    logprobs = choice.get("logprobs")
    listed = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    tokens = tuple(_chat_token(t) for t in listed) if isinstance(listed, list) else ()
    return Reply(text, () if None in tokens else tokens, choice.get("finish_reason") == "length")  # type: ignore[arg-type]  # none is None


def _chat_token(token: object) -> Token | None:
    if not isinstance(token, Mapping) or not isinstance(token.get("token"), str):
        return None
    others = token.get("top_logprobs")
    found = dict(_pairs(others if isinstance(others, list) else ()))
    found.update(_pairs([token]))
    return Token(token["token"], tuple(found.items()))


def _pairs(listed: object) -> list[tuple[str, float]]:
    assert isinstance(listed, (list, tuple))
    return [
        (one["token"], float(one["logprob"]))
        for one in listed
        if isinstance(one, Mapping) and isinstance(one.get("token"), str) and _is_number(one.get("logprob"))
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def completion_reply(answer: object) -> Reply:
    """Of `/v1/completions`.

    Raises:
        DetectorError: As `chat_reply`.
    """
    choice = _choice(answer)
    text = choice.get("text")
    if not isinstance(text, str):
        raise unreadable("it has no text")
    return Reply(text, _completion_tokens(choice.get("logprobs")), choice.get("finish_reason") == "length")


def _completion_tokens(logprobs: object) -> tuple[Token, ...]:
    if not isinstance(logprobs, Mapping):
        return ()
    texts, tops = logprobs.get("tokens"), logprobs.get("top_logprobs")
    if not isinstance(texts, list) or not isinstance(tops, list) or len(texts) != len(tops):
        return ()
    found = []
    for text, top in zip(texts, tops, strict=True):
        if not isinstance(text, str):
            return ()
        pairs = top.items() if isinstance(top, Mapping) else ()
        found.append(Token(text, tuple((str(t), float(p)) for t, p in pairs if _is_number(p))))
    return tuple(found)
