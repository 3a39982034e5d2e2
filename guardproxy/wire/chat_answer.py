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
from guardproxy.wire.chat_choice import Choices, WireChoice, WireText, own_choice, rewritten
from guardproxy.wire.dialect import Json
from guardproxy.wire.fault_body import fault
from guardproxy.wire.reading import is_word
from guardproxy.wire.sse import DONE


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
    moderation: Json | UnsetType = UNSET


_answer_decoder = msgspec.json.Decoder(WireAnswer)
_encode = msgspec.json.Encoder().encode


def read(data: bytes) -> WireAnswer:
    """A body or the data of one event.

    Raises:
        msgspec.DecodeError: Not JSON, or a field has another type than a chat answer's.
    """
    return _answer_decoder.decode(data)


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


def _named_head(answer: WireAnswer, kind: str) -> WireAnswer:
    """The head of an answer, with what the server says of it as words only."""
    return WireAnswer(
        id=_word(answer.id),
        object=kind,
        created=answer.created,
        usage=answer.usage,
        system_fingerprint=_word(answer.system_fingerprint),
        service_tier=_word(answer.service_tier),
    )


def _word(value: str | UnsetType | None) -> str | UnsetType:
    return value if is_word(value) else UNSET


def usage_chunk(head: WireAnswer, usage: Json | None, model: str, note: Json) -> bytes:
    """The last chunk, without choices, that states the usage."""
    answer = _headed(head, [], model)
    answer.usage = scrubbed_usage(usage)
    answer.guardproxy = note
    return b"data: " + _encode(answer) + b"\n\n"


def scrubbed_usage(usage: Mapping[str, object] | None) -> Json | None:
    """Only the counts that OpenAI defines, and only numbers."""
    if usage is None:
        return None
    counts: Json = {k: usage[k] for k in _COUNTS if isinstance(usage.get(k), int)}
    for field in _DETAILS:
        details = usage.get(field)
        if isinstance(details, dict):
            counts[field] = {k: v for k, v in details.items() if is_word(k) and isinstance(v, int)}
    return counts


_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_DETAILS = ("prompt_tokens_details", "completion_tokens_details")
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
        self.moderation: Json | None = None
        self.is_done = False
        self._request = request
        self._message = message
        self._finish = "content_filter"
        self._head = WireAnswer()
        self._choices = Choices(request.n)
        self._told: set[int] = set()
        self._has_written = False

    def take(self, data: bytes) -> Iterable[Event]:
        """Read the data of one event."""
        if data == b"[DONE]":
            self.is_done = True
            return ()
        answer = read_answer(data)
        if self._head.object is UNSET:
            self._head = _named_head(answer, "chat.completion.chunk")
        if answer.usage:
            self.usage = scrubbed_usage(answer.usage)
        return self._choices.events(answer.choices or ())

    def take_body(self, data: bytes) -> Iterable[Event]:
        """Read an answer in one piece."""
        answer = read_answer(data)
        self._head = _named_head(answer, "chat.completion")
        self.usage = scrubbed_usage(answer.usage or None)
        if not answer.choices:
            raise UpstreamError("The model server's answer has no choices")
        return self._choices.events(answer.choices, is_whole=True)

    def write(self, events: Sequence[Event], cut: Collection[int], note: Json | None) -> bytes:
        """Chunks for released events, and the block message of choices that were cut."""
        choices = [self._allowed(rewritten(e)) for e in events]
        if not self._has_written:
            self._has_written = any(e.texts for e in events)
        for index in cut:
            if index not in self._told:
                self._told.add(index)
                text = ("\n\n" if self._has_written else "") + self._message
                choices.append(own_choice(index, text, self._finish, streamed=True))
        if note is None or self._request.include_usage or not choices:
            return b"".join([chunk(self._head, [c], self._request.model) for c in choices])
        *others, last = choices
        pieces = [chunk(self._head, [c], self._request.model) for c in others]
        return b"".join(pieces) + chunk(self._head, [last], self._request.model, note)

    def end(self, note: Json) -> bytes:
        """`[DONE]`, after the usage if the client wants it."""
        told = b""
        if self.moderation is not None:
            answer = _headed(self._head, [], self._request.model)
            answer.moderation = self.moderation
            told = b"data: " + _encode(answer) + b"\n\n"
        if not self._request.include_usage:
            return told + DONE
        usage = None if self.usage is None else dict(self.usage)
        return told + usage_chunk(self._head, usage, self._request.model, note) + DONE

    def body(self, events: Sequence[Event], cut: Collection[int], note: Json) -> bytes:
        """The answer in one piece."""
        released = {e.choice: self._allowed(rewritten(e)) for e in events}
        blocked = {i: own_choice(i, self._message, self._finish, streamed=False) for i in cut}
        choices = released | blocked
        answer = _headed(self._head, [choices[i] for i in sorted(choices)], self._request.model)
        answer.usage = UNSET if self._head.usage is UNSET else dict(self.usage) if self.usage else None
        answer.guardproxy, answer.moderation = note, self.moderation or UNSET
        return _encode(answer)

    def _allowed(self, choice: WireChoice) -> WireChoice:
        # Both are told by the server; neither may carry words of its own.
        if choice.finish_reason and choice.finish_reason not in FINISHES:
            choice.finish_reason = "stop"
        reason = choice.stop_reason
        if isinstance(reason, str) and reason not in stops_of(self._request):
            choice.stop_reason = None
        return choice

    def repaired(self, text: str) -> None:
        """Say this in place of choices that are cut."""
        self._message, self._finish = text, "stop"

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
