"""HTTP as the trials need it: one connection an exchange, read as far as the trial wants, left in any way."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import h11

from tests.support.connections import close, connect

_ID = re.compile(rb"^id: (.+)$", re.MULTILINE)


@dataclass(slots=True)
class HttpExchange:
    """A request and its answer as it arrives. `is_whole` once the answer came to its proper end."""

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
    port: int, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> HttpExchange:
    """Send a request on a new connection and read the head of its answer. Status 0: the server hung up instead."""
    exchange = HttpExchange(*await connect(port))
    payload = b"" if body is None else json.dumps(body).encode()
    kind = {} if body is None else {"Content-Type": "application/json"}
    exchange.send(method, path, {**kind, **(headers or {})}, payload)
    return await exchange.read_head()
