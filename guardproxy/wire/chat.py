"""`POST /v1/chat/completions`, the way in: a body becomes a `Request`, a `Request` becomes a body.

Parsed strictly and written anew: no byte and no unknown field of the client is forwarded.
"""

from __future__ import annotations

from collections.abc import Iterator

from guardproxy.core.content import ImagePart, Message, Part, Request, TextPart, Tool, ToolCall
from guardproxy.errors import WireError
from guardproxy.wire.body import (
    Json,
    bound_text,
    call_id,
    canonical_json,
    decode,
    drop,
    identifier,
    include_usage,
    json_format,
    last_is_asked,
    listed,
    named_tool,
    read_bool,
    read_model,
    read_options,
    tool_of,
)
from guardproxy.wire.fields import MAX_N, OPTIONS, integer, wrong

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_MESSAGE_FIELDS = frozenset(("role", "content", "name", "tool_calls", "tool_call_id"))
_TOP_FIELDS = frozenset(
    ("model", "messages", "stream", "stream_options", "n", "tools", "tool_choice", "response_format")
)
_read_integer = integer(1, MAX_N)


def parse(body: bytes, *, max_text_chars: int) -> Request:
    """Read a request.

    Args:
        body: As the client sent it, within the body limit.
        max_text_chars: Longest text of the whole request, in characters.

    Raises:
        WireError: Names the field at fault, what was expected and what came.
    """
    raw = decode(body)
    dropped: list[str] = []
    options = read_options(raw, OPTIONS, _TOP_FIELDS, dropped)
    model = read_model(raw)
    tools = _tools(raw.get("tools"), dropped)
    request = Request(
        model=model,
        messages=_messages(raw.get("messages"), dropped),
        tools=tools,
        tool_choice=_tool_choice(raw.get("tool_choice"), tools),
        schema=json_format("response_format", raw.get("response_format")),
        options=options,
        n=1 if raw.get("n") is None else int(str(_read_integer("n", raw["n"]))),
        stream=read_bool(raw, "stream"),
        include_usage=include_usage(raw),
        dropped=tuple(dropped),
    )
    bound_text(request, max_text_chars, body)
    return request


def _messages(value: object, dropped: list[str]) -> tuple[Message, ...]:
    messages = tuple(_message(at, m, dropped) for at, m in listed("messages", value))
    last_is_asked(messages)
    return messages


def _message(place: str, value: object, dropped: list[str]) -> Message:
    if not isinstance(value, dict):
        raise wrong(place, "an object", value)
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise WireError(f"{place}.role: expected one of {', '.join(_ROLES)}", param=f"{place}.role")
    for key, item in value.items():
        if key not in _MESSAGE_FIELDS and item is not None:
            drop(dropped, key)
    calls = tuple(_tool_calls(f"{place}.tool_calls", value.get("tool_calls")))
    if calls and role != "assistant":
        raise WireError(f"{place}.tool_calls: only an assistant calls tools", param=f"{place}.tool_calls")
    content = value.get("content")
    if content is None and not calls:
        raise WireError(f"{place}.content: required", param=f"{place}.content")
    name, answered = value.get("name"), value.get("tool_call_id")
    parts = tuple(_parts(f"{place}.content", content, dropped))
    return Message(
        _ROLES[role],
        parts,
        place,
        None if name is None else identifier(f"{place}.name", name),
        calls,
        None if answered is None else call_id(f"{place}.tool_call_id", answered),
    )


def _parts(place: str, content: object, dropped: list[str]) -> Iterator[Part]:
    if content is None:
        return
    if isinstance(content, str):
        yield TextPart(content, place)
        return
    if not isinstance(content, list):
        raise wrong(place, "a string or an array of parts", content)
    for index, value in enumerate(content):
        at = f"{place}[{index}]"
        if isinstance(value, str):
            yield TextPart(value, at)
            continue
        if not isinstance(value, dict):
            raise wrong(at, "an object", value)
        yield _part(at, value, dropped)


def _part(at: str, value: Json, dropped: list[str]) -> Part:
    kind = value.get("type")
    if kind == "text":
        text = value.get("text")
        if not isinstance(text, str):
            raise wrong(f"{at}.text", "a string", text)
        _refuse_media(at, value, "text")
        return TextPart(text, f"{at}.text")
    if kind not in ("image_url", "input_image"):
        raise WireError(f"{at}.type: expected text or image_url", param=f"{at}.type", code="unsupported_part")
    _refuse_media(at, value, "image_url")
    image = value.get("image_url")
    detail: object = value.get("detail")
    if isinstance(image, dict):
        detail = image.get("detail", detail)
        drop(dropped, *(k for k in image if k not in ("url", "detail")))
        image = image.get("url")
    if "uuid" in value:
        dropped.append("uuid")
    if not isinstance(image, str | memoryview):
        raise wrong(f"{at}.image_url.url", "a string", image)
    if detail not in (None, "auto", "low", "high", "original"):
        raise WireError(f"{at}.image_url.detail: expected auto, low or high", param=f"{at}.image_url.detail")
    return ImagePart(image, f"{at}.image_url", detail if isinstance(detail, str) else None)


def _refuse_media(at: str, value: Json, own: str) -> None:
    """A part that carries a second content is read differently by different servers: refuse it."""
    allowed = {"type", own, "detail", "uuid", "cache_control"}
    extra = sorted(set(value) - allowed)
    if extra or (own == "text" and "uuid" in value):
        name = extra[0] if extra else "uuid"
        raise WireError(f"{at}.{name}: not allowed in a part of type {value['type']}", param=f"{at}.{name}")


def _tool_calls(place: str, value: object) -> Iterator[ToolCall]:
    if value is None:
        return
    if not isinstance(value, list):
        raise wrong(place, "an array", value)
    for index, one in enumerate(value):
        at = f"{place}[{index}]"
        function = one.get("function") if isinstance(one, dict) else None
        if not isinstance(function, dict):
            raise wrong(f"{at}.function", "an object", function)
        number = call_id(f"{at}.id", one.get("id"))
        name, arguments = identifier(f"{at}.function.name", function.get("name")), function.get("arguments")
        if not isinstance(arguments, str):
            raise wrong(f"{at}.function.arguments", "a string", arguments)
        yield ToolCall(number, name, canonical_json(f"{at}.function.arguments", arguments))


def _tools(value: object, dropped: list[str]) -> tuple[Tool, ...]:
    return () if value is None else tuple(_tool(at, t, dropped) for at, t in listed("tools", value))


def _tool(at: str, value: object, dropped: list[str]) -> Tool:
    if not isinstance(value, dict) or value.get("type") != "function":
        raise WireError(f"{at}.type: expected function", param=f"{at}.type")
    function = value.get("function")
    if not isinstance(function, dict):
        raise wrong(f"{at}.function", "an object", function)
    return tool_of(at, f"{at}.function", function, dropped)


def _tool_choice(value: object, tools: tuple[Tool, ...]) -> str | None:
    """`auto`, `none`, `required`, or `=NAME` for a named tool."""
    if value is None or value in ("auto", "none", "required"):
        return value
    function = value.get("function") if isinstance(value, dict) else None
    return named_tool(function, tools)
