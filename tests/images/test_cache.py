"""The cache: bounded, apart by tenant, and a chat's picture is worked on once."""

from __future__ import annotations

import asyncio
import base64
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.content import ImagePart, Message, Request
from guardproxy.core.policy import ImageLimits
from guardproxy.images import intake as module
from guardproxy.images.cache import Cache
from guardproxy.images.intake import Intake
from guardproxy.telemetry.metrics import Metrics
from tests.images.test_decode import encoded
from tests.noise import noise

URL = "data:image/png;base64," + base64.b64encode(encoded(noise((64, 64), 50))).decode()


def value_of(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(name, {"kind": "picture"}) or 0.0


def asked(url: Any = URL) -> Request:
    return Request("m", (Message("user", (ImagePart(url, "p"),), "messages[0]"),))


class Counting:
    """Counts how often a picture is decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._real = module.normalise
        monkeypatch.setattr(module, "normalise", self)

    def __call__(self, *args: Any) -> Any:
        self.count += 1
        return self._real(*args)


def test_a_chat_of_ten_turns_decodes_its_picture_once(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, decoded = Metrics(), Counting(monkeypatch)
    intake = Intake(cache=Cache(1_000_000, metrics))

    async def main() -> None:
        taken = [await intake.take(asked(), ImageLimits(), "one") for _ in range(9)]
        taken.append(await intake.take(asked(memoryview(URL.encode())), ImageLimits(), "one"))
        assert len({t.messages[0].parts[0].sha256 for t in taken}) == 1  # type: ignore[union-attr]

    asyncio.run(main())
    assert decoded.count == 1
    assert value_of(metrics, "guardproxy_image_cache_misses_total") == 1
    assert value_of(metrics, "guardproxy_image_cache_hits_total") == 9
    assert value_of(metrics, "guardproxy_image_cache_seconds_saved_total") > 0
    assert 5_000 < (metrics.registry.get_sample_value("guardproxy_image_cache_bytes") or 0) < 20_000
    intake.close()


def test_what_one_tenant_sent_is_not_found_by_another_nor_under_other_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = Counting(monkeypatch)
    intake = Intake(cache=Cache(1_000_000))

    async def main() -> None:
        await intake.take(asked(), ImageLimits(), "one")
        await intake.take(asked(), ImageLimits(), "two")
        await intake.take(asked(), ImageLimits(max_pixels=5_000), "one")

    asyncio.run(main())
    assert decoded.count == 3
    intake.close()


def test_a_fault_is_not_remembered_as_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    intake = Intake(cache=Cache(1_000_000))

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(module.WireError):
                await intake.take(asked("data:image/png;base64,AAAA"), ImageLimits(), "one")

    asyncio.run(main())
    intake.close()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 120))), st.integers(0, 200))
def test_it_never_holds_more_than_it_may(puts: list[tuple[int, int]], limit: int) -> None:
    class Last:
        size = 0

        def cache_hit(self, kind: str, saved_s: float) -> None: ...
        def cache_missed(self, kind: str) -> None: ...
        def cache_holds(self, size: int) -> None:
            self.size = size

    last = Last()
    cache = Cache(limit, last)
    for key, size in puts:
        cache.put(("x", key), (key, size), size, 0.1)
        assert 0 <= last.size <= limit
        found = cache.get(("x", key), tuple)
        assert found in (None, (key, size))
        assert (found is not None) == (size <= limit // 2)


def test_the_entry_used_least_recently_goes_first() -> None:
    cache = Cache(100)
    for key in "abc":
        cache.put(("x", key), key, 30, 0.0)
    assert cache.get(("x", "a"), str) == "a"
    cache.put(("x", "d"), "d", 30, 0.0)
    assert cache.get(("x", "b"), str) is None
    assert cache.get(("x", "a"), str) == "a"


@pytest.mark.slow
def test_a_picture_seen_before_costs_little() -> None:
    url = memoryview(b"data:image/png;base64," + base64.b64encode(encoded(noise((1200, 900), 80))))
    intake = Intake(cache=Cache(100_000_000))

    async def main() -> tuple[float, float]:
        times = []
        for _ in range(2):
            began = perf_counter()
            await intake.take(asked(url), ImageLimits(), "one")
            times.append(perf_counter() - began)
        return times[0], times[1]

    first, second = asyncio.run(main())
    assert second < first / 5
    intake.close()
