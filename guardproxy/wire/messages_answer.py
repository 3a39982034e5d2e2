"""Answers of `/v1/messages` (Anthropic Messages): read from the upstream's deltas, written anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from guardproxy.core.content import Request
from guardproxy.core.gate import Event
from guardproxy.errors import UpstreamError
from guardproxy.wire.blocks import Block, BlockAnswer, Finish
from guardproxy.wire.dialect import Json
from guardproxy.wire.fault_body import type_for
from guardproxy.wire.reading import (
    UNREADABLE,
    counts,
    integer_of,
    is_object,
    objects,
    plain,
    read_object,
    text_of,
)

_KINDS = {"text": "content", "thinking": "reasoning", "tool_use": "tool_arguments"}
_FIELDS = {"content": "text", "reasoning": "thinking", "tool_arguments": "partial_json"}
_DELTAS = {
    "text_delta": ("content", "text"),
    "thinking_delta": ("reasoning", "thinking"),
    "input_json_delta": ("tool_arguments", "partial_json"),
}
_REASONS = ("end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal")
_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large",
    429: "rate_limit_error", 503: "overloaded_error",
}  # fmt: skip


def fault(message: str, *, status: int, code: str | None, param: str | None) -> bytes:
    """A fault in Anthropic's envelope, with OpenAI's `code` and `param` beside it."""
    kind = _TYPES.get(status) or (
        "invalid_request_error" if type_for(status) != "server_error" else "api_error"
    )
    error = {"type": kind, "message": message, "code": code, "param": param}
    return msgspec.json.encode({"type": "error", "error": error})


class MessagesAnswer(BlockAnswer):
    """The answer of one exchange; implements `dialect.Answer`."""

    def __init__(self, request: Request, message: str) -> None:
        super().__init__(request, message)
        self._id = ""
        self._asked = 0

    # What comes.

    def take(self, data: bytes) -> Iterable[Event]:
        """Read the data of one event."""
        event = read_object(data)
        kind = event.get("type")
        if kind == "content_block_delta":
            delta = event.get("delta")
            if not is_object(delta):
                raise UpstreamError(UNREADABLE)
            known = _DELTAS.get(str(delta.get("type")))  # others, such as signatures, are not passed on
            index = integer_of(event, "index")
            return [] if known is None else self.text_events(index, known[0], text_of(delta, known[1]))
        if kind == "content_block_start":
            return list(self._begun(integer_of(event, "index"), event.get("content_block")))
        if kind == "message_start":
            self._take_head(event.get("message"))
        elif kind == "message_delta":
            self._take_usage(event.get("usage"))
            return [self._end(event.get("delta"))]
        elif kind == "message_stop":
            self.is_done = True
        elif kind == "error":
            raise UpstreamError("The model server failed in the middle of its answer")
        return []

    def take_body(self, data: bytes) -> Iterable[Event]:
        """Read an answer in one piece."""
        message = read_object(data)
        if message.get("type") == "error":
            raise UpstreamError("The model server failed to answer")
        self._take_head(message)
        events = [e for i, block in enumerate(objects(message, "content")) for e in self._begun(i, block)]
        return [*events, self._end(message)]

    def _begun(self, index: int, block: object) -> Iterator[Event]:
        """The events of a block as it begins, with what it holds already."""
        if not is_object(block):
            raise UpstreamError(UNREADABLE)
        kind = _KINDS.get(str(block.get("type")))
        if kind is None:  # such as thinking that was redacted: not passed on
            return
        if kind == "tool_arguments":
            yield from self.call_events(index, text_of(block, "id"), text_of(block, "name"))
            given = block.get("input")
            if given:
                yield from self.text_events(index, kind, msgspec.json.encode(given).decode())
            return
        yield from self.text_events(index, kind, text_of(block, _FIELDS[kind]))

    def _take_head(self, message: object) -> None:
        if not is_object(message):
            raise UpstreamError(UNREADABLE)
        self._id = str(plain(message.get("id")) or "")
        self._take_usage(message.get("usage"))

    def _take_usage(self, usage: object) -> None:
        told = counts(usage, "input_tokens", "output_tokens")
        if told is None:
            return
        # The last event may leave the input's count out.
        self._asked = max(self._asked, int(str(told["prompt_tokens"])))
        answered = int(str(told["completion_tokens"]))
        self.usage = {
            "prompt_tokens": self._asked,
            "completion_tokens": answered,
            "total_tokens": self._asked + answered,
        }

    def _end(self, told: object) -> Event:
        if not is_object(told):
            raise UpstreamError(UNREADABLE)
        reason, sequence = told.get("stop_reason"), told.get("stop_sequence")
        asked = self.request.options.get("stop_sequences")
        if not isinstance(asked, list) or sequence not in asked:
            sequence = None
        known = str(reason) if reason in _REASONS else "end_turn"
        return Event(0, (), Finish(known, None if sequence is None else str(sequence)), finish=known)

    # What goes out.

    def beginning(self) -> bytes:
        """The message, still empty."""
        message = self._message(None, None) | {"usage": self._usage(0)}
        return _event("message_start", message=message)

    def opened(self, block: Block) -> bytes:
        """A block begins."""
        return _event("content_block_start", index=self._index(block), content_block=_block(block, ""))

    def grown(self, block: Block, text: str) -> bytes:
        """A delta."""
        kind = next(k for k, (channel, _) in _DELTAS.items() if channel == block.kind)
        delta = {"type": kind, _FIELDS[block.kind]: text}
        return _event("content_block_delta", index=self._index(block), delta=delta)

    def closed(self, block: Block) -> bytes:
        """A block ends."""
        return _event("content_block_stop", index=self._index(block))

    def ending(self, note: Json) -> bytes:
        """Why it ended, and the end."""
        reason, sequence = self._why()
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        return _event("message_delta", delta=delta, usage=self._usage(), guardproxy=note) + _event(
            "message_stop"
        )

    def whole(self, note: Json) -> bytes:
        """The answer in one piece."""
        content = [_block(b, b.text) for b in self.blocks] or [{"type": "text", "text": ""}]
        message = self._message(*self._why())
        return msgspec.json.encode(message | {"content": content, "usage": self._usage(), "guardproxy": note})

    def broken(self, message: str, code: str) -> bytes:
        """An error event."""
        return _event("error", error={"type": "api_error", "message": message, "code": code})

    def blocked(self, note: Json, created: int, nonce: str) -> bytes:
        """The block message as a message of its own."""
        del created
        self._id = f"msg_{nonce}"
        self._take_usage({"input_tokens": 0, "output_tokens": 0})
        if self.request.stream:
            return self.write((), (0,), note) + self.end(note)
        return self.body((), (0,), note)

    def _why(self) -> tuple[str, str | None]:
        if self.is_filtered:
            return "refusal", None
        finish = self.finish or Finish("end_turn")
        return finish.reason, finish.detail

    def _message(self, reason: str | None, sequence: str | None) -> Json:
        return {
            "id": self._id, "type": "message", "role": "assistant", "model": self.request.model, "content": [],
            "stop_reason": reason, "stop_sequence": sequence,
        }  # fmt: skip

    def _usage(self, answered: int | None = None) -> Json:
        usage = self.usage or {}
        told = usage.get("completion_tokens", 0) if answered is None else answered
        return {"input_tokens": usage.get("prompt_tokens", 0), "output_tokens": told}

    def _index(self, block: Block) -> int:
        return next(i for i, b in enumerate(self.blocks) if b is block)


def _block(block: Block, text: str) -> Json:
    if block.kind == "tool_arguments":
        given: object = {}
        if text:
            try:
                given = msgspec.json.decode(text)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                given = {}  # cut off in its middle: no call can be made of it
        return {"type": "tool_use", "id": block.call_id, "name": block.name, "input": given}
    if block.kind == "reasoning":
        return {"type": "thinking", "thinking": text, "signature": ""}
    return {"type": "text", "text": text}


def _event(kind: str, **fields: object) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode({"type": kind, **fields}) + b"\n\n"
