"""What guards look at: requests, answers and their segments, whatever the dialect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace

from guardproxy.core.callids import judged_id
from guardproxy.core.value import value

JsonScalar = str | int | float | bool | None


@value
class TextPart:
    """A piece of text in a message.

    Attributes:
        place: Where it stands in the client's body, such as `messages[2].content[1].text`.
    """

    text: str
    place: str


@value
class ReadText:
    """A line of text that was read in a picture.

    Attributes:
        place: Where it stands, such as `messages[0].content[1]/ocr[3]`.
        box: Left, top, right and bottom of the upright rectangle around it, in pixels of the canonical picture.
        confidence: Of the reader, in [0, 1].
    """

    text: str
    place: str
    box: tuple[int, int, int, int]
    confidence: float = 1.0


@value
class ImagePart:
    """A picture in a message.

    Attributes:
        url: As the client sent it, as text or as bytes of its body; empty after intake.
        place: Where it stands in the client's body.
        detail: `auto`, `low` or `high`, if the client gave one.
        sent: `data:` URL of the bytes written anew, which are sent on, as JSON text; empty before intake.
        sha256: Hex digest of those bytes; empty before intake.
        source_sha256: Of the client's own file; empty before intake.
        width: Pixels, 0 before intake.
        height: Pixels, 0 before intake.
        texts: What was read in it, in reading order; empty unless a guard of the policy looks at `image_text`.
    """

    url: str | memoryview
    place: str
    detail: str | None = None
    sent: bytes = field(default=b"", repr=False)
    sha256: str = ""
    source_sha256: str = ""
    width: int = 0
    height: int = 0
    texts: tuple[ReadText, ...] = ()


Part = TextPart | ImagePart


@value
class ToolCall:
    """A call of a tool that an assistant turn made. `arguments` is JSON text, as sent."""

    id: str
    name: str
    arguments: str


@value
class Message:
    """One turn. `role` is `system`, `user`, `assistant` or `tool` (a developer's is `system`)."""

    role: str
    parts: tuple[Part, ...]
    place: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@value
class Tool:
    """A function the model may call. `parameters` is its JSON Schema as JSON text."""

    name: str
    description: str | None
    parameters: str | None
    place: str
    strict: bool | None = None


@value
class Segment:
    """A piece of text or an image, with where it stands.

    Attributes:
        kind: `system`, `user`, `assistant`, `tool`, `tools`, `image`, `image_text`, or for an answer
            `content`, `reasoning`, `refusal`, `tool_arguments`: what `looks_at` selects by.
        untrusted: Whether somebody other than the application or its user may have written it.
        image: The picture; of `image_text`, the one in which it was read.
        turn: Index of the message; -1 outside messages.
    """

    kind: str
    place: str
    text: str = ""
    image: ImagePart | None = None
    untrusted: bool = False
    turn: int = -1


@value
class Request:
    """One request on its way to the model, parsed, bounded and free of unknown fields.

    Attributes:
        model: The public name the client asked for.
        options: Sampling and format options by their name on the wire, already validated.
        schema: JSON text of the format asked for, or None; `schema_place` is where it stands.
        dropped: Names of the fields that were dropped, for the metric.
        dialect: Of the client; see `wire.dialects`.
        echo: What the answer repeats of the request, by its name in the answer.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    schema: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    dropped: tuple[str, ...] = ()
    dialect: str = "chat"
    schema_place: str = "response_format"
    echo: Mapping[str, object] = field(default_factory=dict)

    def segments(self) -> tuple[Segment, ...]:
        """Everything the model will read, in order."""
        found: list[Segment] = []
        called: set[str] = set()
        for turn, message in enumerate(self.messages):
            found.extend(_segments_of(message, turn))
            called.update(c.id for c in message.tool_calls)
            answered = judged_id(message.tool_call_id)
            if answered and answered not in called:  # an id that a call has, too, was told with it
                found.append(
                    Segment(
                        message.role, f"{message.place}.tool_call_id", answered, untrusted=True, turn=turn
                    )
                )
        for tool in self.tools:
            text = "\n".join(t for t in (tool.name, tool.description, tool.parameters) if t)
            found.append(Segment("tools", tool.place, text))
        if self.schema is not None:
            found.append(Segment("tools", self.schema_place, self.schema))
        return tuple(found)

    @property
    def question(self) -> str:
        """Text of the last user turn: what an answer is judged against."""
        for message in reversed(self.messages):
            if message.role == "user":
                return "\n".join(p.text for p in message.parts if isinstance(p, TextPart))
        return ""

    def with_messages(self, messages: tuple[Message, ...]) -> Request:
        """The same request with other messages."""
        return replace(self, messages=messages)


def call_text(call: ToolCall) -> str:
    """What is judged of a call: its id, unless it is no text of anybody's, its name, and at the end its arguments."""
    return "\n".join(t for t in (judged_id(call.id), call.name, call.arguments) if t)


def _segments_of(message: Message, turn: int) -> list[Segment]:
    # What an assistant or a tool is said to have said was sent by the client: nobody vouches for it.
    untrusted = message.role in ("tool", "assistant")
    found: list[Segment] = []
    for part in message.parts:
        if isinstance(part, TextPart):
            if part.text:
                found.append(Segment(message.role, part.place, part.text, untrusted=untrusted, turn=turn))
        else:
            found.append(Segment("image", part.place, image=part, untrusted=True, turn=turn))
            found.extend(
                Segment("image_text", read.place, read.text, part, untrusted=True, turn=turn)
                for read in part.texts
            )
    if message.name:
        found.append(
            Segment(message.role, f"{message.place}.name", message.name, untrusted=untrusted, turn=turn)
        )
    for index, call in enumerate(message.tool_calls):
        found.append(
            Segment(
                message.role,
                f"{message.place}.tool_calls[{index}]",
                call_text(call),
                untrusted=True,
                turn=turn,
            )
        )
    return found
