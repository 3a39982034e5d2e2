"""A `Request` becomes the chat body that the model server is sent: written anew, field by field."""

from __future__ import annotations

import msgspec

from guardproxy.core.content import ImagePart, Message, Request, TextPart, Tool

Json = dict[str, object]


def write(request: Request, *, model: str, cache_salt: str | None = None) -> bytes:
    """The body for the upstream.

    Args:
        request: Canonical, judged and hardened.
        model: The upstream's own name of the model.
        cache_salt: Keeps the prefix caches of tenants apart.
    """
    body: Json = {"model": model, "messages": [_message(m) for m in request.messages], **request.options}
    if request.n != 1:
        body["n"] = request.n
    if request.stream:
        body["stream"] = True
        body["stream_options"] = stream_options(request)
    if request.tools:
        body["tools"] = [_tool(t) for t in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.schema is not None:
        body["response_format"] = msgspec.Raw(request.schema.encode())
    if cache_salt is not None:
        body["cache_salt"] = cache_salt
    return msgspec.json.encode(body)


def stream_options(request: Request) -> Json:
    """Usage is always asked for: the counters need it.

    With every chunk when the client wants it too, so that a cut answer can still state what it cost.
    """
    return {"include_usage": True, "continuous_usage_stats": request.include_usage}


def _message(message: Message) -> Json:
    out: Json = {"role": message.role, "content": _content(message)}
    if message.name is not None:
        out["name"] = message.name
    if message.tool_calls:
        out["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    return out


def _content(message: Message) -> object:
    parts = message.parts
    if not parts:
        return None if message.tool_calls else ""
    texts = [p.text for p in parts if isinstance(p, TextPart)]
    if len(texts) == len(parts):
        if len(parts) == 1:
            return texts[0]
        if message.role == "system":
            # One string: templates differ in how they read a list of parts here.
            return "\n\n".join(texts)
    return [_part(p) for p in parts]


def _part(part: TextPart | ImagePart) -> Json:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    image: Json = {"url": msgspec.Raw(part.sent)}
    if part.detail is not None:
        image["detail"] = part.detail
    return {"type": "image_url", "image_url": image}


def _tool(tool: Tool) -> Json:
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = msgspec.Raw(tool.parameters.encode())
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: str) -> object:
    if choice.startswith("="):
        return {"type": "function", "function": {"name": choice[1:]}}
    return choice
