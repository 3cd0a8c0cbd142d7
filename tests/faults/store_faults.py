"""F8: the store is away, locked, slow, full, read-only or damaged: clients are told, nothing is lost, all recovers."""

from __future__ import annotations

import asyncio
import math
import os
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.load import percentile
from tests.faults.convo_client import ConvoClient, HttpExchange, watch_health
from tests.faults.figures import Figure, expect_all, expect_at_most, expect_none
from tests.support.processes import run_scripted, run_zoochat
from tests.support.scripted_server import Script
from tests.support.timing import poll_until

HEALTH_MS = 50
# A probe counts for two seconds, waits three at most, and SQLite waits five for a lock.
NOTICED_S = 8
RECOVERED_S = 4
# How long a turn that meets the fault may take to end: SQLite's wait for a lock, and the engine's further attempts.
ENDED_S = 60
DISK_MB = 12
RUNNING = Script(pieces=12, per_s=10)


@dataclass(frozen=True, slots=True)
class StoreFault:
    """A fault, for `lasts_s`. `is_down`: turns are refused and end without their reply meanwhile.

    `is_noticed`: it lasts long enough for `/ready` to say so.
    """

    name: str
    inject: Callable[[Path], AsyncIterator[None]]
    lasts_s: float
    is_down: bool = False
    is_noticed: bool = False


@dataclass(slots=True)
class FaultRun:
    """What was measured while one fault lasted and afterwards."""

    running: list[HttpExchange] = field(default_factory=list)
    posted: list[HttpExchange] = field(default_factory=list)
    health_ms: list[float] = field(default_factory=list)
    noticed_s: float = math.inf
    recovered_s: float = math.inf
    lost: int = 0


async def _move_away(path: Path) -> AsyncIterator[None]:
    """As when a network drive is gone, or somebody has moved the file."""
    away = path.with_name("away")
    os.rename(path, away)  # noqa: PTH104  # at once, in this task
    yield
    os.rename(away, path)  # noqa: PTH104


async def _lock(path: Path) -> AsyncIterator[None]:
    """Another program writes and does not end its transaction."""
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)) as other:
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def _lock_by_turns(path: Path, held_s: float, free_s: float) -> AsyncIterator[None]:
    """Another program writes, again and again."""

    async def take_turns() -> None:
        with closing(sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)) as other:
            while True:
                await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
                try:
                    await asyncio.sleep(held_s)
                finally:
                    other.execute("ROLLBACK")
                await asyncio.sleep(free_s)

    turns = asyncio.create_task(take_turns())
    yield
    turns.cancel()
    await asyncio.gather(turns, return_exceptions=True)


async def _throttle(path: Path) -> AsyncIterator[None]:
    async for _ in _lock_by_turns(path, held_s=0.3, free_s=0.7):
        yield


async def _slow_down(path: Path) -> AsyncIterator[None]:
    async for _ in _lock_by_turns(path, held_s=2, free_s=0.2):
        yield


async def _fill_disk(path: Path) -> AsyncIterator[None]:
    """To the last byte: the file system is a small one of its own."""
    filler = path.with_name("filler")

    def fill() -> None:
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)

    await asyncio.to_thread(fill)
    yield
    filler.unlink()


AWAY = StoreFault("file moved away", _move_away, 3, is_down=True, is_noticed=True)
BRIEFLY_AWAY = StoreFault("file moved away for 0.3 s in mid-turn", _move_away, 0.3)
FULL = StoreFault("disk full", _fill_disk, 3, is_down=True, is_noticed=True)
FAULTS = (
    AWAY,
    BRIEFLY_AWAY,
    StoreFault("locked by another program", _lock, 12, is_down=True, is_noticed=True),
    StoreFault("locked 30 % of the time", _throttle, 5),
    StoreFault("2 s slow", _slow_down, 8),
    FULL,
)
FEW_FAULTS = (replace(AWAY, lasts_s=1), BRIEFLY_AWAY)


async def break_store(
    folder: Path, faults: tuple[StoreFault, ...] = FAULTS, turns: int = 6, share: float = 99
) -> list[Figure]:
    """One server; `turns` run when each fault begins, and others are posted while it lasts.

    `share`: the percentile of `/health` that is held against its line.
    """
    figures: list[Figure] = []
    with mount_small_disk(folder / "disk") as is_mounted:
        async with run_scripted(folder / "disk", LOG_LEVEL="WARNING") as server:
            path = folder / "disk" / "zoo.sqlite3"
            for fault in faults:
                if fault is FULL and not is_mounted:
                    what = f"store: {fault.name}"
                    figures.append(Figure("F8", what, "this user may not mount a small disk", "503", passed=None))
                    continue
                run = await _run_fault(ConvoClient(server.port), path, fault, turns)
                figures += _judge(fault, run, share)
    return figures


@contextmanager
def mount_small_disk(folder: Path, *options: str) -> Iterator[bool]:
    """A file system of its own in the folder; False where this user may not mount one: then it is a plain folder."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={DISK_MB}m", *options]), "none", str(folder)]
    try:
        is_mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        is_mounted = False
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def _run_fault(client: ConvoClient, path: Path, fault: StoreFault, turns: int) -> FaultRun:
    run = FaultRun()
    run.running = await asyncio.gather(*(client.post_stream(RUNNING) for _ in range(turns)))
    await asyncio.gather(*(stream.read_until(b"event: chunk") for stream in run.running))
    watch = asyncio.create_task(watch_health(client, run.health_ms))
    reading = asyncio.gather(*(stream.read_to_end() for stream in run.running))
    began_s = time.monotonic()
    async for _ in fault.inject(path):
        noticing = asyncio.create_task(poll_until(lambda: _has_status(client, "/ready", 503), within_s=NOTICED_S + 1))
        while time.monotonic() < began_s + fault.lasts_s:
            stream = await client.post_stream(Script(pieces=1))
            run.posted.append(await stream.read_to_end())
            await asyncio.sleep(0.05)
        if fault.is_noticed:
            run.noticed_s = await noticing
        noticing.cancel()
    run.recovered_s = await poll_until(lambda: _is_serving(client), within_s=RECOVERED_S + 5)
    async with asyncio.timeout(ENDED_S):
        await reading
    watch.cancel()
    await asyncio.gather(watch, noticing, return_exceptions=True)
    run.lost = await _count_lost(client, [*run.running, *run.posted])
    return run


async def _has_status(client: ConvoClient, path: str, status: int) -> bool:
    return await client.get_status(path) == status


async def _is_serving(client: ConvoClient) -> bool:
    """Whether a turn succeeds and `/ready` says so."""
    turn = await client.post_turn(Script(pieces=1))
    is_answered = turn.status == 200 and turn.json.get("reply") == Script(pieces=1).reply
    return is_answered and await _has_status(client, "/ready", 200)


async def _count_lost(client: ConvoClient, streams: list[HttpExchange]) -> int:
    """Replies that a client was told are complete, and that the store does not have."""
    lost = 0
    for stream in streams:
        complete = stream.find_event("complete")
        if complete is not None:
            stored = await client.get_turn(stream.turn_id)
            lost += (stored.get("status"), stored.get("reply")) != ("succeeded", complete["fullResponse"])
    return lost


def _judge(fault: StoreFault, run: FaultRun, share: float) -> list[Figure]:
    what = f"store {fault.name}"
    streams = [*run.running, *(stream for stream in run.posted if stream.status == 200)]
    refused = [stream for stream in run.posted if stream.status != 200]
    unfit = sum(stream.status != 503 or "retry-after" not in stream.headers for stream in refused)
    unended = sum(not (stream.find_event("complete") or stream.find_event("error")) for stream in streams)
    completed = sum(stream.find_event("complete") is not None for stream in streams)
    health_ms = percentile(run.health_ms, share)
    figures = [
        expect_none("F8", f"{what}: answers but 200, or 503 with Retry-After", unfit, len(run.posted)),
        expect_none("F8", f"{what}: streams without their terminal event", unended, len(streams)),
        expect_none("F8", f"{what}: replies lost after `complete`", run.lost, len(streams)),
        expect_none("F8", f"{what}: /health not 200", sum(map(math.isinf, run.health_ms)), len(run.health_ms)),
        expect_at_most("F8", f"{what}: GET /health p{share:g}", health_ms, HEALTH_MS, "ms"),
        expect_at_most("F8", f"{what}: until turns succeed again, no restart", run.recovered_s, RECOVERED_S, "s"),
    ]
    if fault.is_noticed:
        figures.append(expect_at_most("F8", f"{what}: until /ready says 503", run.noticed_s, NOTICED_S, "s"))
    if not fault.is_down:
        figures.append(expect_all("F8", f"{what}: turns that succeed nevertheless", completed, len(streams)))
    return figures


async def start_with_broken_store(folder: Path) -> list[Figure]:
    """A damaged file, a file of something else, a folder in its place, a read-only disk: one sentence, exit code 2."""
    damaged, other, occupied = folder / "damaged.sqlite3", folder / "other.sqlite3", folder / "folder.sqlite3"
    occupied.mkdir()
    other.write_bytes(b"These are the keepers' holiday pictures.\n" * 1_000)
    with closing(sqlite3.connect(damaged)) as database:
        database.execute("CREATE TABLE turns (id)")
        database.executemany("INSERT INTO turns VALUES (?)", [("x" * 1000,)] * 100)
        database.commit()
    content = bytearray(damaged.read_bytes())
    content[100:8_192] = b"\xff" * 8_092
    damaged.write_bytes(content)
    figures = []
    with mount_small_disk(folder / "disk", "ro") as is_mounted:
        paths = {"damaged file": damaged, "file of something else": other, "folder in its place": occupied}
        if is_mounted:
            paths["read-only disk"] = folder / "disk" / "zoo.sqlite3"
        for name, path in paths.items():
            before = path.read_bytes() if path.is_file() else b""
            ended = await asyncio.to_thread(
                run_zoochat, "serve", folder=folder, variables={"SQLITE_PATH": path, "PORT": 0, "SEMANTIC": "off"}
            )
            is_kept = (path.read_bytes() if path.is_file() else b"") == before
            is_told = ended.returncode == 2 and "SQLITE_PATH" in ended.stderr and "Traceback" not in ended.stderr
            measured = f"exit code {ended.returncode}, told: {is_told}, file kept: {is_kept}"
            figures.append(
                Figure("F8", f"start with a {name}", measured, "2, in a sentence, file kept", is_told and is_kept)
            )
    return figures
