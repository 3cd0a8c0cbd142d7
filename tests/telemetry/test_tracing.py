"""Where spans are sent to, and what happens when nobody is there."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from openapi_server.composition import open_services
from openapi_server.config import ConfigError, load_settings
from openapi_server.telemetry.tracing import FLUSH_TIMEOUT_S, open_tracer
from tests.support.examples import COMPLETED, STARTED

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
ROOT = Path(__file__).parent.parent.parent


@asynccontextmanager
async def run_collector(bodies: list[tuple[str, bytes]]) -> AsyncIterator[str]:
    """An OTLP endpoint that takes everything."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        (length,) = [int(line.partition(":")[2]) for line in head.split("\r\n") if line.startswith("content-length")]
        bodies.append((head.split()[1], await reader.readexactly(length)))
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def record_turn(endpoint: str) -> float:
    """One turn; returns the seconds until all was closed."""
    closing_s = 0.0
    async with open_tracer(endpoint, "bedrock") as tracer:
        with tracer.trace_request("POST", {}) as request:
            tracer.trace_turn(STARTED, "convo").end(COMPLETED)
            request.describe("/convo_turn", 200)
        closing_s = time.monotonic()
    return time.monotonic() - closing_s


async def test_spans_arrive_at_the_collector() -> None:
    """At /v1/traces below the endpoint, with the service's name; those that are left, when the server ends."""
    bodies: list[tuple[str, bytes]] = []
    async with run_collector(bodies) as endpoint:
        # The end waits for the collector, which is in this event loop.
        await asyncio.to_thread(asyncio.run, record_turn(f"{endpoint}/"))

    ((path, body),) = bodies
    sent = ExportTraceServiceRequest.FromString(body).resource_spans[0]
    spans = {span.name: span for span in sent.scope_spans[0].spans}
    assert path == "/v1/traces"
    assert ("service.name", "zoochat") in [(item.key, item.value.string_value) for item in sent.resource.attributes]
    turn = spans[f"invoke_agent {STARTED.animal_name}"]
    assert turn.parent_span_id == spans["POST /convo_turn"].span_id
    assert ("gen_ai.provider.name", "aws.bedrock") in [(item.key, item.value.string_value) for item in turn.attributes]


async def test_a_collector_that_is_away_delays_only_the_end_and_not_long() -> None:
    """Port 1 refuses; a server that accepts and never answers is as good as none."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (1, silent.getsockname()[1]):
            took_s = await asyncio.to_thread(asyncio.run, record_turn(f"http://127.0.0.1:{port}"))
            assert took_s < FLUSH_TIMEOUT_S + 1


async def test_traces_without_the_extra_stop_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who asks for them must not get none without a word."""
    monkeypatch.setitem(sys.modules, "openapi_server.telemetry.tracing", None)
    settings = load_settings(otel_exporter_otlp_endpoint="http://localhost:4318", sqlite_path=tmp_path / "zoo.sqlite3")

    with pytest.raises(ConfigError, match=r"^OTEL_EXPORTER_OTLP_ENDPOINT: .*extra `telemetry`"):
        async with open_services(settings):
            pass


def test_without_traces_the_sdk_is_not_imported(tmp_path: Path) -> None:
    """Nobody pays for it who does not use it, and nobody needs the extra."""
    script = "import sys, openapi_server.server; print(any(name.startswith('opentelemetry') for name in sys.modules))"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "False"
