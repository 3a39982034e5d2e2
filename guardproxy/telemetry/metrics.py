"""What is counted, under names and labels that do not change. Every label's values are bounded."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OUTCOMES = (
    "answered", "redacted", "repaired", "blocked_input", "blocked_output", "cut", "rejected",
    "guard_unavailable", "client_gone", "upstream_error", "shutdown", "error",
)  # fmt: skip
_FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The product's metrics in one registry."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()
        self.exchanges = Counter(
            "guardproxy_exchanges", "Exchanges by how they ended",
            ("policy", "version", "model", "outcome"), registry=registry,
        )  # fmt: skip
        self.verdicts = Counter(
            "guardproxy_verdicts", "Strictest verdict of each guard, once an exchange",
            ("policy", "version", "stage", "guard", "action", "wanted"), registry=registry,
        )  # fmt: skip
        self.refusals = Counter(
            "guardproxy_refusals", "Answers in which the model itself declined",
            ("policy", "version", "model"), registry=registry,
        )  # fmt: skip
        self.guard_failures = Counter(
            "guardproxy_guard_failures", "Times a guard's detector gave no answer",
            ("policy", "guard", "reason"), registry=registry,
        )  # fmt: skip
        self.unjudged = Counter(
            "guardproxy_unjudged", "Exchanges with content that no guard looks at, by kind",
            ("what",), registry=registry,
        )  # fmt: skip
        self.reviews = Counter(
            "guardproxy_reviews", "Exchanges that a guard leaves to people (controversial: review)",
            ("policy", "guard"), registry=registry,
        )  # fmt: skip
        self.repairs = Counter(
            "guardproxy_repairs", "Second answers in place of flagged ones: sent, or failed and blocked",
            ("policy", "how", "result"), registry=registry,
        )  # fmt: skip
        self.repair_calls = Counter(
            "guardproxy_repair_calls", "Further requests to the model for second answers",
            ("policy",), registry=registry,
        )  # fmt: skip
        self.repair_tokens = Counter(
            "guardproxy_repair_tokens", "Tokens of those requests, as the model server counted",
            ("policy",), registry=registry,
        )  # fmt: skip
        self.repair_seconds = Histogram(
            "guardproxy_repair_seconds", "Time that making a second answer took",
            buckets=_SLOW, registry=registry,
        )  # fmt: skip
        self.fields_dropped = Counter(
            "guardproxy_fields_dropped",
            "Request fields that were not forwarded",
            ("field",),
            registry=registry,
        )
        self.unauthorized = Counter(
            "guardproxy_unauthorized",
            "Requests without a client key in force",
            ("reason",),
            registry=registry,
        )
        self.requests_limited = Counter(
            "guardproxy_requests_limited", "Requests over a limit of their key",
            ("key", "limit"), registry=registry,
        )  # fmt: skip
        self.key_exchanges = Counter(
            "guardproxy_key_exchanges", "Exchanges of each client key by how they ended",
            ("key", "outcome"), registry=registry,
        )  # fmt: skip
        self.audit_records = Counter(
            "guardproxy_audit_records", "Lines of the audit record: written, dropped; failed: times that writing failed",
            ("result",), registry=registry,
        )  # fmt: skip
        self.policy_reloads = Counter(
            "guardproxy_policy_reloads", "Reloads of the policies, by result", ("result",), registry=registry
        )
        self.detector_seconds = Histogram(
            "guardproxy_detector_seconds", "Time a detector took, for each call",
            ("detector",), buckets=_FAST, registry=registry,
        )  # fmt: skip
        self.overhead_seconds = Histogram(
            "guardproxy_exchange_overhead_seconds", "Time an exchange spent in the proxy, waits for the model apart",
            buckets=_FAST, registry=registry,
        )  # fmt: skip
        self.ttft_seconds = Histogram(
            "guardproxy_time_to_first_token_seconds", "From the request to the first text released",
            buckets=_SLOW, registry=registry,
        )  # fmt: skip
        self.held_back_seconds = Histogram(
            "guardproxy_held_back_seconds", "Longest time that text of an answer was held back",
            buckets=_SLOW, registry=registry,
        )  # fmt: skip
        self.exposed_characters = Histogram(
            "guardproxy_exposed_characters", "Characters of a choice that had been released when it was cut",
            buckets=(0, 32, 96, 256, 512, 1024, 4096, 16384), registry=registry,
        )  # fmt: skip
        self.in_flight = Gauge(
            "guardproxy_exchanges_in_flight",
            "Exchanges under way",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.policy_info = Gauge(
            "guardproxy_policy_info", "1 for the version in force of each policy",
            ("policy", "version"), registry=registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self.reload_ok = Gauge(
            "guardproxy_policy_last_reload_successful",
            "1 unless the last change of the policies was not taken over",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.exchanges_limit = Gauge(
            "guardproxy_exchanges_limit", "Exchanges that may be under way (limits.max_exchanges)",
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self.upstream_up = Gauge(
            "guardproxy_upstream_up", "1 while a model server answers",
            ("server",), registry=registry, multiprocess_mode="livemin",
        )  # fmt: skip
        self.upstream_failures = Counter(
            "guardproxy_upstream_failures", "Requests to a model server that got no answer, asked elsewhere where possible",
            ("server",), registry=registry,
        )  # fmt: skip
        self.image_cache_hits = Counter(
            "guardproxy_image_cache_hits", "Work on pictures that had been done before, by kind",
            ("kind",), registry=registry,
        )  # fmt: skip
        self.image_cache_misses = Counter(
            "guardproxy_image_cache_misses", "Work on pictures that had to be done, by kind",
            ("kind",), registry=registry,
        )  # fmt: skip
        self.image_cache_saved = Counter(
            "guardproxy_image_cache_seconds_saved", "Seconds that the work took when it was done first",
            ("kind",), registry=registry,
        )  # fmt: skip
        self.image_cache_bytes = Gauge(
            "guardproxy_image_cache_bytes", "Bytes that the cache of pictures holds",
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self.backend_state = Gauge(
            "guardproxy_backend_state", "Circuit of a guard models' server: 0 closed, 1 on trial, 2 open",
            ("backend",), registry=registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self.backend_requests = Counter(
            "guardproxy_backend_requests", "Requests to a guard models' server by how they ended",
            ("backend", "result"), registry=registry,
        )  # fmt: skip
        self.reload_ok.set(1)
        # A counter that begins with its first event shows no increase: these begin at 0.
        for counter, values in (
            (self.policy_reloads, ("ok", "failed")),
            (self.audit_records, ("written", "dropped", "failed")),
            (self.unauthorized, ("no_key", "unknown_key")),
            (self.image_cache_hits, ("picture",)),
            (self.image_cache_misses, ("picture",)),
            (self.image_cache_saved, ("picture",)),
        ):
            for value in values:
                counter.labels(value)
        self._timers: dict[str, Histogram] = {}
        self._bound: dict[tuple[object, ...], Counter] = {}

    def bound(self, counter: Counter, *labels: str) -> Counter:
        """A counter's child with these labels; found in a third of the time that `labels` takes."""
        key = (counter, *labels)
        child = self._bound.get(key)
        if child is None:
            child = self._bound[key] = counter.labels(*labels)
        return child

    def timed(self, detector: str, seconds: float) -> None:
        """Count one call of a detector."""
        timer = self._timers.get(detector)
        if timer is None:
            timer = self._timers[detector] = self.detector_seconds.labels(detector)
        timer.observe(seconds)

    def cache_hit(self, kind: str, saved_s: float) -> None:
        """Work on a picture was found, that once took so many seconds."""
        self.bound(self.image_cache_hits, kind).inc()
        self.bound(self.image_cache_saved, kind).inc(saved_s)

    def cache_missed(self, kind: str) -> None:
        """Work on a picture was not found."""
        self.bound(self.image_cache_misses, kind).inc()

    def cache_holds(self, size: int) -> None:
        """How many bytes the cache holds now."""
        self.image_cache_bytes.set(size)

    def server_is(self, server: str, *, up: bool) -> None:
        """A model server answers, or does not."""
        self.upstream_up.labels(server).set(up)
        self.upstream_failures.labels(server)  # from 0, as above

    def server_failed(self, server: str) -> None:
        """A model server gave no answer."""
        self.upstream_failures.labels(server).inc()

    def backend_is(self, backend: str, state: str) -> None:
        """The circuit of a guard models' server is `closed`, `half_open` or `open`."""
        self.backend_state.labels(backend).set(("closed", "half_open", "open").index(state))

    def backend_asked(self, backend: str, result: str) -> None:
        """A request to a guard models' server ended."""
        self.backend_requests.labels(backend, result).inc()

    def reloaded(self, result: str) -> None:
        """Count a reload of the policies: `ok` or `failed`."""
        self.policy_reloads.labels(result).inc()
        self.reload_ok.set(result == "ok")

    def set_policies(self, old: Iterable[tuple[str, str]], new: Iterable[tuple[str, str]]) -> None:
        """Mark the versions in force."""
        for name, version in old:
            self.policy_info.labels(name, version).set(0)
        for name, version in new:
            self.policy_info.labels(name, version).set(1)
