"""The document of the API side: served, true to the parsers, and no request made from it is a 5xx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from guardproxy.errors import WireError
from guardproxy.ingress.admin import admin_app
from guardproxy.ingress.openapi import OPTIONS, REQUESTS, document
from guardproxy.wire import fields
from guardproxy.wire.dialects import DIALECTS
from tests.conformance.proxies import POLICY, all_dialects
from tests.dialects import asks
from tests.fakes import MODEL, Proxy

ALL = list(DIALECTS)


async def ready() -> dict[str, str]:
    return {}


def test_the_admin_side_serves_it() -> None:
    client = TestClient(admin_app(CollectorRegistry, ready, ["chat"]))
    told = client.get("/openapi.json").json()
    assert set(told["paths"]) == {"/v1/chat/completions", "/v1/models", "/v1/models/{model}", "/health"}
    assert told == json.loads(json.dumps(document(["chat"])))


def test_it_names_the_options_that_are_forwarded() -> None:
    assert OPTIONS.keys() == fields.OPTIONS.keys()


def bounds(schema: dict[str, Any]) -> Iterator[tuple[Any, bool]]:
    """Values at and beyond the bounds of a schema, and whether each is within."""
    types = schema.get("type", [])
    for key, step in (("minimum", -1), ("maximum", 1)):
        if key in schema:
            yield schema[key], True
            yield schema[key] + step, False
    if "maxLength" in schema:
        yield "x" * schema["maxLength"], True
        yield "x" * (schema["maxLength"] + 1), False
    for value in schema.get("enum", ()):
        yield value, True
    for kind, value in (("number", "1"), ("integer", 1.5), ("boolean", 1), ("string", 3), ("object", [])):
        if kind in types:
            yield value, False
    if "null" in types:
        yield None, True
    for inner in schema.get("anyOf", ()):
        if inner.get("type") == "string" and "maxLength" in inner:
            yield from bounds(inner)


@pytest.mark.parametrize("dialect", ALL)
def test_its_bounds_are_the_parsers(dialect: str) -> None:
    properties: Any = REQUESTS[dialect]["properties"]
    seen = 0
    for name, schema in properties.items():
        if name in ("model", "messages", "input", "prompt", "tools", "tool_choice", "text", "stream_options"):
            continue
        for value, within in bounds(schema):
            body = json.dumps(asks(dialect) | {name: value}).encode()
            try:
                DIALECTS[dialect].parse(body, max_text_chars=100_000)
            except WireError as error:
                taken, param = False, str(error.param)
            else:
                taken, param = True, name
            assert (taken, name in param) == (within, True), f"{name}={value!r}: {param}"
            seen += 1
    assert seen > 20


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with Proxy(tmp_path_factory.mktemp("openapi"), POLICY, all_dialects(), dialects=ALL) as proxy:
        yield proxy


SCHEMA = schemathesis.openapi.from_dict(document(ALL))
OPERATIONS = [("POST", DIALECTS[name].path, mode) for name in ALL for mode in GenerationMode]
# Nothing in these can be wrong.
OPERATIONS += [
    ("GET", path, GenerationMode.POSITIVE) for path in ("/v1/models", "/v1/models/{model}", "/health")
]


CHECKS: Any = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path", "mode"), OPERATIONS)
def test_no_request_made_from_it_is_a_fault(
    running: Proxy, method: str, path: str, mode: GenerationMode
) -> None:
    """Nor has any answer a status, a type or a shape that the document does not name."""

    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def inner(data: st.DataObject) -> None:
        case: Any = data.draw(SCHEMA[path][method].as_strategy(generation_mode=mode))
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = MODEL  # else most would end at the name of the model
        case.call_and_validate(base_url=running.url, checks=CHECKS, timeout=20)

    inner()
