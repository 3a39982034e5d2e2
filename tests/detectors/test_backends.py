"""Guard models' servers: bounded, asked again only where that is safe, left alone while they fail."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import math
from collections.abc import Callable, Coroutine
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from guardproxy.app import key_ring, resources_of
from guardproxy.detectors.backends import Backend, BackendPlan, Backends
from guardproxy.detectors.base import Resources
from guardproxy.errors import DetectorError, PolicyError, SettingsError
from guardproxy.settings import Settings
from guardproxy.telemetry import logs
from guardproxy.telemetry.metrics import Metrics
from tests.guard_server import GuardServer, Reply

OK = Reply({"fine": True})


class Told:
    def __init__(self) -> None:
        self.states: list[str] = []
        self.results: list[str] = []

    def backend_is(self, backend: str, state: str) -> None:
        self.states.append(state)

    def backend_asked(self, backend: str, result: str) -> None:
        self.results.append(result)


def run(
    server: GuardServer,
    work: Callable[[Backend], Coroutine[Any, Any, Any]],
    told: Told | None = None,
    **plan: Any,
) -> Any:
    """Do something with a back end in front of a server."""

    async def main() -> Any:
        backend = Backend("g", BackendPlan(**{"url": server.url, "open_s": 0.2, **plan}), told)
        try:
            return await work(backend)
        finally:
            await backend.close()

    return asyncio.run(main())


def ask(budget_s: float = math.inf) -> Callable[[Backend], Coroutine[Any, Any, Any]]:
    return lambda backend: backend.post("/v1/x", {"a": 1}, perf_counter() + budget_s)


async def fault(backend: Backend, budget_s: float = math.inf) -> str:
    with pytest.raises(DetectorError) as error:
        await ask(budget_s)(backend)
    return error.value.reason


def test_an_answer_is_decoded_and_the_key_is_sent() -> None:
    with GuardServer(OK) as server:
        assert run(server, ask(), key="sk-1") == {"fine": True}
        (seen,) = server.seen
    assert (seen.path, seen.body) == ("/v1/x", {"a": 1})
    assert seen.headers["authorization"] == "Bearer sk-1"
    assert seen.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("reply", "reason", "result"),
    [
        (Reply(status=500), "error", "error"),
        (Reply({"error": "too long"}, status=400), "error", "refused"),
        (Reply(status=401), "error", "refused"),
        (Reply(status=302, headers={"location": "http://127.0.0.1:9/"}), "error", "refused"),
        (Reply(status=429), "overloaded", "overloaded"),
        (Reply(status=503, headers={"retry-after": "30"}), "overloaded", "overloaded"),
        (Reply(b""), "unreadable", "unreadable"),
        (Reply(b"Sure! It is safe."), "unreadable", "unreadable"),
        (Reply(b"\xff\xfe"), "unreadable", "unreadable"),
        (Reply(b"[" * 100_000), "unreadable", "unreadable"),
        (
            Reply(gzip.compress(b'{"fine": true}'), headers={"content-encoding": "gzip"}),
            "unreadable",
            "unreadable",
        ),
        (Reply(b"1" * 5000), "unreadable", "unreadable"),
    ],
)
def test_what_is_no_answer_is_a_fault(reply: Reply, reason: str, result: str) -> None:
    told = Told()
    with GuardServer(reply) as server:
        assert run(server, fault, told, max_answer_bytes=4000) == reason
        assert len(server.seen) == 1
    assert told.results == [result]


def test_a_budget_ends_the_wait_and_opens_the_circuit() -> None:
    """The guard's own budget is the usual way to learn of a server that hangs."""
    told = Told()

    async def hangs(backend: Backend) -> None:
        for _ in range(2):
            started = perf_counter()
            assert await fault(backend, 0.1) == "timeout"
            assert perf_counter() - started < 2
        assert await fault(backend, 0.1) == "error"

    with GuardServer(Reply(slow_s=3.0)) as server:
        run(server, hangs, told, failures=2)
        assert len(server.seen) == 2, "with an open circuit it is not asked"
    assert told.results == ["timeout", "timeout", "open"]
    assert told.states == ["closed", "open"]


def test_a_budget_that_is_over_asks_nobody() -> None:
    with GuardServer(OK) as server:
        assert run(server, lambda b: fault(b, 0.0)) == "timeout"
        assert server.seen == []


def test_it_asks_again_once_if_not_a_byte_came_back() -> None:
    with GuardServer([Reply(hang_up=True), OK]) as server:
        assert run(server, ask()) == {"fine": True}
        assert len(server.seen) == 2
    with GuardServer(Reply(hang_up=True)) as server:
        assert run(server, fault) == "error"
        assert len(server.seen) == 2
    gone = GuardServer(OK)
    with gone:
        pass
    assert run(gone, fault) == "error"


def test_an_answer_that_breaks_off_is_not_asked_for_again() -> None:
    told = Told()

    async def torn(backend: Backend) -> str:
        assert await fault(backend) == "error"
        return backend.state.value

    with GuardServer(Reply({"fine": True}, is_torn=True)) as server:
        assert run(server, torn, told, failures=1) == "open"
        assert len(server.seen) == 1
    assert told.results == ["error"]


def test_who_waited_while_the_circuit_opened_asks_nobody() -> None:
    async def crowd(backend: Backend) -> list[object]:
        return await asyncio.gather(*(ask()(backend) for _ in range(3)), return_exceptions=True)

    with GuardServer(Reply(status=500, slow_s=0.1)) as server:
        found = run(server, crowd, concurrency=1, failures=1, open_s=30)
        assert len(server.seen) == 1
    assert [str(f) for f in found][1:] == ["back end g: its circuit is open after failures"] * 2


def test_it_comes_back_once_where_the_server_asks_for_it_soon() -> None:
    with GuardServer([Reply(status=503, headers={"retry-after": "0"}), OK]) as server:
        assert run(server, ask()) == {"fine": True}
        assert len(server.seen) == 2
    with GuardServer(Reply(status=429, headers={"retry-after": "0"})) as server:
        assert run(server, fault) == "overloaded"
        assert len(server.seen) == 2


def test_connections_and_queue_are_bounded() -> None:
    async def flood(backend: Backend) -> list[object]:
        return await asyncio.gather(*(ask()(backend) for _ in range(8)), return_exceptions=True)

    with GuardServer(Reply({"fine": True}, slow_s=0.2)) as server:
        found = run(server, flood, concurrency=2, queue=3)
        assert server.most_at_once <= 2
        assert len(server.seen) == 5
    faults = [f for f in found if isinstance(f, DetectorError)]
    assert [f.reason for f in faults] == ["overloaded"] * 3


def test_the_wait_in_the_queue_counts_and_is_not_held_against_the_server() -> None:
    told = Told()

    async def busy(backend: Backend) -> None:
        first = asyncio.create_task(ask()(backend))
        await asyncio.sleep(0.05)
        assert await fault(backend, 0.1) == "timeout"
        assert await first == {"fine": True}

    with GuardServer(Reply({"fine": True}, slow_s=0.4)) as server:
        run(server, busy, told, concurrency=1, failures=1)
    assert told.states == ["closed"]


def test_who_hangs_up_says_nothing_about_the_server() -> None:
    """Else clients could open the circuit by leaving."""
    told = Told()

    async def leave(backend: Backend) -> None:
        for _ in range(3):
            task = asyncio.create_task(ask()(backend))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    with GuardServer(Reply({"fine": True}, slow_s=0.3)) as server:
        run(server, leave, told, failures=1)
    assert told.results == ["gone"] * 3
    assert told.states == ["closed"]


def test_a_refused_request_does_not_open_the_circuit() -> None:
    """Else a text that is too long for the model would stop everybody else's."""

    async def refused(backend: Backend) -> str:
        for _ in range(3):
            assert await fault(backend) == "error"
        return backend.state.value

    with GuardServer(Reply({"error": {"message": "too long"}}, status=400)) as server:
        assert run(server, refused, failures=2) == "closed"


def test_after_its_time_one_request_is_the_trial() -> None:
    told = Told()

    async def recover(backend: Backend) -> None:
        assert await fault(backend) == "error"
        assert await fault(backend) == "error"
        await asyncio.sleep(0.25)
        assert await ask()(backend) == {"fine": True}
        assert await ask()(backend) == {"fine": True}

    with GuardServer([Reply(status=500), OK]) as server:
        run(server, recover, told, failures=1)
        assert len(server.seen) == 3
    assert told.states == ["closed", "open", "half_open", "closed"]


def test_readiness_probes_what_is_due_and_names_what_is_down() -> None:
    health = {"alive": False}

    def script(seen: Any) -> Reply:
        return (
            Reply({}, 200 if health["alive"] or seen.path != "/health" else 500)
            if health["alive"]
            else Reply(status=500)
        )

    async def states(url: str) -> list[str]:
        backends = Backends({"g": BackendPlan(url, failures=1, open_s=0.1), "unused": BackendPlan(url)})
        found = [await backends.state({"g"})]
        await fault(backends.get("g"))
        found += [await backends.state({"g"}), await backends.state({"unused"})]
        await asyncio.sleep(0.12)
        found.append(await backends.state({"g"}))  # probed: still dead
        health["alive"] = True
        await asyncio.sleep(0.25)
        found.append(await backends.state({"g"}))  # probed: alive
        await backends.close()
        return found

    with GuardServer(script) as server:
        found = asyncio.run(states(server.url))
        assert found == ["ok", "circuit open: g", "ok", "circuit open: g", "ok"]
        assert [s.path for s in server.seen] == ["/v1/x", "/health", "/health"]
    gone = asyncio.run(states_of_nobody(server.url))
    assert gone == "circuit open: g"


async def states_of_nobody(url: str) -> str:
    backends = Backends({"g": BackendPlan(url, failures=1, open_s=0.01)})
    await fault(backends.get("g"))
    await asyncio.sleep(0.02)
    state = await backends.state({"g"})
    await backends.close()
    return state


def test_commands_ask_in_several_loops() -> None:
    with GuardServer(OK) as server:
        backend = Backend("g", BackendPlan(server.url))

        async def once() -> object:
            found = await ask()(backend)
            await backend.close()
            return found

        assert [asyncio.run(once()) for _ in range(2)] == [{"fine": True}] * 2


def test_a_name_that_the_settings_do_not_have_is_a_fault_of_the_policy() -> None:
    backends = Backends({"harm-gpu": BackendPlan("http://x")})
    assert backends.get("harm-gpu").name == "harm-gpu"
    with pytest.raises(PolicyError, match=r"no back end named .harm-gpuu.*did you mean .harm-gpu"):
        backends.get("harm-gpuu")
    with pytest.raises(PolicyError, match="the settings have none"):
        Backends({}).get("x")


def test_without_settings_a_policy_can_be_read_and_no_guard_can_look() -> None:
    backend = Resources().backends.get("any")

    async def asked() -> str:
        return await fault(backend)

    assert asyncio.run(asked()) == "error"


def test_settings_become_back_ends_and_their_keys_stay_secret(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("gp-" + "0123456789abcdefghij" * 2 + "\n")
    given = {"url": "http://127.0.0.1:8001/", "key": f"file:{secret}", "model": "m"}
    settings = Settings.model_validate({"backends": {"g": given}})
    metrics = Metrics()
    backend = resources_of(settings, metrics).backends.get("g")
    assert (backend.plan.url, backend.model) == ("http://127.0.0.1:8001", "m")
    assert "0123456789" not in repr(backend.plan)
    clients = {"app": {"key": f"file:{secret}"}}
    with pytest.raises(SettingsError, match=r"backends\.g\.key: is a client key too"):
        key_ring(Settings.model_validate({"backends": {"g": given}, "client_keys": clients}))
    metrics.backend_is("g", "open")
    assert metrics.registry.get_sample_value("guardproxy_backend_state", {"backend": "g"}) == 2


@pytest.mark.parametrize("url", ["127.0.0.1:8001", "ftp://x", "http://x?y", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="backends"):
        Settings.model_validate({"backends": {"g": {"url": url}}})


def test_a_secure_connection_trusts_the_given_authority(tmp_path: Path) -> None:
    """Whoever answers with another certificate is not talked to."""

    async def made() -> bool:
        backend = Backend("g", BackendPlan("https://127.0.0.1:9"))
        client, _ = backend._connect()
        assert client.trust_env is False
        await backend.close()
        return True

    assert asyncio.run(made())
    with pytest.raises(FileNotFoundError):
        Backend("g", BackendPlan("https://x", ca=str(tmp_path / "none.pem")))._client()


def test_json_of_the_answer_may_be_any() -> None:
    with GuardServer(Reply(json.dumps([[]]).encode())) as server:
        assert run(server, ask()) == [[]]


def test_requests_to_back_ends_are_not_logged_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.start("console", "info", "problems")
        with GuardServer(OK) as server:
            run(server, ask())
            server.answer = Reply(status=500)
            run(server, fault, failures=1)
            address = server.url
    finally:
        root.handlers[:], root.level = before
        logging.captureWarnings(capture=False)
    told = capsys.readouterr().err
    assert "the circuit of back end g is open" in told
    assert address not in told
