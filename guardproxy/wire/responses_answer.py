"""Answers of `/v1/responses`: read from the upstream's deltas, written anew in all their copies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from guardproxy.core.content import Request
from guardproxy.core.gate import Event
from guardproxy.errors import UpstreamError
from guardproxy.wire.blocks import Block, BlockAnswer, Finish
from guardproxy.wire.dialect import Json
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

_KEPT = ("id", "created_at", "temperature", "top_p", "max_output_tokens", "presence_penalty", "frequency_penalty",
         "service_tier")  # fmt: skip
"""Fields of the upstream's answer that a client is given: scalars that the model cannot write to."""
_DELTAS = {
    "response.output_text.delta": "content",
    "response.refusal.delta": "refusal",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.function_call_arguments.delta": "tool_arguments",
}
_PARTS = {"content": "output_text", "refusal": "refusal", "reasoning": "reasoning_text"}
_ENDS = ("response.completed", "response.incomplete")
_REASONS = ("max_output_tokens", "content_filter", "max_tool_calls")


class ResponsesAnswer(BlockAnswer):
    """The answer of one exchange; implements `dialect.Answer`."""

    def __init__(self, request: Request, message: str) -> None:
        super().__init__(request, message)
        self._head: Json = {}
        self._sequence = 0
        self._numbers: dict[tuple[int, str], int] = {}
        self._came: dict[int, int] = {}
        self._details: Json = {}

    # What comes.

    def take(self, data: bytes) -> Iterable[Event]:
        """Read the data of one event. Text comes from deltas alone; ends only add what no delta had."""
        event = read_object(data)
        kind = text_of(event, "type")
        if kind in _DELTAS:
            return self._text(integer_of(event, "output_index"), _DELTAS[kind], text_of(event, "delta"))
        if kind in ("response.output_item.added", "response.output_item.done"):
            return list(self._item(integer_of(event, "output_index"), event.get("item")))
        if kind == "response.created":
            self._take_head(event.get("response"))
        elif kind in _ENDS:
            self.is_done = True
            return [self._end(event.get("response"))]
        elif kind in ("response.failed", "error"):
            raise UpstreamError("The model server failed in the middle of its answer")
        return ()

    def take_body(self, data: bytes) -> Iterable[Event]:
        """Read an answer in one piece."""
        response = read_object(data)
        if response.get("error") or response.get("status") == "failed":
            raise UpstreamError("The model server failed to answer")
        self._take_head(response)
        events = [e for i, item in enumerate(objects(response, "output")) for e in self._item(i, item)]
        return [*events, self._end(response)]

    def _take_head(self, response: object) -> None:
        if is_object(response):
            self._head = {k: plain(response.get(k)) for k in _KEPT}

    def _end(self, response: object) -> Event:
        if not is_object(response):
            raise UpstreamError(UNREADABLE)
        self._take_usage(response.get("usage"))
        details = response.get("incomplete_details")
        reason = details.get("reason") if is_object(details) else None
        detail = str(reason) if reason in _REASONS else None
        status = "incomplete" if response.get("status") == "incomplete" else "completed"
        return Event(0, (), Finish(status, detail), finish=status)

    def _take_usage(self, usage: object) -> None:
        self.usage = counts(usage, "input_tokens", "output_tokens")
        for field, count in (
            ("input_tokens_details", "cached_tokens"),
            ("output_tokens_details", "reasoning_tokens"),
        ):
            told = usage.get(field) if is_object(usage) else None
            value = told.get(count) if is_object(told) else None
            self._details[field] = {count: value if isinstance(value, int) else 0}

    def _text(self, index: int, kind: str, text: str) -> list[Event]:
        number = self._numbers.setdefault((index, kind), len(self._numbers))
        self._came[number] = self._came.get(number, 0) + len(text)
        return self.text_events(number, kind, text)

    def _rest(self, index: int, kind: str, text: str) -> list[Event]:
        """What an item says in the end and no delta said before."""
        came = self._came.get(self._numbers.get((index, kind), -1), 0)
        return self._text(index, kind, text[came:]) if len(text) > came else []

    def _item(self, index: int, item: object) -> Iterator[Event]:
        if not is_object(item):
            raise UpstreamError(UNREADABLE)
        kind = item.get("type")
        if kind == "function_call":
            if (index, "tool_arguments") not in self._numbers:
                number = self._numbers[index, "tool_arguments"] = len(self._numbers)
                yield from self.call_events(number, text_of(item, "call_id"), text_of(item, "name"))
            yield from self._rest(index, "tool_arguments", text_of(item, "arguments"))
        elif kind == "message":
            parts = objects(item, "content")
            for said, field in (("content", "text"), ("refusal", "refusal")):
                whole = "".join(
                    text_of(p, field) for p in parts if (p.get("type") == "refusal") == (said == "refusal")
                )
                yield from self._rest(index, said, whole)
        elif kind == "reasoning":
            thought = "".join(
                text_of(p, "text") for p in (*objects(item, "summary"), *objects(item, "content"))
            )
            yield from self._rest(index, "reasoning", thought)

    # What goes out.

    def beginning(self) -> bytes:
        """The head, twice: created and in progress."""
        head = self._response("in_progress", None)
        return self._event("response.created", response=head) + self._event(
            "response.in_progress", response=head
        )

    def opened(self, block: Block) -> bytes:
        """An item, and its part."""
        added = self._event(
            "response.output_item.added", output_index=self._index(block), item=self._item_body(block, "in_progress", "")
        )  # fmt: skip
        if block.kind == "tool_arguments":
            return added
        return added + self._of("response.content_part.added", block, part=_part(block.kind, ""))

    def grown(self, block: Block, text: str) -> bytes:
        """A delta."""
        kind = _PARTS.get(block.kind, "function_call_arguments")
        return self._of(f"response.{kind}.delta", block, delta=text)

    def closed(self, block: Block) -> bytes:
        """The ends, each with the text released."""
        text = block.text
        if block.kind == "tool_arguments":
            ends = self._of("response.function_call_arguments.done", block, arguments=text, name=block.name)
        else:
            field = "refusal" if block.kind == "refusal" else "text"
            ends = self._of(f"response.{_PARTS[block.kind]}.done", block, **{field: text})
            ends += self._of("response.content_part.done", block, part=_part(block.kind, text))
        item = self._item_body(block, self._status, text)
        return ends + self._event("response.output_item.done", output_index=self._index(block), item=item)

    def ending(self, note: Json) -> bytes:
        """The whole response."""
        finish = self.finish or Finish("completed")
        kind = "incomplete" if self.is_filtered else finish.reason
        return self._event(f"response.{kind}", response=self._final(note))

    def whole(self, note: Json) -> bytes:
        """The answer in one piece."""
        return msgspec.json.encode(self._final(note))

    def broken(self, message: str, code: str) -> bytes:
        """An error event."""
        return self._event("error", code=code, message=message, param=None)

    def blocked(self, note: Json, created: int, nonce: str) -> bytes:
        """The block message as a response of its own."""
        self._head = {"id": f"resp_{nonce}", "created_at": created}
        self._take_usage({"input_tokens": 0, "output_tokens": 0})
        if self.request.stream:
            return self.write((), (0,), note) + self.end(note)
        return self.body((), (0,), note)

    @property
    def _status(self) -> str:
        return "incomplete" if self.is_filtered else "completed"

    def _final(self, note: Json) -> Json:
        finish = self.finish or Finish("completed")
        status = "incomplete" if self.is_filtered else finish.reason
        response = self._response(status, "content_filter" if self.is_filtered else finish.detail)
        response["output"] = [self._item_body(b, self._status, b.text) for b in self.blocks]
        response["usage"] = self._usage()
        response["guardproxy"] = note
        return response

    def _usage(self) -> Json | None:
        if self.usage is None:
            return None
        return {
            "input_tokens": self.usage["prompt_tokens"],
            "output_tokens": self.usage["completion_tokens"],
            "total_tokens": self.usage["total_tokens"],
            **self._details,
        }

    def _response(self, status: str, reason: str | None) -> Json:
        return {
            **self._head,
            "object": "response",
            "model": self.request.model,
            "status": status,
            "incomplete_details": None if reason is None else {"reason": reason},
            "error": None,
            "output": [],
            "usage": None,
            "metadata": None,
            "previous_response_id": None,
            "background": False,
            "store": False,
            "truncation": "disabled",
            **self.request.echo,
        }

    def _item_body(self, block: Block, status: str, text: str) -> Json:
        item: Json = {"id": self._id(block), "status": status}
        if block.kind == "tool_arguments":
            return item | {
                "type": "function_call",
                "call_id": block.call_id,
                "name": block.name,
                "arguments": text,
            }
        content = [_part(block.kind, text)] if status != "in_progress" else []
        if block.kind == "reasoning":
            return item | {"type": "reasoning", "summary": [], "content": content}
        return item | {"type": "message", "role": "assistant", "content": content}

    def _id(self, block: Block) -> str:
        prefix = {"tool_arguments": "fc", "reasoning": "rs"}.get(block.kind, "msg")
        return f"{prefix}_{str(self._head.get('id', '')).removeprefix('resp_')}_{self._index(block)}"

    def _index(self, block: Block) -> int:
        return next(i for i, b in enumerate(self.blocks) if b is block)

    def _of(self, kind: str, block: Block, **fields: object) -> bytes:
        place: Json = {"item_id": self._id(block), "output_index": self._index(block)}
        if block.kind != "tool_arguments":
            place["content_index"] = 0
        if kind.startswith("response.output_text"):
            place["logprobs"] = []
        return self._event(kind, **place, **fields)

    def _event(self, kind: str, **fields: object) -> bytes:
        data = msgspec.json.encode({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def _part(kind: str, text: str) -> Json:
    if kind == "content":
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": _PARTS[kind], "refusal" if kind == "refusal" else "text": text}
