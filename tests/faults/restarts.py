"""F14: restart after restart under load, and every message that was ever accepted is still there."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.figures import Figure, expect_none
from tests.faults.stored import open_store
from tests.faults.visitors import ConvoClient
from tests.support.processes import run_scripted
from tests.support.scripted_server import Script

DRAIN_S = 1


@dataclass(slots=True)
class VisitorLog:
    """What one visitor was promised in one session: the messages accepted, and the replies that were `complete`."""

    mark: str
    session_id: str = ""
    accepted: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    refused: int = 0

    async def talk_until_gone(self, port: int, spoken: asyncio.Semaphore) -> None:
        """Talk until the server is gone."""
        visitor = ConvoClient(port)
        while True:
            script = Script(mark=f"{self.mark}-{len(self.accepted)}")
            try:
                heard = await visitor.post_stream(script, session_id=self.session_id)
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
            spoken.release()


async def restart_under_load(folder: Path, times: int = 100, visitors: int = 8, turns: int = 24) -> list[Figure]:
    """When the server has answered `turns` turns, it is stopped, now with SIGTERM, now with SIGKILL, and restarted."""
    diaries: list[VisitorLog] = []
    for number in range(times):
        fresh = [VisitorLog(f"restart-{number}-{name}") for name in range(visitors)]
        async with run_scripted(folder, LEASE=3, DRAIN_TIMEOUT=DRAIN_S, LOG_LEVEL="WARNING") as server:
            spoken = asyncio.Semaphore(0)
            talks = asyncio.gather(*(diary.talk_until_gone(server.port, spoken) for diary in fresh))
            enough = asyncio.create_task(_wait_for_turns(spoken, turns))
            await asyncio.wait((enough, talks), return_when=asyncio.FIRST_COMPLETED)
            await server.stop_in_thread(signal.SIGKILL if number % 2 else signal.SIGTERM)
            await talks
            enough.cancel()
        diaries += fresh
    # A session whose id nobody ever heard cannot be asked for.
    return await _compare(folder, [diary for diary in diaries if diary.session_id])


async def _wait_for_turns(spoken: asyncio.Semaphore, turns: int) -> None:
    for _ in range(turns):
        await spoken.acquire()


async def _compare(folder: Path, diaries: list[VisitorLog]) -> list[Figure]:
    lost = replies_lost = 0
    async with open_store(folder) as store:
        for diary in diaries:
            turns = (await store.list_turns(diary.session_id, 10_000)).items
            asked = Counter(turn.message for turn in turns)
            told = Counter(turn.outcome.reply for turn in turns if turn.outcome and turn.outcome.reply)
            lost += sum(asked[message] != 1 for message in diary.accepted)
            replies_lost += (Counter(diary.replies) - told).total()
    accepted = sum(len(diary.accepted) for diary in diaries)
    replies = sum(len(diary.replies) for diary in diaries)
    refused = sum(diary.refused for diary in diaries)
    return [
        expect_none("F14", "restarts under load: accepted messages lost or doubled", lost, accepted),
        expect_none("F14", "restarts under load: replies lost after `complete`", replies_lost, replies),
        expect_none(
            "F14", "restarts under load: posts refused, though the turn before was `complete`", refused, accepted
        ),
    ]
