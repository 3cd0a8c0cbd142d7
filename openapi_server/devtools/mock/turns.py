"""The stand-in's turns: scripts that play in real time into the same kind of log that the server has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from openapi_server.clock import SystemClock
from openapi_server.devtools.mock.scripts import ANIMAL, MODEL, Script, make_start
from openapi_server.event_logs.memory import MemoryEventLog, MemoryTail
from openapi_server.models.errors import FieldError, InvalidInput, KeyReused, LogGone, ResumeMismatch, TurnNotFound
from openapi_server.models.ids import make_id
from openapi_server.models.turn import AgeGroup, Outcome, TurnRecord, TurnStatus
from openapi_server.models.turn_events import Completed, Entry, Failed, TurnEvent, TurnEventBuilder, TurnState, fold
from openapi_server.wire.sse import parse_event_id

# As often as the real server at the default delay, and quicker where everything is quicker.
HEARTBEAT_DELAYS = 10
MAX_HEARTBEAT_S = 15.0
MAX_TURNS = 10_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MockRequest:
    """A question as it came. `visitor` is the cookie; `key` is the request's Idempotency-Key, if it had one."""

    visitor: str
    query: str
    script: Script
    key: str | None = None


@dataclass(frozen=True, slots=True)
class _MockTurn:
    """A turn and the question that began it."""

    request: MockRequest
    record: TurnRecord


class MockTurns:
    """Begins turns and keeps them while the process lives. `delay_s` lies between two steps of a script."""

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

    async def start_turn(self, asked: MockRequest) -> str:
        """The id of a new turn, or of the one that the question's key stands for. Raises `KeyReused`."""
        known = self._turn_ids_by_key.get((asked.visitor, asked.key or ""))
        if known is not None:
            if self._turns[known].request != asked:
                raise KeyReused()
            return known
        turn_id = make_id("turn")
        await self._log.create(turn_id)
        self._store_turn(turn_id, asked)
        task = self._tasks[turn_id] = asyncio.create_task(self._play(turn_id))
        task.add_done_callback(lambda _: self._tasks.pop(turn_id, None))
        return turn_id

    async def get_turn(self, turn_id: str, visitor: str) -> tuple[TurnRecord, TurnState | None]:
        """The turn as it is kept, and as its log says. Raises `TurnNotFound` for another visitor's, too."""
        record = self._find_turn(turn_id, visitor).record
        entries = await self._log.list_entries(turn_id)
        return record, fold(entries) if entries else None

    def list_turn_ids(self, visitor: str) -> Sequence[str]:
        """The ids of the visitor's turns, latest first."""
        return [turn_id for turn_id, played in reversed(self._turns.items()) if played.request.visitor == visitor]

    async def resume(self, last_event_id: str, asked: MockRequest) -> tuple[str, MemoryTail]:
        """The turn's id and its log behind the event. Raises `TurnNotFound`, `ResumeMismatch`, `InvalidInput`."""
        turn_id = last_event_id.rpartition("-")[0]
        begun = self._find_turn(turn_id, asked.visitor).request
        if (begun.query, begun.script) != (asked.query, asked.script):
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
        """What is new, together; an empty batch after a heartbeat's time of silence."""
        try:
            while not tail.is_over:
                entries = await tail.read(self.heartbeat_s)
                if entries or not tail.is_over:
                    yield entries
        finally:
            tail.close()

    async def close(self) -> None:
        """End what plays. Readers are told that it is over."""
        for turn_id, task in list(self._tasks.items()):
            task.cancel()
            await self._log.delete(turn_id)

    def _find_turn(self, turn_id: str, visitor: str) -> _MockTurn:
        played = self._turns.get(turn_id)
        if played is None or played.request.visitor != visitor:
            raise TurnNotFound("Job not found")
        return played

    def _store_turn(self, turn_id: str, asked: MockRequest) -> None:
        session_id = make_id("sess")
        now = self._clock.now()
        record = TurnRecord(turn_id, session_id, ANIMAL, AgeGroup.ADULT, asked.query, MODEL, created_at=now)
        self._turns[turn_id] = _MockTurn(asked, record)
        if asked.key is not None:
            self._turn_ids_by_key[asked.visitor, asked.key] = turn_id
        if len(self._turns) > MAX_TURNS:
            oldest = self._turns.pop(next(iter(self._turns))).request
            self._turn_ids_by_key.pop((oldest.visitor, oldest.key or ""), None)

    async def _play(self, turn_id: str) -> None:
        played = self._turns[turn_id]
        began_s = self._clock.monotonic()
        builder = TurnEventBuilder(make_start(turn_id, played.record.session_id))
        steps = played.request.script(builder, played.request.query, lambda: self._measure_ms(began_s))
        for events in steps:
            if events:
                await self._append(turn_id, played, events)
            if events and events[-1].is_terminal:
                return
            await asyncio.sleep(self._delay_s)

    async def _append(self, turn_id: str, played: _MockTurn, events: Sequence[TurnEvent]) -> None:
        outcome = self._make_outcome(events[-1])
        if outcome is not None:
            # Kept before it is told, as in the real server.
            self._turns[turn_id] = replace(played, record=replace(played.record, outcome=outcome))
        await self._log.append(turn_id, events)

    def _make_outcome(self, event: TurnEvent) -> Outcome | None:
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
                return Outcome(TurnStatus.FAILED, ended_at=now, problem=problem)
        return None

    def _measure_ms(self, began_s: float) -> int:
        return round((self._clock.monotonic() - began_s) * 1000)
