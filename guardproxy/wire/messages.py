"""`POST /v1/messages` (Anthropic Messages): a body becomes a `Request`, a `Request` becomes a body."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from guardproxy.core.content import ImagePart, Message, Part, Request, TextPart, Tool, ToolCall
from guardproxy.errors import WireError
from guardproxy.wire.body import (
    Json,
    bound_text,
    call_id,
    decode,
    drop,
    identifier,
    last_is_asked,
    listed,
    named_tool,
    read_bool,
    read_model,
    read_options,
    tool_of,
)
from guardproxy.wire.fields import MAX_STOP, MAX_STOP_CHARS, OPTIONS, integer, number, one_of, wrong

_ROLES = ("user", "assistant", "system")
_OWN = frozenset(
    ("model", "messages", "system", "stream", "tools", "tool_choice", "thinking", "output_config")
)
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_read_effort = one_of("low", "medium", "high", "xhigh", "max")
_read_budget = integer(1, 10_000_000)


def _stop_sequences(param: str, value: object) -> object:
    if not isinstance(value, list) or not all(isinstance(s, str) for s in value):
        raise wrong(param, "an array of strings", value)
    if len(value) > MAX_STOP or any(len(s) > MAX_STOP_CHARS for s in value):
        raise WireError(f"{param}: at most {MAX_STOP} strings of {MAX_STOP_CHARS} characters", param=param)
    return value


_READERS: Mapping[str, Callable[[str, object], object]] = {
    "max_tokens": integer(1, 10_000_000),
    "temperature": number(0, 2),
    "top_p": OPTIONS["top_p"],
    "top_k": OPTIONS["top_k"],
    "stop_sequences": _stop_sequences,
    "chat_template_kwargs": OPTIONS["chat_template_kwargs"],
}


def parse(body: bytes, *, max_text_chars: int) -> Request:
    """Read a request.

    Raises:
        WireError: Names the field at fault, what was expected and what came.
    """
    raw = decode(body)
    dropped: list[str] = []
    options = read_options(raw, _READERS, _OWN, dropped)
    if "max_tokens" not in options:
        raise WireError("max_tokens: required", param="max_tokens")
    if thinking := _thinking(raw.get("thinking")):
        options["thinking"] = thinking
    effort, schema = _output_config(raw.get("output_config"), dropped)
    if effort is not None:
        options["effort"] = effort
    tools = _tools(raw.get("tools"), dropped)
    choice, is_single = _tool_choice(raw.get("tool_choice"), tools)
    if is_single:
        options["disable_parallel_tool_use"] = True
    messages = tuple(m for at, v in listed("messages", raw.get("messages")) for m in _turn(at, v, dropped))
    if messages:
        last_is_asked(messages)
    else:
        raise WireError("messages: nothing to answer", param="messages")
    request = Request(
        model=read_model(raw),
        messages=(*_system(raw.get("system"), dropped), *messages),
        tools=tools,
        tool_choice=choice,
        schema=schema,
        schema_place="output_config.format",
        options=options,
        stream=read_bool(raw, "stream"),
        dropped=tuple(dropped),
        dialect="messages",
    )
    bound_text(request, max_text_chars, body)
    return request


def _thinking(value: object) -> Json | None:
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in ("enabled", "disabled", "adaptive"):
        raise WireError("thinking.type: expected enabled, disabled or adaptive", param="thinking.type")
    assert isinstance(value, dict)
    if kind != "enabled":
        return {"type": kind}
    return {"type": kind, "budget_tokens": _read_budget("thinking.budget_tokens", value.get("budget_tokens"))}


def _output_config(value: object, dropped: list[str]) -> tuple[str | None, str | None]:
    """Effort, and JSON text of the format."""
    if value is None:
        return None, None
    if not isinstance(value, dict):
        raise wrong("output_config", "an object", value)
    drop(dropped, *(k for k in value if k not in ("effort", "format")))
    effort, asked = value.get("effort"), value.get("format")
    read = None if effort is None else str(_read_effort("output_config.effort", effort))
    if asked is None:
        return read, None
    if (
        not isinstance(asked, dict)
        or asked.get("type") != "json_schema"
        or not isinstance(asked.get("schema"), dict)
    ):
        raise WireError(
            "output_config.format: expected type json_schema and a schema", param="output_config.format"
        )
    kept = {"type": "json_schema", "schema": asked["schema"]}
    return read, msgspec.json.encode(kept).decode()


def _system(value: object, dropped: list[str]) -> Iterator[Message]:
    if value is None:
        return
    if isinstance(value, str):
        yield Message("system", (TextPart(value, "system"),), "system")
        return
    blocks = _blocks("system", value)
    parts = tuple(_text_block(at, block, dropped) for at, block in blocks)
    if parts:
        yield Message("system", parts, "system")


def _blocks(place: str, value: object) -> list[tuple[str, Json]]:
    if not isinstance(value, list):
        raise wrong(place, "a string or an array of blocks", value)
    for index, block in enumerate(value):
        if not isinstance(block, dict):
            raise wrong(f"{place}[{index}]", "an object", block)
    return [(f"{place}[{i}]", block) for i, block in enumerate(value)]


def _text_block(at: str, block: Json, dropped: list[str]) -> TextPart:
    text = block.get("text")
    if block.get("type") != "text":
        raise WireError(f"{at}.type: expected text", param=f"{at}.type", code="unsupported_part")
    if not isinstance(text, str):
        raise wrong(f"{at}.text", "a string", text)
    drop(dropped, *(k for k in block if k not in ("type", "text", "citations")))
    return TextPart(text, f"{at}.text")


def _turn(at: str, value: object, dropped: list[str]) -> Iterator[Message]:
    """The turns of one message: results of tools stand before what the user says beside them."""
    if not isinstance(value, dict):
        raise wrong(at, "an object", value)
    role, content = value.get("role"), value.get("content")
    if role not in _ROLES:
        raise WireError(f"{at}.role: expected one of {', '.join(_ROLES)}", param=f"{at}.role")
    drop(dropped, *(k for k in value if k not in ("role", "content")))
    place = f"{at}.content"
    if isinstance(content, str):
        yield Message(str(role), (TextPart(content, place),), at)
        return
    parts: list[Part] = []
    calls: list[ToolCall] = []
    for where, block in _blocks(place, content):
        kind = block.get("type")
        if kind == "tool_result" and role == "user":
            yield _tool_result(where, block, dropped)
        elif kind == "tool_use" and role == "assistant":
            calls.append(_tool_use(where, block))
        elif kind in ("thinking", "redacted_thinking") and role == "assistant":
            drop(dropped, "thinking")  # the client's word for what the model thought: not shown to it
        elif kind == "image" and role == "user":
            parts.append(_image(where, block))
        else:
            parts.append(_text_block(where, block, dropped))
    if parts or calls:
        yield Message(str(role), tuple(parts), at, tool_calls=tuple(calls))


def _tool_use(at: str, block: Json) -> ToolCall:
    given = block.get("input")
    if not isinstance(given, dict):
        raise wrong(f"{at}.input", "an object", given)
    arguments = msgspec.json.encode(given).decode()
    return ToolCall(
        call_id(f"{at}.id", block.get("id")), identifier(f"{at}.name", block.get("name")), arguments
    )


def _tool_result(at: str, block: Json, dropped: list[str]) -> Message:
    content, place = block.get("content"), f"{at}.content"
    answered = call_id(f"{at}.tool_use_id", block.get("tool_use_id"))
    parts: tuple[Part, ...]
    if content is None or isinstance(content, str):
        parts = (TextPart(content or "", place),)
    else:
        parts = tuple(
            _image(where, one) if one.get("type") == "image" else _text_block(where, one, dropped)
            for where, one in _blocks(place, content)
        )
    return Message("tool", parts, at, tool_call_id=answered)


def _image(at: str, block: Json) -> ImagePart:
    source = block.get("source")
    place = f"{at}.source"
    if not isinstance(source, dict):
        raise wrong(place, "an object", source)
    kind = source.get("type")
    if kind == "url":
        url = source.get("url")
        if not isinstance(url, str):
            raise wrong(f"{place}.url", "a string", url)
        return ImagePart(url, place)
    if kind != "base64":
        raise WireError(
            f"{place}.type: expected base64 or url", param=f"{place}.type", code="unsupported_part"
        )
    media, encoded = source.get("media_type"), source.get("data")
    if media not in ("image/png", "image/jpeg", "image/webp", "image/gif"):
        raise WireError(
            f"{place}.media_type: expected image/png, image/jpeg, image/webp or image/gif",
            param=f"{place}.media_type",
        )
    if not isinstance(encoded, str):
        raise wrong(f"{place}.data", "a string", encoded)
    return ImagePart(f"data:{media};base64,{encoded}", place)


def _tools(value: object, dropped: list[str]) -> tuple[Tool, ...]:
    return () if value is None else tuple(_tool(at, t, dropped) for at, t in listed("tools", value))


def _tool(at: str, value: object, dropped: list[str]) -> Tool:
    if not isinstance(value, dict) or value.get("type") not in (None, "custom"):
        raise WireError(f"{at}.type: expected custom", param=f"{at}.type", code="unsupported_tool")
    if not isinstance(value.get("input_schema"), dict):
        raise wrong(f"{at}.input_schema", "an object", value.get("input_schema"))
    return tool_of(at, at, value, dropped, "input_schema")


def _tool_choice(value: object, tools: tuple[Tool, ...]) -> tuple[str | None, bool]:
    """The choice, and whether only one call is wanted."""
    if value is None:
        return None, False
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(value, dict) or kind not in (*_CHOICES, "tool"):
        raise WireError("tool_choice.type: expected auto, any, tool or none", param="tool_choice.type")
    choice = named_tool(value, tools) if kind == "tool" else _CHOICES[str(kind)]
    return choice, value.get("disable_parallel_tool_use") is True


# The way to the model.


def write(request: Request, *, model: str, cache_salt: str | None) -> bytes:
    """The body for the upstream."""
    system, turns = "", request.messages
    if turns and turns[0].role == "system":
        # One string: vLLM joins blocks without a space and drops one that begins with a certain header.
        system = "\n\n".join(p.text for p in turns[0].parts if isinstance(p, TextPart))
        turns = turns[1:]
    options = dict(request.options)
    effort = options.pop("effort", None)
    single = options.pop("disable_parallel_tool_use", None)
    body: Json = {"model": model, "messages": [_turn_body(t) for t in turns], **options}
    if system:
        body["system"] = system
    if request.stream:
        body["stream"] = True
    if request.tools:
        body["tools"] = [_tool_body(t) for t in request.tools]
    if request.tool_choice is not None:
        choice = _choice_body(request.tool_choice)
        body["tool_choice"] = choice | {"disable_parallel_tool_use": True} if single else choice
    config: Json = {} if effort is None else {"effort": effort}
    if request.schema is not None:
        config["format"] = msgspec.Raw(request.schema.encode())
    if config:
        body["output_config"] = config
    if cache_salt is not None:
        body["cache_salt"] = cache_salt
    return msgspec.json.encode(body)


def _turn_body(turn: Message) -> Json:
    parts = [_part_body(p) for p in turn.parts]
    if turn.role == "tool":
        result: Json = {"type": "tool_result", "tool_use_id": turn.tool_call_id, "content": parts}
        return {"role": "user", "content": [result]}
    calls: list[Json] = [
        {"type": "tool_use", "id": c.id, "name": c.name, "input": msgspec.Raw(c.arguments.encode())}
        for c in turn.tool_calls
    ]
    return {"role": turn.role, "content": [*parts, *calls]}


def _part_body(part: Part) -> Json:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    media, _, encoded = part.sent[6:].partition(b";base64,")
    source = {"type": "base64", "media_type": media.decode("ascii"), "data": msgspec.Raw(b'"' + encoded)}
    return {"type": "image", "source": source}


def _tool_body(tool: Tool) -> Json:
    body: Json = {"name": tool.name, "input_schema": msgspec.Raw((tool.parameters or "{}").encode())}
    if tool.description is not None:
        body["description"] = tool.description
    if tool.strict is not None:
        body["strict"] = tool.strict
    return body


def _choice_body(choice: str) -> Json:
    if choice.startswith("="):
        return {"type": "tool", "name": choice[1:]}
    return {"type": {"required": "any"}.get(choice, choice)}
