"""F1: `kill -9` at every point of a turn, and a server that has to live with what is left."""

from __future__ import annotations

import asyncio
import math
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.faults.exchanges import Exchange
from tests.faults.figures import Figure, at_most, none_of
from tests.faults.polling import until
from tests.faults.processes import ScriptedServer, scripted, start
from tests.faults.scripts import Script
from tests.faults.server import has_died
from tests.faults.stored import open_store
from tests.faults.visitors import Visitor

LEASE_S = 3


@dataclass(frozen=True, slots=True)
class Point:
    """When the server dies: where the script says, or, killed from outside, once the client saw `ids` events."""

    script: Script
    ids: int = 0


SLOW = Script(pieces=20, per_s=40)
POINTS = (
    Point(Script(die="before begin_turn")),
    Point(Script(die="after begin_turn")),
    Point(Script(die="after open")),
    *(Point(replace(SLOW, die_after=said)) for said in (0, 1, 2, 3, 5, 8, 13)),
    Point(Script(die="before settle_turn")),
    Point(Script(die="after settle_turn")),
    *(Point(SLOW, ids) for ids in (1, 2, 4, 9, 10, 12, 16, 1_000)),
)
FEW_POINTS = (POINTS[5], POINTS[-1])


@dataclass(frozen=True, slots=True)
class Crash:
    """A turn that was cut short, as its visitor remembers it."""

    script: Script
    session_id: str
    heard: Exchange

    @property
    def key(self) -> str:
        return f"key-of-{self.script.mark}"


async def kill_nine(folder: Path, points: Sequence[Point] = POINTS) -> list[Figure]:
    """Crash at each point, restart, look at what is left; at the end, look whether any turn ended a second time."""
    tally: Counter[str] = Counter()
    ends: dict[str, Any] = {}
    settled_s: list[float] = []
    server = await start(folder, LEASE=LEASE_S)
    try:
        for number, point in enumerate(points):
            crash = await _crash(server, point, f"crash-{number}")
            server = await start(folder, LEASE=LEASE_S)
            settled_s.append(await _settled(Visitor(server.port), crash))
            tally += await _look(Visitor(server.port), crash, ends)
        for turn_id, state in ends.items():
            tally["ended again"] += await Visitor(server.port).state(turn_id) != state
        tally["running"] += await _running(folder)
    finally:
        await server.end(signal.SIGKILL)
    count = len(points)
    return [
        none_of("F1", "kill -9: accepted messages lost", tally["lost"], tally["accepted"]),
        none_of("F1", "kill -9: messages stored twice, also after the same post again", tally["twice"], count),
        none_of("F1", "kill -9: replies lost after `complete`", tally["replies lost"], tally["replies"]),
        none_of("F1", "kill -9: turns that neither went on nor ended `interrupted`", tally["other end"], count),
        none_of("F1", "kill -9: turns that ended a second time", tally["ended again"], len(ends)),
        none_of(
            "F1", "kill -9: resumes answered otherwise than 200, 204 or 410", tally["resumed badly"], tally["resumed"]
        ),
        none_of("F1", "kill -9: sessions that take no new turn", tally["locked"], count),
        none_of("F1", "kill -9: turns still `running` at the end", tally["running"], count),
        at_most("F1", "kill -9: from the restart to a settled turn", max(settled_s), LEASE_S, "s"),
    ]


async def _crash(server: ScriptedServer, point: Point, mark: str) -> Crash:
    """A turn in a session that has one already, up to the point at which the server is dead."""
    visitor = Visitor(server.port)
    session_id = (await visitor.say(Script(mark="first"))).json["sessionId"]
    script = replace(point.script, mark=mark)
    heard = await visitor.listen(script, session_id=session_id, key=f"key-of-{mark}")
    await heard.to_ids(point.ids or 1_000)
    await server.end(signal.SIGKILL)
    assert point.ids or has_died(server.folder, script), f"the server was to die by itself: {script.message}"
    return Crash(script, session_id, await heard.to_end())


async def _settled(visitor: Visitor, crash: Crash) -> float:
    """Seconds until no turn of the session is under way."""

    async def is_settled() -> bool:
        messages = await visitor.history(crash.session_id)
        return all([await _is_over(visitor, turn_id) for turn_id in {message["turnId"] for message in messages}])

    return await until(is_settled, within_s=LEASE_S + 1)


async def _look(visitor: Visitor, crash: Crash, ends: dict[str, Any]) -> Counter[str]:
    tally: Counter[str] = Counter()
    stored = await _stored(visitor, crash, "user")
    tally["accepted"] = int(crash.heard.status == 200)
    tally["lost"] = crash.heard.status == 200 and not stored
    for message in stored:
        state = ends[message["turnId"]] = await visitor.state(message["turnId"])
        tally["other end"] += not _is_fair(state, crash.script)
    if crash.heard.event("complete"):
        tally["replies"] = 1
        tally["replies lost"] = [crash.script.said] != [
            message["content"] for message in await _stored(visitor, crash, "assistant")
        ]
    if crash.heard.frames:
        tally["resumed"] = 1
        resumed = await (await visitor.resume(crash.heard.turn_id, crash.heard.ids[-1])).to_end()
        tally["resumed badly"] = resumed.status not in (200, 204, 410)
    await (await visitor.listen(crash.script, session_id=crash.session_id, key=crash.key)).to_end()
    tally["twice"] = len(await _stored(visitor, crash, "user")) != 1
    tally["locked"] = (await visitor.say(Script(mark="next"), session_id=crash.session_id)).status != 200
    return tally


def _is_fair(state: Any, script: Script) -> bool:
    if state["status"] == "succeeded":
        return bool(state["reply"] == script.said)
    return bool(state["status"] == "failed" and state["error"]["code"] == "interrupted")


async def _stored(visitor: Visitor, crash: Crash, role: str) -> list[dict[str, Any]]:
    """The crashed turn's messages of one side: more than one is one too many."""
    messages = await visitor.history(crash.session_id)
    turns = {message["turnId"] for message in messages if message["content"] == crash.script.message}
    return [message for message in messages if message["turnId"] in turns and message["role"] == role]


async def _running(folder: Path) -> int:
    """Turns without an outcome, asked of the file itself."""
    async with open_store(folder) as store:
        return len(await store.running_turns())


async def survivor(folder: Path, turns: int = 10, lease_s: float = LEASE_S) -> list[Figure]:
    """Two processes on one file: one starts while the other speaks, which then sleeps too long, and then dies."""
    long = Script(pieces=round(lease_s * 15), per_s=10)
    async with scripted(folder, LEASE=lease_s) as first:
        visitor = Visitor(first.port)
        speaking = [await visitor.listen(long) for _ in range(turns)]
        async with scripted(folder, LEASE=lease_s):
            stolen = [(await exchange.to_end()).event("complete") for exchange in speaking].count(None)
            slept_s, ended_twice = await _oversleep(folder, first, turns, lease_s)
            turn_ids = [await visitor.begin(Script(hang_after=1)) for _ in range(turns)]
            await first.end(signal.SIGKILL)
            dead_s = await _interrupted(folder, turn_ids, lease_s)
    return [
        none_of("F1", "two processes: turns of a living one that the other one ended", stolen, turns),
        at_most("F1", "one of two sleeps: until the other one settles its turns", slept_s, lease_s + 1, "s"),
        none_of("F1", "one of two sleeps, and wakes: turns that ended a second time", ended_twice, turns),
        at_most("F1", "one of two dies: until the other one settles its turns", dead_s, lease_s + 1, "s"),
    ]


async def _oversleep(folder: Path, sleeper: ScriptedServer, turns: int, lease_s: float) -> tuple[float, int]:
    """Stop the process in the middle of its turns until it was given up, then wake it: it must give up too.

    Every second turn has one word left to say when it wakes, and would be complete in a moment.
    """
    speeches = [Script(pieces=round(2 * lease_s * 20), per_s=20), Script(pieces=2, per_s=2)]
    streams = [await Visitor(sleeper.port).listen(speeches[number % 2]) for number in range(turns)]
    await asyncio.gather(*(stream.to(b"event: chunk") for stream in streams))
    sleeper.process.send_signal(signal.SIGSTOP)
    slept_s = await _interrupted(folder, [stream.turn_id for stream in streams], lease_s)
    sleeper.process.send_signal(signal.SIGCONT)
    heard = [(await stream.to_end()).event("error") for stream in streams]
    told = [event["error"]["code"] for event in heard if event].count("interrupted")
    still_s = await _interrupted(folder, [stream.turn_id for stream in streams], lease_s)
    return slept_s, turns if math.isinf(still_s) else turns - told


async def _interrupted(folder: Path, turn_ids: Sequence[str], lease_s: float) -> float:
    """Seconds until all are stored as interrupted. Asks the file: a server might settle what it is asked for."""
    async with open_store(folder) as store:

        async def are_interrupted() -> bool:
            outcomes = [turn.outcome for turn_id in turn_ids if (turn := await store.turn(turn_id))]
            codes = [outcome.problem.code for outcome in outcomes if outcome and outcome.problem]
            return codes.count("interrupted") == len(turn_ids)

        return await until(are_interrupted, within_s=2 * lease_s + 2)


async def _is_over(visitor: Visitor, turn_id: str) -> bool:
    return (await visitor.state(turn_id))["status"] not in ("queued", "running")
