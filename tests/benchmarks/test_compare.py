"""A comparison measures every contestant in turn, and goes on when one of them fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console

from benchmarks.compare import PEERS, SMOKE, Comparison, Contestant, make_progress
from benchmarks.figures import FRAMES, RAW_ASGI
from benchmarks.load import LoadProcess
from benchmarks.servers import Server

RAW = next(each for each in PEERS if each.name == RAW_ASGI)


@contextmanager
def run_fewer_pieces(pieces: int, per_s: float) -> Iterator[Server]:
    """A server that leaves out the last frame."""
    with RAW.run(pieces - 1, per_s) as server:
        yield server


@contextmanager
def run_none(pieces: int, per_s: float) -> Iterator[Server]:
    """A server that has gone."""
    with RAW.run(pieces, per_s) as server:
        port = server.port
    yield Server(port, server.pid, 0.0)


def fail_to_start(pieces: int, per_s: float) -> AbstractContextManager[Server]:
    """A server whose library is not there."""
    raise RuntimeError("no such library")


def test_what_a_server_leaves_out_is_a_failure_and_the_others_are_measured() -> None:
    """Else a server would be the faster, the more it loses."""
    wrong, gone, unable = (
        Contestant(name, run, RAW.run_turns)
        for name, run in (("wrong", run_fewer_pieces), ("gone", run_none), ("unable", fail_to_start))
    )
    with LoadProcess() as load, make_progress(Console(quiet=True)) as progress:
        comparison = Comparison([wrong, gone, unable, RAW], SMOKE, load, progress)
        comparison.measure_flat_out()
    samples = comparison.samples
    assert samples.get_median(FRAMES, RAW_ASGI)
    assert f"wrong: {SMOKE.streams * (SMOKE.pieces - 1)} of {SMOKE.streams * SMOKE.pieces} frames" in samples.failures
    assert any(failure.startswith("gone: flat out: ConnectionRefusedError") for failure in samples.failures)
    assert "unable does not start: RuntimeError('no such library')" in samples.failures
    assert not any(failure.startswith(RAW_ASGI) for failure in samples.failures)


def test_rounds_are_interleaved() -> None:
    """A B, A B: what else loads the machine for a while loads all of them."""
    order: list[str] = []
    with LoadProcess() as load, make_progress(Console(quiet=True)) as progress:
        comparison = Comparison([], SMOKE, load, progress)
        other = Contestant("other", RAW.run, RAW.run_turns)
        comparison._interleave("title", [RAW, other], lambda each: order.append(each.name), 3)
    assert order == [RAW_ASGI, "other"] * 3
