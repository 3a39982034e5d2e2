"""Makes a request canonical before it is judged: so what was judged is what is sent.

Special tokens in client text lose their power, system texts become one message, and turns that
the proxy itself blocked leave the history.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby, pairwise

from guardproxy.core.content import Message, Part, Request, TextPart, Tool, ToolCall
from guardproxy.core.token_families import EXACT_TOKENS, FAMILY_TOKENS, FORMS
from guardproxy.errors import WireError

_BREAK = "\u200b"

_HIDDEN = re.compile(
    "(\U0001f3f4\U000e0067\U000e0062(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074|\U000e0077\U000e006c\U000e0073)\U000e007f)"
    "|[\U000e0000-\U000e007f]+"
    "|([\ufe00-\ufe0f\U000e0100-\U000e01ef])[\ufe00-\ufe0f\U000e0100-\U000e01ef]+"
)
"""Text that nobody sees and a model reads: tag characters, which spell ASCII (but for the flags of England, Scotland
and Wales, which are written with them: UTS 51), and runs of variation selectors, of which one at a time has a use."""
_REACH = 80
"""Longer than any control token."""


class SpecialTokens:
    """Takes the power from control tokens of the served model in client text.

    Args:
        extra: Further tokens, from the settings.
    """

    def __init__(self, extra: Iterable[str] = ()) -> None:
        anyhow = [*FAMILY_TOKENS, *filter(None, extra)]
        firsts = {c for t in anyhow for c in (t[0], t[0].lower(), t[0].upper())}
        self._tokens = {first: _starting(first, anyhow) for first in firsts | {t[0] for t in EXACT_TOKENS}}

    def neutralise(self, text: str) -> str:
        """The text without what nobody sees, and with a zero-width space after the first character of each control token."""
        if not text.isascii():
            text = _HIDDEN.sub(lambda m: m[1] or m[2] or "", text)
        starts = [at for first, token in self._tokens.items() for at in _found(text, first, token)]
        if not starts:
            return text
        starts.sort()
        ends = [at + 1 for at in starts]
        return _BREAK.join([text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)])

    def neutralise_request(self, request: Request) -> Request:
        """The request with every client string neutralised."""
        if not any(self._touches(text) for text in _texts_of(request)):
            return request
        return replace(
            request,
            messages=tuple(self._message(m) for m in request.messages),
            tools=tuple(self._tool(t) for t in request.tools),
            schema=None if request.schema is None else self.neutralise(request.schema),
        )

    def _touches(self, text: str) -> bool:
        return not text.isascii() or any(first in text for first in self._tokens)

    def _parts(self, parts: Iterable[Part]) -> Iterator[Part]:
        # Some templates write a message's pictures first and its texts after each other: then a token could stand
        # on both sides of a picture.
        before = ""
        for part in parts:
            if isinstance(part, TextPart):
                text = self.neutralise(part.text)
                if before and self.neutralise(near := before + text[:_REACH]) != near:
                    text = _BREAK + text
                before = (before + text)[-_REACH:]
                yield replace(part, text=text)
            else:
                yield part

    def _message(self, message: Message) -> Message:
        return replace(
            message,
            parts=tuple(self._parts(message.parts)),
            name=None if message.name is None else self.neutralise(message.name),
            tool_calls=tuple(
                ToolCall(c.id, self.neutralise(c.name), self.neutralise(c.arguments))
                for c in message.tool_calls
            ),
        )

    def _tool(self, tool: Tool) -> Tool:
        return replace(
            tool,
            description=None if tool.description is None else self.neutralise(tool.description),
            parameters=None if tool.parameters is None else self.neutralise(tool.parameters),
        )


def _starting(first: str, anyhow: Iterable[str]) -> re.Pattern[str]:
    """All tokens with this first character; literals stand together, which is how `re` is quick with them."""
    exact = [re.escape(t) for t in EXACT_TOKENS if t[0] == first]
    folded = [re.escape(t) for t in anyhow if t[0].lower() == first.lower()]
    forms = [f for f in FORMS if f.removeprefix("\\")[0] == first]
    either = [f"(?i:{'|'.join(folded)})"] if folded else []
    return re.compile("|".join([*exact, *forms, *either]))


def _found(text: str, first: str, token: re.Pattern[str]) -> Iterator[int]:
    """Where tokens with this first character start: at each one, since a token may begin with another's end."""
    at = text.find(first)
    while at >= 0:
        if token.match(text, at):
            yield at
        at = text.find(first, at + 1)


def _texts_of(request: Request) -> Iterator[str]:
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, TextPart):
                yield part.text
        if message.name is not None:
            yield message.name
        for call in message.tool_calls:
            yield call.name
            yield call.arguments
    for tool in request.tools:
        yield tool.description or ""
        yield tool.parameters or ""
    yield request.schema or ""


def join_texts(request: Request) -> Request:
    """The request with texts that follow each other in a message as one text, on lines of their own.

    Templates join them, some without a space: what they would make of two was judged by nobody.
    """
    if all(_stand_alone(m.parts) for m in request.messages):
        return request
    return request.with_messages(tuple(replace(m, parts=tuple(_joined(m))) for m in request.messages))


def _stand_alone(parts: tuple[Part, ...]) -> bool:
    return len(parts) < 2 or not any(
        isinstance(a, TextPart) and isinstance(b, TextPart) for a, b in pairwise(parts)
    )


def _joined(message: Message) -> Iterator[Part]:
    # System texts were messages of their own perhaps: a blank line stays between them.
    border = "\n\n" if message.role == "system" else "\n"
    for is_text, group in groupby(message.parts, lambda p: isinstance(p, TextPart)):
        if is_text:
            texts = [p for p in group if isinstance(p, TextPart)]
            yield replace(texts[0], text=border.join([p.text for p in texts]))
        else:
            yield from group


def merge_system(request: Request) -> Request:
    """All system and developer texts in one message at the front, in their order, unchanged."""
    system = [m for m in request.messages if m.role == "system"]
    if not system or (len(system) == 1 and request.messages[0].role == "system"):
        return request
    parts: tuple[Part, ...] = tuple(p for m in system for p in m.parts)
    merged = Message("system", parts, system[0].place)
    return request.with_messages((merged, *(m for m in request.messages if m.role != "system")))


def repair_history(request: Request, block_messages: Iterable[str]) -> Request:
    """Without the turns that the proxy answered with one of its block messages.

    The user turn before such an answer goes with it, and tool turns in between: else one blocked
    turn would be judged again, and block, for the rest of the chat.
    """
    notices = tuple(block_messages)
    kept: list[Message] = []
    for message in request.messages:
        if message.role == "assistant" and _text_of(message).endswith(notices):
            while kept and kept[-1].role in ("tool", "assistant"):
                kept.pop()
            if kept and kept[-1].role == "user":
                kept.pop()
        else:
            kept.append(message)
    return request if len(kept) == len(request.messages) else request.with_messages(tuple(kept))


def canonical(request: Request, tokens: SpecialTokens, block_messages: Iterable[str]) -> Request:
    """The request as it is judged and sent.

    Raises:
        WireError: Nothing is left to answer.
    """
    request = join_texts(merge_system(request))
    request = repair_history(tokens.neutralise_request(request), block_messages)
    if not any(m.role in ("user", "tool") for m in request.messages):
        raise WireError("messages: nothing is left to answer", param="messages")
    return request


def _text_of(message: Message) -> str:
    return "\n".join(p.text for p in message.parts if isinstance(p, TextPart)).rstrip()
