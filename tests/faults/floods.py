"""L: one address opens far more streams than it may have, and another guesses passwords. The others notice nothing."""

from __future__ import annotations

import asyncio
import json
import re
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from benchmarks.load import percentile
from tests.faults.convo_client import ANIMAL, ConvoClient, HttpExchange, send_request
from tests.faults.figures import Figure, expect_all, expect_at_most, expect_none
from tests.support.connections import close_all
from tests.support.processes import FreshScriptedServer, ScriptedServer, run_scripted
from tests.support.scripted_server import Script

FLOODER, VISITOR, GUESSER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
# How much later than without a flood a chunk of another stream may come.
UNCHANGED_MS = 50
# The settings of a production server; its limits are the defaults.
PRODUCTION = {
    "ENVIRONMENT": "production",
    "SIGNING_KEY": "m3V0q9Zk2Tq7yWc4Rb8LxN1fJ6sHdGpAeUiO5tYw",
    "CORS_ORIGINS": "https://zoo.example",
    "LOG_LEVEL": "WARNING",
}

REQUEST = (
    "POST /convo_turn_stream HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Content-Length: {length}\r\n{cookie}Connection: close\r\n\r\n{body}"
)


@dataclass(frozen=True, slots=True)
class FloodSize:
    """`flood` streams of one address at once, beside `visitors` at another whose streams last `duration_s`.

    The visitors are new callers, too, so at most as many as a caller may have streams.

    `allowed` of the flood may be let in. `share`: the percentile that is held against the line.
    """

    flood: int = 500
    visitors: int = 20
    duration_s: float = 10
    allowed: int = 40
    share: float = 99
    settings: tuple[tuple[str, object], ...] = ()

    @property
    def script(self) -> Script:
        return Script(pieces=round(self.duration_s * 10), per_s=10)


@dataclass(slots=True)
class FloodRun:
    """What was measured. `statuses`: the answers to the flood; `retry_after`: those of its 429s that had the header."""

    gaps_ms: list[float] = field(default_factory=list)
    cut: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    retry_after: int = 0


async def flood_streams(folder: Path, size: FloodSize = FloodSize()) -> list[Figure]:
    """The same visitors without a flood, with one, and with one that comes with a new cookie each time."""
    alone = await _run(folder, size, flood=0)
    figures = []
    refused = size.flood - size.allowed
    for kind in ("with no name", "each with a new cookie"):
        run = await _run(folder, size, flood=size.flood, is_named=kind != "with no name")
        who = f"{size.flood} streams of one address, {kind}"
        line_ms = percentile(alone.gaps_ms, size.share) + UNCHANGED_MS
        gap_ms = percentile(run.gaps_ms, size.share)
        figures += [
            expect_all("L", f"{who}: {refused} refused with 429 and Retry-After", run.retry_after, refused),
            expect_none("L", f"{who}: other answers", size.flood - run.statuses[200] - run.statuses[429], size.flood),
            expect_none("L", f"{who}: streams of others cut, refused or incomplete", run.cut, size.visitors),
            expect_at_most("L", f"{who}: gap between chunks of others, p{size.share:g}", gap_ms, line_ms, "ms"),
        ]
    return figures


async def _run(folder: Path, size: FloodSize, *, flood: int, is_named: bool = False) -> FloodRun:
    run = FloodRun()
    async with run_scripted(folder, **PRODUCTION, **dict(size.settings)) as server:
        client = ConvoClient(server.port, address="127.0.0.9")
        await client.post_turn(Script())
        visitors = [
            asyncio.create_task(_time_chunks(ConvoClient(server.port, f"visitor-{number:022}", VISITOR), size, run))
            for number in range(size.visitors)
        ]
        await asyncio.sleep(0.5)
        async with _open_flood(server.port, size.script, run, flood, is_named=is_named):
            await asyncio.gather(*visitors)
    return run


@asynccontextmanager
async def _open_flood(port: int, script: Script, run: FloodRun, count: int, *, is_named: bool) -> AsyncIterator[None]:
    """In a thread, with bare sockets: an asyncio client of 500 streams would delay what is measured beside it."""
    is_over = threading.Event()
    cookies = [f"Cookie: session_id=invented-{number:022}\r\n" if is_named else "" for number in range(count)]
    flood = asyncio.create_task(asyncio.to_thread(_hold_streams, port, script, cookies, run, is_over))
    try:
        yield
    finally:
        is_over.set()
        await flood


def _hold_streams(port: int, script: Script, cookies: list[str], run: FloodRun, is_over: threading.Event) -> None:
    """Send one request on each of many connections, and read the answers until it is over."""
    body = json.dumps({"message": script.message, "animalId": ANIMAL})
    heads: dict[socket.socket, bytes] = {}
    with selectors.DefaultSelector() as selector:
        for cookie in cookies:
            plug = socket.create_connection(("127.0.0.1", port), source_address=(FLOODER, 0))
            plug.sendall(REQUEST.format(cookie=cookie, length=len(body), body=body).encode())
            selector.register(plug, selectors.EVENT_READ)
            heads[plug] = b""
        while not is_over.is_set():
            for key, _ in selector.select(0.1):
                plug = cast(socket.socket, key.fileobj)
                part = plug.recv(2**16)
                heads[plug] += part if b"\r\n\r\n" not in heads[plug] else b""
                if not part:
                    selector.unregister(plug)
        for plug, head in heads.items():
            plug.close()
            status = int(head[9:12] or 0)
            run.statuses[status] += 1
            run.retry_after += status == 429 and re.search(rb"(?i)\r\nretry-after: [1-9]", head) is not None


async def _time_chunks(client: ConvoClient, size: FloodSize, run: FloodRun) -> None:
    stream = await client.post_stream(size.script)
    chunks, last_s = 0, 0.0
    while await stream.read_part():
        heard = stream.body.count(b"event: chunk\n")
        if chunks < heard:
            now_s = time.monotonic()
            run.gaps_ms += [(now_s - last_s) * 1000] if chunks else []
            chunks, last_s = heard, now_s
    run.cut += (stream.find_event("complete") or {}).get("fullResponse") != size.script.reply


async def guess_passwords(folder: Path, guesses: int = 200, abandoned: int = 300, at_once: int = 50) -> list[Figure]:
    """Wrong passwords for one name, logins whose clients leave at once, and many logins of one address at once."""
    async with _run_with_real_hashes(folder) as server:
        await _log_in(server, VISITOR, "keeper1")
        tried = Counter([(await _log_in(server, GUESSER, "admin", "wrong")).status for _ in range(guesses)])[401]
        right = await _log_in(server, GUESSER, "admin")
        stranger_s = await _time_login(server, VISITOR, "admin")

        before = server.log.count("login_refused")
        leaving = [asyncio.create_task(_log_in(server, FLOODER, f"user{n}", "wrong")) for n in range(abandoned)]
        await asyncio.wait(leaving, timeout=0.2)
        for login in leaving:
            login.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        await close_all()
        after_s = await _time_login(server, VISITOR, "parent1")
        checked = server.log.count("login_refused") - before

        busy = [asyncio.create_task(_log_in(server, FLOODER, "user1")) for _ in range(at_once)]
        await asyncio.sleep(0.05)
        beside_s = await _time_login(server, VISITOR, "keeper1")
        answers = await asyncio.gather(*busy)
    return [
        expect_at_most("S", f"{guesses} wrong passwords for one name: tried", tried, 5, "passwords"),
        expect_all("S", "then the right one from there: 429 with Retry-After", _count_refused([right]), 1),
        expect_at_most("S", "the same name from another address", stranger_s, 1, "s"),
        expect_at_most("S", f"a login after {abandoned} whose clients left", after_s, 1, "s"),
        expect_at_most("S", f"passwords checked of {abandoned} logins whose clients left", checked, 20, "passwords"),
        expect_at_most("S", f"a login beside {at_once} at once of another address", beside_s, 1, "s"),
        expect_all(
            "S",
            f"{at_once} logins at once of one address: done, or 429 with Retry-After",
            _count_refused(answers) + sum(answer.status == 200 for answer in answers),
            at_once,
        ),
    ]


@asynccontextmanager
async def _run_with_real_hashes(folder: Path) -> AsyncIterator[ScriptedServer]:
    """Other servers of the suite hash passwords a thousand times faster."""
    server = await asyncio.to_thread(FreshScriptedServer, folder, LOG_LEVEL="INFO", RATE_LIMIT_LOGINS=0)
    try:
        yield server
    finally:
        await server.stop_in_thread()


def _count_refused(answers: list[HttpExchange]) -> int:
    return sum(answer.status == 429 and int(answer.headers.get("retry-after", "0")) > 0 for answer in answers)


async def _log_in(server: ScriptedServer, address: str, username: str, password: str = "") -> HttpExchange:
    body = {"username": username, "password": password or f"{username}-demo"}
    exchange = await send_request(server.port, "POST", "/auth/login", body, address=address)
    return await exchange.read_to_end()


async def _time_login(server: ScriptedServer, address: str, username: str) -> float:
    """Seconds until the login was done; infinite when it was refused."""
    began_s = time.monotonic()
    answer = await _log_in(server, address, username)
    return time.monotonic() - began_s if answer.status == 200 else float("inf")
