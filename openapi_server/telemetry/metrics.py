"""Metrics for Prometheus: implements `Metrics`, and renders the page that Prometheus reads.

Every application has a registry of its own. A label's value is never an id or free text; those that are not an
enumeration in the code are limited in number (`LimitedLabel`). docs/operations.md lists all metrics.
"""

from __future__ import annotations

import asyncio
import inspect
import platform
import shutil
import socket
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, TypeVar, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Info,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from openapi_server import __version__
from openapi_server.instruments import CheckedText, OfflineAnswer, ResumeResult
from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.turn_events import Completed, Entry, Failed, Started, TurnEvent
from openapi_server.protocols import EventLog, Signal, Tail

T = TypeVar("T")

_format_bound = cast(Callable[[float], str], floatToGoString)

# Upper bounds of the buckets, in seconds.
TURN_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
FIRST_CHUNK_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 30)
HELD_BACK_BUCKETS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2.5, 5)
GAP_BUCKETS = (0.001, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30)
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
STORE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
LOG_BUCKETS = (0.00001, 0.0001, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)

MAX_ANIMALS, MAX_MODELS, MAX_CATEGORIES = 200, 50, 100
OTHER = "other"
LAG_INTERVAL_S = 0.1
LAG_WINDOW_S = 60.0
# How long a client of the port may take for its request, and to read the page.
PAGE_TIMEOUT_S = 10.0


class LimitedLabel:
    """Passes on the first `limit` different values; all further ones become `other`.

    >>> limited = LimitedLabel(1)
    >>> limited("lion_001"), limited("tiger_001"), limited("lion_001")
    ('lion_001', 'other', 'lion_001')
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        if value not in self._seen:
            if len(self._seen) >= self._limit:
                return OTHER
            self._seen.add(value)
        return value


class LocalHistogram:
    """A histogram that one thread writes: 0.3 µs a value, where the library's, which locks, takes 1.7 µs."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*self._bounds, float("inf")), list(self._counts), strict=True):
            total += count
            buckets.append((_format_bound(bound), total))
        family.add_metric(labels, buckets, self._sum)


class LocalHistogramVector(Collector):
    """A registered histogram, with a local one for each combination of labels."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._bounds = bounds
        self._histograms: dict[tuple[str, ...], LocalHistogram] = {}
        registry.register(self)

    def get(self, *values: str) -> LocalHistogram:
        histogram = self._histograms.get(values)
        if histogram is None:
            histogram = self._histograms[values] = LocalHistogram(self._bounds)
        return histogram

    def describe(self) -> Iterable[Metric]:
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, histogram in list(self._histograms.items()):
            histogram.add_to(family, values)
        return [family]


class LoopLag(Collector):
    """How late the event loop runs what is due: a timer asks ten times a second.

    The largest lag is that of the last minute, and includes a block that has not ended yet: the page on a port of its
    own is rendered by another thread.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._histogram = LocalHistogram(LAG_BUCKETS)
        self._peaks: deque[tuple[float, float]] = deque()
        self._due_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        registry.register(self)

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Measure the running event loop for as long as the block lasts."""
        self._start_timer()
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._due_s = None

    def _start_timer(self) -> None:
        self._due_s = time.monotonic() + LAG_INTERVAL_S
        self._timer = asyncio.get_running_loop().call_later(LAG_INTERVAL_S, self._tick)

    def _tick(self) -> None:
        self._record(time.monotonic())
        self._start_timer()

    def _record(self, now_s: float) -> None:
        lag_s = max(0.0, now_s - (self._due_s or now_s))
        self._histogram.observe(lag_s)
        # Of the peaks that a later and larger one follows, none can be the largest any more.
        while self._peaks and self._peaks[-1][1] <= lag_s:
            self._peaks.pop()
        self._peaks.append((now_s, lag_s))
        while self._peaks[0][0] < now_s - LAG_WINDOW_S:
            self._peaks.popleft()

    def get_largest(self) -> float:
        """In seconds, of the last minute."""
        due_s, peaks = self._due_s, list(self._peaks)
        pending_s = max(0.0, time.monotonic() - due_s) if due_s is not None else 0.0
        return max(pending_s, peaks[0][1] if peaks else 0.0)

    def describe(self) -> Iterable[Metric]:
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        lag = HistogramMetricFamily("zoochat_event_loop_lag_seconds", "Delay of what the event loop is to run.")
        self._histogram.add_to(lag, ())
        largest = GaugeMetricFamily(
            "zoochat_event_loop_lag_max_seconds", "Largest delay of the event loop in the last minute."
        )
        largest.add_metric((), self.get_largest())
        return [lag, largest]


class OnDemandMetrics(Collector):
    """Values that are read when somebody asks for the page."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._families: dict[str, tuple[str, type[GaugeMetricFamily | CounterMetricFamily], tuple[str, ...]]] = {}
        self._reads: dict[tuple[str, tuple[str, ...]], Callable[[], float | None]] = {}
        registry.register(self)

    def add(
        self,
        name: str,
        documentation: str,
        read: Callable[[], float | None],
        labels: Mapping[str, str] | None = None,
        *,
        is_counter: bool = False,
    ) -> None:
        """`read` is called by any thread; None leaves the value out."""
        given = labels or {}
        kind = CounterMetricFamily if is_counter else GaugeMetricFamily
        self._families[name] = (documentation, kind, tuple(given))
        self._reads[name, tuple(given.values())] = read

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        families = {
            name: kind(name, documentation, labels=labels)
            for name, (documentation, kind, labels) in self._families.items()
        }
        for (name, values), read in self._reads.items():
            value = read()
            if value is not None:
                families[name].add_metric(values, value)
        return families.values()


class Registry(CollectorRegistry):
    """A registry whose page leaves out when each series was created: that would double the page."""

    def collect(self) -> Iterator[Metric]:
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


class PrometheusTurn:
    """Implements `TurnMetrics`."""

    __slots__ = ("_animal", "_contract", "_gaps", "_last_s", "_metrics", "_model", "_started_s")

    def __init__(self, metrics: PrometheusMetrics, started: Started, contract: str, at_s: float) -> None:
        self._metrics = metrics
        self._animal = metrics.limit_animal(started.animal_id)
        self._contract = contract
        self._model = started.model
        self._started_s = at_s
        self._last_s: float | None = None
        self._gaps: LocalHistogram | None = None

    def record_start(self, at_s: float) -> None:
        self._started_s = at_s

    def record_chunks(self, at_s: float, count: int) -> None:
        if self._last_s is None or self._gaps is None:
            labels = self._metrics.make_model_labels(self._model)
            self._gaps = self._metrics.chunk_gaps.get(*labels)
            self._metrics.first_chunks.get(*labels).observe(at_s - self._started_s)
        else:
            self._gaps.observe(at_s - self._last_s)
        if count > 1:
            self._gaps.observe(0.0, count - 1)
        self._last_s = at_s

    def record_end(self, event: Completed | Failed, at_s: float) -> None:
        metrics, model = self._metrics, self._model
        outcome = event.problem.code if isinstance(event, Failed) else event.finish_reason.value
        if isinstance(event, Completed):
            model = event.model
        labels = metrics.make_model_labels(model)
        metrics.find_counter(metrics.turns, self._animal, self._contract, outcome, *labels).inc()
        metrics.turn_durations.get(*labels).observe(at_s - self._started_s)
        if isinstance(event, Completed):
            metrics.held_back.get(*labels).observe(event.held_back_ms / 1000)
            metrics.find_counter(metrics.tokens, "input", *labels).inc(event.usage.prompt_tokens)
            metrics.find_counter(metrics.tokens, "output", *labels).inc(event.usage.completion_tokens)


class PrometheusMetrics:
    """Implements `Metrics`. `provider` is the one that the settings name; `offline_model` the model of its fallback."""

    def __init__(self, provider: str, offline_model: str) -> None:
        self.registry = registry = Registry()
        self._provider = provider
        self._offline_model = offline_model
        self.limit_animal = LimitedLabel(MAX_ANIMALS)
        self._limit_model = LimitedLabel(MAX_MODELS)
        self._limit_category = LimitedLabel(MAX_CATEGORIES)
        model_labels = ("provider", "model")

        def count(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(f"zoochat_{name}", documentation, labels, registry=registry)

        def measure(name: str, documentation: str, buckets: Sequence[float], *labels: str) -> LocalHistogramVector:
            return LocalHistogramVector(f"zoochat_{name}", documentation, labels, buckets, registry)

        self._counters: dict[tuple[Counter, tuple[str, ...]], Counter] = {}
        self.turns = count("turns_total", "Turns that have ended.", "animal", "contract", "outcome", *model_labels)
        self.turn_durations = measure(
            "turn_duration_seconds", "From the start of a turn to its end.", TURN_BUCKETS, *model_labels
        )
        self.first_chunks = measure(
            "turn_first_chunk_seconds",
            "From the start of a turn to its first chunk.",
            FIRST_CHUNK_BUCKETS,
            *model_labels,
        )
        self.held_back = measure(
            "turn_held_back_seconds",
            "The longest time that text of a turn was held back to be checked.",
            HELD_BACK_BUCKETS,
            *model_labels,
        )
        self.chunk_gaps = measure("chunk_gap_seconds", "Between two chunks of a turn.", GAP_BUCKETS, *model_labels)
        self.tokens = count("tokens_total", "Tokens, as the provider counts them.", "type", *model_labels)
        self._refused_turns = count("turns_refused_total", "Turns that were not started.", "contract", "reason")
        self._resumes = count("stream_resumes_total", "Streams that clients resumed.", "contract", "result")
        self._leases = count("leases_recovered_total", "Turns of dead processes that were settled.")
        self._credits = count("credits_refused_total", "Turns refused for lack of credits.")
        self._rule_hits = count("moderation_rule_hits_total", "Texts that a rule matched.", "text", "category")
        self._answers = count("offline_answers_total", "Answers of the offline provider.", "result")
        self._requests = count("http_requests_total", "HTTP requests.", "operation", "status_class")
        self._rate_limited = count("http_rate_limited_total", "HTTP requests that were answered with 429.", "operation")
        self._waits = measure(
            "http_response_wait_seconds",
            "From an HTTP request to the head of its answer.",
            REQUEST_BUCKETS,
            "operation",
        )
        self._store_calls = measure(
            "store_operation_seconds", "Operations of the store, with waiting.", STORE_BUCKETS, "store", "operation"
        )
        self._store_failures = count(
            "store_failures_total", "Operations that failed because the store was unavailable.", "store", "operation"
        )
        self.log_calls = measure(
            "event_log_operation_seconds", "Operations of the event log.", LOG_BUCKETS, "operation"
        )
        self.loop_lag = LoopLag(registry)
        self._watched = OnDemandMetrics(registry)
        self.watch("threads", "Threads of this process.", threading.active_count)
        build = Info("zoochat_build", "The version of this server.", registry=registry)
        build.info({"version": __version__, "python": platform.python_version(), "provider": provider})
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)

    # --- What the parts report

    def begin_turn(self, started: Started, contract: str, at_s: float) -> PrometheusTurn:
        return PrometheusTurn(self, started, contract, at_s)

    def count_refused_turn(self, contract: str, reason: str) -> None:
        self._refused_turns.labels(contract, reason).inc()
        if reason == "insufficient_credits":
            self._credits.inc()

    def count_resume(self, contract: str, result: ResumeResult) -> None:
        self._resumes.labels(contract, result.value).inc()

    def count_recovered_lease(self) -> None:
        self._leases.inc()

    def count_rule_hits(self, text: CheckedText, categories: Iterable[str]) -> None:
        for category in categories:
            self._rule_hits.labels(text.value, self._limit_category(category)).inc()

    def count_offline_answer(self, answer: OfflineAnswer) -> None:
        self.find_counter(self._answers, answer.value).inc()

    def record_request(self, operation: str, status: int | None, wait_s: float) -> None:
        self.find_counter(self._requests, operation, f"{status // 100}xx" if status else "none").inc()
        self._waits.get(operation).observe(wait_s)
        if status == 429:
            self._rate_limited.labels(operation).inc()

    def find_counter(self, counter: Counter, *labels: str) -> Counter:
        """The one with these labels. To look it up in the library takes longer than to count."""
        found = self._counters.get((counter, labels))
        if found is None:
            found = self._counters[counter, labels] = counter.labels(*labels)
        return found

    def make_model_labels(self, model: str) -> tuple[str, str]:
        """The labels `provider` and `model`: where a model failed, the offline provider has answered."""
        provider = "offline" if model == self._offline_model else self._provider
        return provider, self._limit_model(model)

    # --- What is read when somebody asks

    def watch(
        self,
        name: str,
        documentation: str,
        read: Callable[[], float | None],
        labels: Mapping[str, str] | None = None,
        *,
        is_counter: bool = False,
    ) -> None:
        """A gauge or counter whose value is read when the page is rendered, by any thread."""
        self._watched.add(f"zoochat_{name}", documentation, read, labels, is_counter=is_counter)

    def watch_queue(self, queue: str, read: Callable[[], float]) -> None:
        self.watch("queue_length", "What waits in a queue.", read, {"queue": queue})

    def watch_store_file(self, path: Path) -> None:
        """The size of the database and its write-ahead log, and what is free beside them."""
        for file, suffix in (("database", ""), ("wal", "-wal")):
            place = path.with_name(path.name + suffix)
            self.watch("store_bytes", "Size of the store's files.", partial(_get_size, place), {"file": file})
        self.watch("store_free_bytes", "What is free on the store's disk.", lambda: _get_free_bytes(path.parent))

    def measure_store(self, name: str, store: T) -> T:
        """The store, each of whose operations is measured."""
        return cast(T, _MeasuredStore(store, name, self._store_calls, self._store_failures))

    # --- The page

    def render(self, accept: str) -> tuple[bytes, str]:
        """The page and its content type: OpenMetrics where `Accept` asks for it, else Prometheus' text format."""
        try:
            encode, content_type = choose_encoder(accept)
            return encode(self.registry), content_type
        except (TypeError, ValueError):
            # The version or escaping that it asks for is none.
            encode, content_type = choose_encoder("")
            return encode(self.registry), content_type

    @contextmanager
    def serve(self, host: str, port: int) -> Iterator[int]:
        """Serve the page in threads of its own, also while the event loop is blocked. Yields the port. `OSError`."""
        kind = _PageServerV6 if ":" in host else _PageServer
        with make_server(host, port, self._answer, kind, _PageHandler) as server:
            thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
            thread.start()
            try:
                yield server.server_port
            finally:
                server.shutdown()
                thread.join()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        """A WSGI application (PEP 3333)."""
        if environ["PATH_INFO"] not in ("/", "/metrics") or environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"Ask for GET /metrics.\n"]
        body, content_type = self.render(environ.get("HTTP_ACCEPT", ""))
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        start_response("200 OK", headers)
        return [body] if environ["REQUEST_METHOD"] == "GET" else []


class _PageServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _PageServerV6(_PageServer):
    address_family = socket.AF_INET6


class _PageHandler(WSGIRequestHandler):
    # A client that sends nothing, or reads nothing, holds a thread.
    timeout = PAGE_TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: that Prometheus has asked again is no news."""


class _MeasuredStore:
    """Passes all on to a store, and measures what is awaited."""

    def __init__(self, store: object, name: str, calls: LocalHistogramVector, failures: Counter) -> None:
        self._store = store
        self._name = name
        self._calls = calls
        self._failures = failures

    def __getattr__(self, operation: str) -> Any:
        method = getattr(self._store, operation)
        if not inspect.iscoroutinefunction(method):
            return method
        calls = self._calls.get(self._name, operation)
        failures = self._failures.labels(self._name, operation)

        async def measured(*args: Any, **kwargs: Any) -> Any:
            began_s = time.perf_counter()
            try:
                return await method(*args, **kwargs)
            except StoreUnavailable:
                failures.inc()
                raise
            finally:
                calls.observe(time.perf_counter() - began_s)

        # Found directly from now on.
        self.__dict__[operation] = measured
        return measured


class MeasuredEventLog:
    """Implements `EventLog` over another one. What waits for new entries is not measured."""

    def __init__(self, event_log: EventLog, metrics: PrometheusMetrics) -> None:
        self._log = event_log
        self._append, self._create, self._list, self._open, self._delete = (
            metrics.log_calls.get(operation) for operation in ("append", "create", "list", "open_tail", "delete")
        )

    async def create(self, turn_id: str) -> None:
        began_s = time.perf_counter()
        await self._log.create(turn_id)
        self._create.observe(time.perf_counter() - began_s)

    async def append(self, turn_id: str, events: Sequence[TurnEvent]) -> Sequence[Entry]:
        began_s = time.perf_counter()
        entries = await self._log.append(turn_id, events)
        self._append.observe(time.perf_counter() - began_s)
        return entries

    async def list_entries(self, turn_id: str) -> Sequence[Entry] | None:
        began_s = time.perf_counter()
        entries = await self._log.list_entries(turn_id)
        self._list.observe(time.perf_counter() - began_s)
        return entries

    async def open_tail(self, turn_id: str, after: int = 0) -> Tail | None:
        began_s = time.perf_counter()
        tail = await self._log.open_tail(turn_id, after)
        self._open.observe(time.perf_counter() - began_s)
        return tail

    async def delete(self, turn_id: str) -> None:
        began_s = time.perf_counter()
        await self._log.delete(turn_id)
        self._delete.observe(time.perf_counter() - began_s)

    @property
    def is_shared(self) -> bool:
        return self._log.is_shared

    async def end(self, turn_id: str, event: Failed) -> None:
        await self._log.end(turn_id, event)

    def renew(self, turn_ids: Sequence[str]) -> None:
        self._log.renew(turn_ids)

    async def signal(self, turn_id: str, signal: Signal) -> bool:
        return await self._log.signal(turn_id, signal)

    def listen(self, on_signal: Callable[[Signal, str], None]) -> None:
        self._log.listen(on_signal)

    def list_quiet(self, quiet_s: float) -> Sequence[str]:
        return self._log.list_quiet(quiet_s)

    def cut_off(self) -> None:
        self._log.cut_off()


def _get_size(path: Path) -> float:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _get_free_bytes(folder: Path) -> float | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
