"""`POST /v1/responses`: a body becomes a `Request`, a `Request` becomes the body that the model server is sent.

Nothing is stored: an exchange is whole in its request, and earlier turns come with it, so that they are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

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
    last_is_asked,
    listed,
    named_schema,
    named_tool,
    read_bool,
    read_model,
    read_options,
    tool_of,
)
from guardproxy.wire.fields import OPTIONS, integer, one_of, wrong

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_OWN = frozenset(("model", "input", "instructions", "stream", "tools", "tool_choice", "text", "reasoning"))
_SHARED = (
    "temperature", "top_p", "top_k", "min_p", "stop", "seed", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "parallel_tool_calls", "user", "top_logprobs",
)  # fmt: skip
_READERS: Mapping[str, Callable[[str, object], object]] = {
    **{name: OPTIONS[name] for name in _SHARED},
    "max_output_tokens": integer(1, 10_000_000),
}
_REFUSED = ("previous_response_id", "previous_response", "previous_input_messages", "conversation", "prompt",
            "enable_response_messages", "background")  # fmt: skip
_read_effort = one_of("none", "minimal", "low", "medium", "high", "xhigh", "max")
_TEXT_PARTS = ("input_text", "output_text", "text", "refusal")


def parse(body: bytes, *, max_text_chars: int) -> Request:
    """Read a request.

    Raises:
        WireError: Names the field at fault, what was expected and what came.
    """
    raw = decode(body)
    dropped: list[str] = []
    for field in _REFUSED:
        if raw.get(field) not in (None, False):
            raise WireError(
                f"{field}: not allowed through this proxy, which stores nothing: send the whole conversation as input",
                param=field,
                code="unsupported_parameter",
            )
    options = read_options(raw, _READERS, (*_OWN, *_REFUSED), dropped)
    if effort := _effort(raw.get("reasoning"), dropped):
        options["reasoning"] = {"effort": effort}
    tools = _tools(raw.get("tools"), dropped)
    choice = _tool_choice(raw.get("tool_choice"), tools)
    schema = _text_format(raw.get("text"), dropped)
    instructions = raw.get("instructions")
    request = Request(
        model=read_model(raw),
        messages=(*_instructions(instructions), *_input(raw.get("input"), dropped)),
        tools=tools,
        tool_choice=choice,
        schema=schema,
        schema_place="text.format",
        options=options,
        stream=read_bool(raw, "stream"),
        dropped=tuple(dropped),
        dialect="responses",
        echo=_echo(instructions, tools, choice, schema, options),
    )
    bound_text(request, max_text_chars, body, "input")
    return request


def _instructions(value: object) -> Iterator[Message]:
    if value is None:
        return
    if not isinstance(value, str):
        raise wrong("instructions", "a string", value)
    yield Message("system", (TextPart(value, "instructions"),), "instructions")


def _echo(
    instructions: object, tools: tuple[Tool, ...], choice: str | None, schema: str | None, options: Json
) -> Json:
    """What OpenAI's answer repeats of its request: the client's own, never what the policy made of it."""
    return {
        "instructions": instructions,
        "tools": [_tool_body(t) for t in tools],
        "tool_choice": "auto" if choice is None else _choice_body(choice),
        "text": {"format": {"type": "text"} if schema is None else msgspec.Raw(schema.encode())},
        "reasoning": options.get("reasoning"),
        "parallel_tool_calls": options.get("parallel_tool_calls", True),
        "user": options.get("user"),
    }


def _effort(value: object, dropped: list[str]) -> str | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong("reasoning", "an object", value)
    drop(dropped, *(k for k, v in value.items() if k != "effort" and v is not None))
    effort = value.get("effort")
    return None if effort is None else str(_read_effort("reasoning.effort", effort))


def _text_format(value: object, dropped: list[str]) -> str | None:
    """JSON text of `text.format`."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong("text", "an object", value)
    drop(dropped, *(k for k, v in value.items() if k != "format" and v is not None))
    asked = value.get("format")
    if asked is None:
        return None
    if not isinstance(asked, dict) or asked.get("type") not in ("text", "json_object", "json_schema"):
        raise WireError(
            "text.format.type: expected text, json_object or json_schema", param="text.format.type"
        )
    if asked["type"] == "text":
        return None
    named = named_schema("text.format", asked) if asked["type"] == "json_schema" else {}
    return msgspec.json.encode({"type": asked["type"], **named}).decode()


def _input(value: object, dropped: list[str]) -> tuple[Message, ...]:
    if isinstance(value, str):
        return (Message("user", (TextPart(value, "input"),), "input"),)
    items = [_item(at, item, dropped) for at, item in listed("input", value)]
    messages = tuple(m for m in items if m is not None)
    if not messages:
        raise WireError("input: nothing to answer", param="input")
    last_is_asked(messages)
    return messages


def _item(at: str, item: object, dropped: list[str]) -> Message | None:
    if not isinstance(item, dict):
        raise wrong(at, "an object", item)
    kind = item.get("type", "message" if "role" in item else None)
    if kind == "message":
        return _message(at, item, dropped)
    if kind == "function_call":
        arguments = item.get("arguments")
        if not isinstance(arguments, str):
            raise wrong(f"{at}.arguments", "a string", arguments)
        call = ToolCall(
            call_id(f"{at}.call_id", item.get("call_id")),
            identifier(f"{at}.name", item.get("name")),
            canonical_json(f"{at}.arguments", arguments),
        )
        return Message("assistant", (), at, tool_calls=(call,))
    if kind == "function_call_output":
        parts = tuple(_parts(f"{at}.output", item.get("output"), dropped))
        return Message("tool", parts, at, tool_call_id=call_id(f"{at}.call_id", item.get("call_id")))
    if kind == "reasoning":  # the client's word for what the model thought: not shown to it
        drop(dropped, "reasoning")
        return None
    raise WireError(
        f"{at}.type: expected message, function_call, function_call_output or reasoning",
        param=f"{at}.type",
        code="unsupported_item",
    )


def _message(at: str, item: Json, dropped: list[str]) -> Message:
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise WireError(f"{at}.role: expected one of {', '.join(_ROLES)}", param=f"{at}.role")
    drop(dropped, *(k for k in item if k not in ("type", "role", "content", "id", "status")))
    return Message(_ROLES[role], tuple(_parts(f"{at}.content", item.get("content"), dropped)), at)


def _parts(place: str, content: object, dropped: list[str]) -> Iterator[Part]:
    if isinstance(content, str):
        yield TextPart(content, place)
        return
    if not isinstance(content, list):
        raise wrong(place, "a string or an array of parts", content)
    for index, part in enumerate(content):
        yield _part(f"{place}[{index}]", part, dropped)


def _part(at: str, part: object, dropped: list[str]) -> Part:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind in _TEXT_PARTS:
        field = "refusal" if kind == "refusal" else "text"
        text = part.get(field)
        if not isinstance(text, str):
            raise wrong(f"{at}.{field}", "a string", text)
        drop(dropped, *(k for k in part if k not in ("type", field, "annotations", "logprobs")))
        return TextPart(text, f"{at}.{field}")
    if isinstance(part, dict) and kind == "input_image":
        drop(dropped, *(k for k in part if k not in ("type", "image_url", "detail")))
        url, detail = part.get("image_url"), part.get("detail")
        if not isinstance(url, str | memoryview):
            raise wrong(f"{at}.image_url", "a string", url)
        if detail not in (None, "auto", "low", "high", "original"):
            raise WireError(f"{at}.detail: expected auto, low or high", param=f"{at}.detail")
        return ImagePart(url, f"{at}.image_url", detail if isinstance(detail, str) else None)
    raise WireError(
        f"{at}.type: expected input_text, output_text or input_image",
        param=f"{at}.type",
        code="unsupported_part",
    )


def _tools(value: object, dropped: list[str]) -> tuple[Tool, ...]:
    return () if value is None else tuple(_tool(at, t, dropped) for at, t in listed("tools", value))


def _tool(at: str, value: object, dropped: list[str]) -> Tool:
    # All others (MCP, web search, code interpreter, …) act on the server's side, where no guard sees them.
    if not isinstance(value, dict) or value.get("type") != "function":
        raise WireError(f"{at}.type: expected function", param=f"{at}.type", code="unsupported_tool")
    return tool_of(at, at, value, dropped)


def _tool_choice(value: object, tools: tuple[Tool, ...]) -> str | None:
    if value is None or value in ("auto", "none", "required"):
        return value
    return named_tool(value, tools)


# The way to the model.


def write(request: Request, *, model: str, cache_salt: str | None) -> bytes:
    """The body for the upstream: stored nowhere, never cut short, no turn left open."""
    system, turns = "", request.messages
    if turns and turns[0].role == "system":
        system = "\n\n".join(p.text for p in turns[0].parts if isinstance(p, TextPart))
        turns = turns[1:]
    body: Json = {
        "model": model,
        "input": [item for number, turn in enumerate(turns) for item in _items(turn, number)],
        "store": False,
        "truncation": "disabled",
        **request.options,
    }
    if system:
        body["instructions"] = system
    if request.stream:
        body["stream"] = True
    if request.tools:
        body["tools"] = [_tool_body(t) for t in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _choice_body(request.tool_choice)
    if request.schema is not None:
        body["text"] = {"format": msgspec.Raw(request.schema.encode())}
    if cache_salt is not None:
        body["cache_salt"] = cache_salt
    return msgspec.json.encode(body)


def _items(turn: Message, number: int) -> Iterator[Json]:
    if turn.role == "tool":
        images = any(isinstance(p, ImagePart) for p in turn.parts)
        output: object = [_part_body(p) for p in turn.parts] if images else _text(turn)
        yield {"type": "function_call_output", "call_id": turn.tool_call_id, "output": output}
    elif turn.role == "assistant":
        if turn.parts:
            # vLLM reads only the first part of what an assistant said: so all of it is one.
            said: Json = {"type": "output_text", "text": _text(turn), "annotations": []}
            yield {
                "type": "message", "role": "assistant", "id": f"msg_{number}", "status": "completed", "content": [said],
            }  # fmt: skip
        for call in turn.tool_calls:
            yield {
                "type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments,
                "status": "completed",
            }  # fmt: skip
    else:
        yield {"type": "message", "role": turn.role, "content": [_part_body(p) for p in turn.parts]}


def _text(turn: Message) -> str:
    return "\n".join(p.text for p in turn.parts if isinstance(p, TextPart))


def _part_body(part: Part) -> Json:
    if isinstance(part, TextPart):
        return {"type": "input_text", "text": part.text}
    return {"type": "input_image", "image_url": msgspec.Raw(part.sent), "detail": part.detail or "auto"}


def _tool_body(tool: Tool) -> Json:
    parameters = msgspec.Raw(tool.parameters.encode()) if tool.parameters is not None else None
    return {
        "type": "function", "name": tool.name, "description": tool.description, "parameters": parameters,
        "strict": tool.strict,
    }  # fmt: skip


def _choice_body(choice: str) -> object:
    return {"type": "function", "name": choice[1:]} if choice.startswith("=") else choice
