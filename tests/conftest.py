"""What every test may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from guardproxy.detectors import registry
from tests.fakes import Proxy, Script, Stub, say

# Times belong into benchmarks: a slow machine must not fail a property.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)  # --hypothesis-profile=explore looks further
settings.load_profile("steady")

OPEN = "guards: []\n"


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    """Starts real proxies in front of scripted upstreams, and stops them."""
    with ExitStack() as stack:

        def start(policy: str = OPEN, script: Script | None = None, **settings: Any) -> Proxy:
            folder = tmp_path / f"policies-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return stack.enter_context(Proxy(folder, policy, script or say("Hello", " there."), **settings))

        yield start


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Registers a stub detector and returns a policy that asks it."""

    def register(stage: str = "output", guard: str = "", **behaviour: Any) -> str:
        kinds = (("user", "tool"), ("content", "reasoning", "tool_arguments"))
        monkeypatch.setitem(
            registry.DETECTORS, "stub", registry.Entry("tests.conftest:build_stub", *kinds, gives_spans=True)
        )  # type: ignore[misc, arg-type]
        monkeypatch.setattr("tests.conftest.BEHAVIOUR", behaviour)
        extra = f", {guard}" if guard else ""
        return f"guards:\n  - {{name: stub, stage: {stage}, detector: stub{extra}}}\n"

    return register


BEHAVIOUR: dict[str, Any] = {}


def build_stub(parameters: object, resources: object) -> Stub:
    return Stub(**BEHAVIOUR)
