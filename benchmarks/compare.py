"""This server beside what one would pick instead, in one run: rounds are interleaved over the servers.

Each server is a process of its own, and so is the load generator. A stage starts its servers anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.figures import (
    BRIDGE,
    CONNEXION,
    FASTAPI,
    FASTAPI_SSE,
    FRAMES,
    GEVENT,
    OURS,
    PREPARED,
    RAW_ASGI,
    SSE_STARLETTE,
    Samples,
)
from benchmarks.load import COMPLETE_MARK, QUESTION, LoadProcess, RequestsResult, make_request, percentile
from benchmarks.peers import ONE_PATH
from benchmarks.servers import Server, run_paced_server, run_peer, run_server
from benchmarks.turns import CONNECTIONS, TURNS

ONE_FRAME = make_request(ONE_PATH, QUESTION)
HEALTH, ANIMALS = make_request("/health"), make_request("/animal_list")
READERS = 16
TIMEOUT_S = 300
# A burst takes ten seconds; what a server does not finish in this time is not complete.
BURST_S = 60


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server to measure: `run` starts it with so many frames a stream at a pace, `run_turns` for whole turns."""

    name: str
    run: Callable[[int, float], AbstractContextManager[Server]]
    run_turns: Callable[[], AbstractContextManager[Server]]
    turns: Sequence[bytes] = (ONE_FRAME,)
    # A stream of these holds one of ten threads: a thousand at once would take a hundred times as long.
    has_threads: bool = False


def _run_module(name: str, pieces: int, per_s: float) -> AbstractContextManager[Server]:
    return run_peer([sys.executable, "-m", "benchmarks.peers", name, str(pieces), str(per_s), "{fd}"])


def _run_gunicorn(pieces: int, per_s: float) -> AbstractContextManager[Server]:
    options = "--worker-class gevent --workers 1 --worker-connections 4000 --log-level warning --bind fd://{fd}"
    return run_peer(
        [sys.executable, "-m", "gunicorn", *options.split(), f"benchmarks.peers:make_flask({pieces}, {per_s})"]
    )


def _make_peer(
    name: str, run: Callable[[int, float], AbstractContextManager[Server]], *, has_threads: bool = False
) -> Contestant:
    return Contestant(name, run, partial(run, 1, 0), has_threads=has_threads)


WHOLE = Contestant(OURS, run_paced_server, run_server, TURNS)
CEILING = _make_peer(PREPARED, partial(_run_module, "prepared"))
PEERS = (
    _make_peer(RAW_ASGI, partial(_run_module, "raw-asgi")),
    _make_peer(FASTAPI, partial(_run_module, "fastapi")),
    _make_peer(FASTAPI_SSE, partial(_run_module, "fastapi-sse")),
    _make_peer(SSE_STARLETTE, partial(_run_module, "sse-starlette")),
    _make_peer(GEVENT, _run_gunicorn),
    _make_peer(CONNEXION, partial(_run_module, "connexion"), has_threads=True),
    _make_peer(BRIDGE, partial(_run_module, "bridge")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured."""

    rounds: int = 3
    streams: int = 200
    pieces: int = 200
    turn_s: float = 3
    alone_s: float = 2
    read_s: float = 2
    burst: int = 1000
    burst_pieces: int = 100
    burst_rounds: int = 3
    memory_turns: int = 5000
    # Where the growth beyond the replay window is measured: the finished turns in it, and the turns that fill it.
    replay_turns: int = 500
    filling_turns: int = 1500


FULL = Sizes()
SHORT = Sizes(rounds=2, turn_s=2, alone_s=1.5, read_s=1, burst_pieces=50, burst_rounds=1, memory_turns=0)
SMOKE = Sizes(
    rounds=1,
    streams=3,
    pieces=20,
    turn_s=0.2,
    alone_s=0.2,
    read_s=0.2,
    burst=10,
    burst_pieces=3,
    burst_rounds=1,
    memory_turns=20,
    replay_turns=5,
    filling_turns=20,
)


@dataclass(slots=True)
class Comparison:
    """Measures the contestants, stage by stage, into `samples`."""

    contestants: Sequence[Contestant]
    sizes: Sizes
    load: LoadProcess
    progress: Progress
    samples: Samples = field(default_factory=Samples)

    def measure_all(self) -> None:
        self.measure_starts()
        self.measure_flat_out()
        self.measure_requests()
        self.measure_burst()
        if self.sizes.memory_turns:
            self.measure_memory()

    def measure_starts(self) -> None:
        """From the start of the process to the first good answer; ours has a new database."""

        def start(each: Contestant) -> None:
            with each.run_turns() as server:
                self.samples.add("cold_start_s", each.name, server.start_s)
                self.samples.add("start_memory_mb", each.name, server.memory_mb)

        self._interleave("cold start", [each for each in self.contestants if each is not CEILING], start)

    def measure_flat_out(self) -> None:
        """Streams without pauses: frames a second, and the memory that they take."""
        sizes = self.sizes

        def stream(each: Contestant) -> None:
            load = self.load.run_streams(servers[each.name].port, sizes.streams, TIMEOUT_S, is_health_watched=False)
            self._expect(each, "streams", load.completed, sizes.streams)
            self._expect(each, "frames", load.chunks, sizes.streams * sizes.pieces)
            self.samples.add(FRAMES, each.name, load.chunks / load.took_s)
            self.samples.add("flat_load_cpu", each.name, load.cpu_share)
            if self.samples.get_median("flat_memory_mb", each.name) is None:
                # Of the first round: ours keeps the turns of each round for replay.
                self.samples.add("flat_memory_mb", each.name, servers[each.name].peak_mb)

        with self._run_all(self.contestants, lambda each: each.run(sizes.pieces, 0)) as servers:
            self._interleave("flat out", self.contestants, stream)

    def measure_requests(self) -> None:
        """Whole turns on many connections and on one, and the two answers that are read most."""
        sizes = self.sizes

        def turn(each: Contestant) -> None:
            port = servers[each.name].port
            done = self._ask(each, port, each.turns, CONNECTIONS, sizes.turn_s, COMPLETE_MARK)
            self.samples.add("turns_per_s", each.name, done.per_s)
            self.samples.add("turns_load_cpu", each.name, done.cpu_share)
            self._add_percentiles("turns", each, done)
            done = self._ask(each, port, each.turns, 1, sizes.alone_s, COMPLETE_MARK)
            self._add_percentiles("alone", each, done)

        def read(each: Contestant) -> None:
            port = servers[each.name].port
            done = self._ask(each, port, [HEALTH], READERS, sizes.read_s, b" 200 ")
            self.samples.add("health_per_s", each.name, done.per_s)
            if each is WHOLE:
                done = self._ask(each, port, [ANIMALS], READERS, sizes.read_s, b" 200 ")
                self.samples.add("animals_per_s", each.name, done.per_s)

        with self._run_all(self.contestants, lambda each: each.run_turns()) as servers:
            for each in self.contestants:
                self._ask(each, servers[each.name].port, each.turns, CONNECTIONS, 0.5, COMPLETE_MARK)
            self._interleave("turns", self.contestants, turn)
            self._interleave("requests", self.contestants, read)

    def measure_burst(self) -> None:
        """Many posts at the same moment, then chunks at a steady pace."""
        sizes = self.sizes
        streaming = [each for each in self.contestants if not each.has_threads and each is not CEILING]

        def stream(each: Contestant) -> None:
            load = self.load.run_streams(servers[each.name].port, sizes.burst, BURST_S)
            self.samples.add("burst_complete", each.name, load.completed / sizes.burst)
            for key, values, share in (
                ("burst_first_p50_ms", load.first_events_s, 50),
                ("burst_first_p95_ms", load.first_events_s, 95),
                ("burst_gap_p99_ms", load.gaps_s, 99),
                ("burst_health_p99_ms", load.health_s, 99),
            ):
                if values:
                    self.samples.add(key, each.name, percentile(values, share) * 1000)

        with self._run_all(streaming, lambda each: each.run(sizes.burst_pieces, 10)) as servers:
            self._interleave("burst", streaming, stream, sizes.burst_rounds)

    def measure_memory(self) -> None:
        """Once for each server: a round takes thousands of turns."""
        count = self.sizes.memory_turns
        serving = [each for each in self.contestants if each is not CEILING]

        def turn(each: Contestant) -> None:
            with each.run_turns() as server:
                self._take_turns(each, server, count)
                self.samples.add("turns_memory_mb", each.name, server.memory_mb)

        def turn_beyond_replay(each: Contestant) -> None:
            with run_server(REPLAY_MAX_TURNS=self.sizes.replay_turns) as server:
                self._take_turns(each, server, self.sizes.filling_turns)
                before_mb = server.memory_mb
                self._take_turns(each, server, count)
                self.samples.add("memory_growth", each.name, server.memory_mb / before_mb - 1)

        self._interleave("memory", serving, turn, 1)
        self._interleave("memory beyond the replay window", [WHOLE], turn_beyond_replay, 1)

    def _take_turns(self, each: Contestant, server: Server, count: int) -> None:
        done = self.load.run_requests(
            server.port, each.turns, CONNECTIONS, count=count, seconds=TIMEOUT_S, expected=COMPLETE_MARK
        )
        self._expect(each, "turns", len(done.times_s), count)

    def _ask(
        self, each: Contestant, port: int, requests: Sequence[bytes], connections: int, seconds: float, expected: bytes
    ) -> RequestsResult:
        done = self.load.run_requests(port, requests, connections, seconds=seconds, expected=expected)
        self._expect(each, "good answers", len(done.times_s), len(done.times_s) + done.failed)
        return done

    def _add_percentiles(self, prefix: str, each: Contestant, done: RequestsResult) -> None:
        for share in (50, 99):
            self.samples.add(f"{prefix}_p{share}_ms", each.name, percentile(done.times_s, share) * 1000)

    def _expect(self, each: Contestant, what: str, count: int, expected: int) -> None:
        if count != expected or not count:
            self.samples.failures.append(f"{each.name}: {count:,} of {expected:,} {what}")

    @contextmanager
    def _run_all(
        self, contestants: Sequence[Contestant], run: Callable[[Contestant], AbstractContextManager[Server]]
    ) -> Iterator[dict[str, Server]]:
        with ExitStack() as running:
            servers: dict[str, Server] = {}
            for each in contestants:
                try:
                    servers[each.name] = running.enter_context(run(each))
                except Exception as error:
                    self.samples.failures.append(f"{each.name} does not start: {error!r}")
            yield servers

    def _interleave(
        self,
        title: str,
        contestants: Sequence[Contestant],
        measure: Callable[[Contestant], None],
        rounds: int | None = None,
    ) -> None:
        """A round of each, then the next round: whatever else loads the machine then loads all of them."""
        count = self.sizes.rounds if rounds is None else rounds
        task = self.progress.add_task(title, total=count * len(contestants), now="")
        for number in range(1, count + 1):
            self.samples.round_number = number
            for each in contestants:
                self.progress.update(task, now=each.name)
                try:
                    measure(each)
                except Exception as error:
                    # Whatever one server does: the others are measured, and nobody is there to begin anew.
                    self.samples.failures.append(f"{each.name}: {title}: {error!r}")
                self.progress.advance(task)
        self.progress.update(task, now="")


def make_progress(console: Console) -> Progress:
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("{task.fields[now]}"), console=console)


def compare(contestants: Sequence[Contestant], sizes: Sizes, console: Console) -> Samples:
    """All figures of all contestants."""
    with LoadProcess() as load, make_progress(console) as progress:
        comparison = Comparison(contestants, sizes, load, progress)
        comparison.measure_all()
        return comparison.samples
