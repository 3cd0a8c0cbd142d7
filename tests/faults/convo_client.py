"""A client of one server: HTTP exchanges read in parts and closed in any way, and the convo API over them."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import h11

from tests.support.connections import close, connect
from tests.support.scripted_server import Script

_ID = re.compile(rb"^id: (.+)$", re.MULTILINE)


@dataclass(slots=True)
class HttpExchange:
    """A request and its answer as it arrives; `is_whole` when the answer was complete."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    is_whole: bool = False
    _parser: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))

    @property
    def ids(self) -> list[str]:
        return [found.decode() for found in _ID.findall(self.body)]

    @property
    def frames(self) -> list[bytes]:
        """The numbered events whole so far, each with its blank line, without the retry line."""
        blocks = bytes(self.body).split(b"\n\n")[:-1]
        return [re.sub(rb"\Aretry: \d+\n", b"", block) + b"\n\n" for block in blocks if _ID.search(block)]

    @property
    def turn_id(self) -> str:
        return self.headers.get("x-streaming-session-id", "")

    @property
    def json(self) -> Any:
        """The body as JSON; an empty object when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    def find_event(self, name: str) -> Any:
        """The data of the last event with this name; None when there was none."""
        data = [frame.partition(b"\ndata: ")[2] for frame in self.frames if b"event: %b\n" % name.encode() in frame]
        return json.loads(data[-1]) if data else None

    async def read_head(self) -> HttpExchange:
        while not self.status and await self.read_part():
            pass
        return self

    async def read_until(self, mark: bytes) -> HttpExchange:
        """Read until the mark was seen, or the end."""
        while mark not in self.body and await self.read_part():
            pass
        return self

    async def read_events(self, count: int) -> HttpExchange:
        """Read until that many numbered events came whole, or the end."""
        while len(self.frames) < count and await self.read_part():
            pass
        return self

    async def read_to_end(self) -> HttpExchange:
        while await self.read_part():
            pass
        return self

    async def read_part(self) -> bool:
        """Take in the next part of the answer; False when there is none, the answer whole or cut."""
        event = await self._next_event()
        match event:
            case h11.Response():
                self.status = event.status_code
                self.headers = {name.decode().lower(): value.decode() for name, value in event.headers}
            case h11.Data():
                self.body += event.data
            case h11.EndOfMessage():
                self.is_whole = True
        has_more = isinstance(event, h11.Response | h11.Data | h11.InformationalResponse)
        if not has_more:
            close(self.writer)
        return has_more

    async def _next_event(self) -> object:
        """None where the connection was cut."""
        try:
            while (event := self._parser.next_event()) is h11.NEED_DATA:
                self._parser.receive_data(await self.reader.read(65_536))
        except (h11.RemoteProtocolError, ConnectionError):
            return None
        return event

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        given = {"Host": "127.0.0.1", "Connection": "close", "Content-Length": str(len(body)), **headers}
        request = h11.Request(method=method, target=path, headers=list(given.items()))
        for part in (request, h11.Data(body), h11.EndOfMessage()):
            self.writer.write(self._parser.send(part) or b"")


async def send_request(
    port: int,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    address: str = "",
) -> HttpExchange:
    """Send a request on a new connection and read the head of its answer. Status 0: the server hung up instead."""
    exchange = HttpExchange(*await connect(port, address=address))
    payload = b"" if body is None else json.dumps(body).encode()
    kind = {} if body is None else {"Content-Type": "application/json"}
    exchange.send(method, path, {**kind, **(headers or {})}, payload)
    return await exchange.read_head()


ANIMAL = "lion_001"


@dataclass(frozen=True, slots=True)
class ConvoClient:
    """Calls the convo API of the server at `port`; `cookie` identifies the visitor where that matters.

    `address`: the visitor's own, of those of this machine.
    """

    port: int
    cookie: str = ""
    address: str = ""

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
        """Start a turn that nobody reads yet; its id."""
        turn_id: str = (await self.post_turn(script, prefer="respond-async")).json["turnId"]
        return turn_id

    async def resume_stream(self, turn_id: str, last_event_id: str = "", *, after: str = "") -> HttpExchange:
        """`GET /convo_turn/{turnId}/stream`, read as far as the head."""
        query = f"?after={after}" if after else ""
        path = f"/convo_turn/{turn_id}/stream{query}"
        return await self._ask("GET", path, None, {"Last-Event-ID": last_event_id})

    async def stop_turn(self, turn_id: str) -> HttpExchange:
        """`POST /convo_turn/{turnId}/stop`, read as far as the head."""
        return await self._ask("POST", f"/convo_turn/{turn_id}/stop")

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
            self.port, method, path, body, {name: value for name, value in given.items() if value}, self.address
        )


async def warm_up(client: ConvoClient) -> None:
    """Make the threads and files that the server creates on first use and keeps, so that they do not count as leaks."""
    for _ in range(2):
        await asyncio.gather(*(client.post_turn(Script()) for _ in range(40)))
    # Large bodies are read in the worker threads.
    large = {"padding": "x" * 3_000}
    streams = await asyncio.gather(*(client.post_stream(Script(), metadata=large) for _ in range(8)))
    await asyncio.gather(*(stream.read_to_end() for stream in streams))


async def watch_health(client: ConvoClient, health_ms: list[float]) -> None:
    """Ask `/health` twenty times a second until cancelled; an answer other than 200 counts as infinitely slow."""
    while True:
        began_s = time.perf_counter()
        is_healthy = await client.get_status("/health") == 200
        health_ms.append((time.perf_counter() - began_s) * 1000 if is_healthy else math.inf)
        await asyncio.sleep(0.05)
