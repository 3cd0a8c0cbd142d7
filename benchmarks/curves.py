"""How the server's figures change as something grows: streams, sessions, animals, histories, readers, turns.

Each curve names where it bends. All servers are this one, with a database of their own.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from rich.console import Console
from rich.progress import Progress

from benchmarks.compare import make_progress
from benchmarks.figures import Line, format_value
from benchmarks.load import (
    COMPLETE_MARK,
    QUESTION,
    TURN_PATH,
    UNLIMITED,
    LoadProcess,
    RequestsResult,
    make_request,
    percentile,
)
from benchmarks.servers import ROOT, Server, run_paced_server, run_server
from benchmarks.turns import CONNECTIONS, TURNS
from openapi_server.clock import SystemClock
from openapi_server.knowledge.animal_files import PACKAGED_ANIMALS
from openapi_server.models.versioned_document import PACKAGE
from openapi_server.storage.factory import open_sqlite_stores

TIMEOUT_S = 600
# A curve bends where its value is so many times that of its first point, or so small a part of it.
BEND = 2.0
# Smaller differences say nothing, by unit.
NOISE = {"ms": 5.0, "s": 0.2, "MB": 5.0, "KB": 20.0, "x": 0.1}
SYLLABLES = "ba ke lo mi nu ra se to vi zu".split()


@dataclass(slots=True)
class Curve:
    """One figure over what grows."""

    title: str
    grows: str
    unit: str
    line: Line | None = None
    points: list[tuple[float, float]] = field(default_factory=list)

    def add(self, at: float, value: float) -> None:
        self.points.append((at, value))

    @property
    def bend(self) -> float | None:
        """The first size from which on the figure is twice as bad as at the smallest; None when there is none.

        >>> Curve("memory", "turns", "MB", points=[(1, 90), (10, 95), (100, 200), (1000, 900)]).bend
        100
        >>> Curve("answers", "animals", "/s", points=[(12, 3000), (200, 1600), (2000, 400)]).bend
        2000
        """
        bend = None
        for at, value in reversed(self.points[1:]):
            first = self.points[0][1]
            is_bad = value * BEND < first if self.unit == "/s" else value > first * BEND
            # A single bad value between good ones is the machine's.
            if not is_bad or abs(value - first) <= NOISE.get(self.unit, 0.0):
                break
            bend = at
        return bend

    @property
    def is_met(self) -> bool | None:
        """Whether every point keeps the line."""
        if self.line is None or not self.points:
            return None
        return all(self.line.is_met(value) for _, value in self.points)

    @property
    def sentence(self) -> str:
        """Where it bends, and whether it keeps its line."""
        if not self.points:
            return "not measured"
        (first_at, first), (last_at, last) = self.points[0], self.points[-1]
        span = f"{format_value(first, self.unit)} at {first_at:,.0f}, {format_value(last, self.unit)} at {last_at:,.0f}"
        bend = "no bend" if self.bend is None else f"bends at {self.bend:,.0f}"
        verdict = {True: ", keeps", False: ", misses", None: ""}[self.is_met]
        line = f"{verdict} the line {self.line.format(self.unit)}" if self.line else ""
        return f"{bend}: {span}{line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveSizes:
    """At which sizes is measured, and for how long."""

    streams: Sequence[int] = (100, 300, 1000, 3000, 10_000)
    sessions: Sequence[int] = (1, 100, 1000, 10_000, 100_000)
    animals: Sequence[int] = (12, 50, 200, 700, 2000)
    histories: Sequence[int] = (1, 10, 30, 100, 300, 1000)
    readers: Sequence[int] = (1, 10, 100, 300, 1000)
    reader_pieces: int = 60
    turns: int = 100_000
    turns_step: int = 5000
    turns_s: float = 600
    starts: int = 3
    seconds: float = 2


FULL = CurveSizes()
SMOKE = CurveSizes(
    streams=(2, 5),
    sessions=(1, 20),
    animals=(12, 20),
    histories=(1, 4),
    readers=(1, 5),
    reader_pieces=5,
    turns=60,
    turns_step=30,
    turns_s=30,
    starts=1,
    seconds=0.2,
)


@dataclass(slots=True)
class Curves:
    """Measures the curves, one method for each thing that grows. `imports_ms`: packages, with what each takes."""

    sizes: CurveSizes
    load: LoadProcess
    progress: Progress
    curves: list[Curve] = field(default_factory=list)
    imports_ms: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def measure_streams(self) -> None:
        """Streams at the same time, with a chunk a second each; all are open before the first one ends."""
        first = self._begin("first event, p95", "streams", "ms")
        gap = self._begin("delay of a chunk, p99", "streams", "ms")
        health = self._begin("GET /health meanwhile, p99", "streams", "ms")
        memory = self._begin("memory of a stream", "streams", "KB")
        for count in self._track("streams", self.sizes.streams):
            pieces = max(8, count // 125) if count > 100 else 8
            with run_paced_server(pieces, 1) as server:
                self._warm_up(server)
                before_mb = server.memory_mb
                load = self.load.run_streams(server.port, count, TIMEOUT_S, waiting_at_once=CONNECTIONS)
                self._expect("streams", load.completed, count)
                first.add(count, percentile(load.first_events_s, 95) * 1000)
                if load.gaps_s:
                    gap.add(count, max(0.0, percentile(load.gaps_s, 99) - 1) * 1000)
                if load.health_s:
                    health.add(count, percentile(load.health_s, 99) * 1000)
                memory.add(count, (server.peak_mb - before_mb) * 1024 / count)

    def measure_sessions(self) -> None:
        """Stored sessions of one user, who has one more turn, reads the list of them, and starts the server."""
        turn = self._begin("one turn, p50", "stored sessions", "ms")
        page = self._begin("a page of the list, p50", "stored sessions", "ms")
        start = self._begin("start to /ready", "stored sessions", "s")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with run_server(folder) as server:
                done = self._ask(server, [make_request(TURN_PATH, QUESTION, headers=log_in(server))], 1, count=1)
                self._expect("turns", len(done.times_s), 1)
            stored = 1
            for count in self._track("stored sessions", self.sizes.sessions):
                stored += copy_sessions(folder / "zoo.sqlite3", count - stored)
                with run_server(folder) as server:
                    headers = log_in(server)
                    stored += self._warm_up(server)
                    turns = self._ask(server, [make_request(TURN_PATH, QUESTION, headers=headers)], 1, COMPLETE_MARK)
                    pages = self._ask(server, [make_request("/conversations/sessions", headers=headers)], 1)
                    turn.add(count, median(turns.times_s) * 1000)
                    page.add(count, median(pages.times_s) * 1000)
                    start.add(count, server.start_s)
                stored += len(turns.times_s)

    def measure_animals(self) -> None:
        """Animals of the zoo: their list, a turn with one of them, and what holding them costs."""
        listed = self._begin("GET /animal_list, 16 connections", "animals", "/s")
        turn = self._begin("one turn, p50", "animals", "ms")
        memory = self._begin("memory at start", "animals", "MB")
        start = self._begin("start to /ready", "animals", "s")
        for count in self._track("animals", self.sizes.animals):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                asyncio.run(store_animals(folder / "zoo.sqlite3", count))
                with run_server(folder) as server:
                    memory.add(count, server.memory_mb)
                    start.add(count, server.start_s)
                    self._warm_up(server)
                    turns = self._ask(server, [make_request(TURN_PATH, QUESTION)], 1, COMPLETE_MARK)
                    turn.add(count, median(turns.times_s) * 1000)
                    listed.add(count, self._ask(server, [make_request("/animal_list")], 16).per_s)

    def measure_histories(self) -> None:
        """Turns of one session: the next one, and its history."""
        turn = self._begin("the next turn, p50", "turns of the session", "ms")
        page = self._begin("a page of its history, p50", "turns of the session", "ms")
        with run_server() as server:
            session_id = ask(server, "/convo_turn", QUESTION)["sessionId"]
            history = make_request(f"/convo_history?sessionId={session_id}")
            question = make_request(TURN_PATH, {**QUESTION, "sessionId": session_id})
            stored = 1
            for count in self._track("histories", self.sizes.histories):
                if count > stored:
                    filled = self._ask(server, [question], 1, COMPLETE_MARK, count=count - stored, seconds=TIMEOUT_S)
                    stored += len(filled.times_s)
                    self._expect("turns of a session", stored, count)
                turns = self._ask(server, [question], 1, COMPLETE_MARK, count=9)
                stored += len(turns.times_s)
                turn.add(count, median(turns.times_s) * 1000)
                page.add(count, median(self._ask(server, [history], 1, count=50).times_s) * 1000)

    def measure_readers(self) -> None:
        """Readers of one turn, against as many streams of their own."""
        line = Line(at_most=0.2)
        cost = self._begin("CPU of one more reader, ratio to a lone stream", "readers", "x", line=line)
        gap = self._begin("delay of a chunk, p99", "readers", "ms")
        pieces, per_s = self.sizes.reader_pieces, 10
        lone_count = min(100, max(self.sizes.readers))
        with run_paced_server(pieces, per_s) as server:
            self.load.run_streams(server.port, 5, TIMEOUT_S, is_health_watched=False)
            before_s = server.cpu_s
            lone = self.load.run_streams(server.port, lone_count, TIMEOUT_S, is_health_watched=False)
            lone_s = (server.cpu_s - before_s) / lone_count
            self._expect("lone streams", lone.completed, lone_count)
            one_s = 0.0
            for count in self._track("readers", self.sizes.readers):
                before_s = server.cpu_s
                started = ask(server, "/convo_turn", QUESTION, {"Prefer": "respond-async"})
                request = make_request(f"/convo_turn/{started['turnId']}/stream", is_last=True)
                load = self.load.run_streams(server.port, count, TIMEOUT_S, is_health_watched=False, request=request)
                self._expect("readers", load.completed, count)
                took_s = server.cpu_s - before_s
                if count == 1:
                    one_s = took_s
                elif lone_s:
                    cost.add(count, max(0.0, took_s - one_s) / (count - 1) / lone_s)
                if load.gaps_s:
                    gap.add(count, max(0.0, percentile(load.gaps_s, 99) - 1 / per_s) * 1000)

    def measure_turns(self) -> None:
        """Memory after so many turns, each in a session of its own, with the replay window as it is by default."""
        memory = self._begin("memory", "turns", "MB")
        rate = self._begin("whole turns, 32 connections", "turns", "/s")
        sizes = self.sizes
        left_s = sizes.turns_s
        with run_server() as server:
            memory.add(0, server.memory_mb)
            for done in self._track("turns", range(sizes.turns_step, sizes.turns + 1, sizes.turns_step)):
                if left_s <= 0:
                    continue
                result = self._ask(server, TURNS, CONNECTIONS, COMPLETE_MARK, count=sizes.turns_step, seconds=left_s)
                left_s -= result.took_s
                if len(result.times_s) == sizes.turns_step:
                    memory.add(done, server.memory_mb)
                    rate.add(done, result.per_s)

    def measure_starts(self) -> None:
        """The start of the process to `/ready`, with a new database and then with the same; what the imports take."""
        start = self._begin("to /ready, the first with a new database", "starts", "s", Line(at_most=1))
        with tempfile.TemporaryDirectory() as folder:
            for number in self._track("starts", range(1, self.sizes.starts + 2)):
                with run_server(Path(folder)) as server:
                    start.add(number, server.start_s)
        self.imports_ms = measure_imports()

    def _begin(self, title: str, grows: str, unit: str, line: Line | None = None) -> Curve:
        curve = Curve(title, grows, unit, line)
        self.curves.append(curve)
        return curve

    def _track(self, title: str, sizes: Sequence[int]) -> Any:
        task = self.progress.add_task(title, total=len(sizes), now="")
        for size in sizes:
            self.progress.update(task, now=f"{size:,}")
            yield size
            self.progress.advance(task)
        self.progress.update(task, now="")

    def _warm_up(self, server: Server) -> int:
        """A few turns, since the first ones of a server are slow; how many."""
        return len(self._ask(server, [make_request(TURN_PATH, QUESTION)], 1, COMPLETE_MARK, count=20).times_s)

    def _ask(
        self,
        server: Server,
        requests: Sequence[bytes],
        connections: int,
        expected: bytes = b" 200 ",
        *,
        count: int = UNLIMITED,
        seconds: float | None = None,
    ) -> RequestsResult:
        done = self.load.run_requests(
            server.port,
            requests,
            connections,
            count=count,
            seconds=self.sizes.seconds if seconds is None else seconds,
            expected=expected,
        )
        self._expect("good answers", len(done.times_s), len(done.times_s) + done.failed)
        return done

    def _expect(self, what: str, count: int, expected: int) -> None:
        if count != expected:
            self.failures.append(f"{count:,} of {expected:,} {what}")


CURVES: Mapping[str, Callable[[Curves], None]] = {
    "streams": Curves.measure_streams,
    "sessions": Curves.measure_sessions,
    "animals": Curves.measure_animals,
    "histories": Curves.measure_histories,
    "readers": Curves.measure_readers,
    "turns": Curves.measure_turns,
    "starts": Curves.measure_starts,
}


def measure_curves(names: Sequence[str], sizes: CurveSizes, console: Console) -> Curves:
    """The curves of those names."""
    with LoadProcess() as load, make_progress(console) as progress:
        curves = Curves(sizes, load, progress)
        for name in names:
            try:
                CURVES[name](curves)
            except Exception as error:
                # Nobody is there to begin anew: the others are measured.
                curves.failures.append(f"{name}: {error!r}")
        return curves


def list_curve_rows(curves: Sequence[Curve]) -> list[list[str]]:
    """The curves as text: a head, and a row for each."""
    rows = [["what grows", "figure", "at each size", "where it bends"]]
    for curve in curves:
        values = ", ".join(f"{at:,.0f}: {format_value(value, curve.unit)}" for at, value in _thin_out(curve.points))
        rows.append([curve.grows, curve.title, values, curve.sentence])
    return rows


def _thin_out(points: Sequence[tuple[float, float]], most: int = 8) -> list[tuple[float, float]]:
    step = -(-len(points) // most) or 1
    return [point for number, point in enumerate(points) if number % step == 0 or point is points[-1]]


def ask(server: Server, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
    """The JSON answer to a POST of the body, or to a GET without one."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        if body is None:
            connection.request("GET", path, headers=dict(headers or {}))
        else:
            sent = {"Content-Type": "application/json", **(headers or {})}
            connection.request("POST", path, json.dumps(body), sent)
        with connection.getresponse() as response:
            text = response.read()
            if response.status >= 300:
                raise RuntimeError(f"{path}: {response.status} {text.decode(errors='replace')}")
            return json.loads(text)


def log_in(server: Server) -> dict[str, str]:
    """The header of a demo user."""
    tokens = ask(server, "/auth/login", {"username": "user1", "password": "user1-demo"})
    return {"Authorization": f"Bearer {tokens['accessToken']}"}


def copy_sessions(path: Path, count: int) -> int:
    """Store so many copies of the first session with its turns; how many were stored."""
    if count <= 0:
        return 0
    with closing(sqlite3.connect(path)) as connection, connection:
        (session_id,) = connection.execute("SELECT min(session_id) FROM sessions").fetchone()
        turns = "SELECT turn_id FROM turns WHERE session_id = :session"
        numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)"
        (at,) = connection.execute("SELECT count(*) FROM sessions").fetchone()
        for table, where in (
            ("sessions", "session_id = :session"),
            ("turns", "session_id = :session"),
            ("messages", f"turn_id IN ({turns})"),
        ):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            # Other ids of the same length.
            values = [
                f"substr({name}, 1, length({name}) - 7) || printf('%07d', n + :at)"
                if name in ("session_id", "turn_id")
                else name
                for name in columns
            ]
            connection.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) {numbers} "  # noqa: S608  # our own names
                f"SELECT {', '.join(values)} FROM {table}, numbers WHERE {where}",
                {"session": session_id, "count": count, "at": at},
            )
    return count


async def store_animals(path: Path, count: int) -> None:
    """A database with so many animals: those of the package, and copies of them with other names."""
    files = sorted(PACKAGED_ANIMALS.glob("*.yaml"))
    packaged = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
    packaged.sort(key=lambda document: str(document["animal_id"]) != QUESTION["animalId"])
    documents = {}
    for number in range(count):
        document = dict(packaged[number % len(packaged)])
        if number >= len(packaged):
            kind = str(document["animal_id"]).partition("_")[0]
            name = "".join(SYLLABLES[int(digit)] for digit in f"{number:04}").capitalize()
            document |= {"animal_id": f"{kind}{number}_001", "name": name}
        documents[str(document["animal_id"])] = document
    async with open_sqlite_stores(path, SystemClock()) as stores:
        await stores.animals.seed(documents, PACKAGE, datetime.now(UTC))


def measure_imports() -> dict[str, float]:
    """Milliseconds that importing the server takes, by package; of ours by its parts. The interpreter counts itself."""
    command = [sys.executable, "-X", "importtime", "-c", "import openapi_server.server"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return sum_imports(done.stderr.splitlines())


def sum_imports(lines: Sequence[str]) -> dict[str, float]:
    """The milliseconds by package in the output of `-X importtime`, largest first.

    >>> sum_imports(["import time:  1500 |  9000 |   flask.app", "import time:   500 |   500 | flask"])
    {'flask': 2.0}
    """
    taken_us: dict[str, int] = {}
    for line in lines:
        head, _, rest = line.removeprefix("import time:").partition("|")
        if not line.startswith("import time:") or not head.strip().isdigit():
            continue
        names = rest.rpartition("|")[2].strip().split(".")
        package = ".".join(names[: 2 if names[0] == "openapi_server" else 1])
        taken_us[package] = taken_us.get(package, 0) + int(head)
    return {name: us / 1000 for name, us in sorted(taken_us.items(), key=lambda each: -each[1])}
