"""Where things are: one settings file, `GUARDPROXY_*` and flags, read once, frozen.

What is allowed stands in policies, not here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from guardproxy.errors import SettingsError
from guardproxy.keys import KeyLimits, Right
from guardproxy.yamldoc import Document

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Bytes = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65_535)]


def _threads() -> int:
    """Of detectors: one for each core, at most four."""
    return min(os.cpu_count() or 1, 4)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(_Model):
    """One of several model servers.

    Attributes:
        key: `env:NAME` or `file:PATH`; without one, `upstream.key`.
        models: Public names to this server's own; without any, `upstream.models`.
    """

    url: str
    key: str | None = None
    models: dict[str, str] = {}


class UpstreamSettings(_Model):
    """The model server, or several.

    Attributes:
        url: Of the only one.
        servers: Of several. A model that more than one of them serves is asked of the least busy.
        key: `env:NAME` or `file:PATH`; never the key itself.
        models: Public names to the server's own; empty: what the server lists, under its names.
        cache_salt: Send a `cache_salt` of each client key's own, so that the time to an answer does not tell
            one client what another asked (vLLM's prefix cache).
        special_tokens: Control tokens of its models beyond the well-known families'.
        connect_s: Longest wait for a connection; `first_byte_s` for an answer to begin, `idle_s` between two pieces of
            a stream, `total_s` for an answer as a whole.
    """

    url: str = ""
    servers: list[ServerSettings] = []
    key: str | None = None
    models: dict[str, str] = {}
    special_tokens: list[str] = []
    cache_salt: bool = True
    connect_s: Seconds = 5.0
    first_byte_s: Seconds = 600.0
    idle_s: Seconds = 120.0
    total_s: Seconds = 3600.0
    max_answer_bytes: Bytes = 64_000_000


class VllmSettings(_Model):
    """vLLM as a child of the proxy, in place of an upstream.

    Attributes:
        model: As `vllm serve` takes it; without one, there is no child.
        flags: Further flags of vLLM.
        command: The `vllm` program, if it is neither beside this Python nor on the path.
    """

    model: str | None = None
    flags: list[str] = []
    command: str | None = None


class BackendSettings(_Model):
    """A server of guard models; policies name it by its name here. See `detectors.backends.BackendPlan`.

    Attributes:
        url: Without the path of a route: `http://127.0.0.1:8001`, not `…/v1`.
        key: `env:NAME` or `file:PATH`; never the key itself.
        model: Its own name of the model; empty where a route knows only one.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$")]
    key: str | None = None
    model: str = ""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 8
    queue: Annotated[int, Field(ge=0, le=100_000)] = 64
    timeout_s: Seconds = 30.0
    connect_s: Seconds = 2.0
    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    open_s: Seconds = 5.0
    max_answer_bytes: Bytes = 1_000_000
    ca: str | None = None
    health: Annotated[str, Field(pattern="^/")] = "/health"


class ClientKeySettings(_Model):
    """A client key that is not in the keys file.

    Attributes:
        key: `env:NAME` or `file:PATH`; never the key itself.
    """

    key: str
    rights: list[Right] = []
    limits: KeyLimits = KeyLimits()


class AuditSettings(_Model):
    """The audit record; see `telemetry.audit.AuditPlan`.

    Attributes:
        directory: Where it is written; without one there is no record.
        when_full: `refuse`: new exchanges get a 503, nothing is unrecorded. `drop`: records are lost,
            and the chain and a metric say how many.
        key: `env:NAME` or `file:PATH`: makes the chain an HMAC.
    """

    directory: str | None = None
    max_bytes: Annotated[int, Field(ge=100_000)] = 100_000_000
    keep: Annotated[int, Field(ge=1)] = 50
    queue: Annotated[int, Field(ge=1)] = 10_000
    when_full: Literal["refuse", "drop"] = "refuse"
    key: str | None = None


class LogSettings(_Model):
    """Logs, which go to stderr.

    Attributes:
        form: `json`: one object a line; `console`: for people.
        exchanges: `problems`: a line for each exchange that a fault of the model server, of a guard or
            of the proxy ended; `all`: one for each exchange. Who was blocked stands in the audit record.
    """

    form: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"
    exchanges: Literal["problems", "all"] = "problems"


class TracingSettings(_Model):
    """OpenTelemetry traces (extra `otel`).

    Attributes:
        endpoint: Of the collector, OTLP over HTTP: `http://127.0.0.1:4318/v1/traces`; without one, no traces.
        share: Of the exchanges that are traced, where the caller has not decided.
    """

    endpoint: str | None = None
    share: Annotated[float, Field(ge=0, le=1)] = 1.0


class LimitSettings(_Model):
    """Bounds of what clients may send and cause."""

    max_body_bytes: Bytes = 32 * 1024 * 1024
    max_text_chars: Bytes = 1_000_000
    max_bytes_in_flight: Bytes = 512 * 1024 * 1024
    max_exchanges: Annotated[int, Field(ge=1)] = 2048
    max_head_bytes: Bytes = 64 * 1024
    head_s: Seconds = 15.0
    body_s: Seconds = 60.0
    max_held_chars: Bytes = 4_000_000


class StreamSettings(_Model):
    """Times of streamed answers."""

    hold_s: Seconds = 0.3
    keep_alive_s: Seconds = 10.0
    drain_s: Seconds = 30.0


class ImageSettings(_Model):
    """Work on pictures; each worker has its own.

    Attributes:
        threads: That decode them and write them anew.
        cache_bytes: Of what is kept about pictures seen before: canonical bytes, what was read, scores.
        fetch_s: Longest time for a remote picture, where a policy lets them in.
        readers: Processes that read text, where a policy's guards look at it; each holds up to a gigabyte.
        max_waiting: Pictures that may wait to be read, or be in work.
        read_s: A process that takes longer for one picture is ended.
    """

    threads: Annotated[int, Field(ge=1, le=64)] = 2
    cache_bytes: Annotated[int, Field(ge=0)] = 256 * 1024 * 1024
    fetch_s: Seconds = 10.0
    readers: Annotated[int, Field(ge=1, le=64)] = 1
    max_waiting: Annotated[int, Field(ge=1)] = 32
    read_s: Seconds = 60.0


class Settings(_Model):
    """Everything that says where things are.

    Attributes:
        keys: The keys file, which `guardproxy key` writes.
        client_keys: Further client keys by name, for deployments that keep secrets elsewhere.
        dialects: The formats that clients may speak. `completions` has no place for a system text, so
            that no hardening reaches the model: it is off unless named here.
        backends: Servers of guard models by name.
        guardrail_api: Offer LiteLLM's Generic Guardrail API, under client keys, on the API's port.
    """

    upstream: UpstreamSettings = UpstreamSettings()
    vllm: VllmSettings = VllmSettings()
    backends: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")], BackendSettings] = {}
    policies: str | None = None
    keys: str | None = None
    client_keys: dict[str, ClientKeySettings] = {}
    dialects: list[Literal["chat", "responses", "messages", "completions"]] = [
        "chat",
        "responses",
        "messages",
    ]
    guardrail_api: bool = False
    host: str = "127.0.0.1"
    port: Port = 8080
    admin_host: str = "127.0.0.1"
    admin_port: Port = 8081
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    images: ImageSettings = ImageSettings()
    detector_threads: Annotated[int, Field(ge=1, le=64)] = Field(default_factory=_threads)
    limits: LimitSettings = LimitSettings()
    audit: AuditSettings = AuditSettings()
    logs: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    streams: StreamSettings = StreamSettings()


def load(path: Path | None, flags: Mapping[str, object], environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings: flags before `GUARDPROXY_*` before the file before the defaults.

    Raises:
        SettingsError: Names the setting, what was expected and what came.
    """
    text = ""
    if path is not None:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: cannot be read: {error}") from None
    document = Document(text or "{}", path or "settings", SettingsError)
    if isinstance(document.value, dict):
        _overlay(document.value, _from_environment(environ))
        _overlay(document.value, flags)
    return document.validate(Settings)


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    """`GUARDPROXY_UPSTREAM` is the server's URL; `GUARDPROXY_LIMITS__MAX_BODY_BYTES` goes one level down."""
    found: dict[str, object] = {}
    for name, value in environ.items():
        if not name.startswith("GUARDPROXY_") or name in _OTHER_VARIABLES:
            continue
        key = name.removeprefix("GUARDPROXY_").lower()
        path = ["upstream", "url"] if key == "upstream" else key.split("__")
        here = found
        for step in path[:-1]:
            here = here.setdefault(step, {})  # type: ignore[assignment]  # built here, level by level
        here[path[-1]] = value
    return found


_OTHER_VARIABLES = frozenset(("GUARDPROXY_E2E_DIR",))


def _overlay(base: dict[str, object], over: Mapping[str, object]) -> None:
    for key, value in over.items():
        below = base.get(key)
        if isinstance(value, Mapping) and isinstance(below, dict):
            _overlay(below, value)
        else:
            base[key] = dict(value) if isinstance(value, Mapping) else value


def read_secret(reference: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """The secret behind `env:NAME` or `file:PATH`.

    Raises:
        SettingsError: It is neither, or there is none.
    """
    if reference is None:
        return None
    kind, _, name = reference.partition(":")
    if kind == "env" and name:
        value = environ.get(name)
        if not value:
            raise SettingsError(f"the secret {reference} is not set")
        return value
    if kind == "file" and name:
        try:
            return Path(name).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"the secret {reference} cannot be read: {error}") from None
    raise SettingsError("a secret must be given as env:NAME or file:PATH, never as itself")
