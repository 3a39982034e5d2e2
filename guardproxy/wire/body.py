"""What the bodies of all dialects have in common: strict JSON, bounded depth and text, identifiers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from guardproxy.core.content import Message, Request, Tool
from guardproxy.errors import WireError
from guardproxy.wire.cut import cut, placed
from guardproxy.wire.fields import KNOWN_DROPPED, REFUSED, boolean, short_text, wrong

MAX_DEPTH = 64
MAX_LISTED = {"messages": 2048, "input": 4096, "tools": 128}
IDENTIFIER = re.compile(r"[a-zA-Z0-9_.\-]{1,128}")
CALL_ID = re.compile(r"[a-zA-Z0-9_.:\-]{1,128}")
"""Kimi's calls are named `functions.NAME:0`."""

Json = dict[str, object]
_read_model = short_text(512)


def decode(body: bytes) -> Json:
    """A body as a JSON object.

    Raises:
        WireError: Not UTF-8, not JSON, nested too deeply, or not an object.
    """
    small, cuts = cut(body)
    value = _parsed(small)
    # What was cut out must stand for a picture; a text that only looks like one is read as it is.
    return value if not cuts or placed(value, cuts) else _parsed(body)


def _parsed(body: bytes) -> Json:
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


def bound_text(request: Request, limit: int, body: bytes, field: str = "messages") -> None:
    """Raise a 413 if the texts of a request have more than `limit` characters in all; `body` is what it was read from."""
    if len(body) <= limit:
        return  # no character takes less than a byte
    total = sum(len(s.text) for s in request.segments())
    if total > limit:
        raise WireError(
            f"{field}: at most {limit} characters of text in all, got {total}",
            param=field,
            status=413,
            code="text_too_long",
        )


def canonical_json(param: str, text: str) -> str:
    """JSON text written anew, so that no escape hides what a template would decode.

    Raises:
        WireError: It is not JSON. Python's reader takes what JSON does not have, such as NaN: such text would be
            decoded behind the guards' back.
    """
    if not text:
        return text
    try:
        return msgspec.json.encode(msgspec.json.decode(text)).decode()
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise WireError(f"{param}: expected a text that is valid JSON", param=param) from None


def read_options(
    raw: Json, readers: Mapping[str, Callable[[str, object], object]], own: Iterable[str], dropped: list[str]
) -> Json:
    """The options of a body, typed; what is refused raises, all else but `own` fields is noted in `dropped`."""
    options: Json = {}
    for key, value in raw.items():
        if key in REFUSED or (key == "skip_special_tokens" and value is False):
            raise WireError(f"{key}: not allowed through this proxy", param=key, code="unsupported_parameter")
        read = readers.get(key)
        if read is not None:
            if value is not None:
                options[key] = read(key, value)
        elif key not in own:
            drop(dropped, key)
    return options


def drop(dropped: list[str], *fields: str) -> None:
    """Note fields that are not forwarded, under their own name where it is a known one."""
    dropped.extend(f if f in KNOWN_DROPPED else "other" for f in fields)


def identifier(param: str, value: object) -> str:
    """A name that a client made.

    Raises:
        WireError: It is anything else.
    """
    if not isinstance(value, str) or not IDENTIFIER.fullmatch(value):
        raise WireError(f"{param}: expected 1 to 128 letters, digits, _ . or -", param=param)
    return value


def call_id(param: str, value: object) -> str:
    """The id of a tool call, as models and servers make them.

    Raises:
        WireError: It is anything else.
    """
    if not isinstance(value, str) or not CALL_ID.fullmatch(value):
        raise WireError(f"{param}: expected 1 to 128 letters, digits, _ . : or -", param=param)
    return value


def read_model(raw: Json) -> str:
    """The model's public name, which must be given."""
    model = raw.get("model")
    if model is None:
        raise WireError("model: required", param="model")
    return str(_read_model("model", model))


def read_bool(raw: Json, key: str) -> bool:
    """A boolean field; false if it is not there."""
    value = raw.get(key)
    return value is not None and bool(boolean(key, value))


def include_usage(raw: Json) -> bool:
    """Whether a stream shall end with its usage."""
    options = raw.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise wrong("stream_options", "an object", options)
    if not raw.get("stream"):
        raise WireError("stream_options: only allowed with stream: true", param="stream_options")
    value = options.get("include_usage")
    return value is not None and bool(boolean("stream_options.include_usage", value))


def listed(field: str, value: object) -> Iterator[tuple[str, object]]:
    """Each element of a list with its place; raises a `WireError` if it is none, or too long."""
    if not isinstance(value, list):
        raise wrong(field, "an array", value)
    least, most = int(field != "tools"), MAX_LISTED[field]
    if not least <= len(value) <= most:
        raise WireError(f"{field}: expected {least} to {most} elements, got {len(value)}", param=field)
    return ((f"{field}[{i}]", one) for i, one in enumerate(value))


def last_is_asked(messages: Sequence[Message]) -> None:
    """Raise unless a user's turn or a tool's result comes last: a prefill puts words into the model's mouth."""
    last = messages[-1]
    if last.role not in ("user", "tool"):
        raise WireError(
            f"{last.place}.role: the last message must be of role user or tool, got {last.role}",
            param=f"{last.place}.role",
        )


def tool_of(at: str, place: str, function: Json, dropped: list[str], schema: str = "parameters") -> Tool:
    """A function that the model may call.

    Args:
        at: Place of the tool.
        place: Place of the object that describes the function.
        function: That object.
        dropped: Takes the names of fields that are not forwarded.
        schema: Name of the field with the JSON Schema.
    """
    name = identifier(f"{place}.name", function.get("name"))
    description, parameters, strict = (function.get(k) for k in ("description", schema, "strict"))
    if description is not None and not isinstance(description, str):
        raise wrong(f"{place}.description", "a string", description)
    if parameters is not None and not isinstance(parameters, dict):
        raise wrong(f"{place}.{schema}", "an object", parameters)
    if strict is not None:
        boolean(f"{place}.strict", strict)
    drop(dropped, *(k for k in function if k not in ("type", "name", "description", schema, "strict")))
    text = None if parameters is None else msgspec.json.encode(parameters).decode()
    return Tool(name, description, text, at, strict if isinstance(strict, bool) else None)


def named_tool(value: object, tools: Sequence[Tool]) -> str:
    """`=NAME` of a tool that must be called."""
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in {t.name for t in tools}:
        raise WireError(
            "tool_choice: expected auto, none, required or a tool of this request", param="tool_choice"
        )
    return f"={name}"


_NAMED_SCHEMA: tuple[tuple[str, type, str], ...] = (
    ("name", str, "a string"),
    ("description", str, "a string"),
    ("schema", dict, "an object"),
    ("strict", bool, "a boolean"),
)


def named_schema(place: str, value: Json) -> Json:
    """The known fields of a JSON Schema with a name, each of its own type."""
    kept: Json = {}
    for key, kind, expected in _NAMED_SCHEMA:
        given = value.get(key)
        if given is None:
            continue
        if not isinstance(given, kind):
            raise wrong(f"{place}.{key}", expected, given)
        kept[key] = given
    return kept


def json_format(place: str, value: object) -> str | None:
    """JSON text of a chat request's `response_format`, with its known fields only."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong(place, "an object", value)
    kind = value.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise WireError(f"{place}.type: expected text, json_object or json_schema", param=f"{place}.type")
    kept: Json = {"type": kind}
    if kind == "json_schema":
        schema = value.get("json_schema")
        if not isinstance(schema, dict):
            raise wrong(f"{place}.json_schema", "an object", schema)
        kept["json_schema"] = named_schema(f"{place}.json_schema", schema)
    return msgspec.json.encode(kept).decode()
