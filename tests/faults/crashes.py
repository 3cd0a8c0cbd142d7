"""F1 and F14: `kill -9` at every point of a turn, restarts under load, and what is stored afterwards."""

from __future__ import annotations

import asyncio
import math
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.faults.convo_client import ConvoClient, HttpExchange
from tests.faults.figures import Figure, expect_at_most, expect_none
from tests.support.processes import ScriptedServer, open_store, run_scripted, start_scripted
from tests.support.scripted_server import Script, has_died
from tests.support.timing import poll_until

LEASE_S = 3


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """When the server dies: where the script says, or, killed from outside, once the client saw `ids` events."""

    script: Script
    ids: int = 0


SLOW = Script(pieces=20, per_s=40)
POINTS = (
    CrashPoint(Script(die="before storing the turn")),
    CrashPoint(Script(die="after storing the turn")),
    CrashPoint(Script(die="after creating the log")),
    *(CrashPoint(replace(SLOW, die_after=said)) for said in (0, 1, 2, 3, 5, 8, 13)),
    CrashPoint(Script(die="before storing the outcome")),
    CrashPoint(Script(die="after storing the outcome")),
    *(CrashPoint(SLOW, ids) for ids in (1, 2, 4, 9, 10, 12, 16, 1_000)),
)
FEW_POINTS = (POINTS[5], POINTS[-1])


@dataclass(frozen=True, slots=True)
class Crash:
    """A turn that the crash interrupted, as its client saw it."""

    script: Script
    session_id: str
    exchange: HttpExchange

    @property
    def key(self) -> str:
        return f"key-of-{self.script.mark}"


async def kill_nine(folder: Path, points: Sequence[CrashPoint] = POINTS) -> list[Figure]:
    """Crash at each point, restart and inspect what is stored; at the end, check that no turn ended twice."""
    tally: Counter[str] = Counter()
    ends: dict[str, Any] = {}
    settled_s: list[float] = []
    server = await start_scripted(folder, LEASE=LEASE_S)
    try:
        for number, point in enumerate(points):
            crash = await _crash_server(server, point, f"crash-{number}")
            server = await start_scripted(folder, LEASE=LEASE_S)
            settled_s.append(await _wait_until_settled(ConvoClient(server.port), crash))
            tally += await _inspect_session(ConvoClient(server.port), crash, ends)
        for turn_id, state in ends.items():
            tally["ended again"] += await ConvoClient(server.port).get_turn(turn_id) != state
        tally["running"] += await _count_running(folder)
    finally:
        await server.stop_in_thread(signal.SIGKILL)
    count = len(points)
    return [
        expect_none("F1", "kill -9: accepted messages lost", tally["lost"], tally["accepted"]),
        expect_none("F1", "kill -9: messages stored twice, also after the same post again", tally["twice"], count),
        expect_none("F1", "kill -9: replies lost after `complete`", tally["replies lost"], tally["replies"]),
        expect_none("F1", "kill -9: turns that neither went on nor ended `interrupted`", tally["other end"], count),
        expect_none("F1", "kill -9: turns that ended a second time", tally["ended again"], len(ends)),
        expect_none(
            "F1", "kill -9: resumes answered otherwise than 200, 204 or 410", tally["resumed badly"], tally["resumed"]
        ),
        expect_none("F1", "kill -9: sessions that take no new turn", tally["locked"], count),
        expect_none("F1", "kill -9: turns still `running` at the end", tally["running"], count),
        expect_at_most("F1", "kill -9: from the restart to a settled turn", max(settled_s), LEASE_S, "s"),
    ]


async def _crash_server(server: ScriptedServer, point: CrashPoint, mark: str) -> Crash:
    """A turn in a session that has one already, up to the point at which the server is dead."""
    client = ConvoClient(server.port)
    session_id = (await client.post_turn(Script(mark="first"))).json["sessionId"]
    script = replace(point.script, mark=mark)
    heard = await client.post_stream(script, session_id=session_id, key=f"key-of-{mark}")
    await heard.read_events(point.ids or 1_000)
    await server.stop_in_thread(signal.SIGKILL)
    assert point.ids or has_died(server.folder, script), f"the server was to die by itself: {script.message}"
    return Crash(script, session_id, await heard.read_to_end())


async def _wait_until_settled(client: ConvoClient, crash: Crash) -> float:
    """Seconds until no turn of the session is under way."""

    async def is_settled() -> bool:
        messages = await client.list_messages(crash.session_id)
        return all([await _is_over(client, turn_id) for turn_id in {message["turnId"] for message in messages}])

    return await poll_until(is_settled, within_s=LEASE_S + 1)


async def _inspect_session(client: ConvoClient, crash: Crash, ends: dict[str, Any]) -> Counter[str]:
    tally: Counter[str] = Counter()
    stored = await _list_messages(client, crash, "user")
    tally["accepted"] = int(crash.exchange.status == 200)
    tally["lost"] = crash.exchange.status == 200 and not stored
    for message in stored:
        state = ends[message["turnId"]] = await client.get_turn(message["turnId"])
        tally["other end"] += not _is_expected_end(state, crash.script)
    if crash.exchange.find_event("complete"):
        tally["replies"] = 1
        tally["replies lost"] = [crash.script.reply] != [
            message["content"] for message in await _list_messages(client, crash, "assistant")
        ]
    if crash.exchange.frames:
        tally["resumed"] = 1
        resumed = await (await client.resume_stream(crash.exchange.turn_id, crash.exchange.ids[-1])).read_to_end()
        tally["resumed badly"] = resumed.status not in (200, 204, 410)
    await (await client.post_stream(crash.script, session_id=crash.session_id, key=crash.key)).read_to_end()
    tally["twice"] = len(await _list_messages(client, crash, "user")) != 1
    tally["locked"] = (await client.post_turn(Script(mark="next"), session_id=crash.session_id)).status != 200
    return tally


def _is_expected_end(state: Any, script: Script) -> bool:
    if state["status"] == "succeeded":
        return bool(state["reply"] == script.reply)
    return bool(state["status"] == "failed" and state["error"]["code"] == "interrupted")


async def _list_messages(client: ConvoClient, crash: Crash, role: str) -> list[dict[str, Any]]:
    """The crashed turn's messages of one side: more than one is one too many."""
    messages = await client.list_messages(crash.session_id)
    turns = {message["turnId"] for message in messages if message["content"] == crash.script.message}
    return [message for message in messages if message["turnId"] in turns and message["role"] == role]


async def _count_running(folder: Path) -> int:
    """Turns without an outcome, asked of the file itself."""
    async with open_store(folder) as store:
        return len(await store.list_running_turns())


async def kill_beside_second_process(folder: Path, turns: int = 10, lease_s: float = LEASE_S) -> list[Figure]:
    """Two processes on one database: the first keeps streaming, is stopped for longer than its lease, and is killed."""
    long = Script(pieces=round(lease_s * 15), per_s=10)
    async with run_scripted(folder, LEASE=lease_s) as first:
        client = ConvoClient(first.port)
        speaking = [await client.post_stream(long) for _ in range(turns)]
        async with run_scripted(folder, LEASE=lease_s):
            stolen = [(await exchange.read_to_end()).find_event("complete") for exchange in speaking].count(None)
            slept_s, ended_twice = await _outsleep_lease(folder, first, turns, lease_s)
            turn_ids = [await client.start_turn(Script(hang_after=1)) for _ in range(turns)]
            await first.stop_in_thread(signal.SIGKILL)
            dead_s = await _wait_until_interrupted(folder, turn_ids, lease_s)
    return [
        expect_none("F1", "two processes: turns of a living one that the other one ended", stolen, turns),
        expect_at_most("F1", "one of two sleeps: until the other one settles its turns", slept_s, lease_s + 1, "s"),
        expect_none("F1", "one of two sleeps, and wakes: turns that ended a second time", ended_twice, turns),
        expect_at_most("F1", "one of two dies: until the other one settles its turns", dead_s, lease_s + 1, "s"),
    ]


async def _outsleep_lease(folder: Path, sleeper: ScriptedServer, turns: int, lease_s: float) -> tuple[float, int]:
    """Stop the process in the middle of its turns until it was given up, then wake it: it must give up too.

    Every second turn has one word left to say when it wakes, and would be complete in a moment.
    """
    scripts = [Script(pieces=round(2 * lease_s * 20), per_s=20), Script(pieces=2, per_s=2)]
    streams = [await ConvoClient(sleeper.port).post_stream(scripts[number % 2]) for number in range(turns)]
    await asyncio.gather(*(stream.read_until(b"event: chunk") for stream in streams))
    sleeper.process.send_signal(signal.SIGSTOP)
    slept_s = await _wait_until_interrupted(folder, [stream.turn_id for stream in streams], lease_s)
    sleeper.process.send_signal(signal.SIGCONT)
    heard = [(await stream.read_to_end()).find_event("error") for stream in streams]
    told = [event["error"]["code"] for event in heard if event].count("interrupted")
    still_s = await _wait_until_interrupted(folder, [stream.turn_id for stream in streams], lease_s)
    return slept_s, turns if math.isinf(still_s) else turns - told


async def _wait_until_interrupted(folder: Path, turn_ids: Sequence[str], lease_s: float) -> float:
    """Seconds until all are stored as interrupted. Asks the file: a server might settle what it is asked for."""
    async with open_store(folder) as store:

        async def are_interrupted() -> bool:
            outcomes = [turn.outcome for turn_id in turn_ids if (turn := await store.get_turn(turn_id))]
            codes = [outcome.problem.code for outcome in outcomes if outcome and outcome.problem]
            return codes.count("interrupted") == len(turn_ids)

        return await poll_until(are_interrupted, within_s=2 * lease_s + 2)


async def _is_over(client: ConvoClient, turn_id: str) -> bool:
    return (await client.get_turn(turn_id))["status"] not in ("queued", "running")


DRAIN_S = 1


@dataclass(slots=True)
class VisitorLog:
    """What one client saw in one session: the messages accepted and the complete replies."""

    mark: str
    session_id: str = ""
    accepted: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    refused: int = 0

    async def talk_until_gone(self, port: int, answered: asyncio.Semaphore) -> None:
        """Post turns until the server is gone."""
        client = ConvoClient(port)
        while True:
            script = Script(mark=f"{self.mark}-{len(self.accepted)}")
            try:
                heard = await client.post_stream(script, session_id=self.session_id)
            except OSError:
                return
            if heard.status != 200:
                # 0: hung up on. 503: it is about to end.
                self.refused += heard.status not in (0, 503)
                return
            self.accepted.append(script.message)
            await heard.read_to_end()
            if metadata := heard.find_event("metadata"):
                self.session_id = metadata["sessionId"]
            if not heard.find_event("complete"):
                return
            self.replies.append(heard.find_event("complete")["fullResponse"])
            answered.release()


async def restart_under_load(folder: Path, times: int = 100, clients: int = 8, turns: int = 24) -> list[Figure]:
    """When the server has answered `turns` turns, it is stopped, now with SIGTERM, now with SIGKILL, and restarted."""
    logs: list[VisitorLog] = []
    for number in range(times):
        new_logs = [VisitorLog(f"restart-{number}-{name}") for name in range(clients)]
        async with run_scripted(folder, LEASE=3, DRAIN_TIMEOUT=DRAIN_S, LOG_LEVEL="WARNING") as server:
            answered = asyncio.Semaphore(0)
            conversations = asyncio.gather(*(log.talk_until_gone(server.port, answered) for log in new_logs))
            enough = asyncio.create_task(_wait_for_turns(answered, turns))
            await asyncio.wait((enough, conversations), return_when=asyncio.FIRST_COMPLETED)
            await server.stop_in_thread(signal.SIGKILL if number % 2 else signal.SIGTERM)
            await conversations
            enough.cancel()
        logs += new_logs
    # The session cannot be looked up where no client ever received its id.
    return await _compare(folder, [log for log in logs if log.session_id])


async def _wait_for_turns(answered: asyncio.Semaphore, turns: int) -> None:
    for _ in range(turns):
        await answered.acquire()


async def _compare(folder: Path, logs: list[VisitorLog]) -> list[Figure]:
    lost = replies_lost = 0
    async with open_store(folder) as store:
        for log in logs:
            turns = (await store.list_turns(log.session_id, 10_000)).items
            asked = Counter(turn.message for turn in turns)
            told = Counter(turn.outcome.reply for turn in turns if turn.outcome and turn.outcome.reply)
            lost += sum(asked[message] != 1 for message in log.accepted)
            replies_lost += (Counter(log.replies) - told).total()
    accepted = sum(len(log.accepted) for log in logs)
    replies = sum(len(log.replies) for log in logs)
    refused = sum(log.refused for log in logs)
    return [
        expect_none("F14", "restarts under load: accepted messages lost or doubled", lost, accepted),
        expect_none("F14", "restarts under load: replies lost after `complete`", replies_lost, replies),
        expect_none(
            "F14", "restarts under load: posts refused, though the turn before was `complete`", refused, accepted
        ),
    ]
