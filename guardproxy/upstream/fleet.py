"""The model servers: which models they serve under which names, which of them are up, which is least busy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic
from typing import Protocol

import msgspec

from guardproxy.errors import UpstreamError, UpstreamSilent
from guardproxy.upstream.http1 import Pool, Response

log = logging.getLogger("guardproxy.upstream")
MODELS_FRESH_S = 30.0
CHECK_S = 5.0
"""Between two checks of a server, where there are several; a failed connection counts at once."""
_MAX_LIST_BYTES = 1_000_000

Write = Callable[[str], bytes]
"""Makes the request's body, given the server's own name of the model."""


class Told(Protocol):
    """Told what happens to the servers."""

    def server_is(self, server: str, *, up: bool) -> None:
        """A server is up, or is not."""

    def server_failed(self, server: str) -> None:
        """A request got no byte back from a server."""


class Server:
    """One model server.

    Args:
        name: Its host and port.
        pool: Connections to it.
        models: Public model names to its own; empty: what it lists, under its names.
    """

    def __init__(self, name: str, pool: Pool, models: Mapping[str, str]) -> None:
        self.name = name
        self.pool = pool
        self.in_flight = 0
        self.is_up = True
        self._configured = bool(models)
        self.models: dict[str, str] = dict(models)
        self._listed_at = 0.0

    @property
    def is_fresh(self) -> bool:
        """Whether its list of models need not be asked for."""
        return self._configured or (bool(self.models) and monotonic() - self._listed_at < MODELS_FRESH_S)

    async def refresh(self) -> None:
        """Ask it for its models if that is due.

        Raises:
            UpstreamError: It does not say; what it said before stays.
        """
        if self.is_fresh:
            return
        data = await self.get("/v1/models")
        try:
            listed = msgspec.json.decode(data)["data"]
            # A LoRA adapter is listed with its base model as parent: served only where it is configured.
            names = [m["id"] for m in listed if isinstance(m["id"], str) and not m.get("parent")]
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            names = []
        if not names:
            raise UpstreamError("The model server lists no models")
        self.models = {name: name for name in names}
        self._listed_at = monotonic()

    async def get(self, path: str) -> bytes:
        """The body of a page of it; raises `UpstreamError` unless it answers 200."""
        response = await self.pool.ask("GET", path)
        try:
            data = await response.read_all(_MAX_LIST_BYTES, CHECK_S)
        finally:
            response.close()
        if response.status != 200:
            raise UpstreamError(f"The model server answers with status {response.status}")
        return data


class Fleet:
    """All model servers.

    Args:
        servers: At least one.
        told: Told what happens to them.
    """

    def __init__(self, servers: Sequence[Server], told: Told) -> None:
        self.servers = servers
        self._told = told
        self._checks: asyncio.Task[None] | None = None
        for server in servers:
            told.server_is(server.name, up=True)

    async def models(self) -> Collection[str]:
        """Public names of all models that are served.

        Raises:
            UpstreamError: No server says.
        """
        servers = self.servers
        if len(servers) == 1:
            only = servers[0]
            if not only.is_fresh:
                try:
                    await only.refresh()
                except UpstreamError:
                    if not only.models:
                        raise
            return only.models
        self._watch()
        faults = await asyncio.gather(*(s.refresh() for s in servers if s.is_up), return_exceptions=True)
        names = {name for s in servers for name in s.models}
        for fault in faults:
            if fault is not None and (not names or not isinstance(fault, UpstreamError)):
                raise fault
        if not names:
            raise UpstreamError("No model server is up", code="upstream_unreachable")
        return names

    async def ask(self, model: str, path: str, write: Write, headers: bytes = b"") -> Response:
        """Send a request to the server of that model which is least busy.

        The next one is tried only if not one byte came back: a request is never answered twice.

        Args:
            model: Public name.
            path: From the table of dialects.
            write: Makes the body.
            headers: Further header lines, each ending in CRLF.

        Raises:
            UpstreamError: None has an answer.
        """
        if len(self.servers) == 1:
            return await _post(self.servers[0], model, path, write, headers)
        self._watch()
        # A server that is down is asked last: perhaps the check is wrong, and there is no other.
        able = sorted(
            (s for s in self.servers if model in s.models), key=lambda s: (not s.is_up, s.in_flight)
        )
        fault: UpstreamError = UpstreamError(
            "No model server serves this model at the moment", code="upstream_unreachable"
        )
        for server in able:
            server.in_flight += 1
            try:
                response = await _post(server, model, path, write, headers)
            except UpstreamSilent as silent:
                server.in_flight -= 1
                self._told.server_failed(server.name)
                self._set(server, up=False)
                fault = silent
                continue
            except BaseException:
                server.in_flight -= 1
                raise
            response.on_close = lambda server=server: _leave(server)
            return response
        raise fault

    async def state(self) -> str:
        """`ok` if a server answers, else what is wrong."""
        faults = []
        for server in self.servers:
            try:
                await server.get("/v1/models")
            except UpstreamError as error:
                faults.append(str(error))
            else:
                return "ok"
        return "; ".join(dict.fromkeys(faults))

    def _set(self, server: Server, *, up: bool) -> None:
        if server.is_up != up:
            server.is_up = up
            self._told.server_is(server.name, up=up)
            log.log(
                logging.INFO if up else logging.WARNING,
                "model server %s is %s",
                server.name,
                "up" if up else "down",
            )

    def _watch(self) -> None:
        if self._checks is None:
            self._checks = asyncio.create_task(self._check_for_ever())

    async def _check_for_ever(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            await asyncio.gather(*(self._check(server) for server in self.servers))

    async def _check(self, server: Server) -> None:
        try:
            async with asyncio.timeout(CHECK_S):
                await server.get("/health")
                await server.refresh()
        except (UpstreamError, TimeoutError):
            self._set(server, up=False)
        else:
            self._set(server, up=True)

    def close(self) -> None:
        """Break off everything."""
        if self._checks is not None:
            self._checks.cancel()
        for server in self.servers:
            server.pool.close()


async def _post(server: Server, model: str, path: str, write: Write, headers: bytes) -> Response:
    own = server.models.get(model, model)
    response = await server.pool.ask("POST", path, write(own), headers)
    response.model = own
    return response


def _leave(server: Server) -> None:
    server.in_flight -= 1
