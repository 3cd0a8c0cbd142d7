"""Many streams at once against a server process: none is lost or starved. `make bench` measures the speed."""

from __future__ import annotations

import asyncio

from benchmarks.load import percentile, run_load
from benchmarks.servers import run_paced_server
from tests.support.timing import is_within

STREAMS = 1000
PIECES = 30
PER_S = 10


def test_a_thousand_streams_at_once_all_complete_and_health_is_not_starved() -> None:
    """Ten chunks a second each, on one process: every chunk of every stream arrives. `make bench` measures more."""
    with run_paced_server(PIECES, PER_S) as server:
        load = asyncio.run(run_load(server.port, STREAMS, timeout_s=180))

    assert load.completed == STREAMS
    assert {stream.chunks for stream in load.streams} == {PIECES}
    assert is_within(percentile(load.health_s, 50), 0.1)
