"""Who may come in, and how often: client keys and their limits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import monotonic

from guardproxy.errors import WireError
from guardproxy.ingress.call import Call, Headers
from guardproxy.ingress.limits import Ledger, Refused
from guardproxy.keys import ANONYMOUS, Client, KeyRing
from guardproxy.telemetry.metrics import Metrics

_WORDS = {
    "requests_per_minute": "requests a minute",
    "concurrent": "exchanges at the same time",
    "body_bytes_per_minute": "bytes of request bodies a minute",
}

_UNLIMITED = nullcontext()


class Door:
    """Lets clients in by their key and keeps them within their limits."""

    def __init__(self, keys: KeyRing, ledger: Ledger, metrics: Metrics) -> None:
        self._keys = keys
        self._ledger = ledger
        self._metrics = metrics

    def client_of(self, call: Call) -> Client:
        """Who sent this: by `Authorization: Bearer` or `x-api-key`.

        Raises:
            WireError: 401: no key, or none in force.
        """
        if not self._keys.required:
            return ANONYMOUS
        key = _shown(call)
        client = self._keys.find(key) if key else None
        if client is None:
            self._metrics.unauthorized.labels("unknown_key" if key else "no_key").inc()
            message = "The API key is not valid" if key else "No API key was given (Authorization: Bearer …)"
            raise WireError(
                message, status=401, code="invalid_api_key", headers=(("www-authenticate", "Bearer"),)
            )
        return client

    def entered(self, client: Client) -> AbstractContextManager[None]:
        """One exchange of a client, counted while it is under way.

        Raises:
            WireError: 429, on entering: over one of its limits.
        """
        return self._counted(client) if client.limits.any else _UNLIMITED

    @contextmanager
    def _counted(self, client: Client) -> Iterator[None]:
        refused = self._ledger.enter(client, monotonic())
        if refused is not None:
            raise self._too_many(client, refused)
        try:
            yield
        finally:
            self._ledger.leave(client)

    def take_body(self, client: Client, size: int) -> None:
        """Count the bytes of a body.

        Raises:
            WireError: 429: over the limit; 413: more than the key may send in a whole minute.
        """
        allowed = client.limits.body_bytes_per_minute
        if not allowed:
            return
        if size > allowed:
            raise WireError(
                f"This API key may send {allowed} {_WORDS['body_bytes_per_minute']}, got {size} at once",
                status=413, code="body_too_large",
            )  # fmt: skip
        refused = self._ledger.take_bytes(client, size, monotonic())
        if refused is not None:
            raise self._too_many(client, refused)

    def turned_away(self, client: Client, limit: str) -> None:
        """Count a request that met a limit of the whole proxy."""
        self._metrics.requests_limited.labels(client.name, limit).inc()

    def headers(self, client: Client) -> Headers:
        """What a client is told of its limits, under the names that OpenAI uses."""
        allowed = client.limits.requests_per_minute
        if not allowed:
            return []
        left = self._ledger.remaining(client, monotonic())
        return [
            (b"x-ratelimit-limit-requests", b"%d" % allowed),
            (b"x-ratelimit-remaining-requests", b"%d" % left),
            (b"x-ratelimit-reset-requests", b"%ds" % math.ceil((allowed - left) * 60 / allowed)),
        ]

    def _too_many(self, client: Client, refused: Refused) -> WireError:
        self._metrics.requests_limited.labels(client.name, refused.limit).inc()
        wait = str(max(math.ceil(refused.wait_s), 1))
        told = tuple((k.decode(), v.decode()) for k, v in self.headers(client))
        return WireError(
            f"This API key may have {refused.allowed} {_WORDS[refused.limit]}; try again in {wait} s",
            status=429, code="rate_limit_exceeded", headers=(("retry-after", wait), *told),
        )  # fmt: skip


def _shown(call: Call) -> str:
    given = call.header(b"authorization")
    if given is not None:
        scheme, _, key = given.partition(b" ")
        if scheme.lower() == b"bearer":
            return key.strip().decode("latin-1")
    return (call.header(b"x-api-key") or b"").strip().decode("latin-1")
