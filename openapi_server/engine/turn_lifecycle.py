"""How a turn starts, runs and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from openapi_server.engine.leases import Leases
from openapi_server.engine.turn_request import TurnRequest
from openapi_server.engine.turn_writer import TurnWriter
from openapi_server.models.credits import Charge
from openapi_server.models.errors import (
    AnimalMismatch,
    ChatError,
    Interrupted,
    SessionDeleted,
    SessionNotFound,
    StoreUnavailable,
    TurnRunning,
)
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import (
    FinishReason,
    IdempotencyKey,
    Outcome,
    TurnRecord,
    TurnStatus,
    make_id,
    shorten_id,
)
from openapi_server.models.turn_events import Started, TurnResult
from openapi_server.protocols import Clock, LogClosed, Provider, Store

# Seconds to wait before each further try to write an outcome; after the last one the readers are told of the failure.
SETTLE_RETRY_DELAYS_S = (0.1, 0.3, 1.0, 3.0)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ExistingTurn:
    """Nothing was begun: an idempotency key of the request stands for this turn."""

    turn_id: str


class TurnStarter:
    """Begins turns in the store. All that can be refused is refused here, before anything was sent."""

    def __init__(self, store: Store, clock: Clock, leases: Leases, provider: Provider, session_ttl_s: int) -> None:
        self._store = store
        self._clock = clock
        self._leases = leases
        self._provider = provider
        self._session_ttl_s = session_ttl_s

    async def start(self, question: TurnRequest, keys: Sequence[IdempotencyKey]) -> Started | ExistingTurn:
        """Keep the visitor's message: the first event of the new turn, or the turn that was begun with these keys."""
        known = await self._find_session(question)
        new_session = None if known else self._make_session(question)
        session_id = new_session.session_id if new_session else question.session.session_id
        started = self.make_started_event(question, session_id or "")
        turn = self._make_record(question, started)
        turn_id = await self._write_to_store(turn, new_session, keys, question.charge)
        return started if turn_id == started.turn_id else ExistingTurn(turn_id)

    def make_started_event(self, question: TurnRequest, session_id: str | None = None) -> Started:
        """The first event of a new turn."""
        animal = question.animal
        return Started(
            turn_id=make_id("turn"),
            session_id=session_id or make_id("sess"),
            animal_id=animal.animal_id,
            animal_name=animal.name,
            # Asked anew each time: one that is away for a while has another speak in its place.
            model=self._provider.get_model(animal).model_id,
            age_group=question.age_group,
            disclosure=animal.disclosure,
        )

    async def _write_to_store(
        self,
        turn: TurnRecord,
        new_session: SessionRecord | None,
        keys: Sequence[IdempotencyKey],
        charge: Charge | None,
    ) -> str:
        try:
            return await self._store.begin_turn(turn, new_session, keys, charge)
        except TurnRunning:
            # The one in the way may be a dead process's: then it is settled, and the way is free.
            if not await self._leases.settle_orphans():
                raise
            return await self._store.begin_turn(turn, new_session, keys, charge)

    def _make_session(self, question: TurnRequest) -> SessionRecord:
        now, place = self._clock.now(), question.session
        return SessionRecord(
            session_id=place.session_id or make_id("sess"),
            animal_id=question.animal.animal_id,
            owner=place.owner,
            created_at=now,
            last_message_at=now,
            ttl_s=self._session_ttl_s,
            handle=place.handle,
            locked_at=now if place.handle else None,
        )

    async def _find_session(self, question: TurnRequest) -> SessionRecord | None:
        """The session that the question names; None when it begins one."""
        place = question.session
        if place.session_id is None:
            return None
        session = await self._store.get_session(place.session_id)
        if session is None and not place.is_client_chosen:
            raise SessionNotFound("There is no such session. Leave sessionId out to begin a new one.")
        if session is not None and place.handle is None and session.animal_id != question.animal.animal_id:
            raise AnimalMismatch(
                f"This session is a talk with {session.animal_id}. Leave sessionId out to talk with another animal."
            )
        return session

    def _make_record(self, question: TurnRequest, started: Started) -> TurnRecord:
        now = self._clock.now()
        return TurnRecord(
            turn_id=started.turn_id,
            session_id=started.session_id,
            animal_id=started.animal_id,
            age_group=question.age_group,
            message=question.message,
            model=started.model,
            created_at=now,
            metadata=question.metadata,
            worker=self._leases.worker,
            lease_until=now + self._leases.duration,
            media_urls=question.media_urls,
        )


class RunningTurn:
    """Once a turn is ending, nothing can end it another way.

    `orphan_grace_s`: how long it goes on when its last reader has left. A turn that nobody ever read is polled, and
    is nobody's orphan.
    """

    def __init__(
        self,
        writer: TurnWriter,
        orphan_grace_s: float,
        on_orphaned: Callable[[RunningTurn], None],
        *,
        is_stored: bool = True,
    ) -> None:
        self.writer = writer
        self.is_stored = is_stored
        self.task: asyncio.Task[None] | None = None
        self.cancel_result: TurnResult | ChatError | None = None
        self.has_started = False
        self.is_finishing = False
        self._orphan_grace_s = orphan_grace_s
        self._on_orphaned = on_orphaned
        self._readers = 0
        self._orphan_timer: asyncio.TimerHandle | None = None

    def cancel(self, ending: TurnResult | ChatError) -> None:
        if self.cancel_result is None and not self.is_finishing:
            self.cancel_result = ending
            # A task that is cancelled before its first step never takes it, and nobody would write the end.
            if self.has_started and self.task is not None:
                self.task.cancel()

    def stop(self) -> None:
        """End it with what was said so far."""
        writer = self.writer
        self.cancel(
            TurnResult(
                FinishReason.STOPPED,
                usage=writer.usage_so_far,
                moderation=writer.moderation,
                held_back_ms=writer.held_back_ms,
            )
        )

    @property
    def ends_soon(self) -> bool:
        """Somebody has ended it, or will as soon as it is seen that its reader has left."""
        return self.is_finishing or self.cancel_result is not None or self._orphan_grace_s == 0

    def add_reader(self) -> None:
        self._readers += 1
        self._clear_orphan_timer()

    def remove_reader(self) -> None:
        self._readers -= 1
        if self._readers == 0:
            self._start_orphan_timer()

    def record_poll(self) -> None:
        """Somebody still wants to know: an orphan's grace begins anew."""
        if self._orphan_timer is not None:
            self._start_orphan_timer()

    def _start_orphan_timer(self) -> None:
        self._clear_orphan_timer()
        if not self.is_finishing:
            loop = asyncio.get_running_loop()
            self._orphan_timer = loop.call_later(self._orphan_grace_s, self._on_orphaned, self)

    def _clear_orphan_timer(self) -> None:
        if self._orphan_timer is not None:
            self._orphan_timer.cancel()
            self._orphan_timer = None

    def start_finishing(self) -> None:
        self.is_finishing = True
        self._clear_orphan_timer()


class TurnFinisher:
    """Writes how turns end. Whoever settles first in the store decides; everybody tells what was decided."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def finish(self, writer: TurnWriter, ending: TurnResult | ChatError, question: TurnRequest) -> bool:
        """Settle in the store, then tell the readers: "complete" is only said of a reply that is kept.

        Unless the question would rather have an answer without memory than none. False: the store was away for so long
        that the turn is not settled.
        """
        is_settled = True
        outcome = self._make_outcome(writer, ending, question.charge)
        try:
            if not await self._settle_with_retries(writer.turn_id, outcome):
                ending = await self._find_earlier_end(writer.turn_id)
        except StoreUnavailable as error:
            is_settled = False
            log.warning("The store is away: the reply is not kept", turn=shorten_id(writer.turn_id))
            if not question.is_storage_optional:
                ending = error
        await self._append_terminal_event(writer, ending, outcome)
        return is_settled

    async def finish_unstored(self, writer: TurnWriter, ending: TurnResult | ChatError) -> None:
        """The end of a turn that the store never heard of: there is nothing to settle."""
        await self._append_terminal_event(writer, ending, self._make_outcome(writer, ending, None))

    async def _append_terminal_event(
        self, writer: TurnWriter, ending: TurnResult | ChatError, outcome: Outcome
    ) -> None:
        narrator = writer.builder
        with suppress(LogClosed):
            if isinstance(ending, TurnResult):
                await writer.append(narrator.complete(ending, outcome.latency_ms))
            else:
                await writer.append(narrator.fail(ending, outcome.latency_ms))
        log.info(
            "turn_ended", turn=shorten_id(writer.turn_id), status=outcome.status.value, latency_ms=outcome.latency_ms
        )

    async def _settle_with_retries(self, turn_id: str, outcome: Outcome) -> bool:
        for wait_s in SETTLE_RETRY_DELAYS_S:
            try:
                return await self._store.settle_turn(turn_id, outcome)
            except StoreUnavailable:
                await asyncio.sleep(wait_s)
        return await self._store.settle_turn(turn_id, outcome)

    async def _find_earlier_end(self, turn_id: str) -> ChatError:
        """Somebody else was first: the session was deleted, or we were taken for dead."""
        turn = await self._store.get_turn(turn_id)
        return Interrupted() if turn is not None else SessionDeleted()

    def _make_outcome(self, writer: TurnWriter, ending: TurnResult | ChatError, charge: Charge | None) -> Outcome:
        if isinstance(ending, ChatError):
            return Outcome(
                status=TurnStatus.FAILED,
                ended_at=self._clock.now(),
                reply=writer.reply or None,
                moderation=writer.moderation,
                latency_ms=writer.elapsed_ms,
                problem=ending.problem,
            )
        stopped = ending.finish_reason is FinishReason.STOPPED
        return Outcome(
            status=TurnStatus.STOPPED if stopped else TurnStatus.SUCCEEDED,
            ended_at=self._clock.now(),
            reply=writer.reply,
            finish_reason=ending.finish_reason,
            sources=ending.sources,
            usage=ending.usage,
            moderation=ending.moderation,
            latency_ms=writer.elapsed_ms,
            first_token_ms=writer.builder.first_token_ms,
            credits_used=ending.usage.total * charge.credits_per_token if charge else 0,
            model=ending.model or writer.builder.started.model,
        )
