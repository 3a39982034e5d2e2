"""Chat answers, buffered and streamed: the upstream's bytes become gate events, and back.

Only the fields named here exist for a client: everything else of the upstream's is left behind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec
from msgspec import UNSET, Struct, UnsetType

from guardproxy.core.content import Request
from guardproxy.core.gate import Event
from guardproxy.errors import UpstreamError
from guardproxy.wire.calls import judged_id
from guardproxy.wire.fault_body import fault
from guardproxy.wire.reading import scrubbed_usage, word_of
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
    for call in text.tool_calls or ():
        if judged := judged_id(call.id or ""):
            found.append(("tool_arguments", f"{judged}\n"))
        if call.function:
            found.append(("tool_arguments", _call_text(call.function)))
    if text.function_call:
        found.append(("tool_arguments", _call_text(text.function_call)))
    return tuple(found)


def _call_text(function: WireFunction) -> str:
    # A name ends its line: so that a name and the arguments after it are never read as one word.
    return (f"{function.name}\n" if function.name else "") + (function.arguments or "")


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
        if judged_id(call.id or ""):
            call.id = next(arguments).removesuffix("\n")
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


OBJECTS = ("chat.completion", "chat.completion.chunk")


def _headed(head: WireAnswer, choices: list[WireChoice], model: str) -> WireAnswer:
    return WireAnswer(
        id=head.id,
        object=head.object if head.object in OBJECTS else UNSET,
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


def _plain(head: WireAnswer) -> WireAnswer:
    """The head of an answer without anything that could be words."""
    for field in ("id", "system_fingerprint", "service_tier"):
        value = getattr(head, field)
        if value is not UNSET:
            setattr(head, field, word_of(value) or (UNSET if field == "id" else None))
    return head


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


FINISHES = frozenset(("stop", "length", "tool_calls", "function_call", "content_filter"))
_EMPTY: Json = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


class ChatAnswer:
    """The answer of one chat exchange; implements `dialect.Answer`.

    Args:
        request: Whose answer it is.
        message: The block message.
    """

    def __init__(self, request: Request, message: str) -> None:
        self.usage: Mapping[str, object] | None = None
        self.is_done = False
        self._request = request
        self._message = message
        self._head = WireAnswer()
        self._told: set[int] = set()
        self._has_written = False

    def take(self, data: bytes) -> Iterable[Event]:
        """Read the data of one event."""
        if data == b"[DONE]":
            self.is_done = True
            return ()
        answer = read_answer(data)
        if self._head.id is UNSET:
            self._head = _plain(answer)
        if answer.usage:
            self.usage = answer.usage
        return events_of(answer)

    def take_body(self, data: bytes) -> Iterable[Event]:
        """Read an answer in one piece."""
        self._head = answer = _plain(read_answer(data))
        self.usage = answer.usage or None
        if not answer.choices:
            raise UpstreamError("The model server's answer has no choices")
        return events_of(answer)

    def write(self, events: Sequence[Event], cut: Collection[int], note: Json | None) -> bytes:
        """Chunks for released events, and the block message of choices that were cut."""
        choices = [self._allowed(rewritten(e)) for e in events]
        if not self._has_written:
            self._has_written = any(e.texts for e in events)
        for index in cut:
            if index not in self._told:
                self._told.add(index)
                text = ("\n\n" if self._has_written else "") + self._message
                choices.append(block_choice(index, text, streamed=True))
        if note is None or self._request.include_usage or not choices:
            return b"".join([chunk(self._head, [c], self._request.model) for c in choices])
        *others, last = choices
        pieces = [chunk(self._head, [c], self._request.model) for c in others]
        return b"".join(pieces) + chunk(self._head, [last], self._request.model, note)

    def end(self, note: Json) -> bytes:
        """`[DONE]`, after the usage if the client wants it."""
        if not self._request.include_usage:
            return DONE
        usage = None if self.usage is None else dict(self.usage)
        return usage_chunk(self._head, usage, self._request.model, note) + DONE

    def body(self, events: Sequence[Event], cut: Collection[int], note: Json) -> bytes:
        """The answer in one piece."""
        released = {e.choice: self._allowed(rewritten(e)) for e in events}
        blocked = {i: block_choice(i, self._message, streamed=False) for i in cut}
        choices = released | blocked
        return body(self._head, [choices[i] for i in sorted(choices)], self._request.model, note)

    def _allowed(self, choice: WireChoice) -> WireChoice:
        # All are told by the server; none may carry words of its own.
        text = choice.delta if choice.delta is not UNSET else choice.message
        if text is not UNSET:
            _plain_text(text)
        if choice.finish_reason and choice.finish_reason not in FINISHES:
            choice.finish_reason = "stop"
        reason = choice.stop_reason
        if isinstance(reason, str) and reason not in stops_of(self._request):
            choice.stop_reason = None
        return choice

    def broken(self, message: str, code: str) -> bytes:
        """An error event and the end."""
        return b"data: " + fault(message, status=500, code=code, param=None) + b"\n\n" + DONE

    def blocked(self, note: Json, created: int, nonce: str) -> bytes:
        """Every choice is the block message."""
        request = self._request
        kind = "chat.completion.chunk" if request.stream else "chat.completion"
        self._head = WireAnswer(id=f"chatcmpl-{nonce}", object=kind, created=created, usage=_EMPTY)
        choices = range(request.n)
        if not request.stream:
            return self.body((), choices, note)
        self.usage = _EMPTY
        first = WireText(role="assistant", content="")
        starts = (WireChoice(i, delta=first, finish_reason=None) for i in choices)
        opening = b"".join([chunk(self._head, [c], request.model) for c in starts])
        return opening + self.write((), choices, note) + self.end(note)


def _plain_text(text: WireText) -> None:
    if text.role is not UNSET:
        text.role = "assistant"
    for call in text.tool_calls or ():
        if call.type:
            call.type = "function"


def stops_of(request: Request) -> tuple[str, ...]:
    """The stop strings that the client named."""
    stop = request.options.get("stop")
    return (stop,) if isinstance(stop, str) else tuple(map(str, stop)) if isinstance(stop, list) else ()


def read_answer(data: bytes) -> WireAnswer:
    """One JSON answer or chunk.

    Raises:
        UpstreamError: It cannot be read, or is an error.
    """
    try:
        answer = read(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise UpstreamError("The model server's answer cannot be read") from None
    if answer.error:
        raise UpstreamError("The model server failed in the middle of its answer")
    return answer
