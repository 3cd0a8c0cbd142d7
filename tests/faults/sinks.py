"""F15: the log, the metrics or the traces go nowhere: no request fails."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import httpx

from tests.faults.figures import Figure, expect_at_most, expect_none
from tests.soak.servers import find_free_port
from tests.support.fork_server import ForkedProcess
from tests.support.processes import STOP_S, make_environment

START_S = 180
AT_ONCE = 8
# In every line, so that a pipe (64 KiB) is full after a few turns.
REQUEST_ID = "x" * 64


class LogTarget(StrEnum):
    """Where the server's log goes."""

    FILE = "file"
    UNREAD = "a pipe that nobody reads"
    GONE = "a pipe whose reader is gone"
    FULL = "a full disk"


@dataclass(frozen=True, slots=True)
class Sink:
    """What is away, and the settings of the server."""

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)
    log: LogTarget = LogTarget.FILE


@contextmanager
def run_server(folder: Path, sink: Sink) -> Iterator[tuple[ForkedProcess, str]]:
    port = find_free_port()
    settings = {"PORT": port, "SQLITE_PATH": folder / "zoo.sqlite3", "SEMANTIC": "off", "OFFLINE_WORDS_PER_S": 0}
    environment = make_environment(**{**settings, "LOG_LEVEL": "DEBUG", **sink.settings})
    with ExitStack() as parts:
        log = parts.enter_context(_open_log(folder, sink.log))
        process = ForkedProcess("openapi_server", [], folder, environment, log)
        parts.enter_context(process.stdout)
        parts.callback(process.wait)
        parts.callback(process.kill)
        yield process, f"http://127.0.0.1:{port}"


@contextmanager
def _open_log(folder: Path, target: LogTarget) -> Iterator[int]:
    """The descriptor to write the log to."""
    if target in (LogTarget.FILE, LogTarget.FULL):
        path = Path("/dev/full") if target is LogTarget.FULL else folder / "server.log"
        with path.open("wb") as file:
            yield file.fileno()
        return
    reading, writing = os.pipe()
    if target is LogTarget.GONE:
        os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)
        if target is LogTarget.UNREAD:
            os.close(reading)


async def lose_sinks(folder: Path, turns: int = 400) -> list[Figure]:
    """Turns while the log is not read, the collector of traces refuses or is silent, and nobody fetches metrics."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        sinks = (
            *(Sink(f"log to {target}", log=target) for target in LogTarget if target is not LogTarget.FILE),
            Sink("trace collector refuses", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}),
            Sink(
                "trace collector is silent", {"OTEL_EXPORTER_OTLP_ENDPOINT": silent_url, "OTEL_BSP_SCHEDULE_DELAY": 100}
            ),
            Sink("metrics fetched by clients that do not read", {"METRICS": "both", "METRICS_PORT": find_free_port()}),
        )
        figures: list[Figure] = []
        for number, sink in enumerate(sinks):
            own = folder / str(number)
            own.mkdir()
            figures += await _measure(own, sink, turns)
    return figures


async def _measure(folder: Path, sink: Sink, turns: int) -> list[Figure]:
    with run_server(folder, sink) as (process, url):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            await _wait_until_ready(client, process)
            fetching = _fetch_without_reading(sink)
            statuses = await _ask(client, turns)
            for plug in fetching:
                plug.close()
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.wait, STOP_S)
        ended_s = time.monotonic() - began_s
    failed = sum(status != 200 for status in statuses) + (code != 0)
    return [
        expect_none("F15", f"{sink.name}: requests that failed, or a bad exit", failed, len(statuses)),
        expect_at_most("F15", f"{sink.name}: until the process ended after SIGTERM", ended_s, 5, "s"),
    ]


async def _wait_until_ready(client: httpx.AsyncClient, process: ForkedProcess) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        assert process.poll() is None, "the server did not start"
        try:
            if (await client.get("/ready")).status_code == 200:
                return
        except httpx.TransportError:
            await asyncio.sleep(0.05)
    raise AssertionError("the server was not ready in time")


async def _ask(client: httpx.AsyncClient, turns: int) -> list[int]:
    """The statuses of so many turns, and of a health check beside each; 0 for a broken connection."""
    places = asyncio.Semaphore(AT_ONCE)
    body = {"message": "How fast can you run?", "animalId": "lion_001"}

    async def ask() -> list[int]:
        async with places:
            try:
                turn = await client.post("/convo_turn", json=body, headers={"X-Request-Id": REQUEST_ID})
                health = await client.get("/health")
            except httpx.TransportError:
                return [0, 0]
            return [turn.status_code, health.status_code]

    return [status for pair in await asyncio.gather(*(ask() for _ in range(turns))) for status in pair]


def _fetch_without_reading(sink: Sink) -> list[socket.socket]:
    """Connections to the port of the metrics that ask for the page and never read it."""
    plugs: list[socket.socket] = []
    for _ in range(AT_ONCE if "METRICS_PORT" in sink.settings else 0):
        plug = socket.create_connection(("127.0.0.1", int(str(sink.settings["METRICS_PORT"]))))
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        plug.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        plugs.append(plug)
    return plugs
