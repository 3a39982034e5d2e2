"""The composition root: the only place that builds objects and wires them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from guardproxy import policystore
from guardproxy.account import Account, Beside
from guardproxy.advice import Advice
from guardproxy.core.canonical import SpecialTokens
from guardproxy.core.content import Request
from guardproxy.detectors.backends import BackendPlan, Backends
from guardproxy.detectors.base import Resources
from guardproxy.detectors.offload import Offload
from guardproxy.errors import KeyFileError, SettingsError
from guardproxy.exchange import Exchange
from guardproxy.images.cache import Cache
from guardproxy.images.fetch import Fetcher, FetchLimits
from guardproxy.images.intake import Intake
from guardproxy.images.reader import Reader, ReaderLimits
from guardproxy.inforce import Policies
from guardproxy.ingress.door import Door
from guardproxy.ingress.http import HttpLimits, InFlight, overloaded
from guardproxy.ingress.limits import Ledger
from guardproxy.keys import Client, KeyRing
from guardproxy.outward import Plan
from guardproxy.parts import Parts, Times
from guardproxy.record import Entry
from guardproxy.settings import ServerSettings, Settings, read_secret
from guardproxy.telemetry.audit import AuditLog, AuditPlan
from guardproxy.telemetry.metrics import Metrics
from guardproxy.telemetry.tracing import NO_TRACE, Trace, Tracing
from guardproxy.upstream import Fleet, Limits, Pool, Server, Target
from guardproxy.wire.dialects import DIALECTS

log = logging.getLogger("guardproxy")
POLL_S = 0.5


def key_ring(settings: Settings) -> KeyRing:
    """The client keys of the settings.

    Raises:
        KeyFileError: A key is weak, or the file cannot be used.
        SettingsError: No key is in force, or the model server's own key is one of them.
    """
    given = [(n, read_secret(k.key) or "", k.rights, k.limits) for n, k in settings.client_keys.items()]
    ring = KeyRing(Path(settings.keys) if settings.keys else None, given)
    if ring.required and not ring.names:
        raise SettingsError(f"keys: no key in force in {settings.keys}: make one with `guardproxy key new`")
    for reference in (settings.upstream.key, *(s.key for s in settings.upstream.servers)):
        upstream = read_secret(reference)
        if upstream is not None and ring.find(upstream) is not None:
            raise SettingsError("upstream.key: is a client key too: clients could pass the proxy by")
    for name, one in settings.backends.items():
        key = read_secret(one.key)
        if key is not None and ring.find(key) is not None:
            raise SettingsError(f"backends.{name}.key: is a client key too: each needs its own")
    return ring


def resources_of(settings: Settings, metrics: Metrics, pictures: Cache | None = None) -> Resources:
    """What the detectors of one process share.

    Raises:
        SettingsError: A back end's key cannot be read.
    """
    plans = {
        name: BackendPlan(**{**one.model_dump(), "url": one.url.rstrip("/"), "key": read_secret(one.key)})
        for name, one in settings.backends.items()
    }
    offload = Offload(settings.detector_threads)
    return Resources(offload, pictures or Cache(0), backends=Backends(plans, metrics))


def policies_of(
    settings: Settings, metrics: Metrics, resources: Resources, first: Path | None = None
) -> Policies:
    """The policies that the settings name, or the shipped ones."""
    directory = Path(settings.policies) if settings.policies else policystore.shipped_dir()
    return Policies(directory, metrics, resources, first)


def audit_of(settings: Settings, worker: int, metrics: Metrics) -> AuditLog | None:
    """The audit record of one worker, if the settings ask for one.

    Raises:
        AuditError: It cannot be written.
    """
    audit = settings.audit
    if audit.directory is None:
        return None
    key = read_secret(audit.key)
    plan = AuditPlan(
        Path(audit.directory), audit.max_bytes, audit.keep, audit.queue, audit.when_full == "drop",
        key.encode() if key else None,
    )  # fmt: skip
    return AuditLog(plan, worker, metrics)


def fleet_of(settings: Settings, metrics: Metrics) -> Fleet:
    """The model servers that the settings name.

    Raises:
        SettingsError: One of them is named in a way that cannot be used.
    """
    upstream = settings.upstream
    if upstream.url and upstream.servers:
        raise SettingsError("upstream: url names the only server, servers several: expected one of them")
    limits = Limits(upstream.connect_s, upstream.first_byte_s, upstream.idle_s)
    servers = []
    for one in upstream.servers or [ServerSettings(url=upstream.url)]:
        target = Target.parse(one.url)
        pool = Pool(target, limits, read_secret(one.key or upstream.key))
        servers.append(Server(target.host_header, pool, one.models or upstream.models))
    return Fleet(servers, metrics)


@dataclass(frozen=True, slots=True)
class Shared:
    """What a worker shares with the others of its proxy.

    Attributes:
        number: The worker's, from 0; it stays when the worker is replaced.
        limits: The file of the clients' limits.
        policies: A copy of the policies in force.
    """

    number: int = 0
    limits: Path | None = None
    policies: Path | None = None


class Core:
    """What one worker process serves with. Implements `ingress.api.Service`."""

    def __init__(self, settings: Settings, metrics: Metrics, shared: Shared | None = None) -> None:
        shared = shared or Shared()
        self.settings = settings
        self.metrics = metrics
        self.keys = key_ring(settings)
        self._ledger = Ledger(shared.limits, shared.number, settings.workers if shared.limits else 1)
        self.door = Door(self.keys, self._ledger, metrics)
        self._pictures = Cache(settings.images.cache_bytes, metrics)
        self._resources = resources_of(settings, metrics, self._pictures)
        self.policies = policies_of(settings, metrics, self._resources, shared.policies)
        self.audit = audit_of(settings, shared.number, metrics)
        tracing = settings.tracing
        self._tracing = Tracing(tracing.endpoint, tracing.share) if tracing.endpoint else None
        upstream, limits = settings.upstream, settings.limits
        self.in_flight = InFlight(
            HttpLimits(
                limits.max_body_bytes,
                limits.max_text_chars,
                limits.max_bytes_in_flight,
                limits.max_exchanges,
                limits.body_s,
            )
        )
        self._fleet = fleet_of(settings, metrics)
        fetcher = Fetcher(limits=FetchLimits(settings.images.fetch_s))
        self._intake = Intake(settings.images.threads, cache=self._pictures, fetcher=fetcher)
        tokens = SpecialTokens(upstream.special_tokens)
        images = settings.images
        self._reader = Reader(
            ReaderLimits(images.readers, images.max_waiting, images.read_s), self._pictures, tokens
        )
        self._parts = Parts(
            self._fleet,
            self._intake,
            self._reader,
            tokens,
            metrics,
            Times(
                settings.streams.hold_s,
                settings.streams.keep_alive_s,
                upstream.first_byte_s,
                upstream.idle_s,
                upstream.total_s,
            ),
            upstream.max_answer_bytes,
            limits.max_held_chars,
            upstream.cache_salt,
            self._resources.leak_marker,
        )
        metrics.exchanges_limit.set(limits.max_exchanges)
        self._background: set[asyncio.Task[None]] = set()
        self.dialects: Sequence[str] = settings.dialects
        self.offers_guardrail = settings.guardrail_api
        self.is_stopping = False
        self.cut = 0

    def refresh_keys(self) -> None:
        """Take over a changed keys file; on error the keys in force stay, and the log says so."""
        try:
            if self.keys.refresh():
                log.info("client keys read: %d in force", len(self.keys.names))
        except KeyFileError as error:
            log.error("client keys not read, the old ones stay: %s", error)

    # ingress.api.Service.

    def plan_for(self, model: str, client: Client) -> Plan:
        """The policy in force for a model and a client."""
        return self.policies.plan_for(model, client)

    def plan_named(self, policy: str) -> Plan | None:
        """A policy in force by its name."""
        return self.policies.plan_named(policy)

    async def models(self) -> Collection[str]:
        """Public names of the models that are served."""
        return await self._fleet.models()

    def exchange(self, plan: Plan, request: Request, account: Account) -> Exchange:
        """A new exchange, in the request's dialect."""
        return Exchange(self._parts, plan, DIALECTS[request.dialect], request, account)

    def advice(self, plan: Plan, account: Account) -> Advice:
        """A new consultation of another gateway."""
        return Advice(self._parts, plan, account)

    def trace(self, traceparent: str | None, tracestate: str | None) -> Trace:
        """A new trace."""
        return NO_TRACE if self._tracing is None else self._tracing.begin(traceparent, tracestate)

    def account(self, plan: Plan, model: str, client: Client, request_id: str, trace: Trace) -> Account:
        """A new account."""
        entry = Entry(request_id, time.time(), client.name, plan.policy, model)
        return Account(self.metrics, plan, client, entry, Beside(trace, self.audit))

    def raise_if_unrecordable(self) -> None:
        """Raise a 503 when an exchange could not be recorded."""
        if self.audit is not None and self.audit.refuses:
            raise overloaded("Exchanges cannot be recorded at the moment")

    def settle(self, account: Account) -> None:
        """Close an account beside the way."""
        self.cut += account.entry.outcome == "shutdown"
        if account.closes_at_once:
            try:
                account.close().send(None)
            except StopIteration:
                return
            raise AssertionError("a detector that says it is inline has waited")
        task = asyncio.create_task(account.close())
        self._background.add(task)
        task.add_done_callback(self._settled)

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("an exchange could not be counted", exc_info=task.exception())

    # Life.

    async def readiness(self) -> dict[str, str]:
        """What this worker needs to serve, each `ok` or what is wrong with it.

        Policies and detectors are: they are loaded and warm, or the process would not have started. What reads
        pictures starts beside.
        """
        self.begin()
        return {
            "policies": "ok",
            "detectors": self._reader.state,
            "upstream": await self._fleet.state(),
            "backends": await self._resources.backends.state(self.policies.needed_backends),
            "audit": "cannot record" if self.audit is not None and self.audit.refuses else "ok",
            "life": "stopping" if self.is_stopping else "ok",
        }

    def begin(self) -> None:
        """Start what takes long to start, once a policy in force needs it."""
        if self.policies.reads_pictures:
            self._reader.begin()

    def stop(self) -> None:
        """Serving ends: from now on it is not ready, and what is under way is finished."""
        if not self.is_stopping:
            self.is_stopping = True
            under_way, limit_s = self.in_flight.exchanges, self.settings.streams.drain_s
            log.info("stopping: %d exchanges under way, at most %g s for them", under_way, limit_s)

    async def close(self) -> None:
        """Finish counting and break off what is open."""
        cut = self.in_flight.exchanges + self.cut
        log.log(logging.WARNING if cut else logging.INFO, "stopped: %d exchanges cut", cut)
        if self._background:
            await asyncio.wait(self._background, timeout=5)
        self._fleet.close()
        self._intake.close()
        await self._reader.close()
        self._resources.offload.close()
        await self._resources.backends.close()
        self._ledger.close()
        if self.audit is not None:
            self.audit.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)
