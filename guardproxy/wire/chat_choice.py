"""One choice of a chat answer: its texts for the gate, and the choice as it may be sent.

Of what the upstream sends, only the named fields exist; of these, what is not text for the gate is a word of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import UNSET, Struct, UnsetType

from guardproxy.core.callids import judged_id
from guardproxy.core.gate import Event
from guardproxy.wire.dialect import Json
from guardproxy.wire.reading import expect_choices

_FUNCTION = "tool_arguments#function"
"""Lane of the call in the older `function_call`."""


class WireFunction(Struct, omit_defaults=True):
    name: str | None | UnsetType = UNSET
    arguments: str | None | UnsetType = UNSET


class WireToolCall(Struct, omit_defaults=True):
    index: int | UnsetType = UNSET
    id: str | None | UnsetType = UNSET
    type: str | None | UnsetType = UNSET
    function: WireFunction | None | UnsetType = UNSET


class WireText(Struct, omit_defaults=True):
    """A message or a delta: every channel of text that a client can be given."""

    role: str | UnsetType = UNSET
    content: str | None | UnsetType = UNSET
    reasoning: str | None | UnsetType = UNSET
    reasoning_content: str | None | UnsetType = UNSET
    refusal: str | None | UnsetType = UNSET
    tool_calls: list[WireToolCall] | None | UnsetType = UNSET
    function_call: WireFunction | None | UnsetType = UNSET


class WireLogprob(Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[Json] = []


class WireLogprobs(Struct):
    content: list[WireLogprob] | None = None


class WireChoice(Struct, omit_defaults=True):
    index: int
    delta: WireText | UnsetType = UNSET
    message: WireText | UnsetType = UNSET
    logprobs: WireLogprobs | None | UnsetType = UNSET
    finish_reason: str | None | UnsetType = UNSET
    stop_reason: str | int | None | UnsetType = UNSET


class Choices:
    """Reads the choices of one answer.

    A client joins the pieces of each field: so each field that it joins is a lane of its own, and a name and an id,
    which end with a line, come whole or not at all.

    Args:
        n: So many choices were asked for.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._named: set[tuple[int, str, str]] = set()

    def events(self, choices: Sequence[WireChoice], *, is_whole: bool = False) -> list[Event]:
        """One gate event for each choice of a chunk, or of a body in one piece.

        Raises:
            UpstreamError: A choice that was not asked for, or one twice in a body.
        """
        expect_choices([c.index for c in choices], self._n, is_whole=is_whole)
        return [self._event(c, is_whole) for c in choices]

    def _event(self, choice: WireChoice, is_whole: bool) -> Event:
        # A choice with both would be judged by the one and sent with the other.
        text = choice.message if is_whole else choice.delta
        choice.message, choice.delta = (text, UNSET) if is_whole else (UNSET, text)
        if choice.logprobs:
            _keep_spelled(choice.logprobs, "" if text is UNSET else text.content or "")
        if text is not UNSET:
            self._settle(choice.index, text, is_whole)
        texts = () if text is UNSET else tuple(texts_of(text))
        return Event(choice.index, texts, choice, choice.finish_reason or None)

    def _settle(self, choice: int, text: WireText, is_whole: bool) -> None:
        """What a client reads beside the texts, in our words."""
        if text.role is not UNSET:
            text.role = "assistant"
        for number, call in enumerate(text.tool_calls or ()):
            if is_whole:
                call.index = UNSET  # its place in the list is what counts
            if call.type:
                call.type = "function"
            if call.id and not self._is_first(choice, _lane(number, call), "id"):
                call.id = UNSET
            if call.function:
                self._settle_name(choice, _lane(number, call), call.function)
        if text.function_call:
            self._settle_name(choice, _FUNCTION, text.function_call)

    def _settle_name(self, choice: int, lane: str, function: WireFunction) -> None:
        if function.name and not self._is_first(choice, lane, "name"):
            function.name = UNSET

    def _is_first(self, choice: int, lane: str, field: str) -> bool:
        before = len(self._named)
        self._named.add((choice, lane, field))
        return len(self._named) > before


def texts_of(text: WireText) -> Iterator[tuple[str, str]]:
    """`(lane, text)` pairs of a message or delta, in the order in which `rewritten` puts them back."""
    if text.content:
        yield "content", text.content
    if text.reasoning:
        yield "reasoning", text.reasoning
    if text.reasoning_content:  # the same under its older name: joined, neither would be read as it is
        yield "reasoning#content", text.reasoning_content
    if text.refusal:
        yield "refusal", text.refusal
    for number, call in enumerate(text.tool_calls or ()):
        if judged := judged_id(call.id or ""):
            yield _lane(number, call), f"{judged}\n"
        if call.function:
            yield _lane(number, call), _call_text(call.function)
    if text.function_call:
        yield _FUNCTION, _call_text(text.function_call)


def _lane(number: int, call: WireToolCall) -> str:
    """Of a call's texts: a client joins what has the same index, in whatever order it comes."""
    index = number if call.index is UNSET else call.index
    return f"tool_arguments#{index}" if index else "tool_arguments"


def _call_text(function: WireFunction) -> str:
    # A name ends its line: so that a name and the arguments after it are never read as one word.
    return (f"{function.name}\n" if function.name else "") + (function.arguments or "")


def _keep_spelled(logprobs: WireLogprobs, content: str) -> None:
    """Leave only the tokens that spell the content they came with.

    vLLM sends a tool call's raw text as logprobs on chunks without any text: tokens that no
    judged text stands for would pass beside the gate.
    """
    at = 0
    for index, token in enumerate(logprobs.content or ()):
        if not content.startswith(token.token, at) or at >= len(content):
            logprobs.content = (logprobs.content or [])[:index]
            return
        token.bytes = list(token.token.encode("utf-8", "replace"))
        token.top_logprobs = []
        at += len(token.token)


def rewritten(event: Event) -> WireChoice:
    """The choice of an event as it may be sent: with its redactions and without their logprobs."""
    choice = event.payload
    assert isinstance(choice, WireChoice)
    if not event.altered:
        return choice
    text = choice.delta if choice.delta is not UNSET else choice.message
    if text is not UNSET:
        _put_texts(text, (t for _, t in event.texts))
    if choice.logprobs is not UNSET:
        choice.logprobs = None
    return choice


def _put_texts(text: WireText, changed: Iterable[str]) -> None:
    texts = iter(changed)
    if text.content:
        text.content = next(texts)
    if text.reasoning:
        text.reasoning = next(texts)
    if text.reasoning_content:
        text.reasoning_content = next(texts)
    if text.refusal:
        text.refusal = next(texts)
    for call in text.tool_calls or ():
        if judged_id(call.id or ""):
            call.id = next(texts).removesuffix("\n")
        if call.function:
            _put_arguments(call.function, next(texts))
    if text.function_call:
        _put_arguments(text.function_call, next(texts))


def _put_arguments(function: WireFunction, value: str) -> None:
    if function.name:
        function.name, _, value = value.partition("\n")
    if function.arguments is not UNSET:
        function.arguments = value


def own_choice(index: int, message: str, finish: str, *, streamed: bool) -> WireChoice:
    """A choice that the proxy itself ends: its message, no tool calls, no logprobs."""
    if streamed:
        return WireChoice(index, delta=WireText(content=message), logprobs=None, finish_reason=finish)
    text = WireText(role="assistant", content=message, refusal=None)
    return WireChoice(index, message=text, logprobs=None, finish_reason=finish)
