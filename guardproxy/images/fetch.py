"""Fetches a remote picture once, from a public address over https, so that what the model sees cannot change later.

The name is resolved once and the connection goes to the address that was looked at. Nothing is followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import httptools

from guardproxy.core.policy import ImageLimits
from guardproxy.errors import WireError

log = logging.getLogger("guardproxy.images")

_SCHEME = re.compile(r"\s*[a-zA-Z][a-zA-Z0-9+.\-]*:")
_URL = re.compile(
    # A name of at least two labels whose last one is no number: every spelling of an address is left out.
    r"https://((?:[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9\-]{0,61}[a-z0-9])?)"
    r"(?::443)?((?:/[!-\"$->@-\[\]-~]*)?(?:\?[!-\"$-\[\]-~]*)?)(?:#.*)?",
    re.IGNORECASE,
)
MAX_URL = 2048
MAX_NAME = 253
MAX_HEAD = 32_768
READ = 65_536
PORT = 443

_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments (RFC 6890); a cloud has its metadata at 192.0.0.192
        "192.88.99.0/24",  # relays of 6to4 (RFC 7526)
        "168.63.129.16/32",  # Azure's wire server: a public address that means the machine's own host
    )
)
_UNICAST6 = ipaddress.ip_network("2000::/3")
_EMBEDDING6 = tuple(
    # Prefixes whose addresses hold an IPv4 address, and documentation: Teredo, ORCHIDs, 6to4.
    ipaddress.ip_network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)


def is_remote(url: str) -> bool:
    """Whether a URL names something elsewhere; what is neither that nor `data:` is no picture at all."""
    return url[:5].lower() != "data:" and _SCHEME.match(url[:64]) is not None


def is_public(address: str) -> bool:
    """Whether an address belongs to somebody on the public internet, and to no network of ours or of a cloud's."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return False  # a socket would reach the IPv4 address by it
        return ip in _UNICAST6 and ip.is_global and not any(ip in n for n in _EMBEDDING6)
    return (
        ip.is_global and not ip.is_multicast and not ip.is_reserved and not any(ip in n for n in _NOT_PUBLIC)
    )


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Bounds of one picture's fetch, its queue apart.

    Attributes:
        total_s: From the name's resolution to the last byte.
        at_once: Fetches under way; more are a 503.
    """

    total_s: float = 10.0
    at_once: int = 32


class Network(Protocol):
    """What the fetcher needs of the world; a test has its own."""

    async def resolve(self, host: str) -> list[str]:
        """All addresses of a name; raises `OSError`."""

    async def connect(self, address: str, host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """TLS with exactly this address, for this name; raises `OSError`."""


@dataclass(frozen=True, slots=True)
class Internet:
    """The real one, with the machine's certificates."""

    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    async def resolve(self, host: str) -> list[str]:
        """By the machine's resolver."""
        found = await asyncio.get_running_loop().getaddrinfo(host, PORT, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[4][0]) for address in found))

    async def connect(self, address: str, host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """An address is no name: nothing is resolved a second time."""
        return await asyncio.open_connection(
            address, PORT, ssl=self.context, server_hostname=host, limit=READ
        )


class _Refused(Exception):
    """Why a picture is not taken: for the log. A client that may probe is told nothing of our network."""


class Fetcher:
    """Fetches remote pictures.

    Args:
        network: The world.
        limits: Of each fetch.
    """

    def __init__(self, network: Network | None = None, limits: FetchLimits | None = None) -> None:
        self._network = network
        self._limits = limits or FetchLimits()
        self._under_way = 0

    async def fetch(self, url: str, place: str, limits: ImageLimits) -> bytes:
        """The bytes behind a URL, of whatever type they are.

        Raises:
            WireError: The policy or the URL's form does not allow it, or the picture is not to be had.
        """
        host, target = _read_url(url, place, limits)
        if self._under_way >= self._limits.at_once:
            raise WireError(
                "Too many pictures are being fetched at the moment", status=503, code="overloaded",
                headers=(("retry-after", "1"),),
            )  # fmt: skip
        self._under_way += 1
        try:
            async with asyncio.timeout(self._limits.total_s):
                return await self._fetch(host, target, limits.max_bytes)
        except (_Refused, TimeoutError, OSError, UnicodeError, httptools.HttpParserError) as error:
            log.info("picture not fetched from %s: %s", host, error or type(error).__name__)
            raise WireError(
                f"{place}: this picture cannot be fetched from {host}", param=place, code="image_not_fetched"
            ) from None
        finally:
            self._under_way -= 1

    async def _fetch(self, host: str, target: str, max_bytes: int) -> bytes:
        if self._network is None:
            self._network = Internet()
        addresses = await self._network.resolve(host)
        if not addresses or not all(map(is_public, addresses)):
            raise _Refused(f"not a public address: {', '.join(addresses) or 'none'}")
        reader, writer = await self._network.connect(addresses[0], host)
        try:
            writer.write(
                f"GET {target} HTTP/1.1\r\nhost: {host}\r\naccept: image/*\r\naccept-encoding: identity\r\n"
                "user-agent: guardproxy\r\nconnection: close\r\n\r\n".encode("ascii")
            )
            await writer.drain()
            return await _Reply(max_bytes).read(reader)
        finally:
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                writer.transport.abort()


def _read_url(url: str, place: str, limits: ImageLimits) -> tuple[str, str]:
    """Host and target of a URL that the policy allows."""
    if limits.remote != "inline":
        scheme = url.strip().partition(":")[0][:16]
        raise WireError(
            f"{place}: only data: URLs are accepted here, got scheme {scheme!r}",
            param=place,
            code="unsupported_image_url",
        )
    match = _URL.fullmatch(url) if len(url) <= MAX_URL else None
    if match is None or len(match[1]) > MAX_NAME:
        raise WireError(
            f"{place}: expected a data: URL or https://HOST.DOMAIN/PATH, without user, port or address",
            param=place,
            code="unsupported_image_url",
        )
    host = match[1].lower()
    allowed = limits.allow_hosts
    if allowed and not any(host == a or (a.startswith("*.") and host.endswith(a[1:])) for a in allowed):
        raise WireError(
            f"{place}: pictures from {host} are not accepted here", param=place, code="unsupported_image_url"
        )
    target = match[2]
    return host, target if target.startswith("/") else f"/{target}"


class _Reply:
    """One answer, read by llhttp: a whole 200 with a picture's type, nothing encoded, nothing over the limit."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._size = 0
        self._head = 0
        self._kind = b""
        self._is_whole = False
        self._in_body = False
        self._parser = httptools.HttpResponseParser(self)

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        """The body."""
        while not self._is_whole:
            data = await reader.read(READ)
            if not data:
                raise _Refused("the answer broke off, or its length is not stated")
            if not self._in_body:
                self._head += len(data)
                if self._head > MAX_HEAD + READ:
                    raise _Refused("the head is too long")
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserCallbackError as error:
                raise error.__context__ if isinstance(error.__context__, _Refused) else error from None
        return b"".join(self._pieces)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        name, value = name.lower(), value.strip().lower()
        if name == b"content-type":
            self._kind = value
        elif name == b"content-encoding" and value != b"identity":
            raise _Refused(f"content-encoding {value!r}")
        elif name == b"content-length" and int(value) > self._max_bytes:
            raise _Refused("too large")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        status = self._parser.get_status_code()
        if status != 200:
            raise _Refused(f"status {status}")
        if not self._kind.startswith(b"image/"):
            raise _Refused(f"content-type {self._kind[:40]!r}")
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        """A piece of it."""
        self._size += len(body)
        if self._size > self._max_bytes:
            raise _Refused("too large")
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """All of it."""
        self._is_whole = True
