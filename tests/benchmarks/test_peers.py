"""The servers that are measured do what is measured."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.compare import CEILING, HEALTH, ONE_FRAME, PEERS, WHOLE, Contestant
from benchmarks.figures import BRIDGE, CONNEXION, RAW_ASGI
from benchmarks.load import COMPLETE_MARK, run_load, run_requests
from benchmarks.turns import TURNS
from tests.support.extras import need_bench_extra

PIECES = 7
# Those of packages that the server itself needs.
NEED_NO_EXTRA = (RAW_ASGI, CONNEXION, BRIDGE, CEILING.name)


@pytest.mark.parametrize("contestant", [CEILING, *PEERS], ids=lambda each: each.name)
def test_each_peer_streams_every_frame_answers_with_one_and_has_health(contestant: Contestant) -> None:
    """Three streams at once; then five answers and a look at its health over kept connections."""
    if contestant.name not in NEED_NO_EXTRA:
        need_bench_extra()
    with contestant.run(PIECES, 0) as server:
        load = asyncio.run(run_load(server.port, 3, timeout_s=60, is_health_watched=False))
        ones = asyncio.run(run_requests(server.port, [ONE_FRAME], 2, count=5, expected=COMPLETE_MARK))
        health = asyncio.run(run_requests(server.port, [HEALTH], 1, count=1, expected=b'"healthy"'))
        assert server.peak_mb >= server.memory_mb > 5
    assert [stream.chunks for stream in load.streams] == [PIECES] * 3
    assert load.completed == 3
    assert (len(ones.times_s), ones.failed) == (5, 0)
    assert (len(health.times_s), health.failed) == (1, 0)


def test_a_paced_peer_keeps_its_pace() -> None:
    """Five frames at 50 a second take a tenth of a second at least."""
    raw = next(each for each in PEERS if each.name == RAW_ASGI)
    with raw.run(5, 50) as server:
        load = asyncio.run(run_load(server.port, 1, timeout_s=60, is_health_watched=False))
    assert load.chunks == 5
    assert load.took_s >= 0.1


def test_every_question_of_the_benchmark_is_answered() -> None:
    """By this server as it is, with its animals: none of them is an error."""
    with WHOLE.run_turns() as server:
        done = asyncio.run(run_requests(server.port, TURNS, 4, count=len(TURNS), expected=COMPLETE_MARK))
        assert server.cpu_s > 0
    assert (len(done.times_s), done.failed) == (len(TURNS), 0)


def test_the_lock_of_the_peers_agrees_with_that_of_the_server() -> None:
    """Both are installed into one environment: the peers are served by the server's own uvicorn."""
    root = Path(__file__).parent.parent.parent
    own, peers = (
        dict(line.split(" ")[0].split("==") for line in path.read_text(encoding="utf-8").splitlines() if "==" in line)
        for path in (root / "requirements.lock", root / "benchmarks/requirements.lock")
    )
    assert {"fastapi", "gevent", "gunicorn", "matplotlib", "sse-starlette", "uvicorn"} <= set(peers)
    assert {name: version for name, version in peers.items() if own.get(name, version) != version} == {}
