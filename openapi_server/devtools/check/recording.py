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
HEARTBEAT_TOLERANCE_S = 0.5
READ_MARGIN_S = 2.0
# A turn is finished or failed within this time.
TURN_WITHIN_S = 300.0

EventPredicate = Callable[[list[SseEvent]], bool]


@dataclass(frozen=True, slots=True)
class RequestSpec:
    """A request. `body` is JSON, or text that is sent as it is; None where there is none."""

    path: str
    body: Mapping[str, Any] | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"

    def with_headers(self, **headers: str) -> RequestSpec:
        """The same with further headers, named with `_` for `-`."""
        return replace(self, headers={**self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}})

    def with_members(self, **members: object) -> RequestSpec:
        """The same with other members in its body."""
        old = self.body if isinstance(self.body, Mapping) else {}
        return replace(self, body={**old, **members})

    def build_request(self, client: httpx.AsyncClient) -> httpx.Request:
        """The request as this client sends it, with the client's cookies."""
        content = self.body.encode() if isinstance(self.body, str) else None
        kind = {"Content-Type": "application/json"} if content is not None else {}
        body = self.body if isinstance(self.body, Mapping) else None
        return client.build_request(
            self.method, self.path, json=body, content=content, headers={**kind, **self.headers}
        )


class StreamEnd(StrEnum):
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
    end: StreamEnd
    gap_s: float
    ended_s: float

    @property
    def turn_id(self) -> str:
        return str(self.headers.get("x-streaming-session-id", ""))

    @cached_property
    def events(self) -> list[SseEvent]:
        return parse_events(self.body)

    @property
    def logged_events(self) -> list[SseEvent]:
        """The events that a resume brings again."""
        return drop_heartbeats(self.events)

    def get_bytes_after(self, event_id: str) -> bytes:
        """What a resume at this id has to bring, to the byte, its retry line left out."""
        place = [event.id for event in self.logged_events].index(event_id)
        return b"".join(event.raw for event in self.logged_events[place + 1 :])


def drop_heartbeats(events: list[SseEvent]) -> list[SseEvent]:
    """What stands in the turn's log: heartbeats do not, and carry no id."""
    return [event for event in events if event.event != "heartbeat"]


class StreamRecorder:
    """Reads one answer to its end, or until the reader has seen enough.

    `heartbeat_s` is the longest silence that the server promises; `is_over` tells the terminal event, after which the
    server has to close; `has_enough` may end the reading earlier.
    """

    def __init__(
        self, heartbeat_s: float, is_complete: EventPredicate, should_stop: EventPredicate = lambda events: False
    ) -> None:
        self._read_timeout_s = heartbeat_s + READ_MARGIN_S
        self._is_complete = is_complete
        self._should_stop = should_stop
        self._body = bytearray()
        self._gap_s = 0.0
        self._started_s = 0.0
        self._last_chunk_s = 0.0
        self._close_deadline_s: float | None = None
        self._response: httpx.Response | None = None

    async def record(self, client: httpx.AsyncClient, ask: RequestSpec) -> Recording:
        """Send the request and record what comes."""
        await self.open(client, ask)
        return await self.read_to_end()

    async def open(self, client: httpx.AsyncClient, ask: RequestSpec) -> str:
        """Send the request and wait for the head of the answer; the turn's id in it."""
        self._started_s = self._last_chunk_s = time.monotonic()
        self._response = await client.send(ask.build_request(client), stream=True)
        return str(self._response.headers.get("x-streaming-session-id", ""))

    async def read_to_end(self) -> Recording:
        """Record what comes after the head, and close the connection."""
        answer = self._response
        assert answer is not None  # noqa: S101  # opened before
        pieces = answer.aiter_raw()
        try:
            end = None
            while end is None:
                end = await self._read_chunk(pieces)
        finally:
            await answer.aclose()
        return Recording(answer.status_code, answer.headers, bytes(self._body), end, self._gap_s, time.monotonic())

    async def _read_chunk(self, pieces: AsyncIterator[bytes]) -> StreamEnd | None:
        try:
            async with asyncio.timeout(self._get_timeout_s()):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return StreamEnd.CLOSED
        except (httpx.RemoteProtocolError, httpx.ReadError):
            return StreamEnd.CUT
        except TimeoutError:
            self._update_gap()
            return StreamEnd.OPEN if self._close_deadline_s else StreamEnd.SILENT
        self._update_gap()
        self._body += piece
        has_enough = self._should_stop(self._events) or time.monotonic() - self._started_s > TURN_WITHIN_S
        return StreamEnd.LEFT if has_enough else None

    def _get_timeout_s(self) -> float:
        """How long to wait for more: for a heartbeat, or, after the last event, for the end."""
        now_s = time.monotonic()
        if self._close_deadline_s is None and self._is_complete(self._events):
            self._close_deadline_s = now_s + CLOSE_WITHIN_S
        return self._read_timeout_s if self._close_deadline_s is None else max(0.0, self._close_deadline_s - now_s)

    @property
    def _events(self) -> list[SseEvent]:
        return parse_events(bytes(self._body))

    def _update_gap(self) -> None:
        now_s = time.monotonic()
        self._gap_s = max(self._gap_s, now_s - self._last_chunk_s)
        self._last_chunk_s = now_s
