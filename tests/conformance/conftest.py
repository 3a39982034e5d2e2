"""One proxy that all numbered tests may use, forgetful between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.proxies import DIALECTS, POLICY, all_dialects
from tests.fakes import Proxy


@pytest.fixture(scope="session")
def _standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("conformance")
    with Proxy(folder, POLICY, all_dialects(), dialects=list(DIALECTS)) as running:
        yield running


@pytest.fixture
def standing(_standing: Proxy) -> Proxy:
    """A proxy with every dialect, words forbidden on both sides, and rules; its upstream remembers this test only."""
    _standing.upstream.script = all_dialects()
    _standing.upstream.bodies.clear()
    _standing.upstream.heads.clear()
    return _standing
