"""`GET /metrics`, and what the server's own work leaves there."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from openapi_server.models.errors import ProviderFailed
from tests.api.chat_endpoints import log_in_client
from tests.conftest import OpensZoo, RunningApp
from tests.support.fakes import Blocks, Fails
from tests.support.openmetrics import parse_openmetrics

HELLO = {"message": "Hello!", "animalId": "lion_001"}
OPEN_METRICS = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


def read(zoo: RunningApp, name: str, **labels: str) -> float:
    assert zoo.services.metrics is not None
    return zoo.services.metrics.registry.get_sample_value(f"zoochat_{name}", labels) or 0.0


def sum_series(zoo: RunningApp, name: str, **labels: str) -> float:
    """Of all series that have these labels."""
    assert zoo.services.metrics is not None
    return sum(
        sample.value
        for family in zoo.services.metrics.registry.collect()
        for sample in family.samples
        if sample.name == f"zoochat_{name}" and labels.items() <= sample.labels.items()
    )


async def make_administrator(zoo: RunningApp) -> httpx.AsyncClient:
    return await log_in_client(zoo, "admin")


@pytest.mark.parametrize(
    ("setting", "user", "status"),
    [
        ("admin", None, 401),
        ("admin", "user1", 403),
        ("admin", "keeper1", 403),
        ("admin", "admin", 200),
        ("both", "admin", 200),
        ("port", "admin", 404),
        ("off", "admin", 404),
        ("off", None, 401),
    ],
)
async def test_only_administrators_read_the_metrics(
    open_zoo: OpensZoo, setting: str, user: str | None, status: int
) -> None:
    """And only where the setting says so; nobody reads them without a login."""
    zoo = await open_zoo(metrics=setting)
    client = await log_in_client(zoo, user) if user else await zoo.new_client()

    answer = await client.get("/metrics")

    assert answer.status_code == status
    assert answer.headers["cache-control"].endswith("no-store")
    assert (b"zoochat_" in answer.content) is (status == 200)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (OPEN_METRICS, "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        ("text/plain", "text/plain; version=0.0.4"),
        ("text/plain; version=0.0.4", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=x.y", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
    ],
)
async def test_the_format_is_the_one_that_is_asked_for(open_zoo: OpensZoo, accept: str, content_type: str) -> None:
    """Prometheus asks for OpenMetrics and takes text, too."""
    client = await make_administrator(await open_zoo())

    answer = await client.get("/metrics", headers={"Accept": accept})

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(content_type)


async def test_other_formats_are_406(open_zoo: OpensZoo) -> None:
    """There is no JSON of it."""
    client = await make_administrator(await open_zoo())

    assert (await client.get("/metrics", headers={"Accept": "application/json"})).status_code == 406


async def test_turns_are_counted_by_outcome(open_zoo: OpensZoo) -> None:
    """Whatever contract they came by."""
    zoo = await open_zoo()
    client = await zoo.new_client()
    await client.post("/convo_turn_stream", json=HELLO)
    await client.post("/chat/", json={"content": "Hello!"}, headers={"X-Device-ID": "kiosk-7"})
    await client.post("/api/v1/stream", json={"query": "Hello!"})

    for contract in ("convo", "devices", "platform"):
        assert sum_series(zoo, "turns_total", contract=contract, outcome="stop", animal="lion_001") == 1, contract
    assert sum_series(zoo, "turn_duration_seconds_count") == 3
    assert sum_series(zoo, "turn_first_chunk_seconds_count") == 3
    assert sum_series(zoo, "store_operation_seconds_count", operation="begin_turn") == 3
    assert sum_series(zoo, "event_log_operation_seconds_count", operation="append") > 9
    assert sum_series(zoo, "turns_running") == sum_series(zoo, "readers") == 0


async def test_failed_and_refused_turns_are_counted(open_zoo: OpensZoo) -> None:
    """By their codes; a second turn of a session that has one running, and one without a session, were never turns."""
    zoo = await open_zoo(Fails(ProviderFailed()))
    client = await zoo.new_client()
    await client.post("/convo_turn", json=HELLO)
    await client.post("/convo_turn", json={**HELLO, "sessionId": "sess_0123456789abcdef0123456789abcdef"})

    assert sum_series(zoo, "turns_total", outcome="provider_failed") == 1
    assert sum_series(zoo, "turns_total") == 1
    assert read(zoo, "http_requests_total", operation="convo_turn", status_class="4xx") == 1


async def test_a_matched_rule_is_counted_by_its_category(open_zoo: OpensZoo) -> None:
    """Never by the text that it matched."""
    zoo = await open_zoo(moderator=Blocks())
    await (await zoo.new_client()).post("/convo_turn", json=HELLO)

    assert read(zoo, "moderation_rule_hits_total", text="message", category="danger") == 1
    assert sum_series(zoo, "turns_total", outcome="blocked") == 1


async def test_resumed_streams_are_counted_by_what_the_client_got(open_zoo: OpensZoo) -> None:
    """Whole while the log is there; refused for an id of another turn."""
    zoo = await open_zoo()
    client = await zoo.new_client()
    stream = await client.post("/convo_turn_stream", json=HELLO)
    turn_id = stream.headers["x-streaming-session-id"]
    path = f"/convo_turn/{turn_id}/stream"

    await client.get(path)
    await client.get(path, headers={"Last-Event-ID": f"{turn_id}-2"})
    await client.get(path, headers={"Last-Event-ID": "turn_0123456789abcdef0123456789abcdef-2"})
    await client.post(
        "/convo_turn_stream", json={**HELLO, "message": "Bye!"}, headers={"Last-Event-ID": f"{turn_id}-2"}
    )
    await zoo.services.event_log.delete(turn_id)
    await client.get(path, headers={"Last-Event-ID": f"{turn_id}-2"})

    counts = {result: read(zoo, "stream_resumes_total", contract="convo", result=result) for result in RESULTS}
    assert counts == {"whole": 1, "partial": 1, "lost": 0, "refused": 2}


async def test_requests_are_named_by_their_operation(open_zoo: OpensZoo) -> None:
    """Also those that never get to it: refused by a rate limit, or asked for with HEAD or OPTIONS."""
    zoo = await open_zoo(rate_limit_turns=1, rate_limit_address_factor=1)
    client = await zoo.new_client()
    statuses = [(await client.post("/convo_turn", json=HELLO)).status_code for _ in range(2)]
    await client.head("/health")
    await client.get("/openapi.yaml")
    await client.options("/health")
    await client.post("/health")

    def count(operation: str) -> dict[str, float]:
        classes = ("2xx", "4xx")
        return {name: read(zoo, "http_requests_total", operation=operation, status_class=name) for name in classes}

    assert statuses == [200, 429]
    assert count("convo_turn") == {"2xx": 1, "4xx": 1}
    assert read(zoo, "http_rate_limited_total", operation="convo_turn") == 1
    assert count("get_health") == {"2xx": 1, "4xx": 0}
    assert count("documents") == {"2xx": 1, "4xx": 0}
    assert count("none") == {"2xx": 1, "4xx": 1}


RESULTS = ("whole", "partial", "lost", "refused")


async def test_nothing_that_a_visitor_writes_becomes_a_series(open_zoo: OpensZoo) -> None:
    """Unknown animals, paths, methods, models, names and ids: the page holds none of them."""
    zoo = await open_zoo()
    client = await zoo.new_client()
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/convo_turn", {"json": {**HELLO, "animalId": "visitor_word_1"}}),
        ("GET", "/visitor_word_2", {}),
        ("GET", "/animal/visitor_word_3", {}),
        ("VISITORWORD", "/health", {}),
        ("GET", "/jobs/visitor_word_4", {}),
        ("POST", "/chat/", {"json": {"content": "visitor_word_5"}, "headers": {"X-Device-ID": "visitor_word_6"}}),
        ("POST", "/chat", {"json": {"session_id": "visitor_word_7", "message": "visitor_word_8"}}),
        ("POST", "/auth/login", {"json": {"username": "visitor_word_9", "password": "visitor_word_9"}}),
        ("GET", "/convo_turn/turn_0123456789abcdef0123456789abcdef", {"headers": {"X-Request-Id": "visitor_word"}}),
    ]
    for method, path, parts in requests:
        await client.request(method, path, **parts)
    assert zoo.services.metrics is not None
    rendered = zoo.services.metrics.render(OPEN_METRICS)[0]
    page = rendered.decode()

    assert "visitor" not in page.lower()
    assert not re.search(r"[0-9a-f]{8}", "".join(re.findall(r"{[^}]*}", page)))
    assert read(zoo, "http_requests_total", operation="none", status_class="4xx") >= 1
    assert parse_openmetrics(rendered)
