"""A stream as it came over the line: every byte of it, and how it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import httpx

from openapi_server.devtools.check.streams import SseEvent, parse_events

# How long a server gets to close a stream whose last event has come.
CLOSE_WITHIN_S = 1.0
# How much later than promised a heartbeat may come, and how long the checker goes on listening for one.
LATE_S = 0.5
LISTENING_S = 2.0
# A turn is finished or failed within this time.
TURN_WITHIN_S = 300.0

SeesEnd = Callable[[list[SseEvent]], bool]


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. `body` is JSON, or text that is sent as it is; None where there is none."""

    path: str
    body: Mapping[str, Any] | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"

    def having(self, **headers: str) -> Ask:
        """The same with further headers, named with `_` for `-`."""
        return replace(self, headers={**self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}})

    def saying(self, **members: object) -> Ask:
        """The same with other members in its body."""
        old = self.body if isinstance(self.body, Mapping) else {}
        return replace(self, body={**old, **members})

    def request(self, client: httpx.AsyncClient) -> httpx.Request:
        """The request as this client sends it, with the client's cookies."""
        content = self.body.encode() if isinstance(self.body, str) else None
        kind = {"Content-Type": "application/json"} if content is not None else {}
        body = self.body if isinstance(self.body, Mapping) else None
        return client.build_request(
            self.method, self.path, json=body, content=content, headers={**kind, **self.headers}
        )


class End(StrEnum):
    """How the reading of a stream ended."""

    CLOSED = "closed by the server"
    CUT = "cut in the middle by the server"
    OPEN = "still open after the last event"
    SILENT = "silent for too long"
    LEFT = "left by the reader"


@dataclass(frozen=True)
class Recording:
    """A stream, or whatever came instead. `gap_s` is its longest silence; `ended_s` is on the monotonic clock."""

    status: int
    headers: httpx.Headers
    body: bytes
    end: End
    gap_s: float
    ended_s: float

    @property
    def turn_id(self) -> str:
        return str(self.headers.get("x-streaming-session-id", ""))

    @cached_property
    def events(self) -> list[SseEvent]:
        return parse_events(self.body)

    @property
    def kept(self) -> list[SseEvent]:
        """The events that a resume brings again."""
        return kept_of(self.events)

    def rest_after(self, event_id: str) -> bytes:
        """What a resume at this id has to bring, to the byte, its retry line left out."""
        place = [event.id for event in self.kept].index(event_id)
        return b"".join(event.raw for event in self.kept[place + 1 :])


def kept_of(events: list[SseEvent]) -> list[SseEvent]:
    """What stands in the turn's log: heartbeats do not, and carry no id."""
    return [event for event in events if event.event != "heartbeat"]


class Reading:
    """Reads one answer to its end, or until the reader has seen enough.

    `heartbeat_s` is the longest silence that the server promises; `is_over` tells the terminal event, after which the
    server has to close; `has_enough` may end the reading earlier.
    """

    def __init__(self, heartbeat_s: float, is_over: SeesEnd, has_enough: SeesEnd = lambda events: False) -> None:
        self._silence_s = heartbeat_s + LISTENING_S
        self._is_over = is_over
        self._has_enough = has_enough
        self._body = bytearray()
        self._gap_s = 0.0
        self._began_s = 0.0
        self._heard_s = 0.0
        self._closes_by_s: float | None = None
        self._answer: httpx.Response | None = None

    async def of(self, client: httpx.AsyncClient, ask: Ask) -> Recording:
        """Send the request and record what comes."""
        await self.open(client, ask)
        return await self.to_end()

    async def open(self, client: httpx.AsyncClient, ask: Ask) -> str:
        """Send the request and wait for the head of the answer; the turn's id in it."""
        self._began_s = self._heard_s = time.monotonic()
        self._answer = await client.send(ask.request(client), stream=True)
        return str(self._answer.headers.get("x-streaming-session-id", ""))

    async def to_end(self) -> Recording:
        """Record what comes after the head, and close the connection."""
        answer = self._answer
        assert answer is not None  # noqa: S101  # opened before
        pieces = answer.aiter_raw()
        try:
            end = None
            while end is None:
                end = await self._take(pieces)
        finally:
            await answer.aclose()
        return Recording(answer.status_code, answer.headers, bytes(self._body), end, self._gap_s, time.monotonic())

    async def _take(self, pieces: AsyncIterator[bytes]) -> End | None:
        try:
            async with asyncio.timeout(self._wait_s()):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return End.CLOSED
        except (httpx.RemoteProtocolError, httpx.ReadError):
            return End.CUT
        except TimeoutError:
            self._note_gap()
            return End.OPEN if self._closes_by_s else End.SILENT
        self._note_gap()
        self._body += piece
        has_enough = self._has_enough(self._events) or time.monotonic() - self._began_s > TURN_WITHIN_S
        return End.LEFT if has_enough else None

    def _wait_s(self) -> float:
        """How long to wait for more: for a heartbeat, or, after the last event, for the end."""
        now_s = time.monotonic()
        if self._closes_by_s is None and self._is_over(self._events):
            self._closes_by_s = now_s + CLOSE_WITHIN_S
        return self._silence_s if self._closes_by_s is None else max(0.0, self._closes_by_s - now_s)

    @property
    def _events(self) -> list[SseEvent]:
        return parse_events(bytes(self._body))

    def _note_gap(self) -> None:
        now_s = time.monotonic()
        self._gap_s = max(self._gap_s, now_s - self._heard_s)
        self._heard_s = now_s
