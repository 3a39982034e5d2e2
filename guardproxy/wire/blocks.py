"""Answers that are made of blocks (Responses, Messages): events in, blocks of released text out.

A dialect only says how a block begins, grows and ends. All copies of a text that it writes are made from
what was released, never taken from the upstream.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from guardproxy.core.callids import judged_id
from guardproxy.core.content import Request
from guardproxy.core.gate import Event
from guardproxy.errors import UpstreamError
from guardproxy.wire.dialect import Json
from guardproxy.wire.reading import UNREADABLE


@dataclass(frozen=True, slots=True)
class Piece:
    """Where an event's text belongs.

    Attributes:
        block: Number of the block, in the order in which the upstream began them.
        kind: The channel: `content`, `reasoning`, `refusal` or `tool_arguments`.
        call_id: Of a tool call.
        part: What of a tool call the text is: `id`, `name` or `arguments`.
    """

    block: int
    kind: str
    call_id: str = ""
    part: str = "arguments"


@dataclass(frozen=True, slots=True)
class Finish:
    """How the upstream says that the answer ended."""

    reason: str
    detail: str | None = None


@dataclass(slots=True)
class Block:
    """A block of released text."""

    number: int
    kind: str
    call_id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What was released of it."""
        return "".join(self.pieces)


class BlockAnswer(ABC):
    """The client's side of an answer made of blocks; has one choice, number 0.

    Args:
        request: Whose answer it is.
        message: The block message.
    """

    def __init__(self, request: Request, message: str) -> None:
        self.usage: Mapping[str, object] | None = None
        self.moderation: Json | None = None
        self.is_done = False
        self.request = request
        self.message = message
        self.blocks: list[Block] = []
        self.finish: Finish | None = None
        self.is_cut = False
        self.is_repaired = False
        self._has_begun = False
        self._open: Block | None = None
        self._at: int | None = None
        self._is_new = False
        self._said: set[str] = set()
        self._calls: list[int] = []

    def text_events(self, block: int, kind: str, text: str) -> list[Event]:
        """Text of a block; without text, its beginning.

        Some clients read blocks apart and others join them: a line end begins a later block of the same kind, for the
        guards and for the client, so that no word goes on from one to the other for anybody. Calls are judged apart
        altogether.
        """
        self._enter(block)
        piece = Piece(block, kind)
        if kind == "tool_arguments":
            if block not in self._calls:  # nobody could say whose arguments these are
                raise UpstreamError(UNREADABLE)
            return [Event(0, ((self._lane(block), text),) if text else (), piece)]
        if not text:
            return [Event(0, (), piece)]
        events = [Event(0, ((kind, text),), piece)]
        if self._is_new and kind in self._said:
            events.insert(0, Event(0, ((kind, "\n"),), Piece(block, kind)))
        self._is_new = False
        self._said.add(kind)
        return events

    def call_events(self, block: int, call_id: str, name: str) -> list[Event]:
        """The beginning of a tool call. Its name ends a line, so that it is never read as one word with what follows."""
        self._enter(block)
        lane = self._lane(block)
        told = [("id", judged)] if (judged := judged_id(call_id)) else []
        return [
            Event(0, ((lane, f"{text}\n"),), Piece(block, "tool_arguments", call_id, part))
            for part, text in (*told, ("name", name))
        ]

    def _enter(self, block: int) -> None:
        if block != self._at:
            self._at, self._is_new = block, True

    def _lane(self, block: int) -> str:
        if block not in self._calls:
            self._calls.append(block)
        number = self._calls.index(block)
        return f"tool_arguments#{number}" if number else "tool_arguments"

    def write(self, events: Sequence[Event], cut: Collection[int], note: Json | None) -> bytes:
        """The released events, and the block message after a cut."""
        del note  # told at the end
        out = self._opening()
        for event in events:
            self._take(event, out)
        if cut and not self.is_cut:
            self.is_cut = True
            self._tell(out)
        return b"".join(out)

    @property
    def is_filtered(self) -> bool:
        """Whether a block ended it."""
        return self.is_cut and not self.is_repaired

    def repaired(self, text: str) -> None:
        """Say this in place of what is cut."""
        self.message, self.is_repaired, self.finish = text, True, None

    def end(self, note: Json) -> bytes:
        """What ends the stream."""
        out = self._opening()
        self._close(out)
        return b"".join(out) + self.ending(note)

    def body(self, events: Sequence[Event], cut: Collection[int], note: Json) -> bytes:
        """The answer in one piece; a block message stands in place of all of it."""
        unused: list[bytes] = []
        for event in events:
            self._take(event, unused)
        if cut:
            self.is_cut = True
            self.blocks = [Block(0, "content", pieces=[self.message])]
        return self.whole(note)

    def _opening(self) -> list[bytes]:
        if self._has_begun:
            return []
        self._has_begun = True
        return [self.beginning()]

    def _take(self, event: Event, out: list[bytes]) -> None:
        place = event.payload
        if isinstance(place, Finish):
            self.finish = place
            return
        assert isinstance(place, Piece)
        text = event.texts[0][1] if event.texts else ""
        block = self._open
        if block is None or block.number != place.block:
            self._close(out)
            block = Block(place.block, place.kind, place.call_id)
            self.blocks.append(block)
            self._open = block
            if place.kind != "tool_arguments":
                out.append(self.opened(block))
        if place.part == "id":
            block.call_id = text.removesuffix("\n")
        elif place.part == "name":
            block.name = text.removesuffix("\n")
            out.append(self.opened(block))
        elif text:
            block.pieces.append(text)
            out.append(self.grown(block, text))

    def _tell(self, out: list[bytes]) -> None:
        block = self._open
        text = self.message
        if block is not None and block.kind == "content":
            text = f"\n\n{text}" if block.pieces else text
        else:
            self._close(out)
            block = self._open = Block(len(self.blocks), "content")
            self.blocks.append(block)
            out.append(self.opened(block))
        block.pieces.append(text)
        out.append(self.grown(block, text))

    def _close(self, out: list[bytes]) -> None:
        if self._open is not None:
            block, self._open = self._open, None
            out.append(self.closed(block))

    # What a dialect says.

    @abstractmethod
    def beginning(self) -> bytes:
        """The stream begins."""

    @abstractmethod
    def opened(self, block: Block) -> bytes:
        """A block begins; of a tool call, its name is known."""

    @abstractmethod
    def grown(self, block: Block, text: str) -> bytes:
        """Text was added to the block."""

    @abstractmethod
    def closed(self, block: Block) -> bytes:
        """The block is whole, or as whole as it gets after a cut."""

    @abstractmethod
    def ending(self, note: Json) -> bytes:
        """The stream ends."""

    @abstractmethod
    def whole(self, note: Json) -> bytes:
        """The answer in one piece."""
