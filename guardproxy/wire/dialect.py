"""What a dialect is: one public format of requests and answers, read into the same values as every other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from guardproxy.core.content import Request
from guardproxy.core.gate import Event

Json = dict[str, object]


class Answer(Protocol):
    """One answer on its way: the upstream's bytes become events, released events become the client's bytes.

    No text gets from the one to the other but through an `Event`.
    """

    usage: Mapping[str, object] | None
    """Token counts as last told: `prompt_tokens`, `completion_tokens`, `total_tokens`."""
    moderation: Json | None
    """The verdict, told at the end in OpenAI's own field where the dialect has it."""
    is_done: bool
    """Whether a stream has said that it ends."""

    def take(self, data: bytes) -> Iterable[Event]:
        """Read the data of one server-sent event.

        Raises:
            UpstreamError: It cannot be read, or is an error.
        """

    def take_body(self, data: bytes) -> Iterable[Event]:
        """Read an answer in one piece.

        Raises:
            UpstreamError: As `take`, or there is nothing in it.
        """

    def write(self, events: Sequence[Event], cut: Collection[int], note: Json | None) -> bytes:
        """The released events, and the block message of choices that were cut, as a piece of a stream.

        Args:
            events: In the order in which they came.
            cut: All choices cut so far.
            note: The `guardproxy` key, once all is decided.
        """

    def end(self, note: Json) -> bytes:
        """What ends the stream."""

    def body(self, events: Sequence[Event], cut: Collection[int], note: Json) -> bytes:
        """The answer in one piece."""

    def repaired(self, text: str) -> None:
        """Say this, as an answer that ended by itself, in place of choices that are cut."""

    def broken(self, message: str, code: str) -> bytes:
        """What ends a stream that a fault breaks off."""

    def blocked(self, note: Json, created: int, nonce: str) -> bytes:
        """An answer made by the proxy alone: the block message, in one piece or as a stream."""


class Parse(Protocol):
    """Reads a request."""

    def __call__(self, body: bytes, *, max_text_chars: int) -> Request:
        """Raise `WireError` that names the field at fault, what was expected and what came."""


class Write(Protocol):
    """Writes a request for the upstream: anew, field by field."""

    def __call__(self, request: Request, *, model: str, cache_salt: str | None) -> bytes:
        """With the upstream's own name of the model."""


class Begin(Protocol):
    """Makes the answer of a request."""

    def __call__(self, request: Request, message: str) -> Answer:
        """With the block message of its policy, in its language."""


class Fault(Protocol):
    """Writes an error."""

    def __call__(self, message: str, *, status: int, code: str | None, param: str | None) -> bytes:
        """In the dialect's envelope."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One public format.

    Attributes:
        name: As in `Request.dialect`.
        path: Of the route, the client's and the upstream's.
        hardens: Whether it has a place for the policy's rules.
    """

    name: str
    path: str
    parse: Parse
    write: Write
    answer: Begin
    fault: Fault
    hardens: bool = True
