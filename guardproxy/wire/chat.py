"""`POST /v1/chat/completions`, the way in: a body becomes a `Request`, a `Request` becomes a body.

Parsed strictly and written anew: no byte and no unknown field of the client is forwarded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from guardproxy.core.content import ImagePart, Message, Part, Request, TextPart, Tool, ToolCall
from guardproxy.errors import WireError
from guardproxy.wire.fields import (
    KNOWN_DROPPED,
    MAX_N,
    OPTIONS,
    REFUSED,
    boolean,
    integer,
    short_text,
    wrong,
)

MAX_MESSAGES = 2048
MAX_TOOLS = 128
MAX_DEPTH = 64
_NAME = re.compile(r"[a-zA-Z0-9_.\-]{1,128}")
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_MESSAGE_FIELDS = frozenset(("role", "content", "name", "tool_calls", "tool_call_id"))
_TOP_FIELDS = frozenset(
    ("model", "messages", "stream", "stream_options", "n", "tools", "tool_choice", "response_format")
)
_read_integer = integer(1, MAX_N)
_read_model = short_text(512)

Json = dict[str, object]


def decode(body: bytes) -> Json:
    """A body as a JSON object.

    Raises:
        WireError: Not UTF-8, not JSON, nested too deeply, or not an object.
    """
    try:
        value = msgspec.json.decode(body)
        # msgspec lets an escaped lone surrogate through as text that cannot be written again.
        _bound_depth(body)
        msgspec.json.encode(value) if b"\\ud" in body or b"\\uD" in body else None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise WireError(f"The body is not valid JSON in UTF-8: {error}", code="invalid_json") from None
    except RecursionError:
        raise WireError("The body is nested too deeply", code="invalid_json") from None
    if not isinstance(value, dict):
        raise WireError("The body must be a JSON object", code="invalid_json")
    return value


def _bound_depth(body: bytes) -> None:
    # Brackets inside strings count too: the bound is generous, and only a flood of them is walked.
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = deepest = 0
    in_string = False
    for match in re.finditer(rb'[\[\]{}"]|\\.', body, re.DOTALL):
        token = match[0]
        if token == b'"':
            in_string = not in_string
        elif not in_string and token in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif not in_string and token in b"]}":
            depth -= 1
    if deepest > MAX_DEPTH:
        raise WireError(f"The body is nested too deeply (more than {MAX_DEPTH} levels)", code="invalid_json")


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
    options: Json = {}
    for key, value in raw.items():
        if key in REFUSED or (key == "skip_special_tokens" and value is False):
            raise WireError(f"{key}: not allowed through this proxy", param=key, code="unsupported_parameter")
        read = OPTIONS.get(key)
        if read is not None:
            if value is not None:
                options[key] = read(key, value)
        elif key not in _TOP_FIELDS:
            dropped.append(key if key in KNOWN_DROPPED else "other")
    model = raw.get("model")
    if model is None:
        raise WireError("model: required", param="model")
    tools = _tools(raw.get("tools"), dropped)
    request = Request(
        model=str(_read_model("model", model)),
        messages=_messages(raw.get("messages"), dropped),
        tools=tools,
        tool_choice=_tool_choice(raw.get("tool_choice"), tools),
        schema=_response_format(raw.get("response_format")),
        options=options,
        n=1 if raw.get("n") is None else int(str(_read_integer("n", raw["n"]))),
        stream=raw.get("stream") is not None and bool(boolean("stream", raw["stream"])),
        include_usage=_include_usage(raw),
        dropped=tuple(dropped),
    )
    _bound_text(request, max_text_chars)
    return request


def _bound_text(request: Request, limit: int) -> None:
    total = sum(len(s.text) for s in request.segments())
    if total > limit:
        raise WireError(
            f"messages: at most {limit} characters of text in all, got {total}",
            param="messages",
            status=413,
            code="text_too_long",
        )


def _include_usage(raw: Json) -> bool:
    options = raw.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise wrong("stream_options", "an object", options)
    if not raw.get("stream"):
        raise WireError("stream_options: only allowed with stream: true", param="stream_options")
    value = options.get("include_usage")
    return value is not None and bool(boolean("stream_options.include_usage", value))


def _messages(value: object, dropped: list[str]) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise wrong("messages", "an array", value)
    if not 1 <= len(value) <= MAX_MESSAGES:
        raise WireError(
            f"messages: expected 1 to {MAX_MESSAGES} messages, got {len(value)}", param="messages"
        )
    messages = tuple(_message(f"messages[{i}]", m, dropped) for i, m in enumerate(value))
    last = messages[-1]
    if last.role not in ("user", "tool"):
        raise WireError(
            f"{last.place}.role: the last message must be of role user or tool, got {last.role}",
            param=f"{last.place}.role",
        )
    return messages


def _message(place: str, value: object, dropped: list[str]) -> Message:
    if not isinstance(value, dict):
        raise wrong(place, "an object", value)
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise WireError(f"{place}.role: expected one of {', '.join(_ROLES)}", param=f"{place}.role")
    for key, item in value.items():
        if key not in _MESSAGE_FIELDS and item is not None:
            dropped.append(key if key in KNOWN_DROPPED else "other")
    calls = tuple(_tool_calls(f"{place}.tool_calls", value.get("tool_calls")))
    if calls and role != "assistant":
        raise WireError(f"{place}.tool_calls: only an assistant calls tools", param=f"{place}.tool_calls")
    content = value.get("content")
    if content is None and not calls:
        raise WireError(f"{place}.content: required", param=f"{place}.content")
    name, call_id = value.get("name"), value.get("tool_call_id")
    if name is not None and (not isinstance(name, str) or not _NAME.fullmatch(name)):
        raise WireError(f"{place}.name: expected 1 to 128 letters, digits, _ . or -", param=f"{place}.name")
    if call_id is not None and (not isinstance(call_id, str) or not _NAME.fullmatch(call_id)):
        raise WireError(f"{place}.tool_call_id: expected an identifier", param=f"{place}.tool_call_id")
    parts = tuple(_parts(f"{place}.content", content, dropped))
    return Message(_ROLES[role], parts, place, name, calls, call_id)


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
        dropped.extend(k if k in KNOWN_DROPPED else "other" for k in image if k not in ("url", "detail"))
        image = image.get("url")
    if "uuid" in value:
        dropped.append("uuid")
    if not isinstance(image, str):
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


def canonical_json(text: str) -> str:
    """JSON text written anew, so that no escape hides what a template would decode."""
    try:
        return msgspec.json.encode(msgspec.json.decode(text)).decode()
    except (msgspec.DecodeError, RecursionError, UnicodeError, msgspec.ValidationError):
        return text


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
        call_id, name, arguments = one.get("id"), function.get("name"), function.get("arguments")
        if not isinstance(call_id, str) or not _NAME.fullmatch(call_id):
            raise WireError(f"{at}.id: expected an identifier", param=f"{at}.id")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise WireError(f"{at}.function.name: expected an identifier", param=f"{at}.function.name")
        if not isinstance(arguments, str):
            raise wrong(f"{at}.function.arguments", "a string", arguments)
        yield ToolCall(call_id, name, canonical_json(arguments))


def _tools(value: object, dropped: list[str]) -> tuple[Tool, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise wrong("tools", "an array", value)
    if len(value) > MAX_TOOLS:
        raise WireError(f"tools: at most {MAX_TOOLS}, got {len(value)}", param="tools")
    return tuple(_tool(f"tools[{i}]", t, dropped) for i, t in enumerate(value))


def _tool(at: str, value: object, dropped: list[str]) -> Tool:
    if not isinstance(value, dict) or value.get("type") != "function":
        raise WireError(f"{at}.type: expected function", param=f"{at}.type")
    function = value.get("function")
    if not isinstance(function, dict):
        raise wrong(f"{at}.function", "an object", function)
    name, description = function.get("name"), function.get("description")
    parameters, strict = function.get("parameters"), function.get("strict")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise WireError(f"{at}.function.name: expected an identifier", param=f"{at}.function.name")
    if description is not None and not isinstance(description, str):
        raise wrong(f"{at}.function.description", "a string", description)
    if parameters is not None and not isinstance(parameters, dict):
        raise wrong(f"{at}.function.parameters", "an object", parameters)
    if strict is not None:
        boolean(f"{at}.function.strict", strict)
    known = ("name", "description", "parameters", "strict")
    dropped.extend(k if k in KNOWN_DROPPED else "other" for k in function if k not in known)
    schema = None if parameters is None else msgspec.json.encode(parameters).decode()
    return Tool(name, description, schema, at, strict if isinstance(strict, bool) else None)


def _tool_choice(value: object, tools: tuple[Tool, ...]) -> str | None:
    """`auto`, `none`, `required`, or `=NAME` for a named tool."""
    if value is None or value in ("auto", "none", "required"):
        return value
    function = value.get("function") if isinstance(value, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or name not in {t.name for t in tools}:
        raise WireError(
            "tool_choice: expected auto, none, required or a tool of this request", param="tool_choice"
        )
    return f"={name}"


def _response_format(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong("response_format", "an object", value)
    kind = value.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise WireError(
            "response_format.type: expected text, json_object or json_schema", param="response_format.type"
        )
    kept = {"type": kind}
    if kind == "json_schema":
        schema = value.get("json_schema")
        if not isinstance(schema, dict):
            raise wrong("response_format.json_schema", "an object", schema)
        kept["json_schema"] = {
            k: v for k, v in schema.items() if k in ("name", "description", "schema", "strict")
        }
    return msgspec.json.encode(kept).decode()
