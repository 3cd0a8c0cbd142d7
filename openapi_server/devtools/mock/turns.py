"""The turns of the mock server: scripts turn in real time into an event log, as the real engine does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from openapi_server.clock import SystemClock
from openapi_server.devtools.mock.scripted_answers import ANIMAL, MODEL, Script, make_start
from openapi_server.event_logs.memory import MemoryEventLog, MemoryTail
from openapi_server.models.errors import FieldError, InvalidInput, KeyReused, LogGone, ResumeMismatch, TurnNotFound
from openapi_server.models.ids import make_id
from openapi_server.models.turn import AgeGroup, Outcome, TurnRecord, TurnStatus
from openapi_server.models.turn_event_order import TurnEventBuilder
from openapi_server.models.turn_events import Completed, Entry, Failed, TurnEvent, TurnState, fold
from openapi_server.wire.sse import parse_event_id

# At the default delay this is the real server's interval; with a shorter delay heartbeats come faster, too.
HEARTBEAT_DELAYS = 10
MAX_HEARTBEAT_S = 15.0
MAX_TURNS = 10_000


@dataclass(frozen=True, slots=True)
class MockRequest:
    """A request for a turn. `visitor` is the cookie's value; `key` the Idempotency-Key, if there was one."""

    visitor: str
    query: str
    script: Script
    key: str | None = None


@dataclass(frozen=True, slots=True)
class _MockTurn:
    """A turn and the request that started it."""

    request: MockRequest
    record: TurnRecord


class MockTurns:
    """Starts turns and keeps the last `MAX_TURNS` in memory. `delay_s` is the time between two steps of a script."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self.heartbeat_s = max(0.01, min(MAX_HEARTBEAT_S, HEARTBEAT_DELAYS * delay_s))
        self._clock = SystemClock()
        self._log = MemoryEventLog(self._clock)
        self._turns: dict[str, _MockTurn] = {}
        self._turn_ids_by_key: dict[tuple[str, str], str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def active_count(self) -> int:
        return len(self._tasks)

    async def start_turn(self, request: MockRequest) -> str:
        """Start a turn, or find the one with the same key; returns its id.

        Raises `KeyReused` when the key came with another request.
        """
        known = self._turn_ids_by_key.get((request.visitor, request.key or ""))
        if known is not None:
            if self._turns[known].request != request:
                raise KeyReused()
            return known
        turn_id = make_id("turn")
        await self._log.create(turn_id)
        self._store_turn(turn_id, request)
        task = self._tasks[turn_id] = asyncio.create_task(self._play(turn_id))
        task.add_done_callback(lambda _: self._tasks.pop(turn_id, None))
        return turn_id

    async def get_turn(self, turn_id: str, visitor: str) -> tuple[TurnRecord, TurnState | None]:
        """The stored turn and the state of its log. Raises `TurnNotFound`, also for another visitor's turn."""
        record = self._find_turn(turn_id, visitor).record
        entries = await self._log.list_entries(turn_id)
        return record, fold(entries) if entries else None

    def list_turn_ids(self, visitor: str) -> Sequence[str]:
        """The ids of the visitor's turns, newest first."""
        return [turn_id for turn_id, turn in reversed(self._turns.items()) if turn.request.visitor == visitor]

    async def resume(self, last_event_id: str, request: MockRequest) -> tuple[str, MemoryTail]:
        """The turn's id, and a tail of its log after the event.

        Raises `TurnNotFound`, `ResumeMismatch` when the request differs, `InvalidInput` when there is no such event.
        """
        turn_id = last_event_id.rpartition("-")[0]
        first = self._find_turn(turn_id, request.visitor).request
        if (first.query, first.script) != (request.query, request.script):
            raise ResumeMismatch("Repeat the request as it was, or leave Last-Event-ID out to ask anew.")
        seq = parse_event_id(last_event_id, turn_id)
        if seq is None or seq > len(await self._log.list_entries(turn_id) or ()):
            message = "is not the id of an event of this turn"
            raise InvalidInput(f"Last-Event-ID {message}.", errors=(FieldError("Last-Event-ID", message),))
        return turn_id, await self.open_tail(turn_id, seq)

    async def open_tail(self, turn_id: str, after: int = 0) -> MemoryTail:
        tail = await self._log.open_tail(turn_id, after)
        if tail is None:
            raise LogGone()
        return tail

    async def read_batches(self, tail: MemoryTail) -> AsyncGenerator[Sequence[Entry], None]:
        """New entries, as many as there are; an empty batch when a heartbeat is due."""
        try:
            while not tail.is_over:
                entries = await tail.read(self.heartbeat_s)
                if entries or not tail.is_over:
                    yield entries
        finally:
            tail.close()

    async def close(self) -> None:
        """Stop all running turns and end their streams."""
        for turn_id, task in list(self._tasks.items()):
            task.cancel()
            await self._log.delete(turn_id)

    def _find_turn(self, turn_id: str, visitor: str) -> _MockTurn:
        turn = self._turns.get(turn_id)
        if turn is None or turn.request.visitor != visitor:
            raise TurnNotFound("Job not found")
        return turn

    def _store_turn(self, turn_id: str, request: MockRequest) -> None:
        session_id = make_id("sess")
        now = self._clock.now()
        record = TurnRecord(turn_id, session_id, ANIMAL, AgeGroup.ADULT, request.query, MODEL, created_at=now)
        self._turns[turn_id] = _MockTurn(request, record)
        if request.key is not None:
            self._turn_ids_by_key[request.visitor, request.key] = turn_id
        if len(self._turns) > MAX_TURNS:
            oldest = self._turns.pop(next(iter(self._turns))).request
            self._turn_ids_by_key.pop((oldest.visitor, oldest.key or ""), None)

    async def _play(self, turn_id: str) -> None:
        turn = self._turns[turn_id]
        started_s = self._clock.monotonic()
        builder = TurnEventBuilder(make_start(turn_id, turn.record.session_id))
        steps = turn.request.script(builder, turn.request.query, lambda: self._measure_ms(started_s))
        for events in steps:
            if events:
                await self._append(turn_id, turn, events, builder.progress)
            if events and events[-1].is_terminal:
                return
            await asyncio.sleep(self._delay_s)

    async def _append(self, turn_id: str, turn: _MockTurn, events: Sequence[TurnEvent], progress: int) -> None:
        outcome = self._make_outcome(events[-1], progress)
        if outcome is not None:
            # Stored before readers see it, as in the real server.
            self._turns[turn_id] = replace(turn, record=replace(turn.record, outcome=outcome))
        await self._log.append(turn_id, events)

    def _make_outcome(self, event: TurnEvent, progress: int) -> Outcome | None:
        now = self._clock.now()
        match event:
            case Completed() as done:
                return Outcome(
                    TurnStatus.SUCCEEDED,
                    ended_at=now,
                    reply=done.reply,
                    finish_reason=done.finish_reason,
                    sources=done.sources,
                    usage=done.usage,
                    latency_ms=done.latency_ms,
                )
            case Failed(problem=problem):
                return Outcome(TurnStatus.FAILED, ended_at=now, problem=problem, progress=progress)
        return None

    def _measure_ms(self, started_s: float) -> int:
        return round((self._clock.monotonic() - started_s) * 1000)
