"""The OpenAPI document of the API side: which routes there are and what their bodies may hold.

Made from the table of dialects. Fields that a schema does not name are dropped or refused by `wire`; that every bound
here is the parser's own is tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guardproxy import __version__
from guardproxy.wire.body import IDENTIFIER, MAX_LISTED
from guardproxy.wire.dialects import DIALECTS
from guardproxy.wire.fields import MAX_N, MAX_STOP, MAX_STOP_CHARS

Schema = dict[str, object]


def _nullable(kind: str, **more: object) -> Schema:
    """A field that counts as absent when it is null."""
    return {"type": [kind, "null"], **more}


def _number(low: float, high: float) -> Schema:
    return _nullable("number", minimum=low, maximum=high)


def _integer(low: int, high: int) -> Schema:
    return _nullable("integer", minimum=low, maximum=high)


def _words(*words: str, null: bool = True) -> Schema:
    return {"enum": [*words, *([None] if null else [])]}


def _array(items: Schema, low: int = 0, high: int | None = None) -> Schema:
    return {"type": "array", "items": items, "minItems": low} | ({} if high is None else {"maxItems": high})


def _object(required: Sequence[str] = (), **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


def _any(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


_TEXT: Schema = {"type": "string"}
_BOOLEAN = _nullable("boolean")
_NAME: Schema = {"type": "string", "pattern": f"^{IDENTIFIER.pattern}$"}
_MODEL: Schema = {"type": "string", "maxLength": 512, "description": "A public name, as /v1/models lists it"}
_STOP_TEXT: Schema = {"type": "string", "maxLength": MAX_STOP_CHARS}
_FREE: Schema = {"type": "object"}
_TOKENS = _integer(1, 10_000_000)
_EFFORT = _words("none", "minimal", "low", "medium", "high", "xhigh", "max")
_THINKING = _nullable(
    "object",
    properties={"enable_thinking": {"type": "boolean"}, "thinking": {"type": "boolean"}},
    additionalProperties=False,
)

OPTIONS: Mapping[str, Schema] = {
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "top_k": _integer(-1, 1_000_000),
    "min_p": _number(0, 1),
    "max_tokens": _TOKENS,
    "max_completion_tokens": _TOKENS,
    "stop": _any({"type": "null"}, _STOP_TEXT, _array(_STOP_TEXT, 0, MAX_STOP)),
    "seed": _integer(-(2**63), 2**63 - 1),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "repetition_penalty": _number(0.01, 10),
    "logprobs": _BOOLEAN,
    "top_logprobs": _integer(0, 0),
    "parallel_tool_calls": _BOOLEAN,
    "reasoning_effort": _EFFORT,
    "user": _nullable("string", maxLength=512),
    "chat_template_kwargs": _THINKING,
}
"""Of a chat request; the other dialects share some of them."""


def _options(*names: str) -> dict[str, Schema]:
    return {name: OPTIONS[name] for name in names}


_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "stop", "seed", "presence_penalty", "frequency_penalty",
             "repetition_penalty", "user")  # fmt: skip
_STREAM_OPTIONS = _nullable(
    "object", properties={"include_usage": _BOOLEAN}, description="Only with `stream: true`"
)
_DATA_URL: Schema = {
    "type": "string",
    "description": "A data: URL; a remote one only where the policy inlines it",
}
_DETAIL = _words("auto", "low", "high", "original")


def _part(kind: str, **properties: Schema) -> Schema:
    schema = _object(("type", *properties), type={"const": kind}, **properties)
    return schema | {"additionalProperties": False}


def _content(*parts: Schema) -> Schema:
    return _any(_TEXT, _array(_any(*parts)))


# Chat.

_IMAGE_URL = _any(_DATA_URL, _object(("url",), url=_DATA_URL, detail=_DETAIL))
_FUNCTION = _object(
    ("name",), name=_NAME, description=_nullable("string"), parameters=_nullable("object"), strict=_BOOLEAN
)
_CALLED = _object(("name", "arguments"), name=_NAME, arguments=_TEXT)
_CHAT_TOOL = _object(("type", "function"), type={"const": "function"}, function=_FUNCTION)
_CHAT_MESSAGE = _object(
    ("role",),
    role=_words("system", "developer", "user", "assistant", "tool", null=False),
    content=_any(
        {"type": "null"}, _content(_TEXT, _part("text", text=_TEXT), _part("image_url", image_url=_IMAGE_URL))
    ),
    name={"anyOf": [{"type": "null"}, _NAME]},
    tool_calls={"anyOf": [{"type": "null"}, _array(_object(("id", "function"), id=_NAME, function=_CALLED))]},
    tool_call_id={"anyOf": [{"type": "null"}, _NAME]},
)
_CHOICE = _any(
    _words("auto", "none", "required"),
    _object(("type", "function"), type={"const": "function"}, function=_object(("name",), name=_NAME)),
)
_JSON_SCHEMA = _object(("name",), name=_TEXT, description=_TEXT, schema=_FREE, strict=_BOOLEAN)
_RESPONSE_FORMAT = _any(
    {"type": "null"},
    _object(("type",), type=_words("text", "json_object", null=False)),
    _object(("type", "json_schema"), type={"const": "json_schema"}, json_schema=_JSON_SCHEMA),
)
_CHAT = _object(
    ("model", "messages"),
    model=_MODEL,
    messages=_array(_CHAT_MESSAGE, 1, MAX_LISTED["messages"]),
    stream=_BOOLEAN,
    stream_options=_STREAM_OPTIONS,
    n=_integer(1, MAX_N),
    tools=_any({"type": "null"}, _array(_CHAT_TOOL, 0, MAX_LISTED["tools"])),
    tool_choice=_CHOICE,
    response_format=_RESPONSE_FORMAT,
    **OPTIONS,
)

# Completions.

_COMPLETIONS = _object(
    ("model", "prompt"),
    model=_MODEL,
    prompt=_any(_TEXT, _array(_TEXT, 1, 1)),
    stream=_BOOLEAN,
    stream_options=_STREAM_OPTIONS,
    n=_integer(1, MAX_N),
    **_options("max_tokens", *_SAMPLING),
)

# Responses.

_INPUT_IMAGE = _part("input_image", image_url=_DATA_URL)
_INPUT_CONTENT = _content(
    _object(("type", "text"), type=_words("input_text", "output_text", null=False), text=_TEXT), _INPUT_IMAGE
)
_ITEMS = (
    _object(("role", "content"), role=_words("system", "developer", "user", "assistant", null=False), content=_INPUT_CONTENT),
    _object(("type", "call_id", "name", "arguments"), type={"const": "function_call"}, call_id=_NAME, name=_NAME, arguments=_TEXT),
    _object(("type", "call_id", "output"), type={"const": "function_call_output"}, call_id=_NAME, output=_INPUT_CONTENT),
    _object(("type",), type={"const": "reasoning"}),
)  # fmt: skip
_RESPONSES_TOOL = _object(("type", "name"), type={"const": "function"}, **_FUNCTION["properties"])  # type: ignore[arg-type]
_RESPONSES = _object(
    ("model", "input"),
    model=_MODEL,
    input=_any(_TEXT, _array(_any(*_ITEMS), 1, MAX_LISTED["input"])),
    instructions=_nullable("string"),
    stream=_BOOLEAN,
    tools=_any({"type": "null"}, _array(_RESPONSES_TOOL, 0, MAX_LISTED["tools"])),
    tool_choice=_any(_words("auto", "none", "required"), _object(("type", "name"), type={"const": "function"}, name=_NAME)),
    text=_nullable("object", properties={"format": _any({"type": "null"}, _object(("type",), type=_words("text", "json_object", "json_schema", null=False)))}),
    reasoning=_nullable("object", properties={"effort": _EFFORT}),
    max_output_tokens=_TOKENS,
    **_options("parallel_tool_calls", "top_logprobs", *_SAMPLING),
)  # fmt: skip

# Messages.

_TEXT_BLOCK = _object(("type", "text"), type={"const": "text"}, text=_TEXT)
_IMAGE_SOURCE = _any(
    _object(("type", "media_type", "data"), type={"const": "base64"}, data=_TEXT,
            media_type=_words("image/png", "image/jpeg", "image/webp", "image/gif", null=False)),
    _object(("type", "url"), type={"const": "url"}, url=_DATA_URL),
)  # fmt: skip
_IMAGE_BLOCK = _object(("type", "source"), type={"const": "image"}, source=_IMAGE_SOURCE)
_BLOCKS = (
    _TEXT_BLOCK,
    _IMAGE_BLOCK,
    _object(("type", "id", "name", "input"), type={"const": "tool_use"}, id=_NAME, name=_NAME, input=_FREE),
    _object(("type", "tool_use_id"), type={"const": "tool_result"}, tool_use_id=_NAME,
            content=_any({"type": "null"}, _content(_TEXT_BLOCK, _IMAGE_BLOCK))),
    _object(("type",), type=_words("thinking", "redacted_thinking", null=False)),
)  # fmt: skip
_MESSAGES_CHOICE = _object(("type",), type=_words("auto", "any", "none", "tool", null=False), name=_NAME, disable_parallel_tool_use=_BOOLEAN)  # fmt: skip
_MESSAGES = _object(
    ("model", "messages", "max_tokens"),
    model=_MODEL,
    messages=_array(_object(("role", "content"), role=_words("user", "assistant", "system", null=False), content=_content(*_BLOCKS)), 1, MAX_LISTED["messages"]),
    max_tokens={"type": "integer", "minimum": 1, "maximum": 10_000_000},
    system=_any({"type": "null"}, _content(_TEXT_BLOCK)),
    stream=_BOOLEAN,
    stop_sequences={"anyOf": [{"type": "null"}, _array(_STOP_TEXT, 0, MAX_STOP)]},
    tools=_any({"type": "null"}, _array(_object(("name", "input_schema"), name=_NAME, description=_nullable("string"), input_schema=_FREE, strict=_BOOLEAN), 0, MAX_LISTED["tools"])),
    tool_choice=_any({"type": "null"}, _MESSAGES_CHOICE),
    thinking=_any({"type": "null"}, _object(("type",), type=_words("enabled", "disabled", "adaptive", null=False), budget_tokens=_TOKENS)),
    output_config=_nullable("object", properties={"effort": _words("low", "medium", "high", "xhigh", "max"), "format": _any({"type": "null"}, _object(("type", "schema"), type={"const": "json_schema"}, schema=_FREE))}),
    **_options("temperature", "top_p", "top_k", "chat_template_kwargs"),
)  # fmt: skip

REQUESTS: Mapping[str, Schema] = {
    "chat": _CHAT,
    "completions": _COMPLETIONS,
    "responses": _RESPONSES,
    "messages": _MESSAGES,
}
"""What each dialect's body may hold."""

_FAULT = _object(
    ("error",),
    error=_object(
        ("message", "type", "code", "param"),
        message=_TEXT, type=_TEXT, code=_nullable("string"), param=_nullable("string"),
    ),
)  # fmt: skip
STATUSES: Mapping[int, str] = {
    400: "The request is not acceptable, or the policy stops it (`code: content_filter`)",
    401: "No client key, or none in force",
    404: "No such route or model",
    405: "Another method; Allow says which",
    408: "The body did not arrive in time",
    413: "Over a limit of size",
    415: "Not JSON, or compressed",
    422: "The model server does not accept the request",
    429: "Over a limit of the client key, or of the model server",
    502: "The model server failed or cannot be reached",
    503: "A guard could not look, or too much is under way",
    504: "The model server does not answer in time",
}
"""Of faults; docs/errors.md says which codes."""


def document(dialects: Sequence[str]) -> Schema:
    """The document of a proxy that speaks these dialects (OpenAPI 3.1)."""
    paths: dict[str, Schema] = {}
    for name in dialects:
        paths[DIALECTS[name].path] = {"post": _operation(name)}
    listed = _object(("object", "data"), object={"const": "list"}, data=_array(_object(("id",), id=_TEXT)))
    paths["/v1/models"] = {"get": _read("models", listed)}
    one = _read("model", _object(("id",), id=_TEXT))
    named: Schema = {"name": "model", "in": "path", "required": True, "schema": _TEXT}
    paths["/v1/models/{model}"] = {"get": one | {"parameters": [named]}}
    paths["/health"] = {"get": _read("health", _object(("status",), status={"const": "ok"}))}
    keys: Schema = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "guardproxy", "version": __version__},
        "paths": paths,
        "components": {"schemas": {"Fault": _FAULT}, "securitySchemes": keys},
        "security": [{"bearer": []}, {"key": []}, {}],
    }


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _faults() -> Schema:
    body = _json({"$ref": "#/components/schemas/Fault"})
    return {str(status): {"description": text, "content": body} for status, text in STATUSES.items()}


def _operation(name: str) -> Schema:
    answer: Schema = {
        "description": "The answer, or with `stream: true` its events",
        "content": _json(_FREE) | {"text/event-stream": {}},
    }
    return {
        "operationId": name,
        "requestBody": {"required": True, "content": _json(REQUESTS[name])},
        "responses": {"200": answer, **_faults()},
    }


def _read(name: str, schema: Schema) -> Schema:
    answer: Schema = {"description": "As asked", "content": _json(schema)}
    return {"operationId": name, "responses": {"200": answer, **_faults()}}
