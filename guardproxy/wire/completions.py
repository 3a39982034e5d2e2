"""`POST /v1/completions`: one text prompt. It has no place for a system text, so no hardening reaches the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from guardproxy.core.content import Message, Request, TextPart
from guardproxy.errors import WireError
from guardproxy.wire.body import Json, bound_text, decode, include_usage, read_bool, read_model, read_options
from guardproxy.wire.chat_upstream import stream_options
from guardproxy.wire.fields import MAX_N, OPTIONS, integer, wrong

_OWN = frozenset(("model", "prompt", "stream", "stream_options", "n", "suffix", "best_of", "logprobs"))
_FORWARDED = (
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "seed", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "user",
)  # fmt: skip
_READERS: Mapping[str, Callable[[str, object], object]] = {name: OPTIONS[name] for name in _FORWARDED}
_read_n = integer(1, MAX_N)


def parse(body: bytes, *, max_text_chars: int) -> Request:
    """Read a request.

    Raises:
        WireError: Names the field at fault, what was expected and what came.
    """
    raw = decode(body)
    dropped: list[str] = []
    options = read_options(raw, _READERS, _OWN, dropped)
    for field in ("suffix", "best_of", "logprobs"):
        if raw.get(field) is not None:
            raise WireError(
                f"{field}: not allowed through this proxy", param=field, code="unsupported_parameter"
            )
    prompt = raw.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        # Token ids and embeddings cannot be judged; several prompts are several exchanges.
        raise wrong("prompt", "one text", prompt)
    request = Request(
        model=read_model(raw),
        messages=(Message("user", (TextPart(prompt, "prompt"),), "prompt"),),
        options=options,
        n=1 if raw.get("n") is None else int(str(_read_n("n", raw["n"]))),
        stream=read_bool(raw, "stream"),
        include_usage=include_usage(raw),
        dropped=tuple(dropped),
        dialect="completions",
    )
    bound_text(request, max_text_chars, body, "prompt")
    return request


def write(request: Request, *, model: str, cache_salt: str | None) -> bytes:
    """The body for the upstream."""
    prompt = "".join(p.text for m in request.messages for p in m.parts if isinstance(p, TextPart))
    body: Json = {"model": model, "prompt": prompt, **request.options}
    if request.n != 1:
        body["n"] = request.n
    if request.stream:
        body["stream"] = True
        body["stream_options"] = stream_options(request)
    if cache_salt is not None:
        body["cache_salt"] = cache_salt
    return msgspec.json.encode(body)
