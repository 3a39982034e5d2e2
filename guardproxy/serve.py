"""Runs the two listeners of one process: signals, reload on change, graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import uvicorn

from guardproxy import policystore
from guardproxy.app import POLL_S, Core
from guardproxy.ingress.admin import admin_app
from guardproxy.ingress.api import Api
from guardproxy.ingress.protocol import Protocol
from guardproxy.settings import Settings
from guardproxy.telemetry.metrics import Metrics

log = logging.getLogger("guardproxy")


def settle_memory() -> None:
    """Set what was made at the start aside from garbage collection, and make it rarer.

    Events of streams live for an instant and hold no cycles: with CPython's own thresholds the collector walks
    all objects of the process hundreds of times a second, a fifth of the time of a streamed event.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: ours reload and stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def bind(host: str, port: int) -> socket.socket:
    """A listening socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(2048)
    sock.setblocking(False)
    return sock


def api_server(core: Core) -> Server:
    """The API side."""
    limits = core.settings.limits
    protocol = type(
        "BoundProtocol", (Protocol,), {"max_head_bytes": limits.max_head_bytes, "head_s": limits.head_s}
    )
    return Server(
        uvicorn.Config(
            Api(core),  # called with a Call by our protocol, never as ASGI
            interface="asgi3",
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(core.settings.streams.drain_s),
        )
    )


def admin_server(app: object) -> Server:
    """The admin side."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # an ASGI application
        lifespan="off", log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=2,
    )  # fmt: skip
    return Server(config)


async def attend(core: Core) -> None:
    """Start what the policies in force need, and take over a changed keys file soon."""
    while True:
        core.begin()
        await asyncio.sleep(POLL_S)
        core.refresh_keys()


async def watch(directory: Path, reload: Callable[[], Awaitable[object]], asked: asyncio.Event) -> None:
    """Reload when a policy file changes or when asked."""
    seen = policystore.fingerprint(directory)
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), POLL_S)
        now = policystore.fingerprint(directory)
        if asked.is_set() or now != seen:
            asked.clear()
            seen = now
            await reload()


async def serve_alone(settings: Settings, started: Callable[[int, int], None]) -> None:
    """One process: both listeners in one loop.

    Args:
        settings: With `workers: 1`.
        started: Told the ports in use.
    """
    metrics = Metrics()
    core = Core(settings, metrics)
    api = api_server(core)
    admin = admin_server(admin_app(lambda: metrics.registry, core.readiness, core.dialects))
    sockets = bind(settings.host, settings.port), bind(settings.admin_host, settings.admin_port)
    asked = asyncio.Event()

    def stop() -> None:
        api.force_exit = api.should_exit  # who asks twice does not want to wait
        api.should_exit = True
        core.stop()

    async def reload() -> bool:
        return core.policies.reload()

    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop)
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    beside = [
        asyncio.create_task(watch(core.policies.directory, reload, asked)),
        asyncio.create_task(attend(core)),
    ]
    admin_task = asyncio.create_task(admin.serve([sockets[1]]))
    settle_memory()
    started(sockets[0].getsockname()[1], sockets[1].getsockname()[1])
    try:
        await api.serve([sockets[0]])
    finally:
        for task in beside:
            task.cancel()
        admin.should_exit = True
        await admin_task
        await core.close()
