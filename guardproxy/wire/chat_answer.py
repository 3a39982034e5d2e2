"""Chat answers, buffered and streamed: the upstream's bytes become gate events, and back.

Only the fields named here exist for a client: everything else of the upstream's is left behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import UNSET, Struct, UnsetType

from guardproxy.core.gate import Event
from guardproxy.wire.sse import DONE

Json = dict[str, object]


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


class WireError(Struct):
    message: str = ""
    code: int | str | None = None


class WireAnswer(Struct, omit_defaults=True):
    """A `chat.completion` or a `chat.completion.chunk`."""

    id: str | UnsetType = UNSET
    object: str | UnsetType = UNSET
    created: int | UnsetType = UNSET
    model: str | UnsetType = UNSET
    choices: list[WireChoice] | UnsetType = UNSET
    usage: Json | None | UnsetType = UNSET
    system_fingerprint: str | None | UnsetType = UNSET
    service_tier: str | None | UnsetType = UNSET
    error: WireError | None | UnsetType = UNSET
    guardproxy: Json | UnsetType = UNSET


_answer_decoder = msgspec.json.Decoder(WireAnswer)
_encode = msgspec.json.Encoder().encode


def read(data: bytes) -> WireAnswer:
    """A body or the data of one event.

    Raises:
        msgspec.DecodeError: Not JSON, or a field has another type than a chat answer's.
    """
    return _answer_decoder.decode(data)


def texts_of(text: WireText) -> tuple[tuple[str, str], ...]:
    """`(channel, text)` pairs of a message or delta."""
    found: list[tuple[str, str]] = []
    if text.content:
        found.append(("content", text.content))
    for value in (text.reasoning, text.reasoning_content):
        if value:
            found.append(("reasoning", value))
    if text.refusal:
        found.append(("refusal", text.refusal))
    calls = [c.function for c in text.tool_calls or ()] if text.tool_calls else []
    if text.function_call:
        calls.append(text.function_call)
    for function in calls:
        if function:
            # A name ends its line: so that a name and the arguments after it are never read as one word.
            name = f"{function.name}\n" if function.name else ""
            found.append(("tool_arguments", name + (function.arguments or "")))
    return tuple(found)


def events_of(answer: WireAnswer) -> Iterable[Event]:
    """One gate event for each choice of a chunk or body."""
    for choice in answer.choices or ():
        text = choice.delta if choice.delta is not UNSET else choice.message
        if choice.logprobs:
            _keep_spelled(choice.logprobs, "" if text is UNSET else text.content or "")
        yield Event(
            choice.index,
            () if text is UNSET else texts_of(text),
            choice,
            choice.finish_reason or None,
        )


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
    texts = iter(event.texts)
    text = choice.delta if choice.delta is not UNSET else choice.message
    if text is not UNSET:
        _put_texts(text, dict_of_lists(texts))
    if choice.logprobs is not UNSET:
        choice.logprobs = None
    return choice


def dict_of_lists(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Values of each channel, in order."""
    grouped: dict[str, list[str]] = {}
    for channel, text in pairs:
        grouped.setdefault(channel, []).append(text)
    return grouped


def _put_texts(text: WireText, changed: Mapping[str, list[str]]) -> None:
    if text.content:
        text.content = changed["content"][0]
    reasoning = iter(changed.get("reasoning", ()))
    if text.reasoning:
        text.reasoning = next(reasoning)
    if text.reasoning_content:
        text.reasoning_content = next(reasoning)
    if text.refusal:
        text.refusal = changed["refusal"][0]
    arguments = iter(changed.get("tool_arguments", ()))
    for call in text.tool_calls or ():
        if call.function:
            _put_arguments(call.function, next(arguments))
    if text.function_call:
        _put_arguments(text.function_call, next(arguments))


def _put_arguments(function: WireFunction, value: str) -> None:
    if function.name:
        function.name, _, value = value.partition("\n")
    if function.arguments is not UNSET:
        function.arguments = value


def chunk(head: WireAnswer, choices: list[WireChoice], model: str, note: Json | None = None) -> bytes:
    """One event of a stream, with the id and time of the upstream's chunk.

    Args:
        head: Any chunk of the same stream.
        choices: What goes to the client.
        model: The public name.
        note: The `guardproxy` key; only the last chunk has it.
    """
    answer = _headed(head, choices, model)
    if note is not None:
        answer.guardproxy = note
    return b"data: " + _encode(answer) + b"\n\n"


def _headed(head: WireAnswer, choices: list[WireChoice], model: str) -> WireAnswer:
    return WireAnswer(
        id=head.id,
        object=head.object,
        created=head.created,
        model=model,
        choices=choices,
        system_fingerprint=head.system_fingerprint,
        service_tier=head.service_tier,
    )


def usage_chunk(head: WireAnswer, usage: Json | None, model: str, note: Json) -> bytes:
    """The last chunk, without choices, that states the usage."""
    answer = _headed(head, [], model)
    answer.usage = scrubbed_usage(usage)
    answer.guardproxy = note
    return b"data: " + _encode(answer) + b"\n\n"


def scrubbed_usage(usage: Json | None) -> Json | None:
    """Only the counts that OpenAI defines."""
    if usage is None:
        return None
    known = (
        "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details",
    )  # fmt: skip
    return {k: v for k, v in usage.items() if k in known}


def block_choice(index: int, message: str, *, streamed: bool) -> WireChoice:
    """A choice that the proxy blocked: the message, `content_filter`, no tool calls, no logprobs."""
    if streamed:
        return WireChoice(
            index, delta=WireText(content=message), logprobs=None, finish_reason="content_filter"
        )
    text = WireText(role="assistant", content=message, refusal=None)
    return WireChoice(index, message=text, logprobs=None, finish_reason="content_filter")


def body(head: WireAnswer, choices: list[WireChoice], model: str, note: Json) -> bytes:
    """A buffered answer with the `guardproxy` key."""
    answer = _headed(head, choices, model)
    usage = head.usage
    answer.usage = UNSET if usage is UNSET else scrubbed_usage(usage)
    answer.guardproxy = note
    return _encode(answer)


def blocked_input(  # noqa: PLR0913 - one value for each field of the answer
    model: str,
    message: str,
    note: Json,
    *,
    answer_id: str,
    created: int,
    stream: bool,
    include_usage: bool,
    n: int,
) -> bytes:
    """A whole answer made by the proxy: every choice is the block message."""
    usage: Json = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    kind = "chat.completion.chunk" if stream else "chat.completion"
    head = WireAnswer(id=answer_id, object=kind, created=created, usage=usage)
    if not stream:
        return body(head, [block_choice(i, message, streamed=False) for i in range(n)], model, note)
    pieces = [
        chunk(head, [WireChoice(i, delta=WireText(role="assistant", content=""), finish_reason=None)], model)
        for i in range(n)
    ]
    for index in range(n):
        last = index == n - 1 and not include_usage
        pieces.append(
            chunk(head, [block_choice(index, message, streamed=True)], model, note if last else None)
        )
    if include_usage:
        pieces.append(usage_chunk(head, usage, model, note))
    return b"".join(pieces) + DONE
