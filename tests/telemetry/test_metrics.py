"""Metrics: what is counted under which labels, and what the page says."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
import urllib.request
from dataclasses import replace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import HistogramMetricFamily

from openapi_server.composition import run_background_jobs
from openapi_server.config import ConfigError
from openapi_server.instruments import CheckedText, ResumeResult
from openapi_server.models.errors import StoreUnavailable
from openapi_server.telemetry.metrics import MAX_ANIMALS, MAX_CATEGORIES, MAX_MODELS, LocalHistogram, PrometheusMetrics
from tests.conftest import OpensServices
from tests.support.examples import COMPLETED, FAILED, STARTED
from tests.support.openmetrics import parse_openmetrics
from tests.support.timing import poll_until

BOUNDS = (0.1, 0.5, 1.0)
# Of a counter, a unit, or neither: Prometheus' rules for names.
NAME = re.compile(r"zoochat_[a-z_]+")


@pytest.fixture
def metrics() -> PrometheusMetrics:
    return PrometheusMetrics("openai", "offline-keeper-1")


def read(metrics: PrometheusMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def count_series(metrics: PrometheusMetrics, name: str) -> int:
    return sum(sample.name == name for family in metrics.registry.collect() for sample in family.samples)


@given(st.lists(st.floats(0, 2)))
def test_a_tally_is_a_histogram_of_the_library(values: list[float]) -> None:
    """The same buckets, count and sum, at a sixth of the time."""
    registry = CollectorRegistry()
    known = Histogram("known", "The library's.", registry=registry, buckets=BOUNDS)
    histogram = LocalHistogram(BOUNDS)
    for value in values:
        known.observe(value)
        histogram.observe(value)
    family = HistogramMetricFamily("known", "Ours.")
    histogram.add_to(family, ())

    ours = {(sample.name, *sample.labels.values()): sample.value for sample in family.samples}
    theirs = {
        (sample.name, *sample.labels.values()): sample.value
        for sample in next(iter(registry.collect())).samples
        if not sample.name.endswith("_created")
    }
    assert ours == pytest.approx(theirs)


def test_a_turn_is_counted_and_measured(metrics: PrometheusMetrics) -> None:
    """From its start at 10 s: chunks at 10.2 s and 10.5 s, its end at 11 s."""
    turn = metrics.begin_turn(STARTED, "convo", 10.0)
    turn.record_chunks(10.2, 1)
    turn.record_chunks(10.5, 1)
    turn.record_end(COMPLETED, 11.0)

    labels = {"provider": "openai", "model": COMPLETED.model}
    outcome = {"animal": STARTED.animal_id, "contract": "convo", "outcome": COMPLETED.finish_reason.value}
    gaps = {"provider": "openai", "model": STARTED.model}
    assert read(metrics, "zoochat_turns_total", **outcome, **labels) == 1
    assert read(metrics, "zoochat_turn_duration_seconds_sum", **labels) == pytest.approx(1.0)
    assert read(metrics, "zoochat_turn_first_chunk_seconds_sum", **gaps) == pytest.approx(0.2)
    assert read(metrics, "zoochat_chunk_gap_seconds_sum", **gaps) == pytest.approx(0.3)
    assert read(metrics, "zoochat_chunk_gap_seconds_count", **gaps) == 1


def test_a_failed_turn_is_counted_by_its_code(metrics: PrometheusMetrics) -> None:
    """Not by its text."""
    metrics.begin_turn(STARTED, "chat", 0.0).record_end(FAILED, 1.0)

    (sample,) = [
        sample
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "zoochat_turns_total"
    ]
    assert sample.labels["outcome"] == FAILED.problem.code


def test_values_that_may_be_many_are_limited(metrics: PrometheusMetrics) -> None:
    """A thousand animals, models and categories do not make a thousand series."""
    for number in range(1000):
        started = replace(STARTED, animal_id=f"animal_{number}", model=f"model-{number}")
        turn = metrics.begin_turn(started, "convo", 0.0)
        turn.record_chunks(0.1, 1)
        turn.record_end(FAILED, 1.0)
        metrics.count_rule_hits(CheckedText.MESSAGE, [f"category-{number}"])

    assert count_series(metrics, "zoochat_turns_total") <= MAX_ANIMALS + 1
    assert count_series(metrics, "zoochat_chunk_gap_seconds_count") <= MAX_MODELS + 1
    assert count_series(metrics, "zoochat_moderation_rule_hits_total") <= MAX_CATEGORIES + 1
    assert read(metrics, "zoochat_moderation_rule_hits_total", text="message", category="other") == 900


def test_the_offline_provider_in_place_of_a_failed_model_is_named(metrics: PrometheusMetrics) -> None:
    """`provider` is who answered, not who was to answer."""
    assert metrics.make_model_labels("offline-keeper-1") == ("offline", "offline-keeper-1")
    assert metrics.make_model_labels("gpt-9") == ("openai", "gpt-9")


def test_requests_are_counted_by_status_class(metrics: PrometheusMetrics) -> None:
    """And those that met a rate limit once more."""
    for status in (200, 201, 404, 429, 503, None):
        metrics.record_request("convo_turn", status, 0.01)

    def count(status_class: str) -> float | None:
        return read(metrics, "zoochat_http_requests_total", operation="convo_turn", status_class=status_class)

    assert [count(name) for name in ("2xx", "4xx", "5xx", "none")] == [2, 2, 1, 1]
    assert read(metrics, "zoochat_http_rate_limited_total", operation="convo_turn") == 1


async def test_operations_of_a_store_are_measured(metrics: PrometheusMetrics) -> None:
    """By name; also those that fail, which are counted besides."""

    class Away:
        limit = 5

        async def ping(self) -> None:
            raise StoreUnavailable

        async def count(self) -> int:
            return 3

    store = metrics.measure_store("sessions", Away())
    assert (await store.count(), await store.count(), store.limit) == (3, 3, 5)
    with pytest.raises(StoreUnavailable):
        await store.ping()

    names = {"store": "sessions", "operation": "count"}
    assert read(metrics, "zoochat_store_operation_seconds_count", **names) == 2
    assert read(metrics, "zoochat_store_failures_total", store="sessions", operation="ping") == 1


async def test_a_blocked_event_loop_is_seen_while_it_is_blocked_and_afterwards(metrics: PrometheusMetrics) -> None:
    """Whoever is on call asks while nothing answers: the page on its own port does."""
    seen: list[bytes] = []
    with metrics.loop_lag.measure(), metrics.serve("127.0.0.1", 0) as port:

        def ask_later() -> None:
            time.sleep(0.4)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                seen.append(answer.read())

        asking = threading.Thread(target=ask_later)
        asking.start()
        time.sleep(0.6)  # noqa: ASYNC251  # this blocks the event loop
        await asyncio.to_thread(asking.join, 10)

        async def is_measured() -> bool:
            return bool(read(metrics, "zoochat_event_loop_lag_seconds_count"))

        await poll_until(is_measured, within_s=5)

    during = re.search(rb"^zoochat_event_loop_lag_max_seconds ([\d.e-]+)$", seen[0], re.MULTILINE)
    assert during is not None
    assert float(during[1]) >= 0.25
    assert metrics.loop_lag.get_largest() >= 0.45
    assert (read(metrics, "zoochat_event_loop_lag_seconds_sum") or 0) >= 0.45


def test_the_page_is_valid_in_both_formats(metrics: PrometheusMetrics) -> None:
    """The library's strict parser of OpenMetrics reads it; names follow Prometheus' rules."""
    turn = metrics.begin_turn(STARTED, "convo", 0.0)
    turn.record_chunks(0.2, 1)
    turn.record_end(COMPLETED, 1.0)
    metrics.count_resume("convo", ResumeResult.WHOLE)
    metrics.record_request("health", 200, 0.001)
    metrics.watch_queue("passwords", lambda: 3)

    page, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    plain, plain_type = metrics.render("text/plain")

    families = parse_openmetrics(page)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert plain_type.startswith("text/plain; version=0.0.4")
    assert b"_created" not in plain + page
    own = [family for family in families if family.name.startswith("zoochat_")]
    assert own
    assert all(NAME.fullmatch(family.name) and family.documentation.endswith(".") for family in own)
    assert all("_ms" not in family.name for family in own)


def test_a_client_of_the_port_that_says_nothing_is_dropped(
    metrics: PrometheusMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them holds a thread."""
    monkeypatch.setattr("openapi_server.telemetry.metrics._PageHandler.timeout", 0.2)
    with metrics.serve("127.0.0.1", 0) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as silent:
        assert silent.recv(1) == b""


async def test_a_port_that_is_taken_stops_the_start(open_services: OpensServices) -> None:
    """The sentence names the setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        services = await open_services(metrics="port", metrics_port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match=r"METRICS_PORT \d+: the metrics cannot be served there"):
            async with run_background_jobs(services):
                pass


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_port_serves_the_page_and_nothing_else(metrics: PrometheusMetrics, host: str) -> None:
    """Whatever is asked for, it does not fail."""
    place = f"[{host}]" if ":" in host else host
    with metrics.serve(host, 0) as port, httpx.Client(base_url=f"http://{place}:{port}") as client:
        pages = [client.get("/metrics", headers={"Accept": accept}) for accept in ACCEPTED]
        assert [page.status_code for page in pages] == [200] * len(ACCEPTED)
        assert all(b"zoochat_build_info" in page.content for page in pages)
        assert client.head("/metrics").content == b""
        assert client.get("/metrics?name[]=x").status_code == 200
        assert [client.get("/x").status_code, client.post("/metrics").status_code] == [404, 404]


ACCEPTED = (
    "",
    "*/*",
    "application/openmetrics-text; version=1.0.0",
    "application/openmetrics-text; version=x.y",
    "application/openmetrics-text; version=" + "9" * 500,
    "text/plain; version=; escaping=x",
    "application/json",
)
