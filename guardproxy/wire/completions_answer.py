"""Answers of `/v1/completions`: the text of each choice, and why it ended; nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from guardproxy.core.content import Request
from guardproxy.core.gate import Event
from guardproxy.errors import UpstreamError
from guardproxy.wire.chat_answer import FINISHES, scrubbed_usage
from guardproxy.wire.dialect import Json
from guardproxy.wire.fault_body import fault
from guardproxy.wire.reading import (
    expect_choices,
    integer_of,
    is_object,
    objects,
    plain,
    read_object,
    text_of,
)
from guardproxy.wire.sse import DONE


class CompletionAnswer:
    """The answer of one exchange; implements `dialect.Answer`.

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
        self._id: object = None
        self._created: object = None
        self._told: set[int] = set()
        self._has_written = False

    def take(self, data: bytes) -> Iterable[Event]:
        """Read the data of one event."""
        if data == b"[DONE]":
            self.is_done = True
            return ()
        return self._events(read_object(data), is_whole=False)

    def take_body(self, data: bytes) -> Iterable[Event]:
        """Read an answer in one piece."""
        events = self._events(read_object(data), is_whole=True)
        if not events:
            raise UpstreamError("The model server's answer has no choices")
        return events

    def _events(self, answer: Json, *, is_whole: bool) -> list[Event]:
        if answer.get("error"):
            raise UpstreamError("The model server failed in the middle of its answer")
        if self._id is None:
            self._id, self._created = plain(answer.get("id")), plain(answer.get("created"))
        usage = answer.get("usage")
        if is_object(usage):
            self.usage = scrubbed_usage(usage)
        events = [_event(choice) for choice in objects(answer, "choices")]
        expect_choices([e.choice for e in events], self._request.n, is_whole=is_whole)
        return events

    def write(self, events: Sequence[Event], cut: Collection[int], note: Json | None) -> bytes:
        """Chunks for released events, and the block message of choices that were cut."""
        choices = [_choice(e) for e in events]
        self._has_written = self._has_written or any(e.texts for e in events)
        for index in cut:
            if index not in self._told:
                self._told.add(index)
                text = ("\n\n" if self._has_written else "") + self._message
                choices.append(_written(index, text, self._finish))
        last = len(choices) - 1
        tells = note is not None and not self._request.include_usage
        return b"".join(
            [self._chunk([c], guardproxy=note) if tells and i == last else self._chunk([c])
             for i, c in enumerate(choices)]
        )  # fmt: skip

    def end(self, note: Json) -> bytes:
        """`[DONE]`, after the usage if the client wants it."""
        if not self._request.include_usage:
            return DONE
        return self._chunk([], usage=self.usage, guardproxy=note) + DONE

    def body(self, events: Sequence[Event], cut: Collection[int], note: Json) -> bytes:
        """The answer in one piece."""
        choices = {e.choice: _choice(e) for e in events}
        choices |= {i: _written(i, self._message, self._finish) for i in cut}
        told = [choices[i] for i in sorted(choices)]
        return msgspec.json.encode(self._answer(told) | {"usage": self.usage, "guardproxy": note})

    def repaired(self, text: str) -> None:
        """Say this in place of choices that are cut."""
        self._message, self._finish = text, "stop"

    def broken(self, message: str, code: str) -> bytes:
        """An error event and the end."""
        return b"data: " + fault(message, status=500, code=code, param=None) + b"\n\n" + DONE

    def blocked(self, note: Json, created: int, nonce: str) -> bytes:
        """Every choice is the block message."""
        self._id, self._created = f"cmpl-{nonce}", created
        self.usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        choices = range(self._request.n)
        if self._request.stream:
            return self.write((), choices, note) + self.end(note)
        return self.body((), choices, note)

    def _answer(self, choices: list[Json]) -> Json:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._request.model,
            "choices": choices,
        }

    def _chunk(self, choices: list[Json], **more: object) -> bytes:
        return b"data: " + msgspec.json.encode(self._answer(choices) | more) + b"\n\n"


def _event(choice: Json) -> Event:
    text, reason = text_of(choice, "text"), text_of(choice, "finish_reason")
    known = reason if reason in FINISHES or not reason else "stop"
    return Event(
        integer_of(choice, "index"), (("content", text),) if text else (), known or None, known or None
    )


def _choice(event: Event) -> Json:
    text = event.texts[0][1] if event.texts else ""
    return _written(event.choice, text, event.finish)


def _written(index: int, text: str, reason: str | None) -> Json:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
