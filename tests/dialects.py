"""The same answer in every dialect: said by a scripted upstream, and read as a client would read it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import MODEL, Script, Upstream

CALL_ID = "chatcmpl-tool-0123456789abcdef"
Said = tuple[str, str]
"""A block: its kind (`content`, `reasoning`, `tool`) and its text; a tool's is `NAME ARGUMENTS`."""


def cut_up(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)] or [""]


def sse(kind: str, data: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data | {'type': kind}, ensure_ascii=False)}\n\n".encode()


# What the model server says.


def _response(said: list[Said], status: str = "completed") -> dict[str, Any]:
    return {
        "id": "resp_up", "created_at": 7, "object": "response", "model": MODEL, "status": status, "temperature": 1.0,
        "output": [_item(i, s) for i, s in enumerate(said)], "instructions": "the hardened text",
        "usage": {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8, "input_tokens_details": {"cached_tokens": 2}},
        "kv_transfer_params": None, "input_messages": ["secret"],
    }  # fmt: skip


def _item(index: int, said: Said, *, empty: bool = False) -> dict[str, Any]:
    kind, text = said
    if kind == "tool":
        name, _, arguments = text.partition(" ")
        call = {"type": "function_call", "id": f"fc_{index}", "call_id": CALL_ID, "name": name}
        return call | {
            "arguments": "" if empty else arguments,
            "status": "in_progress" if empty else "completed",
        }
    if kind == "reasoning":
        content = [] if empty else [{"type": "reasoning_text", "text": text}]
        return {"type": "reasoning", "id": f"rs_{index}", "summary": [], "content": content}
    part = (
        {"type": "refusal", "refusal": text} if kind == "refusal" else {"type": "output_text", "text": text}
    )
    return {"type": "message", "id": f"msg_{index}", "role": "assistant", "content": [] if empty else [part]}


def responses_stream(said: list[Said], size: int) -> list[bytes]:
    head = _response([], "in_progress")
    out = [sse("response.created", {"response": head}), sse("response.in_progress", {"response": head})]
    kinds = {"content": "output_text", "reasoning": "reasoning_text", "refusal": "refusal"}
    for index, (kind, text) in enumerate(said):
        out.append(
            sse(
                "response.output_item.added",
                {"output_index": index, "item": _item(index, (kind, text), empty=True)},
            )
        )
        name = kinds.get(kind, "function_call_arguments")
        told = text.partition(" ")[2] if kind == "tool" else text
        out += [
            sse(f"response.{name}.delta", {"output_index": index, "delta": d}) for d in cut_up(told, size)
        ]
        out.append(sse(f"response.{name}.done", {"output_index": index, "text": told}))
        out.append(
            sse("response.output_item.done", {"output_index": index, "item": _item(index, (kind, text))})
        )
    return [*out, sse("response.completed", {"response": _response(said)})]


def _block(said: Said, *, empty: bool = False) -> dict[str, Any]:
    kind, text = said
    if kind == "tool":
        name, _, arguments = text.partition(" ")
        return {
            "type": "tool_use",
            "id": CALL_ID,
            "name": name,
            "input": {} if empty else json.loads(arguments),
        }
    if kind == "reasoning":
        return {"type": "thinking", "thinking": "" if empty else text, "signature": "sig"}
    return {"type": "text", "text": "" if empty else text}


def _message(said: list[Said]) -> dict[str, Any]:
    return {
        "id": "msg_up", "type": "message", "role": "assistant", "model": MODEL, "content": [_block(s) for s in said],
        "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 5},
        "kv_transfer_params": None,
    }  # fmt: skip


def messages_stream(said: list[Said], size: int) -> list[bytes]:
    out = [sse("message_start", {"message": _message([]) | {"stop_reason": None}}), sse("ping", {})]
    fields = {"content": ("text_delta", "text"), "reasoning": ("thinking_delta", "thinking"), "tool": ("input_json_delta", "partial_json")}  # fmt: skip
    for index, (kind, text) in enumerate(said):
        out.append(
            sse("content_block_start", {"index": index, "content_block": _block((kind, text), empty=True)})
        )
        name, key = fields[kind]
        told = text.partition(" ")[2] if kind == "tool" else text
        out += [
            sse("content_block_delta", {"index": index, "delta": {"type": name, key: d}})
            for d in cut_up(told, size)
        ]
        if kind == "reasoning":
            signed = {"type": "signature_delta", "signature": "sig"}
            out.append(sse("content_block_delta", {"index": index, "delta": signed}))
        out.append(sse("content_block_stop", {"index": index}))
    usage = {"output_tokens": 5}
    out.append(
        sse("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage})
    )
    return [*out, sse("message_stop", {})]


def _chat_message(said: list[Said]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for kind, text in said:
        if kind == "tool":
            name, _, arguments = text.partition(" ")
            call = {"id": CALL_ID, "type": "function", "function": {"name": name, "arguments": arguments}}
            message.setdefault("tool_calls", []).append(call)
        else:
            message[kind] = text
    return message


def chat_stream(said: list[Said], size: int) -> list[bytes]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for kind, text in said:
        if kind == "tool":
            name, _, arguments = text.partition(" ")
            call = {
                "index": 0,
                "id": CALL_ID,
                "type": "function",
                "function": {"name": name, "arguments": ""},
            }
            deltas.append({"tool_calls": [call]})
            deltas += [
                {"tool_calls": [{"index": 0, "function": {"arguments": a}}]} for a in cut_up(arguments, size)
            ]
        else:
            deltas += [{kind: d} for d in cut_up(text, size)]
    choices: list[dict[str, Any]] = [{"index": 0, "delta": d, "finish_reason": None} for d in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    head = {"id": "c", "object": "chat.completion.chunk", "created": 7, "model": MODEL}
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    found = [{**head, "choices": [c]} for c in choices] + [{**head, "choices": [], "usage": usage}]
    return [b"data: " + json.dumps(f).encode() + b"\n\n" for f in found] + [b"data: [DONE]\n\n"]


def completions_stream(said: list[Said], size: int) -> list[bytes]:
    head = {"id": "cmpl-up", "object": "text_completion", "created": 7, "model": MODEL}
    texts = cut_up("".join(t for _, t in said), size)
    choices = [{"index": 0, "text": t, "finish_reason": None, "token_ids": [1]} for t in texts]
    choices.append({"index": 0, "text": "", "finish_reason": "stop"})
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8, "odd": 1}
    found = [{**head, "choices": [c]} for c in choices] + [{**head, "choices": [], "usage": usage}]
    return [b"data: " + json.dumps(f).encode() + b"\n\n" for f in found] + [b"data: [DONE]\n\n"]


def whole(dialect: str, said: list[Said]) -> bytes:
    """The answer in one piece."""
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    head = {"id": "c", "created": 7, "model": MODEL, "usage": usage}
    if dialect == "chat":
        choice = {"index": 0, "message": _chat_message(said), "finish_reason": "stop"}
        return json.dumps({**head, "object": "chat.completion", "choices": [choice]}).encode()
    if dialect == "completions":
        choice = {"index": 0, "text": "".join(t for _, t in said), "finish_reason": "stop", "logprobs": None}
        return json.dumps({**head, "object": "text_completion", "choices": [choice]}).encode()
    return json.dumps(_response(said) if dialect == "responses" else _message(said)).encode()


STREAMS = {
    "chat": chat_stream, "responses": responses_stream, "messages": messages_stream, "completions": completions_stream,
}  # fmt: skip


def tells(dialect: str, said: list[Said], size: int = 7) -> Script:
    """Say this, streamed or not as asked."""

    async def script(up: Upstream, out: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        if body.get("stream"):
            await up.send(out, b"".join(STREAMS[dialect](said, size)), "text/event-stream")
        else:
            await up.send(out, whole(dialect, said))

    return script


# What a client sends and reads.

PATHS = {
    "chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages",
    "completions": "/v1/completions",
}  # fmt: skip


def asks(dialect: str, text: str = "hi", **fields: Any) -> dict[str, Any]:
    """A request that says this."""
    if dialect == "responses":
        return {"model": MODEL, "input": text, **fields}
    if dialect == "completions":
        return {"model": MODEL, "prompt": text, **fields}
    body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}
    return {"max_tokens": 99} | body if dialect == "messages" else body


@dataclass
class Heard:
    """An answer as a client understood it: every copy of each text, why it ended, and the `guardproxy` key."""

    copies: dict[str, list[str]] = field(default_factory=dict)
    why: str | None = None
    note: dict[str, Any] | None = None
    usage: Any = None

    def add(self, kind: str, text: str) -> None:
        self.copies.setdefault(kind, []).append(text)

    def text(self, kind: str) -> str:
        """The text of a kind; all its copies must be the same."""
        copies = set(self.copies.get(kind, [""]))
        assert len(copies) == 1, copies
        return copies.pop()


def hear(dialect: str, body: bytes, *, stream: bool) -> Heard:
    """Read an answer."""
    heard = Heard()
    if not stream:
        _hear_whole(dialect, json.loads(body), heard)
        return heard
    blocks = [b for b in body.decode().split("\n\n") if b and not b.startswith(":")]
    if dialect in ("chat", "completions"):
        assert blocks[-1] == "data: [DONE]"
        assert all(b.startswith("data: ") for b in blocks)
        _hear_chunks(dialect, [json.loads(b[6:]) for b in blocks[:-1]], heard)
        return heard
    events = []
    for block in blocks:
        first, second = block.split("\n")
        events.append(json.loads(second.removeprefix("data: ")))
        assert first == f"event: {events[-1]['type']}"
    (_hear_responses if dialect == "responses" else _hear_messages)(events, heard)
    return heard


def _hear_whole(dialect: str, answer: dict[str, Any], heard: Heard) -> None:
    heard.note, heard.usage = answer["guardproxy"], answer["usage"]
    if dialect == "responses":
        _hear_items(answer, heard)
    elif dialect == "messages":
        heard.why = answer["stop_reason"]
        for block in answer["content"]:
            _hear_block(block, heard)
    else:
        choice = answer["choices"][0]
        heard.why = choice["finish_reason"]
        message = choice.get("message", {"content": choice.get("text")})
        for kind in ("content", "reasoning", "refusal"):
            if message.get(kind):
                heard.add(kind, message[kind])
        for call in message.get("tool_calls") or ():
            heard.add("tool", f"{call['function']['name']} {call['function']['arguments']}")


def _hear_items(answer: dict[str, Any], heard: Heard) -> None:
    reason = (answer["incomplete_details"] or {}).get("reason")
    heard.why = reason or answer["status"]
    for item in answer["output"]:
        if item["type"] == "function_call":
            heard.add("tool", f"{item['name']} {item['arguments']}")
        for part in item.get("content", ()):
            kind = "reasoning" if item["type"] == "reasoning" else "content"
            heard.add("refusal" if part["type"] == "refusal" else kind, part.get("text", part.get("refusal")))


def _hear_block(block: dict[str, Any], heard: Heard) -> None:
    if block["type"] == "tool_use":
        heard.add("tool", f"{block['name']} {json.dumps(block['input'])}")
    else:
        kind, key = ("content", "text") if block["type"] == "text" else ("reasoning", "thinking")
        heard.add(kind, block[key])


def _hear_chunks(dialect: str, chunks: list[dict[str, Any]], heard: Heard) -> None:
    texts: dict[str, str] = {}
    for chunk in chunks:
        heard.note = chunk.get("guardproxy", heard.note)
        heard.usage = chunk.get("usage", heard.usage)
        for choice in chunk["choices"]:
            heard.why = choice["finish_reason"] or heard.why
            delta = choice.get("delta", {"content": choice.get("text")})
            for kind in ("content", "reasoning", "refusal"):
                texts[kind] = texts.get(kind, "") + (delta.get(kind) or "")
            for call in delta.get("tool_calls") or ():
                name = call["function"].get("name")
                texts["tool"] = (
                    texts.get("tool", "") + (f"{name} " if name else "") + call["function"]["arguments"]
                )
    for kind, text in texts.items():
        if text:
            heard.add(kind, text)


def _hear_responses(events: list[dict[str, Any]], heard: Heard) -> None:
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    deltas: dict[int, str] = {}
    kinds: dict[int, str] = {}
    for event in events:
        name, at = event["type"], event.get("output_index", -1)
        if name.endswith(".delta"):
            deltas[at] = deltas.get(at, "") + event["delta"]
        elif name == "response.output_item.added":
            item = event["item"]
            kinds[at] = {"message": "content", "function_call": "tool"}.get(item["type"], item["type"])
            if kinds[at] == "tool":
                deltas[at] = f"{item['name']} "
        elif name == "response.content_part.added" and event["part"]["type"] == "refusal":
            kinds[at] = "refusal"
        elif name.endswith((".content_part.done", "_text.done", ".refusal.done")):
            told = event.get("part", event)
            heard.add(kinds[at], told.get("text", told.get("refusal")))
        elif name == "response.output_item.done":
            _hear_items({"output": [event["item"]], "incomplete_details": None, "status": ""}, heard)
    for at, text in deltas.items():
        heard.add(kinds[at], text)
    last = events[-1]["response"]
    assert events[-1]["type"] == f"response.{last['status']}"
    _hear_whole("responses", last, heard)


def _hear_messages(events: list[dict[str, Any]], heard: Heard) -> None:
    assert [e["type"] for e in events][:: len(events) - 1] == ["message_start", "message_stop"]
    open_at, texts = -1, dict[int, tuple[str, str]]()
    for event in events:
        if event["type"] == "content_block_start":
            assert open_at == -1
            open_at, block = event["index"], event["content_block"]
            kind = {"text": "content", "tool_use": "tool"}.get(block["type"], "reasoning")
            texts[open_at] = (kind, f"{block['name']} " if kind == "tool" else "")
        elif event["type"] == "content_block_delta":
            assert event["index"] == open_at
            (text,) = (v for k, v in event["delta"].items() if k != "type")
            texts[open_at] = (texts[open_at][0], texts[open_at][1] + text)
        elif event["type"] == "content_block_stop":
            assert event["index"] == open_at
            open_at = -1
        elif event["type"] == "message_delta":
            heard.why, heard.note, heard.usage = (
                event["delta"]["stop_reason"],
                event["guardproxy"],
                event["usage"],
            )
    assert open_at == -1
    for kind, text in texts.values():
        heard.add(kind, text)
