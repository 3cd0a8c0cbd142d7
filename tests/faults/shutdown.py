"""F13: SIGTERM with running turns, a second SIGTERM, and SIGTERM during the start."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from pathlib import Path

from openapi_server.models.turn import TurnStatus
from tests.faults.convo_client import ConvoClient, HttpExchange
from tests.faults.figures import Figure, expect_all, expect_at_most, expect_none
from tests.support.processes import FreshScriptedServer, ScriptedServer, open_store, run_scripted
from tests.support.scripted_server import Script
from tests.support.timing import poll_until

AT_ONCE_S = 0.25
SHORT = Script(pieces=8, per_s=10)
HANGING = Script(hang_after=2)


async def drain_on_sigterm(folder: Path, streams: int = 50, drain_s: float = 3) -> list[Figure]:
    """Half of the turns end within the drain timeout; the other half never would."""
    async with run_scripted(folder, DRAIN_TIMEOUT=drain_s) as server:
        client = ConvoClient(server.port)
        answered = await _open_streams(client, [SHORT, HANGING] * (streams // 2))
        server.process.send_signal(signal.SIGTERM)
        began_s = time.monotonic()
        ready_s = await poll_until(lambda: _is_unready(client), within_s=drain_s)
        refused = await client.post_turn(Script())
        healthy = await client.get_status("/health")
        await asyncio.gather(*(stream.read_to_end() for stream in answered))
        code = await _wait_for_exit(server, drain_s + 10)
        ended_s = time.monotonic() - began_s
    short, cut = answered[::2], answered[1::2]
    kept = await _count_stored(folder, answered)
    is_turned_away = refused.status == 503 and "retry-after" in refused.headers
    return [
        expect_at_most("F13", f"SIGTERM with {streams} streams: until /ready says 503", ready_s, AT_ONCE_S, "s"),
        expect_all("F13", "SIGTERM: new turns 503 with Retry-After, /health 200", is_turned_away + (healthy == 200), 2),
        expect_all(
            "F13",
            "SIGTERM: turns that end within DRAIN_TIMEOUT complete",
            sum(_is_complete(stream) for stream in short),
            len(short),
        ),
        expect_all(
            "F13",
            "SIGTERM: the others told to come back, `interrupted`, closed whole",
            sum(map(_is_told_to_reconnect, cut)),
            len(cut),
        ),
        expect_all("F13", "SIGTERM: turns stored as they ended", kept, len(answered)),
        expect_at_most(
            "F13", f"SIGTERM: until the process ended, DRAIN_TIMEOUT {drain_s} s", ended_s, drain_s + 1, "s"
        ),
        Figure("F13", "SIGTERM: exit code", f"{code}", "0", code == 0),
    ]


async def repeat_sigterm(folder: Path, streams: int = 50) -> list[Figure]:
    """The second signal ends the drain at once; streams are still closed properly."""
    async with run_scripted(folder, DRAIN_TIMEOUT=60) as server:
        client = ConvoClient(server.port)
        answered = await _open_streams(client, [HANGING] * streams)
        server.process.send_signal(signal.SIGTERM)
        await poll_until(lambda: _is_unready(client), within_s=5)
        server.process.send_signal(signal.SIGTERM)
        began_s = time.monotonic()
        await asyncio.gather(*(stream.read_to_end() for stream in answered))
        code = await _wait_for_exit(server, 70)
        ended_s = time.monotonic() - began_s
    kept = await _count_stored(folder, answered)
    return [
        expect_all(
            "F13",
            "second SIGTERM: streams told to come back and closed whole",
            sum(map(_is_told_to_reconnect, answered)),
            streams,
        ),
        expect_all("F13", "second SIGTERM: turns stored as they ended", kept, streams),
        expect_at_most("F13", "second SIGTERM: until the process ended", ended_s, 1, "s"),
        Figure("F13", "second SIGTERM: exit code", f"{code}", "0", code == 0),
    ]


async def stop_during_start(folder: Path, times: int = 20, start_s: float = 0) -> list[Figure]:
    """At moments spread over a start (measured, if not given), the first before the process can have done anything."""
    start_s = start_s or await _measure_start_s(folder)
    ends = [await asyncio.to_thread(_terminate_after, folder, start_s * n / times) for n in range(times)]
    async with run_scripted(folder) as server:
        answered = (await ConvoClient(server.port).post_turn(Script())).status
    return [
        expect_at_most(
            "F13", f"SIGTERM during {times} starts: until the last process ended", max(end[1] for end in ends), 1, "s"
        ),
        expect_none(
            "F13",
            "SIGTERM during the start: tracebacks, or exit codes but 0 and -15",
            sum(end[0] for end in ends),
            times,
        ),
        Figure("F13", "SIGTERM during the start: a turn on the next start", f"{answered}", "200", answered == 200),
    ]


async def _open_streams(client: ConvoClient, scripts: list[Script]) -> list[HttpExchange]:
    streams = await asyncio.gather(*(client.post_stream(script) for script in scripts))
    return list(await asyncio.gather(*(stream.read_until(b"event: chunk") for stream in streams)))


async def _is_unready(client: ConvoClient) -> bool:
    return await client.get_status("/ready") == 503


async def _wait_for_exit(server: ScriptedServer, within_s: float) -> int | None:
    """The exit code; None when the process still runs."""
    try:
        return await asyncio.to_thread(server.process.wait, within_s)
    except subprocess.TimeoutExpired:
        return None


def _is_complete(stream: HttpExchange) -> bool:
    return stream.is_whole and (stream.find_event("complete") or {}).get("fullResponse") == SHORT.reply


def _is_told_to_reconnect(stream: HttpExchange) -> bool:
    """`retry:` and a comment before the error, then the proper end of the response."""
    _, _, last = bytes(stream.body).rpartition(b"event: chunk")
    error = (stream.find_event("error") or {}).get("error", {})
    is_told = b"\nretry: " in last and b"\n: " in last and error.get("code") == "interrupted"
    return stream.is_whole and is_told


async def _count_stored(folder: Path, answered: list[HttpExchange]) -> int:
    """How many turns are stored with the outcome that their readers received."""
    async with open_store(folder) as store:
        turns = [await store.get_turn(stream.turn_id) for stream in answered]
    due = [TurnStatus.SUCCEEDED if stream.find_event("complete") else TurnStatus.FAILED for stream in answered]
    return sum(turn is not None and turn.status is status for turn, status in zip(turns, due, strict=True))


async def _measure_start_s(folder: Path) -> float:
    began_s = time.monotonic()
    server = await asyncio.to_thread(FreshScriptedServer, folder)
    took_s = time.monotonic() - began_s
    await server.stop_in_thread()
    return took_s


def _terminate_after(folder: Path, delay_s: float) -> tuple[bool, float]:
    """Whether the process ended badly, and the seconds from the signal to its end."""
    log_path = folder / f"start-{time.monotonic_ns()}.log"
    process = FreshScriptedServer.start(folder, log_path)
    try:
        process.wait(delay_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
    began_s = time.monotonic()
    try:
        code = process.wait(30)
    finally:
        process.kill()
        assert process.stdout is not None
        process.stdout.close()
    took_s = time.monotonic() - began_s
    return code not in (0, -signal.SIGTERM) or "Traceback" in log_path.read_text(), took_s
