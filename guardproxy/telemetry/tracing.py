"""OpenTelemetry traces, off by default: one trace an exchange, joined to the caller's and the model server's.

W3C Trace Context (`traceparent`, `tracestate`) comes in with the request and goes on to the model
server. Spans carry names, counts and times: no content. Needs the extra `otel`.

| span | kind | what it covers |
|---|---|---|
| `exchange` | server | the request from its head to the last byte of its answer |
| `intake` | internal | pictures decoded and written anew |
| `judge_input` | internal | the guards that stand before the model |
| `harden` | internal | the policy's rules go into the request |
| `upstream` | client | from asking the model server to the end of its answer |
| `judge_output` | internal | from the first judged window of the answer to the last |
| `watch` | internal | the guards that only record, after the answer |
| `detector` | internal | one call of one detector, below the stage that asked it |
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from guardproxy.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.trace import Span

SPANS = ("exchange", "intake", "judge_input", "harden", "upstream", "judge_output", "watch", "detector")
MAX_DETECTOR_SPANS = 128
"""Of one exchange: a long stream is judged in hundreds of windows."""


class Trace(Protocol):
    """The trace of one exchange."""

    def begin(self, stage: str) -> None:
        """A stage begins; the one before it ends."""

    def detector(self, name: str, seconds: float) -> None:
        """A detector answered just now."""

    def ask(self) -> bytes:
        """The model is asked: header lines for the request to it."""

    def answered(self) -> None:
        """The model has said all it will say."""

    def end(self, attributes: Mapping[str, Any], *, failed: bool) -> None:
        """The exchange is over."""


class NoTrace:
    """What is used while tracing is off."""

    def begin(self, stage: str) -> None:
        """Nothing."""

    def detector(self, name: str, seconds: float) -> None:
        """Nothing."""

    def ask(self) -> bytes:
        """No header."""
        return b""

    def answered(self) -> None:
        """Nothing."""

    def end(self, attributes: Mapping[str, Any], *, failed: bool) -> None:
        """Nothing."""


NO_TRACE = NoTrace()


@contextmanager
def _needs_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise SettingsError(
            f"tracing.endpoint: needs the extra guardproxy[otel], which is not installed: {error}"
        ) from None


class Tracing:
    """Makes traces and sends them by OTLP over HTTP, in batches, from a thread of its own.

    Args:
        endpoint: Of the collector, such as `http://127.0.0.1:4318/v1/traces`.
        share: Of the traces that nobody upstream of us has decided about, in [0, 1].

    Raises:
        SettingsError: The extra is not installed.
    """

    def __init__(self, endpoint: str, share: float) -> None:
        with _needs_extra():
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "guardproxy"}),
            sampler=ParentBased(TraceIdRatioBased(share)),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("guardproxy")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, traceparent: str | None, tracestate: str | None) -> Trace:
        """A trace for an exchange, in the caller's if it has one."""
        from opentelemetry.trace import SpanKind

        carrier = {
            k: v for k, v in (("traceparent", traceparent), ("tracestate", tracestate)) if v is not None
        }
        context = self._propagator.extract(carrier)
        return _Trace(self, self._tracer.start_span("exchange", context, SpanKind.SERVER))

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


class _Trace:
    def __init__(self, tracing: Tracing, server: Span) -> None:
        from opentelemetry.trace import set_span_in_context

        self._tracing = tracing
        self._server = server
        self._context = set_span_in_context(server)
        self._stage: Span | None = None
        self._name = ""
        self._upstream: Span | None = None
        self._detectors = 0

    def begin(self, stage: str) -> None:
        """A stage begins; the one before it ends."""
        if stage == self._name:
            return
        self._end_stage()
        self._name = stage
        self._stage = self._tracing._tracer.start_span(stage, self._context)

    def detector(self, name: str, seconds: float) -> None:
        """A detector answered just now."""
        self._detectors += 1
        if self._detectors > MAX_DETECTOR_SPANS or self._stage is None:
            return
        from opentelemetry.trace import set_span_in_context

        now = time.time_ns()
        span = self._tracing._tracer.start_span(
            "detector",
            set_span_in_context(self._stage, self._context),
            attributes={"guardproxy.detector": name},
            start_time=now - int(seconds * 1e9),
        )
        span.end(now)

    def ask(self) -> bytes:
        """The model is asked: header lines for the request to it."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        self._end_stage()
        self._upstream = self._tracing._tracer.start_span("upstream", self._context, SpanKind.CLIENT)
        carrier: dict[str, str] = {}
        self._tracing._propagator.inject(carrier, set_span_in_context(self._upstream, self._context))
        return "".join(f"{k}: {v}\r\n" for k, v in carrier.items()).encode("ascii", "ignore")

    def answered(self) -> None:
        """The model has said all it will say."""
        if self._upstream is not None:
            self._upstream.end()
            self._upstream = None

    def end(self, attributes: Mapping[str, Any], *, failed: bool) -> None:
        """The exchange is over."""
        from opentelemetry.trace import StatusCode

        self._end_stage()
        self.answered()
        for name, value in attributes.items():
            self._server.set_attribute(f"guardproxy.{name}", value)
        self._server.set_attribute("guardproxy.detector_calls", self._detectors)
        if failed:
            self._server.set_status(StatusCode.ERROR)
        self._server.end()

    def _end_stage(self) -> None:
        if self._stage is not None:
            self._stage.end()
            self._stage, self._name = None, ""
