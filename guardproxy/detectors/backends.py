"""The servers of guard models: bounded, broken off in time, left alone while they fail.

Policies name a back end; where it is and its key stand in the settings.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import msgspec

from guardproxy.detectors.breaker import Breaker, State
from guardproxy.errors import DetectorError, PolicyError
from guardproxy.yamldoc import suggest

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("guardproxy.backends")

MARGIN_S = 0.005
"""We give up so much before the guard's budget is over, so that it is told who was waited for."""
LONGEST_RETRY_AFTER_S = 1.0
"""A server that asks for more time than this is overloaded for this exchange."""
OVERLOADED = (429, 503)

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class BackendPlan:
    """One server, from the settings. Times in seconds.

    Attributes:
        url: Its address, without the path of a route.
        key: Sent as `Authorization: Bearer`.
        model: Its own name of the model.
        concurrency: Requests at the same time.
        queue: Requests that wait for their turn; further ones are refused.
        timeout_s: Longest time of one request, if the guard's budget is not over before.
        failures: So many in a row open the circuit.
        open_s: How long it stays open at first.
        ca: File of certificate authorities, instead of the system's.
        health: Route that is asked before an open circuit is tried again.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    model: str = ""
    concurrency: int = 8
    queue: int = 64
    timeout_s: float = 30.0
    connect_s: float = 2.0
    failures: int = 5
    open_s: float = 5.0
    max_answer_bytes: int = 1_000_000
    ca: str | None = None
    health: str = "/health"


class Told(Protocol):
    """Told what happens to the back ends."""

    def backend_is(self, backend: str, state: str) -> None:
        """Its circuit is `closed`, `half_open` or `open`."""

    def backend_asked(self, backend: str, result: str) -> None:
        """A request ended: `ok`, `error`, `refused`, `timeout`, `overloaded`, `unreadable`, `open`, `gone`."""


class _Silent(Exception):
    """Not one byte came back."""


class Backend:
    """One server of guard models.

    Args:
        name: In settings, policies and metrics.
        plan: Where it is and its bounds.
        told: Told what happens.
    """

    def __init__(self, name: str, plan: BackendPlan, told: Told | None = None) -> None:
        self.name = name
        self.plan = plan
        self._told = told
        self._breaker = Breaker(plan.failures, plan.open_s, self._changed)
        self._waiting = 0
        self._made: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient, asyncio.Semaphore] | None = None
        if told is not None:
            told.backend_is(name, State.CLOSED.value)

    @property
    def model(self) -> str:
        """The server's own name of the model."""
        return self.plan.model

    @property
    def state(self) -> State:
        """Of its circuit."""
        return self._breaker.state

    async def post(
        self, path: str, body: Json, deadline: float, headers: Mapping[str, str] | None = None
    ) -> object:
        """Ask, and decode the JSON of the answer.

        It is asked a second time only if not one byte came back, or if it asks for that soon: a guard model
        changes nothing, so that a question asked twice is harmless.

        Args:
            path: Of the route.
            body: Encoded as JSON.
            deadline: When it is no use any more, in seconds of `time.perf_counter`; the wait in the queue counts.
            headers: Further ones.

        Raises:
            DetectorError: No answer (`error`, `timeout`, `overloaded`) or one that is not JSON (`unreadable`).
        """
        if not self.plan.url:
            raise DetectorError(f"back end {self.name}: no settings say where it is")
        data = msgspec.json.encode(body)
        limit_s = min(self.plan.timeout_s, deadline - MARGIN_S - perf_counter())
        async with self._turn(limit_s) as left_s:
            return await self._within(path, data, headers or {}, left_s, limit_s)

    @asynccontextmanager
    async def _turn(self, limit_s: float) -> AsyncIterator[float]:
        """Wait for a free connection; gives the time that is left."""
        if self._breaker.refuses(perf_counter()):
            raise self._fault("its circuit is open after failures", "error", "open")
        _, turns = self._connect()
        if turns.locked() and self._waiting >= self.plan.queue:
            raise self._fault(f"{self._waiting} requests wait already", "overloaded", "overloaded")
        started = perf_counter()
        self._waiting += 1
        try:
            async with asyncio.timeout(max(limit_s, 0)):
                await turns.acquire()
        except TimeoutError:
            raise self._fault("no free connection in time", "timeout", "timeout") from None
        finally:
            self._waiting -= 1
        try:
            yield limit_s - (perf_counter() - started)
        finally:
            turns.release()

    async def _within(
        self, path: str, data: bytes, headers: Mapping[str, str], left_s: float, limit_s: float
    ) -> object:
        breaker = self._breaker
        if not breaker.admit(perf_counter()):
            raise self._fault("its circuit is open after failures", "error", "open")
        try:
            async with asyncio.timeout(left_s):
                status, body = await self._ask(path, data, headers)
        except TimeoutError:
            if left_s >= limit_s / 2:
                breaker.failed(perf_counter())
            else:  # it waited for most of its time: that says nothing about the server
                breaker.told_nothing()
            raise self._fault("no answer in time", "timeout", "timeout") from None
        except _Silent as error:
            breaker.failed(perf_counter())
            raise self._fault(f"cannot be reached: {error}", "error", "error") from None
        except DetectorError:
            breaker.failed(perf_counter())
            raise
        except BaseException:  # whoever waited for the answer is gone
            breaker.told_nothing()
            if self._told is not None:
                self._told.backend_asked(self.name, "gone")
            raise
        return self._read(status, body)

    def _read(self, status: int, body: bytes) -> object:
        if status in OVERLOADED:
            self._breaker.failed(perf_counter())
            raise self._fault(f"status {status}", "overloaded", "overloaded")
        if status >= 500:
            self._breaker.failed(perf_counter())
            raise self._fault(f"status {status}", "error", "error")
        self._breaker.succeeded()
        if status != 200:
            log.warning("back end %s refuses a request of a guard with status %d", self.name, status)
            raise self._fault(f"status {status}", "error", "refused")
        try:
            found: object = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):
            raise self._fault("its answer is no JSON", "unreadable", "unreadable") from None
        if self._told is not None:
            self._told.backend_asked(self.name, "ok")
        return found

    async def _ask(self, path: str, data: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        try:
            status, wait_s, body = await self._once(path, data, headers)
        except _Silent:
            status, wait_s, body = await self._once(path, data, headers)
            return status, body
        if status in OVERLOADED and wait_s is not None and wait_s <= LONGEST_RETRY_AFTER_S:
            await asyncio.sleep(wait_s)
            status, _, body = await self._once(path, data, headers)
        return status, body

    async def _once(
        self, path: str, data: bytes, headers: Mapping[str, str]
    ) -> tuple[int, float | None, bytes]:
        """One request: status, seconds of `Retry-After`, body."""
        import httpx  # noqa: PLC0415 - a tenth of a second that only policies with served guards pay

        client, _ = self._connect()
        pieces: list[bytes] = []
        size = 0
        answered = False
        try:
            async with client.stream("POST", path, content=data, headers=headers) as response:
                answered = True
                wait_s = _seconds(response.headers.get("retry-after"))
                async for piece in response.aiter_raw():
                    size += len(piece)
                    if size > self.plan.max_answer_bytes:
                        raise self._fault("its answer is too long", "unreadable", "unreadable")
                    pieces.append(piece)
        except httpx.TimeoutException:
            raise TimeoutError from None
        except httpx.HTTPError as error:
            if answered:
                raise self._fault("its answer broke off", "error", "error") from None
            raise _Silent(type(error).__name__) from None
        return response.status_code, wait_s, b"".join(pieces)

    def _connect(self) -> tuple[httpx.AsyncClient, asyncio.Semaphore]:
        """Connections and turns of the loop that runs: commands run several, one after the other."""
        loop = asyncio.get_running_loop()
        if self._made is None or self._made[0] is not loop:
            self._made = loop, self._client(), asyncio.Semaphore(self.plan.concurrency)
        return self._made[1], self._made[2]

    def _client(self) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415 - as above

        plan = self.plan
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if plan.key:
            headers["authorization"] = f"Bearer {plan.key}"
        secure = plan.url.startswith("https:")
        return httpx.AsyncClient(
            base_url=plan.url,
            headers=headers,
            timeout=httpx.Timeout(plan.timeout_s, connect=plan.connect_s),
            limits=httpx.Limits(
                max_connections=plan.concurrency + 1, max_keepalive_connections=plan.concurrency + 1
            ),
            verify=ssl.create_default_context(cafile=plan.ca) if secure else False,
            trust_env=False,  # no proxy of the environment sees what users say
            follow_redirects=False,
        )

    async def probe(self) -> None:
        """See whether the server of an open circuit is alive, if it is time; the next request is then the trial."""
        import httpx  # noqa: PLC0415 - as above

        now = perf_counter()
        if self.state is not State.OPEN or self._breaker.refuses(now):
            return
        client, _ = self._connect()
        self._breaker.half_open()
        try:
            alive = (await client.get(self.plan.health, timeout=self.plan.connect_s)).status_code < 500
        except httpx.HTTPError:
            alive = False
        if not alive:
            self._breaker.not_alive(perf_counter())

    async def close(self) -> None:
        """Break off everything."""
        if self._made is not None:
            await self._made[1].aclose()
            self._made = None

    def _changed(self, state: State) -> None:
        level = logging.WARNING if state is State.OPEN else logging.INFO
        log.log(level, "the circuit of back end %s is %s", self.name, state.value)
        if self._told is not None:
            self._told.backend_is(self.name, state.value)

    def _fault(self, what: str, reason: str, result: str) -> DetectorError:
        if self._told is not None:
            self._told.backend_asked(self.name, result)
        return DetectorError(f"back end {self.name}: {what}", reason)


class Backends:
    """All back ends by name.

    Args:
        plans: From the settings. None: there are no settings, as for a command that only reads policies; then
            every name is taken, and a guard that asks one fails.
        told: Told what happens to them.
    """

    def __init__(self, plans: Mapping[str, BackendPlan] | None = None, told: Told | None = None) -> None:
        self._is_open_ended = plans is None
        self._backends = {name: Backend(name, plan, told) for name, plan in (plans or {}).items()}

    def get(self, name: str) -> Backend:
        """A back end.

        Raises:
            PolicyError: The settings have none of that name.
        """
        backend = self._backends.get(name)
        if backend is None and self._is_open_ended:
            backend = self._backends[name] = Backend(name, BackendPlan(""))
        if backend is None:
            hint = suggest(name, self._backends) if self._backends else "; the settings have none"
            raise PolicyError(f"backend: no back end named {name!r} in the settings{hint}")
        return backend

    async def state(self, needed: Collection[str]) -> str:
        """`ok`, or which of the needed ones have an open circuit. Those that are due are probed."""
        found = [self._backends[name] for name in sorted(needed) if name in self._backends]
        await asyncio.gather(*(one.probe() for one in found))
        down = [one.name for one in found if one.state is State.OPEN]
        return f"circuit open: {', '.join(down)}" if down else "ok"

    async def close(self) -> None:
        """Break off everything."""
        for one in self._backends.values():
            await one.close()


def _seconds(header: str | None) -> float | None:
    if header is None or not header.strip().isdecimal():
        return None
    return float(header)
