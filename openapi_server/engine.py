"""The turn engine: starts turns, ends each of them exactly once, and lets anyone read along.

A turn runs in a task of its own on the event loop, detached from any connection. Whatever ends it first (the reply,
a failure, the deadline, the server's own end) settles it in the store; the store says who was first, and only the
first one writes the terminal event.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from openapi_server.errors import (
    AnimalMismatch,
    ChatError,
    Draining,
    Interrupted,
    SessionDeleted,
    SessionNotFound,
    StoreUnavailable,
    TurnNotFound,
    TurnTimeout,
)
from openapi_server.interfaces import Clock, EventLog, LogClosed, Store
from openapi_server.narration import Closing
from openapi_server.pipeline import Pipeline, Question
from openapi_server.readers import TurnReader
from openapi_server.records import Outcome, SessionRecord, TurnRecord
from openapi_server.turn import Failed, Started, TurnState, TurnStatus, fold
from openapi_server.writer import TurnWriter, log_id

# Seconds to wait before each further try to write an outcome; after the last one the readers are told of the failure.
SETTLE_AGAIN_AFTER_S = (0.1, 0.3, 1.0, 3.0)

log = structlog.get_logger(__name__)


def new_id(prefix: str) -> str:
    """An id that cannot be guessed (128 random bits): holding a session's or a turn's id is the right to it."""
    return f"{prefix}_{secrets.token_hex(16)}"


@dataclass(slots=True)
class _Running:
    """A turn's task and why it is cut short, if it is. Once it is ending, nothing can end it another way."""

    writer: TurnWriter
    task: asyncio.Task[None] | None = None
    cut_short_by: Closing | ChatError | None = None
    is_ending: bool = False

    def cut_short(self, ending: Closing | ChatError) -> None:
        if self.task is not None and self.cut_short_by is None and not self.is_ending:
            self.cut_short_by = ending
            self.task.cancel()


class TurnEngine:
    """Runs turns. All methods belong to the event loop."""

    def __init__(
        self, pipeline: Pipeline, store: Store, event_log: EventLog, clock: Clock, *, turn_deadline_s: float
    ) -> None:
        self._pipeline = pipeline
        self._store = store
        self._log = event_log
        self._clock = clock
        self._turn_deadline_s = turn_deadline_s
        self._running: dict[str, _Running] = {}
        self._reader_count = 0
        self._is_draining = False

    @property
    def running_count(self) -> int:
        return len(self._running)

    @property
    def reader_count(self) -> int:
        return self._reader_count

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    async def start(self, question: Question) -> Started:
        """Store the visitor's message, open the turn's log and set the turn going; returns its first event.

        Raises `Draining`, `SessionNotFound`, `AnimalMismatch`, `TurnRunning` or `StoreUnavailable`, all of them
        before anything was sent.
        """
        if self._is_draining:
            raise Draining(retry_after_s=5)
        new_session = self._new_session(question) if question.session_id is None else None
        session = new_session or await self._known_session(question)
        started = self._introduce(question, session.session_id)
        await self._store.begin_turn(self._record(question, started), new_session)
        writer = TurnWriter(started, self._log, self._clock)
        await writer.open()
        running = self._running[started.turn_id] = _Running(writer)
        running.task = asyncio.create_task(self._run(question, running))
        return started

    async def read(self, turn_id: str, after: int = 0) -> TurnReader:
        """A reader's place behind entry `after`. `TurnNotFound` when there is no log of that turn here."""
        entries = await self._log.entries(turn_id)
        tail = await self._log.tail(turn_id, after)
        if entries is None or tail is None:
            raise TurnNotFound
        reader = TurnReader(turn_id, entries[:after], tail, self._clock)
        self._reader_count += 1
        reader.on_leave(self._left)
        return reader

    async def state(self, turn_id: str) -> TurnState | None:
        """What the turn's log says of it; None when there is no log of it here."""
        entries = await self._log.entries(turn_id)
        return None if entries is None else fold(entries)

    async def forget(self, turn_ids: Sequence[str]) -> None:
        """Their session was deleted: end those that still run, tell their readers, and drop every log."""
        await self._cut_short(turn_ids, SessionDeleted())
        for turn_id in turn_ids:
            with suppress(LogClosed):
                await self._log.append(turn_id, [Failed(SessionDeleted().problem)])
            await self._log.drop(turn_id)

    async def recover(self) -> int:
        """Settle what an earlier process left running: it was interrupted, and says so. Returns how many."""
        turn_ids = await self._store.running_turns()
        for turn_id in turn_ids:
            await self._store.settle_turn(turn_id, self._failure(Interrupted(), "", 0))
        return len(turn_ids)

    async def close(self) -> None:
        """Take no more turns, interrupt those that run, and wait until each is settled."""
        self._is_draining = True
        await self._cut_short(list(self._running), Interrupted())

    async def _cut_short(self, turn_ids: Sequence[str], ending: ChatError) -> None:
        running = [self._running[turn_id] for turn_id in turn_ids if turn_id in self._running]
        for turn in running:
            turn.cut_short(ending)
        await asyncio.gather(*(turn.task for turn in running if turn.task is not None), return_exceptions=True)

    def _new_session(self, question: Question) -> SessionRecord:
        now = self._clock.now()
        return SessionRecord(new_id("sess"), question.animal.animal_id, question.owner, now, now)

    async def _known_session(self, question: Question) -> SessionRecord:
        session = await self._store.session(question.session_id or "")
        if session is None:
            raise SessionNotFound("There is no such session. Leave sessionId out to begin a new one.")
        if session.animal_id != question.animal.animal_id:
            raise AnimalMismatch(
                f"This session is a talk with {session.animal_id}. Leave sessionId out to talk with another animal."
            )
        return session

    def _record(self, question: Question, started: Started) -> TurnRecord:
        return TurnRecord(
            turn_id=started.turn_id,
            session_id=started.session_id,
            animal_id=started.animal_id,
            age_group=question.age_group,
            message=question.message,
            model=started.model,
            created_at=self._clock.now(),
            metadata=question.metadata,
        )

    def _introduce(self, question: Question, session_id: str) -> Started:
        animal = question.animal
        return Started(
            turn_id=new_id("turn"),
            session_id=session_id,
            animal_id=animal.animal_id,
            animal_name=animal.name,
            model=self._pipeline.provider.model,
            age_group=question.age_group,
            disclosure=animal.disclosure,
        )

    async def _run(self, question: Question, running: _Running) -> None:
        """The turn's task. Readers are waiting: whatever happens here becomes exactly one terminal event."""
        try:
            ending = await self._speak(question, running)
            running.is_ending = True
            await self._end(running.writer, ending)
        finally:
            del self._running[running.writer.turn_id]

    async def _speak(self, question: Question, running: _Running) -> Closing | ChatError:
        try:
            async with asyncio.timeout(self._turn_deadline_s):
                return await self._pipeline.run(question, running.writer)
        except TimeoutError:
            return TurnTimeout()
        except ChatError as error:
            return error
        except (asyncio.CancelledError, LogClosed):
            return running.cut_short_by or Interrupted()
        except Exception:
            # Whatever a provider or a store throws that it should not: the readers get a problem, the log the trace.
            log.exception("turn_crashed", turn=log_id(running.writer.turn_id))
            return ChatError()

    async def _end(self, writer: TurnWriter, ending: Closing | ChatError) -> None:
        """Settle in the store, then tell the readers: "complete" is only said of a reply that is kept."""
        outcome = self._outcome(writer, ending)
        try:
            is_first = await self._settle(writer.turn_id, outcome)
        except StoreUnavailable as error:
            ending, is_first = error, True
        if not is_first:
            return
        narrator = writer.narrator
        with suppress(LogClosed):
            if isinstance(ending, Closing):
                await writer.append(narrator.complete(ending, outcome.latency_ms))
            else:
                await writer.append(narrator.fail(ending, outcome.latency_ms))
        log.info("turn_ended", turn=log_id(writer.turn_id), status=outcome.status.value, latency_ms=outcome.latency_ms)

    async def _settle(self, turn_id: str, outcome: Outcome) -> bool:
        for wait_s in SETTLE_AGAIN_AFTER_S:
            try:
                return await self._store.settle_turn(turn_id, outcome)
            except StoreUnavailable:
                await asyncio.sleep(wait_s)
        return await self._store.settle_turn(turn_id, outcome)

    def _outcome(self, writer: TurnWriter, ending: Closing | ChatError) -> Outcome:
        if isinstance(ending, ChatError):
            return self._failure(ending, writer.reply, writer.elapsed_ms)
        return Outcome(
            status=TurnStatus.SUCCEEDED,
            ended_at=self._clock.now(),
            reply=writer.reply,
            finish_reason=ending.finish_reason,
            sources=ending.sources,
            usage=ending.usage,
            moderation=ending.moderation,
            latency_ms=writer.elapsed_ms,
            first_token_ms=writer.narrator.first_token_ms,
        )

    def _failure(self, error: ChatError, partial_reply: str, latency_ms: int) -> Outcome:
        return Outcome(
            status=TurnStatus.FAILED,
            ended_at=self._clock.now(),
            reply=partial_reply or None,
            latency_ms=latency_ms,
            problem=error.problem,
        )

    def _left(self, reader: TurnReader) -> None:
        self._reader_count -= 1
