"""One worker in this process, or several under a supervisor that reloads them as one.

The supervisor binds the API socket, serves the admin side and replaces a worker that died. A reload
is a handshake: all workers prepare the same revision, then all swap it in, or none does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
from ipaddress import ip_address
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from guardproxy.errors import PolicyError, SettingsError
from guardproxy.settings import Settings
from guardproxy.telemetry import logs

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from guardproxy.app import Core, Shared
    from guardproxy.inforce import Policies

log = logging.getLogger("guardproxy")
RESTART_S = 1.0


def run(settings: Settings) -> int:
    """Serve until a signal ends it; returns the exit code."""
    logs.start(settings.logs.form, settings.logs.level, settings.logs.exchanges)
    has_upstream = bool(settings.upstream.url or settings.upstream.servers)
    if not has_upstream and settings.vllm.model is None:
        raise SettingsError("upstream: required: the model server's URL (--upstream URL), or --vllm MODEL")
    if not settings.keys and not settings.client_keys:
        _refuse_open_door(settings.host)
    if settings.vllm.model is None:
        return _run(settings)
    if has_upstream:
        raise SettingsError("vllm.model: is served in place of an upstream: expected one of them, got both")
    from guardproxy.vllm_server import VllmServer, command_of  # noqa: PLC0415 - only where it is used

    vllm = settings.vllm
    with VllmServer(command_of(settings.vllm.model, vllm.flags, vllm.command)) as server:
        upstream = settings.upstream.model_copy(update={"url": server.url, "key": f"file:{server.key_file}"})
        return _run(settings.model_copy(update={"upstream": upstream}))


def _run(settings: Settings) -> int:
    if settings.workers == 1:
        from guardproxy.serve import serve_alone  # noqa: PLC0415 - only where it is used

        _new_loop(serve_alone(settings, lambda api, admin: _started(settings, api, admin)))
        return 0
    with tempfile.TemporaryDirectory(prefix="guardproxy-metrics-") as directory:
        # Read by prometheus_client when it is imported: here and in every worker.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        _new_loop(Supervisor(settings, directory).run())
    return 0


def _refuse_open_door(host: str) -> None:
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise SettingsError(
            f"host: {host} is not loopback and no client keys are configured: anybody could use the model. "
            "Bind 127.0.0.1, or make a key (guardproxy key new --keys FILE --name NAME) and set keys: FILE"
        )


def _new_loop(main: object) -> None:
    import uvloop  # noqa: PLC0415 - only the serving processes need it

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)  # type: ignore[arg-type]  # a coroutine


def _started(settings: Settings, api: int, admin: int) -> None:
    servers = settings.upstream.url or ", ".join(s.url for s in settings.upstream.servers)
    host, admin_host = (f"[{h}]" if ":" in h else h for h in (settings.host, settings.admin_host))
    sys.stderr.write(
        f"guardproxy: serving http://{host}:{api}/v1 in front of {servers}; "
        f"metrics on http://{admin_host}:{admin}/metrics\n"
    )
    sys.stderr.flush()


class Supervisor:
    """The parent of several workers.

    Args:
        settings: With `workers` above 1.
        metrics_dir: Where the workers' counters lie (Prometheus multiprocess mode).
    """

    def __init__(self, settings: Settings, metrics_dir: str) -> None:
        self._settings = settings
        self._metrics_dir = metrics_dir
        self._workers: dict[int, tuple[BaseProcess, Connection]] = {}
        self._asked = asyncio.Event()
        self._stopping = False
        self._answers: asyncio.Queue[tuple[int, str, str]] = asyncio.Queue()
        self._ready: dict[int, dict[str, str]] = {}
        self._copies = Path(metrics_dir) / "policies"
        self._numbers: dict[int, int] = {}

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        from guardproxy.app import key_ring, policies_of, resources_of  # noqa: PLC0415 - after the metrics' directory is known
        from guardproxy.ingress.admin import admin_app  # noqa: PLC0415 - as above
        from guardproxy.serve import admin_server, bind, watch  # noqa: PLC0415 - as above
        from guardproxy.telemetry.metrics import Metrics  # noqa: PLC0415 - as above

        metrics = Metrics()
        key_ring(self._settings)  # what is wrong with the keys is said here, once
        policies = policies_of(self._settings, metrics, resources_of(self._settings, metrics))
        api = bind(self._settings.host, self._settings.port)
        admin_socket = bind(self._settings.admin_host, self._settings.admin_port)
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(one, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._asked.set)
        self._keep_copy(policies)
        for number in range(self._settings.workers):
            self._start(api, number)
        admin = admin_server(admin_app(self._registry, self._readiness, self._settings.dialects))
        tasks = [
            asyncio.create_task(admin.serve([admin_socket])),
            asyncio.create_task(watch(policies.directory, lambda: self._reload(policies), self._asked)),
            asyncio.create_task(self._replace_dead(api)),
        ]
        _started(self._settings, api.getsockname()[1], admin_socket.getsockname()[1])
        await stop.wait()
        self._stopping = True
        api.close()  # the workers close theirs: then nobody new is let in to wait
        for process, _ in self._workers.values():
            process.terminate()
        await asyncio.to_thread(self._join)
        admin.should_exit = True
        await tasks[0]
        for task in tasks[1:]:
            task.cancel()

    def _join(self) -> None:
        for process, _ in list(self._workers.values()):
            process.join(self._settings.streams.drain_s + 5)
            if process.is_alive():
                process.kill()

    def _registry(self) -> CollectorRegistry:
        from prometheus_client import CollectorRegistry, multiprocess  # noqa: PLC0415 - as above

        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, self._metrics_dir)  # type: ignore[no-untyped-call]
        return registry

    async def _readiness(self) -> dict[str, str]:
        workers, wanted = len(self._ready), self._settings.workers
        needs = {"workers": "ok" if workers >= wanted else f"{workers} of {wanted} have reported"}
        for told in self._ready.values():
            needs.update((k, v) for k, v in told.items() if needs.get(k, "ok") == "ok")
        if self._stopping:
            needs["life"] = "stopping"
        return needs

    def _keep_copy(self, policies: Policies) -> None:
        """Keep the files in force for workers that start while those on disk are broken."""
        new = self._copies.with_name("new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        for path in policies.directory.glob("*.yaml"):
            shutil.copyfile(path, new / path.name)
        shutil.rmtree(self._copies, ignore_errors=True)
        new.rename(self._copies)

    def _start(self, api: socket.socket, number: int) -> None:
        from guardproxy.app import Shared  # noqa: PLC0415 - as above

        shared = Shared(number, Path(self._metrics_dir) / "limits", self._copies)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=worker, args=(self._settings, api, theirs, shared), name=f"guardproxy-worker-{number}"
        )
        process.start()
        theirs.close()
        assert process.pid is not None
        self._workers[process.pid] = process, ours
        self._numbers[process.pid] = number
        asyncio.get_running_loop().add_reader(ours.fileno(), self._hear, process.pid, ours)

    def _hear(self, pid: int, connection: Connection) -> None:
        try:
            kind, text = connection.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(connection.fileno())
            return
        if kind == "ready":
            self._ready[pid] = dict(text)
        else:
            self._answers.put_nowait((pid, kind, text))

    async def _replace_dead(self, api: socket.socket) -> None:
        from prometheus_client import multiprocess  # noqa: PLC0415 - as above

        while True:
            await asyncio.sleep(RESTART_S)
            for pid, (process, connection) in list(self._workers.items()):
                if process.is_alive() or self._stopping:
                    continue
                log.error("worker %d ended with code %s and is replaced", pid, process.exitcode)
                with contextlib.suppress(ValueError, OSError):
                    asyncio.get_running_loop().remove_reader(connection.fileno())
                connection.close()
                multiprocess.mark_process_dead(pid, self._metrics_dir)  # type: ignore[no-untyped-call]
                del self._workers[pid]
                self._ready.pop(pid, None)
                self._start(api, self._numbers.pop(pid))

    async def _reload(self, policies: Policies) -> None:
        try:
            wanted = policies.prepare()
        except PolicyError as error:
            policies.metrics.reloaded("failed")
            log.error("policies not reloaded, the old ones stay: %s", error)
            return
        if wanted == policies.digest:
            return
        asked = self._tell("prepare")
        prepared: set[int] = set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                while prepared < asked:
                    pid, kind, text = await self._answers.get()
                    if kind == "prepared" and text == wanted:
                        prepared.add(pid)
                    elif kind in ("prepared", "failed"):
                        break
        if prepared < asked:
            policies.metrics.reloaded("failed")
            log.error("policies not reloaded: the workers did not agree; the old ones stay")
            return
        self._tell("commit")
        policies.commit()
        self._keep_copy(policies)
        policies.metrics.reloaded("ok")
        log.info("policies reloaded in %d workers", len(asked))

    def _tell(self, word: str) -> set[int]:
        told = set()
        while not self._answers.empty():
            self._answers.get_nowait()
        for pid, (process, connection) in self._workers.items():
            if process.is_alive():
                with contextlib.suppress(OSError):
                    connection.send(word)
                    told.add(pid)
        return told


def worker(settings: Settings, api: socket.socket, connection: Connection, shared: Shared) -> None:
    """The main function of a worker process."""
    logs.start(settings.logs.form, settings.logs.level, settings.logs.exchanges, shared.number)
    _new_loop(_work(settings, api, connection, shared))


async def _work(settings: Settings, api: socket.socket, connection: Connection, shared: Shared) -> None:
    from guardproxy.app import Core  # noqa: PLC0415 - in the worker only
    from guardproxy.serve import api_server, attend, settle_memory  # noqa: PLC0415 - as above
    from guardproxy.telemetry.metrics import Metrics  # noqa: PLC0415 - as above

    core = Core(settings, Metrics(), shared)
    server = api_server(core)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True
        core.stop()

    def hear() -> None:
        try:
            word = connection.recv()
        except (EOFError, OSError):  # the supervisor is gone: so are we
            loop.remove_reader(connection.fileno())
            stop()
            return
        if word == "commit":
            core.policies.commit()
            return
        try:
            connection.send(("prepared", core.policies.prepare()))
        except PolicyError as error:
            connection.send(("failed", str(error)))

    loop.add_reader(connection.fileno(), hear)
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(
        signal.SIGINT, lambda: None
    )  # the terminal's ^C reaches the supervisor, which stops us
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    settle_memory()
    beside = asyncio.create_task(_report(core, connection)), asyncio.create_task(attend(core))
    try:
        await server.serve([api])
    finally:
        for task in beside:
            task.cancel()
        await core.close()


async def _report(core: Core, connection: Connection) -> None:
    while True:
        with contextlib.suppress(OSError):
            connection.send(("ready", await core.readiness()))
        await asyncio.sleep(1.0)
