"""What a live vLLM server lets through that no guard can see: asked with harmless requests of one token.

Facts about vLLM 0.32 (run) and 0.33 (source); each probe says what it takes for an open door.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from guardproxy.commands.sign import Level, Sign
from guardproxy.core.canonical import SpecialTokens

TIMEOUT_S = 30.0
MAX_BYTES = 4_000_000
CONTROL = ("/server_info", "/is_sleeping", "/collective_rpc", "/reset_prefix_cache", "/sleep", "/pause", "/start_profile",
           "/v1/load_lora_adapter", "/init_weight_transfer_engine", "/update_weights")  # fmt: skip
"""Routes by which the server itself is changed (development mode, runtime LoRA, profiling)."""
UNKEYED = ("/invocations", "/tokenize", "/metrics")
"""Routes that vLLM's --api-key does not cover: the first answers chats."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; status 0 if there was none, `body` then says why."""

    status: int
    body: str

    def value(self) -> dict[str, object]:
        """The body, if it is a JSON object; else an empty one."""
        try:
            read = json.loads(self.body)
        except ValueError:
            return {}
        return read if isinstance(read, dict) else {}


class Upstream:
    """The server that is looked at.

    Args:
        url: Its base URL.
        key: What it asks for; never shown.
    """

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._key = key

    def ask(self, path: str, body: Mapping[str, object] | None = None, *, keyed: bool = True) -> Reply:
        """GET a path, or POST a body to it."""
        request = urllib.request.Request(f"{self.url}{path}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("content-type", "application/json")
        if keyed and self._key:
            request.add_header("authorization", f"Bearer {self._key}")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return Reply(answer.status, answer.read(MAX_BYTES).decode("utf-8", "replace"))
        except urllib.error.HTTPError as error:
            return Reply(error.code, error.read(MAX_BYTES).decode("utf-8", "replace"))
        except OSError as error:
            return Reply(0, str(getattr(error, "reason", error)))

    def chat(self, model: str, **fields: object) -> Reply:
        """A chat of one token."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, **fields}
        return self.ask("/v1/chat/completions", body)


def look(upstream: Upstream, tokens: SpecialTokens) -> Iterator[Sign]:
    """Everything that can be seen of a server from outside.

    Args:
        upstream: Where and with which key.
        tokens: That the proxy knows and breaks in client text.
    """
    listed = upstream.ask("/v1/models")
    if listed.status != 200:
        why = listed.body if listed.status == 0 else f"/v1/models answers {listed.status}"
        yield Sign(Level.DANGER, "upstream", f"no answer from {upstream.url}: {why[:200]}")
        return
    version = upstream.ask("/version").value().get("version", "unknown")
    yield Sign(Level.OK, "version", f"vLLM {version}")
    yield from _keys(upstream)
    yield from _routes(upstream)
    models = _named(listed)
    if not models:
        yield Sign(Level.DANGER, "models", "the server lists no models")
        return
    yield Sign(Level.OK, "models", f"serves {', '.join(models)}")
    yield from _flags(upstream, models[0])
    yield from _tokens(upstream, models[0], tokens)


def models_of(upstream: Upstream) -> list[str]:
    """The models that a server lists; none if it does not answer."""
    return _named(upstream.ask("/v1/models"))


def _named(listed: Reply) -> list[str]:
    found = listed.value().get("data")
    rows = found if isinstance(found, list) else []
    return [str(m["id"]) for m in rows if isinstance(m, dict) and "id" in m and not m.get("parent")]


def _keys(upstream: Upstream) -> Iterator[Sign]:
    if upstream.ask("/v1/models", keyed=False).status == 200:
        level = Level.WARNING if _is_local(upstream.url) else Level.DANGER
        yield Sign(
            level, "key", "the server answers without a key: whoever reaches its port passes the guards by",
            "start vLLM with --api-key (VLLM_API_KEY) and name it in upstream.key, or use `guardproxy serve --vllm`",
        )  # fmt: skip
        return
    yield Sign(Level.OK, "key", "/v1 needs a key")
    empty: dict[str, object] = {}
    open_routes = [
        r for r in UNKEYED if _exists(upstream.ask(r, None if r == "/metrics" else empty, keyed=False))
    ]
    if open_routes:
        yield Sign(
            Level.WARNING, "key", f"without the key the server still answers {', '.join(open_routes)}",
            "vLLM's --api-key covers /v1 only: let nobody but the proxy reach the port (network policy, --uds)",
        )  # fmt: skip


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _exists(reply: Reply) -> bool:
    return reply.status not in (0, 401, 403, 404, 405)


def _routes(upstream: Upstream) -> Iterator[Sign]:
    paths = upstream.ask("/openapi.json").value().get("paths")
    named = set(paths) if isinstance(paths, dict) else set()
    if control := sorted(named & set(CONTROL)):
        yield Sign(
            Level.DANGER, "control", f"the server can be changed by requests: {', '.join(control)}",
            "unset VLLM_SERVER_DEV_MODE and VLLM_ALLOW_RUNTIME_LORA_UPDATING",
        )  # fmt: skip
    elif named:
        yield Sign(Level.OK, "control", f"none of its {len(named)} routes changes the server")
    else:
        yield Sign(Level.NOTE, "control", "the server does not list its routes (/openapi.json)")


def _flags(upstream: Upstream, model: str) -> Iterator[Sign]:
    """Flags that open a way around the guards; the proxy refuses these fields, direct callers do not."""
    picture = [{"type": "image_url", "image_url": {"url": "file:///nonexistent-guardproxy-doctor.png"}}]
    embeds = [{"type": "image_embeds", "image_embeds": ""}]
    probes = (
        (
            "--trust-request-chat-template",
            upstream.chat(model, chat_template="x"),
            "trust-request-chat-template",
        ),
        (
            "--trust-request-mm-kwargs",
            upstream.chat(model, mm_processor_kwargs={"x": 1}),
            "trust-request-mm-kwargs",
        ),
        ("--enable-mm-embeds", _user(upstream, model, embeds), "enable-mm-embeds"),
        ("--allowed-local-media-path", _user(upstream, model, picture), "allowed-local-media-path"),
    )
    opened = []
    for flag, reply, named in probes:
        # With the flag off, the server refuses and names it (or knows no such thing).
        refused_by_flag = (
            named in reply.body or "Unknown part type" in reply.body or "At most 0" in reply.body
        )
        if not refused_by_flag and (
            reply.status == 200 or flag in ("--allowed-local-media-path", "--enable-mm-embeds")
        ):
            opened.append(flag)
    if opened:
        yield Sign(
            Level.WARNING, "flags", f"started with {', '.join(opened)}, as far as its answers show",
            "guardproxy does not forward what these flags allow; leave them out so that nobody else can use them",
        )  # fmt: skip
    else:
        yield Sign(Level.OK, "flags", "no flag found that widens what a request may do")


def _user(upstream: Upstream, model: str, content: object) -> Reply:
    return upstream.chat(model, messages=[{"role": "user", "content": content}])


def _tokens(upstream: Upstream, model: str, known: SpecialTokens) -> Iterator[Sign]:
    """Control tokens that the model's template writes, and whether the proxy breaks them in client text."""
    spoken = upstream.ask(
        "/tokenize",
        {"model": model, "messages": [{"role": "user", "content": "hi"}], "return_token_strs": True},
    )
    strings = spoken.value().get("token_strs")
    if not isinstance(strings, list):
        yield Sign(
            Level.NOTE, "special tokens", "cannot be seen (/tokenize gives none)",
            "name the model's control tokens in upstream.special_tokens if it is of no well-known family",
        )  # fmt: skip
        return
    control = sorted({t for t in map(str, strings) if t[:1] in "<[" and t[-1:] in ">]" and len(t) > 2})
    unknown = [t for t in control if known.neutralise(t) == t]
    if unknown:
        yield Sign(
            Level.DANGER, "special tokens", f"not broken in client text: {', '.join(unknown)}",
            "name them in upstream.special_tokens: a client could write turns of other roles with them",
        )  # fmt: skip
    else:
        shown = ", ".join(control) or "none"
        yield Sign(Level.OK, "special tokens", f"those of the chat template are known: {shown}")
