"""Where a model server is, and how long it is waited for."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from guardproxy.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds; `idle_s` is between two pieces of an answer, `keep_alive_s` of an unused connection."""

    connect_s: float = 5.0
    first_byte_s: float = 600.0
    idle_s: float = 120.0
    # vLLM closes after 5 s: stay below it, else a request meets a closing connection.
    keep_alive_s: float = 4.0
    max_body_bytes: int = 64_000_000
    max_connections: int = 4096


@dataclass(frozen=True, slots=True)
class Target:
    """Where the model server is: parsed once from its URL.

    Attributes:
        socket: Path of a Unix socket that is used in place of host and port.
    """

    host: str
    port: int
    tls: bool
    prefix: str
    host_header: str
    socket: str | None = None

    @classmethod
    def parse(cls, url: str) -> Target:
        """From `http[s]://host[:port][/prefix]`, of which a trailing `/v1` is taken off, or `unix:/path`."""
        if url.startswith("unix:/"):
            return cls("localhost", 80, tls=False, prefix="", host_header="localhost", socket=url[5:])
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError("upstream.url: expected http://HOST:PORT, https://HOST:PORT or unix:/PATH")
        if "@" in parts.netloc:
            raise SettingsError("upstream.url: no user or password in it; name the key in upstream.key")
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        prefix = parts.path.rstrip("/").removesuffix("/v1")
        return cls(parts.hostname, port, tls, prefix, parts.netloc.rpartition("@")[2])
