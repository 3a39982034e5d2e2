"""Traces, against a real OTLP receiver: joined at both ends, a span for each stage and detector, no content."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from guardproxy.errors import SettingsError
from guardproxy.telemetry import tracing
from guardproxy.telemetry.tracing import SPANS, Tracing
from tests.fakes import MODEL, Proxy, say

POLICY = """hardening: [{use: self_reminder, slot: system}]
guards:
  - {name: words-in, stage: input, detector: patterns, patterns: [{id: p, text: forbidden}]}
  - {name: words-out, stage: output, detector: patterns, patterns: [{id: q, text: hidden}]}
  - {name: refusal, stage: output, detector: refusal, on_hit: allow}
"""
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=1"}


class Collector:
    """Receives OTLP over HTTP and keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.raw = b""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.raw += body
                read = ExportTraceServiceRequest.FromString(body)
                for resource in read.resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans.extend(scope.spans)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.server.shutdown()
    one.server.server_close()


def ask(up: Proxy, text: str = "canary", headers: dict[str, str] = HEADERS, **more: Any) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}
    return httpx.post(f"{up.url}/v1/chat/completions", json=body, headers=headers, timeout=20)


def settled(up: Proxy, outcome: str) -> None:
    deadline = time.monotonic() + 5
    while not up.count("guardproxy_exchanges_total", outcome=outcome):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.1)
    up.__exit__()


@pytest.mark.parametrize("stream", [False, True])
def test_a_trace_joins_caller_proxy_and_model_server(
    proxy: Callable[..., Proxy], collector: Collector, stream: bool
) -> None:
    up = proxy(POLICY, say("a harmless ", "canary"), tracing={"endpoint": collector.url})
    ask(up, stream=stream)
    sent = next(h for h in up.upstream.heads if "POST" in h)
    settled(up, "answered")
    spans = {s.name: s for s in collector.spans if s.name != "detector"}
    assert set(spans) == set(SPANS) - {"detector"}
    exchange, upstream = spans["exchange"], spans["upstream"]
    assert {s.trace_id.hex() for s in collector.spans} == {TRACE}
    assert exchange.parent_span_id.hex() == CALLER
    assert f"traceparent: 00-{TRACE}-{upstream.span_id.hex()}-01\r\n" in sent
    assert "tracestate: vendor=1\r\n" in sent
    stages = {s.span_id: name for name, s in spans.items()}
    detectors = [
        (stages[s.parent_span_id], s.attributes[0].value.string_value)
        for s in collector.spans
        if s.name == "detector"
    ]
    assert sorted(set(detectors)) == [
        ("judge_input", "patterns"), ("judge_output", "patterns"), ("watch", "refusal"),
    ]  # fmt: skip
    told = {a.key: a.value.string_value for a in exchange.attributes}
    assert told["guardproxy.outcome"] == "answered"
    for span in collector.spans:
        assert exchange.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano >= span.start_time_unix_nano
    assert b"canary" not in collector.raw


def test_a_caller_that_does_not_trace_is_left_alone(
    proxy: Callable[..., Proxy], collector: Collector
) -> None:
    up = proxy(tracing={"endpoint": collector.url})
    ask(up, headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
    settled(up, "answered")
    assert collector.spans == []


@pytest.mark.parametrize("traceparent", ["nonsense", "00-" + "0" * 32 + "-" + CALLER + "-01", ""])
def test_a_broken_traceparent_begins_a_new_trace(
    proxy: Callable[..., Proxy], collector: Collector, traceparent: str
) -> None:
    up = proxy(POLICY, tracing={"endpoint": collector.url})
    assert ask(up, "forbidden", headers={"traceparent": traceparent}).status_code == 400
    settled(up, "blocked_input")
    assert {s.name for s in collector.spans} == {"exchange", "intake", "judge_input", "detector", "watch"}
    assert TRACE not in {s.trace_id.hex() for s in collector.spans}


def test_off_by_default_nothing_of_it_is_loaded_or_sent(proxy: Callable[..., Proxy]) -> None:
    up = proxy()
    ask(up)
    assert not any("traceparent" in h for h in up.upstream.heads)


def test_without_the_extra_the_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match=r"guardproxy\[otel\]"):
        Tracing("http://127.0.0.1:4318/v1/traces", 1.0)


def test_the_table_of_spans_is_what_is_made() -> None:
    table = tracing.__doc__ or ""
    assert [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")] == list(SPANS)
