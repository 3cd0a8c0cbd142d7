"""Requests, and recordings of the streams that answer them: every byte, and how the stream ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import httpx

from openapi_server.devtools.check.stream_rules import SseEvent, parse_events

# A server must close a stream within this time after the terminal event.
CLOSE_TIMEOUT_S = 1.0
# Heartbeats may be this late; the recorder waits for one a little longer than that.
HEARTBEAT_TOLERANCE_S = 0.5
READ_MARGIN_S = 2.0
# Every turn must end within this time.
TURN_TIMEOUT_S = 300.0

EventPredicate = Callable[[list[SseEvent]], bool]


@dataclass(frozen=True, slots=True)
class RequestSpec:
    """A request. `body` is sent as JSON, or as it is when it is text; None for no body."""

    path: str
    body: Mapping[str, Any] | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"

    def with_headers(self, **headers: str) -> RequestSpec:
        """A copy with more headers; `_` in their names stands for `-`."""
        return replace(self, headers={**self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}})

    def with_members(self, **members: object) -> RequestSpec:
        """A copy with more or other members in its JSON body."""
        old = self.body if isinstance(self.body, Mapping) else {}
        return replace(self, body={**old, **members})

    def build_request(self, client: httpx.AsyncClient) -> httpx.Request:
        """The request as this client sends it, with the client's cookies."""
        content = self.body.encode() if isinstance(self.body, str) else None
        content_type = {"Content-Type": "application/json"} if content is not None else {}
        body = self.body if isinstance(self.body, Mapping) else None
        return client.build_request(
            self.method, self.path, json=body, content=content, headers={**content_type, **self.headers}
        )


class StreamEnd(StrEnum):
    """How the recording of a stream ended."""

    CLOSED = "closed by the server"
    CUT = "cut in the middle by the server"
    OPEN = "still open after the last event"
    SILENT = "silent for too long"
    LEFT = "left by the reader"


@dataclass(frozen=True)
class Recording:
    """A recorded answer. `gap_s`: its longest silence in seconds; `started_s`, `ended_s`: on the monotonic clock."""

    status: int
    headers: httpx.Headers
    body: bytes
    end: StreamEnd
    gap_s: float
    started_s: float
    ended_s: float

    @property
    def turn_id(self) -> str:
        return str(self.headers.get("x-streaming-session-id", ""))

    @cached_property
    def events(self) -> list[SseEvent]:
        return parse_events(self.body)

    @property
    def logged_events(self) -> list[SseEvent]:
        """The events that a resumed stream repeats."""
        return drop_heartbeats(self.events)

    def get_bytes_after(self, event_id: str) -> bytes:
        """The bytes that a stream resumed at this id must have, without its retry line."""
        position = [event.id for event in self.logged_events].index(event_id)
        return b"".join(event.raw for event in self.logged_events[position + 1 :])


def drop_heartbeats(events: list[SseEvent]) -> list[SseEvent]:
    """The events without heartbeats, which are not part of a turn's log and have no id."""
    return [event for event in events if event.event != "heartbeat"]


class StreamRecorder:
    """Records one answer, to its end or until `should_stop` is true of its events.

    `silence_s` is the longest silence that the recorder waits out; `is_complete` is true of events that end with the
    terminal one, after which the server must close the stream.
    """

    def __init__(
        self, silence_s: float, is_complete: EventPredicate, should_stop: EventPredicate = lambda events: False
    ) -> None:
        self._read_timeout_s = silence_s + READ_MARGIN_S
        self._is_complete = is_complete
        self._should_stop = should_stop
        self._body = bytearray()
        self._gap_s = 0.0
        self._started_s = 0.0
        self._last_chunk_s = 0.0
        self._close_deadline_s: float | None = None
        self._response: httpx.Response | None = None

    async def record(self, client: httpx.AsyncClient, request: RequestSpec) -> Recording:
        """Send the request and record the answer."""
        await self.open(client, request)
        return await self.read_to_end()

    async def open(self, client: httpx.AsyncClient, request: RequestSpec) -> str:
        """Send the request and wait for the head of the answer. Returns the turn id in it."""
        self._started_s = self._last_chunk_s = time.monotonic()
        self._response = await client.send(request.build_request(client), stream=True)
        return str(self._response.headers.get("x-streaming-session-id", ""))

    async def read_to_end(self) -> Recording:
        """Record the body of the opened answer, and close the connection."""
        response = self._response
        assert response is not None  # noqa: S101  # `open` comes first
        chunks = response.aiter_raw()
        try:
            end = None
            while end is None:
                end = await self._read_chunk(chunks)
        finally:
            await response.aclose()
        return Recording(
            response.status_code,
            response.headers,
            bytes(self._body),
            end,
            self._gap_s,
            self._started_s,
            time.monotonic(),
        )

    async def _read_chunk(self, chunks: AsyncIterator[bytes]) -> StreamEnd | None:
        try:
            async with asyncio.timeout(self._get_timeout_s()):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return StreamEnd.CLOSED
        except (httpx.RemoteProtocolError, httpx.ReadError):
            return StreamEnd.CUT
        except TimeoutError:
            self._update_gap()
            return StreamEnd.OPEN if self._close_deadline_s else StreamEnd.SILENT
        self._update_gap()
        self._body += chunk
        is_enough = self._should_stop(self._events) or time.monotonic() - self._started_s > TURN_TIMEOUT_S
        return StreamEnd.LEFT if is_enough else None

    def _get_timeout_s(self) -> float:
        """How long to wait for the next chunk: until it is overdue, or the close after the last event is."""
        now_s = time.monotonic()
        if self._close_deadline_s is None and self._is_complete(self._events):
            self._close_deadline_s = now_s + CLOSE_TIMEOUT_S
        return self._read_timeout_s if self._close_deadline_s is None else max(0.0, self._close_deadline_s - now_s)

    @property
    def _events(self) -> list[SseEvent]:
        return parse_events(bytes(self._body))

    def _update_gap(self) -> None:
        now_s = time.monotonic()
        self._gap_s = max(self._gap_s, now_s - self._last_chunk_s)
        self._last_chunk_s = now_s
