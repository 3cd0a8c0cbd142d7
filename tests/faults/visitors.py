"""A visitor of one server: the operations of the zoo's own contract, as the trials use them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.faults.exchanges import HttpExchange, send_request
from tests.support.scripted_server import Script

ANIMAL = "lion_001"


@dataclass(frozen=True, slots=True)
class ConvoClient:
    """Talks to the server at `port`; `cookie` says who it is, where that matters."""

    port: int
    cookie: str = ""

    async def post_stream(
        self, script: Script, *, session_id: str = "", key: str = "", last_event_id: str = "", **body: object
    ) -> HttpExchange:
        """`POST /convo_turn_stream`, read as far as the head."""
        given = {"message": script.message, "animalId": ANIMAL, **body}
        given |= {"sessionId": session_id} if session_id else {}
        return await self._ask("POST", "/convo_turn_stream", given, {"Last-Event-ID": last_event_id}, key)

    async def post_turn(self, script: Script, *, session_id: str = "", key: str = "", prefer: str = "") -> HttpExchange:
        """`POST /convo_turn`, read to the end."""
        body = {"message": script.message, "animalId": ANIMAL} | ({"sessionId": session_id} if session_id else {})
        return await (await self._ask("POST", "/convo_turn", body, {"Prefer": prefer}, key)).read_to_end()

    async def start_turn(self, script: Script) -> str:
        """Set a turn going that nobody reads yet; its id."""
        turn_id: str = (await self.post_turn(script, prefer="respond-async")).json["turnId"]
        return turn_id

    async def resume_stream(self, turn_id: str, last_event_id: str = "", *, after: str = "") -> HttpExchange:
        """`GET /convo_turn/{turnId}/stream`, read as far as the head."""
        query = f"?after={after}" if after else ""
        path = f"/convo_turn/{turn_id}/stream{query}"
        return await self._ask("GET", path, None, {"Last-Event-ID": last_event_id})

    async def get_turn(self, turn_id: str) -> Any:
        return await self.get_json(f"/convo_turn/{turn_id}")

    async def list_messages(self, session_id: str) -> list[dict[str, Any]]:
        """The messages of the session, all pages of it; none when there is no such session."""
        messages: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = await self.get_json(f"/convo_history?sessionId={session_id}&limit=100{cursor}")
            messages += page.get("turns", [])
            if not page.get("nextCursor"):
                return messages
            cursor = f"&cursor={page['nextCursor']}"

    async def count_turns(self) -> dict[str, int]:
        """`running` turns and their `readers`, as the server counts them."""
        counts: dict[str, int] = (await self.get_json("/system_health"))["turns"]
        return counts

    async def count_readers(self) -> int:
        return (await self.count_turns())["readers"]

    async def get_status(self, path: str) -> int:
        return (await (await self._ask("GET", path)).read_to_end()).status

    async def get_json(self, path: str) -> Any:
        return (await (await self._ask("GET", path)).read_to_end()).json

    async def _ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None, key: str = ""
    ) -> HttpExchange:
        cookie = f"session_id={self.cookie}" if self.cookie else ""
        given = {"Cookie": cookie, "Idempotency-Key": key, **(headers or {})}
        return await send_request(
            self.port, method, path, body, {name: value for name, value in given.items() if value}
        )


async def warm_up(visitor: ConvoClient) -> None:
    """Threads and files that are made when they are first needed, and kept, are no leaks."""
    for _ in range(2):
        await asyncio.gather(*(visitor.post_turn(Script()) for _ in range(40)))


async def watch_health(visitor: ConvoClient, health_ms: list[float]) -> None:
    """Ask `/health` twenty times a second until cancelled; what is no 200 took for ever."""
    while True:
        began_s = time.perf_counter()
        is_healthy = await visitor.get_status("/health") == 200
        health_ms.append((time.perf_counter() - began_s) * 1000 if is_healthy else math.inf)
        await asyncio.sleep(0.05)
