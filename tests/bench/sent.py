"""What the upstream may receive, field by field, and whether a guard saw every word of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

FREE = "free"
"""Any JSON: a schema of the client's own; its words must have been judged."""
VALUE = "value"

Shape = str | dict[str, "Shape"] | list["Shape"]

_FUNCTION: dict[str, Shape] = {"name": VALUE, "description": VALUE, "parameters": FREE, "strict": VALUE}
_OPTIONS: dict[str, Shape] = dict.fromkeys(
    (
        "temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "seed", "presence_penalty",
        "frequency_penalty", "repetition_penalty", "logprobs", "top_logprobs", "parallel_tool_calls", "reasoning_effort",
        "user", "n", "stream", "model", "cache_salt",
    ),
    VALUE,
)  # fmt: skip
_OPTIONS |= {
    "stop": [VALUE],
    "stream_options": {"include_usage": VALUE, "continuous_usage_stats": VALUE},
    "chat_template_kwargs": {"enable_thinking": VALUE, "thinking": VALUE},
}
_IMAGE_URL: Shape = {"url": VALUE, "detail": VALUE}
_SOURCE: Shape = {"type": VALUE, "media_type": VALUE, "data": VALUE}
_BLOCK: dict[str, Shape] = {
    "type": VALUE, "text": VALUE, "source": _SOURCE, "id": VALUE, "name": VALUE, "input": FREE, "tool_use_id": VALUE,
}  # fmt: skip

SHAPES: dict[str, Shape] = {
    "chat": {
        **_OPTIONS,
        "messages": [{
            "role": VALUE, "content": [{"type": VALUE, "text": VALUE, "image_url": _IMAGE_URL}], "name": VALUE,
            "tool_calls": [{"id": VALUE, "type": VALUE, "function": {"name": VALUE, "arguments": VALUE}}], "tool_call_id": VALUE,
        }],
        "tools": [{"type": VALUE, "function": _FUNCTION}],
        "tool_choice": {"type": VALUE, "function": {"name": VALUE}},
        "response_format": {"type": VALUE, "json_schema": {"name": VALUE, "description": VALUE, "schema": FREE, "strict": VALUE}},
    },
    "completions": {**_OPTIONS, "prompt": VALUE},
    "responses": {
        **_OPTIONS,
        "input": [{
            "type": VALUE, "role": VALUE, "id": VALUE, "status": VALUE, "call_id": VALUE, "name": VALUE, "arguments": VALUE,
            "content": [{"type": VALUE, "text": VALUE, "annotations": [], "image_url": VALUE, "detail": VALUE}],
            "output": [{"type": VALUE, "text": VALUE, "image_url": VALUE, "detail": VALUE}],
        }],
        "instructions": VALUE, "store": VALUE, "truncation": VALUE, "max_output_tokens": VALUE, "reasoning": {"effort": VALUE},
        "tools": [{"type": VALUE, **_FUNCTION}], "tool_choice": {"type": VALUE, "name": VALUE},
        "text": {"format": {"type": VALUE, "name": VALUE, "description": VALUE, "schema": FREE, "strict": VALUE}},
    },
    "messages": {
        **_OPTIONS,
        "messages": [{"role": VALUE, "content": [{**_BLOCK, "content": [{"type": VALUE, "text": VALUE, "source": _SOURCE}]}]}],
        "system": VALUE, "stop_sequences": [VALUE], "thinking": {"type": VALUE, "budget_tokens": VALUE},
        "tools": [{"name": VALUE, "description": VALUE, "input_schema": FREE, "strict": VALUE}],
        "tool_choice": {"type": VALUE, "name": VALUE, "disable_parallel_tool_use": VALUE},
        "output_config": {"effort": VALUE, "format": {"type": VALUE, "schema": FREE}},
    },
}  # fmt: skip
"""Where a list may stand, a single value may too."""

_UNREAD = frozenset(
    (
        "model", "role", "type", "user", "stop", "stop_sequences", "cache_salt", "detail", "media_type", "data", "url",
        "image_url", "effort", "reasoning_effort", "status", "truncation", "tool_choice",
    )
)  # fmt: skip
"""What no template writes into a prompt, or is of the proxy's own words."""
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.\-]{1,128}")
CONTROL = re.compile(
    r"<\|[^<>\s]{1,64}\|>|<(?:s|/s|start_of_turn|end_of_turn|image|think|tool_call)>|\[/?INST\]"
)
"""Control tokens that must never stand in what is sent."""


def strangers(value: object, shape: Shape, at: str = "") -> Iterator[str]:
    """Fields that the upstream must not receive."""
    if shape == FREE:
        return
    if isinstance(value, list):
        inner = (shape[0] if shape else VALUE) if isinstance(shape, list) else None
        if inner is None:
            yield f"{at}[]"
            return
        for one in value:
            yield from strangers(one, inner, f"{at}[]")
    elif isinstance(value, dict):
        known = shape[0] if isinstance(shape, list) and shape else shape
        for key, one in value.items():
            if isinstance(known, dict) and key in known:
                yield from strangers(one, known[key], f"{at}.{key}")
            else:
                yield f"{at}.{key}"


def words(value: object, key: str = "") -> Iterator[str]:
    """Every string that a template may write into the prompt, keys of free schemas included."""
    if isinstance(value, str):
        if key not in _UNREAD and not (key in _NAMES and _IDENTIFIER.fullmatch(value)):
            yield value
    elif isinstance(value, list):
        for one in value:
            yield from words(one, key)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from words(one, name)


_NAMES = frozenset(("id", "call_id", "tool_call_id", "tool_use_id", "name"))


def faults(dialect: str, body: bytes, judged: str) -> list[str]:
    """What is wrong with a body that was sent upstream.

    Args:
        dialect: Its dialect.
        body: As written.
        judged: Every text that a guard saw, and the policy's own.
    """
    sent = json.loads(body)
    found = [f"unknown field {at}" for at in strangers(sent, SHAPES[dialect])]
    for text in words(sent):
        if text and text not in judged and json.dumps(text, ensure_ascii=False)[1:-1] not in judged:
            if all(line in judged for line in re.split(r"\n\n?", text)):
                continue  # texts of several turns, put together
            found.append(f"unjudged text {text[:80]!r}")
        if CONTROL.search(text):
            found.append(f"control token in {text[:80]!r}")
    return found
