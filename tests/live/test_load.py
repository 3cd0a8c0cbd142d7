"""Many streams at once against a server process: none is lost or starved. `make bench` measures the speed."""

from __future__ import annotations

import asyncio
import selectors
import socket
from contextlib import ExitStack

import httpx

from benchmarks.load import ONE_STREAM, percentile, run_load
from benchmarks.servers import run_paced_server
from tests.support.timing import is_within

STREAMS = 1000
PIECES = 30
PER_S = 10
BURST = 300


def test_a_thousand_streams_at_once_all_complete_and_health_is_not_starved() -> None:
    """Ten chunks a second each, on one process: every chunk of every stream arrives. `make bench` measures more."""
    with run_paced_server(PIECES, PER_S) as server:
        load = asyncio.run(run_load(server.port, STREAMS, timeout_s=180))

    assert load.completed == STREAMS
    assert {stream.chunks for stream in load.streams} == {PIECES}
    assert is_within(percentile(load.health_s, 50), 0.1)


def test_a_health_check_behind_a_burst_of_turns_is_answered_before_most_of_them_begin() -> None:
    """A count, not a time: how many of the turns that were asked for before have sent something by then."""
    with ExitStack() as opened, run_paced_server(PIECES, PER_S) as server:
        selector = opened.enter_context(selectors.DefaultSelector())
        health = f"http://127.0.0.1:{server.port}/health"
        httpx.get(health).raise_for_status()
        for _ in range(BURST):
            client = opened.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.sendall(ONE_STREAM)
            selector.register(client, selectors.EVENT_READ)
        assert httpx.get(health, timeout=120).status_code == 200
        begun = len(selector.select(0))

    assert begun < BURST / 4
