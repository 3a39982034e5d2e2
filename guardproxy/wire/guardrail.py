"""LiteLLM's Generic Guardrail API: another gateway asks what a policy makes of texts and pictures, and acts itself.

Source: https://docs.litellm.ai/docs/adding_provider/generic_guardrail_api (beta) and the request model of
litellm 1.106 (`GenericGuardrailAPIRequest`). Fields that say nothing about content are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from guardproxy.core.content import ImagePart, Message, Part, Request, Segment, TextPart, Tool, ToolCall
from guardproxy.core.verdict import Stage
from guardproxy.errors import WireError
from guardproxy.wire.body import Json, bound_text, decode
from guardproxy.wire.fields import wrong

PATH = "/beta/litellm_basic_guardrail_api"
MAX_LISTED = 4096

_ROLES = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool",
    "function": "tool",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Consulted:
    """What is asked.

    Attributes:
        stage: Whether it is about a request or about an answer.
        request: The texts, each as a message of its own at `texts[i]`, pictures and tools; for an answer only
            what is known of the question.
        answer: The answer's texts at `texts[i]` and its calls of tools.
        policy: The policy that the other gateway's settings choose, if any.
    """

    stage: Stage
    request: Request
    answer: tuple[Segment, ...] = ()
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Advised:
    """What is answered.

    Attributes:
        action: `NONE`, `BLOCKED`, or `GUARDRAIL_INTERVENED` where texts or pictures were redacted.
        reason: Of a block.
        texts: All of them, as they shall be; only where something was redacted. So are `images`.
    """

    action: str
    reason: str | None = None
    texts: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


def parse(body: bytes, *, max_text_chars: int) -> Consulted:
    """Read a request.

    Raises:
        WireError: Names the field at fault, what was expected and what came.
    """
    raw = decode(body)
    kind = raw.get("input_type")
    if kind not in ("request", "response"):
        raise WireError("input_type: expected request or response", param="input_type")
    texts = [_text(at, value) for at, value in _listed(raw, "texts")]
    images = [_text(at, value) for at, value in _listed(raw, "images")]
    turns = list(_turns(raw))
    calls = tuple(_calls(raw))
    policy = _policy(raw)
    if kind == "response":
        found = tuple(_answer(texts, images, calls))
        told = tuple(Message(role, (TextPart(text, at),), at) for role, text, at in turns)
        consulted = Consulted(Stage.OUTPUT, Request("", told), found, policy)
    else:
        consulted = Consulted(Stage.INPUT, _request(raw, texts, images, turns, calls), (), policy)
    bound_text(consulted.request, max_text_chars, body, "texts")
    if sum(len(s.text) for s in consulted.answer) > max_text_chars:
        raise WireError(
            f"texts: at most {max_text_chars} characters", param="texts", status=413, code="text_too_long"
        )
    return consulted


def write(advised: Advised) -> bytes:
    """The answer."""
    body: Json = {"action": advised.action}
    if advised.reason is not None:
        body["blocked_reason"] = advised.reason
    if advised.texts:
        body["texts"] = list(advised.texts)
    if advised.images:
        body["images"] = list(advised.images)
    return msgspec.json.encode(body)


def _request(
    raw: Json,
    texts: list[str],
    images: list[str],
    turns: list[tuple[str, str, str]],
    calls: tuple[ToolCall, ...],
) -> Request:
    """Roles are known where the turns' texts are exactly the texts; else all are taken for the user's.

    Pictures and calls come first, so that the last turn is the last text.
    """
    spoken = [text for _, text, _ in turns]
    roles = [role for role, _, _ in turns] if spoken == texts else ["user"] * len(texts)
    pictures: tuple[Part, ...] = tuple(ImagePart(_url(one), f"images[{i}]") for i, one in enumerate(images))
    messages = [Message("user", pictures, "images")] if pictures else []
    if calls:
        messages.append(Message("assistant", (), "request", tool_calls=calls))
    messages += [
        Message(role, (TextPart(text, f"texts[{i}]"),), f"texts[{i}]")
        for i, (role, text) in enumerate(zip(roles, texts, strict=True))
    ]
    tools = tuple(
        Tool(f"tools[{i}]", None, msgspec.json.encode(tool).decode(), at)
        for i, (at, tool) in enumerate(_listed(raw, "tools"))
    )
    return Request("", tuple(messages), tools)


def _answer(texts: list[str], images: list[str], calls: tuple[ToolCall, ...]) -> Iterator[Segment]:
    for index, text in enumerate(texts):
        yield Segment("content", f"texts[{index}]", text, untrusted=True)
    for index, call in enumerate(calls):
        yield Segment(
            "tool_arguments", f"tool_calls[{index}]", f"{call.name}\n{call.arguments}", untrusted=True
        )
    for index, one in enumerate(images):
        at = f"images[{index}]"
        yield Segment("image", at, image=ImagePart(_url(one), at), untrusted=True)


def _turns(raw: Json) -> Iterator[tuple[str, str, str]]:
    """Role, text and place of each text in `structured_messages`, in the order in which LiteLLM lists texts."""
    for at, message in _listed(raw, "structured_messages"):
        if not isinstance(message, dict):
            raise wrong(at, "an object", message)
        role = _ROLES.get(str(message.get("role")), "user")
        content = message.get("content")
        parts = content if isinstance(content, list) else [content]
        for part in parts:
            text = part.get("text") if isinstance(part, dict) else part
            if isinstance(text, str):
                yield role, text, at


def _calls(raw: Json) -> Iterator[ToolCall]:
    for at, call in _listed(raw, "tool_calls"):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise wrong(f"{at}.function", "an object", function)
        name, arguments = function.get("name"), function.get("arguments")
        yield ToolCall("", str(name or ""), arguments if isinstance(arguments, str) else "")


def _policy(raw: Json) -> str | None:
    params = raw.get("additional_provider_specific_params")
    policy = params.get("policy") if isinstance(params, dict) else None
    if policy is not None and not isinstance(policy, str):
        raise wrong("additional_provider_specific_params.policy", "a string", policy)
    return policy


def _listed(raw: Json, field: str) -> list[tuple[str, object]]:
    value = raw.get(field)
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(field, "an array", value)
    if len(value) > MAX_LISTED:
        raise WireError(f"{field}: at most {MAX_LISTED}, got {len(value)}", param=field)
    return [(f"{field}[{i}]", one) for i, one in enumerate(value)]


def _text(at: str, value: object) -> str:
    if not isinstance(value, str):
        raise wrong(at, "a string", value)
    return value


def _url(image: str) -> str:
    """LiteLLM sends `data:` URLs, addresses, or bare base64: whose type nobody believes anyway."""
    if image[:5].lower() == "data:" or "://" in image[:12]:
        return image
    return f"data:image/png;base64,{image}"
