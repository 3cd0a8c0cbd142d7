"""The life of a turn: how it is started in the store, runs in this process, and ends exactly once.

A turn has a state in the process that runs it (`RunningTurn`) and one in the store. A dash means: nothing happens.

In the process:

    event                    starting           queued               running                cancelled          finishing
    -----------------------  -----------------  -------------------  ---------------------  -----------------  ---------
    the task's first step    running or queued  .                    .                      finishing          .
    the store starts it      .                  running              .                      .                  .
    the longest wait ends    .                  finishing (failed)   .                      finishing          .
    the pipeline returns     .                  .                    finishing              finishing          .
    the pipeline raises      .                  .                    finishing (failed)     finishing          .
    deadline                 .                  .                    finishing (timeout)    finishing          .
    stop_turn                cancelled          cancelled (stopped)  cancelled (stopped)    -                  -
    a message interrupts it  cancelled          -                    cancelled (stopped)    -                  -
    orphan timer expires     cancelled          cancelled (stopped)  cancelled (stopped)    -                  .
    session deleted          cancelled          cancelled (failed)   cancelled (failed)     -                  -
    lease lost               cancelled          cancelled (failed)   cancelled (failed)     -                  -
    drain                    -                  cancelled (failed)   goes on for a while    -                  -
    close                    cancelled          cancelled (failed)   cancelled (failed)     -                  -
    a reader opens           stops the timer    stops the timer      stops the timer        stops the timer    -
    the last reader leaves   starts the timer   starts the timer     starts the timer       starts the timer   -
    a client polls           restarts a timer   restarts a timer     restarts a timer       restarts a timer   -
                             that runs          that runs            that runs              that runs

    A cell with a dot cannot happen. `queued`: the turn waits for the earlier ones of its session (`turn_queue`).
    `cancelled`: the first cancellation decides the result, and the pipeline, with the provider's request, is being
    closed. `finishing`: the outcome is written to the store, then the terminal event is appended to the log, then the
    turn leaves the process and wakes those that wait for it. The log stays readable for the replay window.

In the store, which decides between processes:

    operation                absent             running or queued,     running or queued, settled
                                                leased                 orphaned
    -----------------------  -----------------  ---------------------  -----------------  ------------
    begin_turn, same         running            TurnRunning            settled first,     running (the
      session                                                          then running       new turn)
    begin_turn of a queued   queued             queued, or TurnRunning queued, or settled queued (the
      turn, same session                        when many wait         when many wait     new turn)
    begin_turn, same key     running or queued  the stored turn        the stored turn    the stored turn
    start_queued_turn        TurnNotFound       running, if all that   running, if all    TurnNotFound
                                                came before are        before are
                                                settled                settled
    settle_turn              None, but charged  settled                settled            None
                             if deleted while
                             it ran
    renew_leases             not returned       lease extended         lease extended     not returned
    settle_orphans           - (what it has     -                      settled (failed)   -
                             reserved is
                             released)
    delete_session           -                  absent                 absent             absent

    Credits are reserved when a turn runs, so a queued turn holds none. Those of a turn that is deleted while it runs
    stay reserved, with its lease, until its process has charged what was said. A turn is orphaned when its lease has
    expired, when its process is known to be dead, or when its process could not store the outcome. Whoever settles a
    turn first decides how it ended; a process that comes second reports that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import structlog

from openapi_server.engine.leases import Leases
from openapi_server.engine.turn_request import TurnRequest
from openapi_server.engine.turn_writer import TurnWriter
from openapi_server.models.animal import Animal
from openapi_server.models.credits import NO_COST, Charge, TokenPrice
from openapi_server.models.errors import (
    AnimalMismatch,
    ChatError,
    Interrupted,
    SessionDeleted,
    SessionNotFound,
    StoreUnavailable,
    TurnRunning,
)
from openapi_server.models.ids import make_id, shorten_id
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import FinishReason, IdempotencyKey, Outcome, TurnRecord, TurnStatus, Usage
from openapi_server.models.turn_event_order import TurnResult
from openapi_server.models.turn_events import Started
from openapi_server.models.user import USER_PREFIX
from openapi_server.protocols import Clock, LogClosed, Provider, Store

# Delays between the attempts to store an outcome, in seconds. After the last attempt the turn fails for its readers.
SETTLE_RETRY_DELAYS_S = (0.1, 0.3, 1.0, 3.0)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ExistingTurn:
    """No turn was started, because an idempotency key of the request belongs to this one."""

    turn_id: str


@dataclass(frozen=True, slots=True)
class StartedTurn:
    """The first event of a turn that was started, who pays for it, and whether its session was begun with it.

    `is_queued`: it waits for earlier turns.
    """

    event: Started
    charge: Charge | None = None
    is_new_session: bool = False
    is_queued: bool = False


def make_charge(username: str, provider: Provider, animal: Animal, price: TokenPrice) -> Charge:
    """What a turn with the animal may cost: the longest prompt, where prompts are charged, and the longest reply."""
    model = provider.get_model(animal)
    return Charge(username, price.compute_credits(Usage(model.max_prompt_tokens, model.max_tokens)), price)


class TurnStarter:
    """Starts turns in the store. Every refusal happens here, before the client is sent anything."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        leases: Leases,
        provider: Provider,
        session_ttl_s: int,
        price: TokenPrice,
        queue_depth: int,
    ) -> None:
        self._store = store
        self._clock = clock
        self._leases = leases
        self._provider = provider
        self._session_ttl_s = session_ttl_s
        self._price = price
        self._queue_depth = queue_depth

    async def start(
        self, request: TurnRequest, keys: Sequence[IdempotencyKey], *, is_queued: bool = False
    ) -> StartedTurn | ExistingTurn:
        """Store the message as a running or a queued turn, and its session if that is new."""
        known_session = await self._find_session(request)
        new_session = None if known_session else self._make_session(request)
        session_id = new_session.session_id if new_session else request.session.session_id
        started = self.make_started_event(request, session_id or "")
        turn = self._make_record(request, started, is_queued=is_queued)
        charge = self._choose_charge(request, known_session)
        claim = request.session.claim
        begin = partial(self._store.begin_turn, turn, new_session, keys, charge, claim, self._queue_depth)
        turn_id = await self._write_to_store(begin)
        if turn_id != started.turn_id:
            return ExistingTurn(turn_id)
        return StartedTurn(started, charge, is_new_session=new_session is not None, is_queued=is_queued)

    def _choose_charge(self, request: TurnRequest, session: SessionRecord | None) -> Charge | None:
        """Who pays. A session that costs credits costs its owner, whichever operation the message came through."""
        if session is None or not session.is_charged or session.owner is None:
            return request.charge
        return make_charge(session.owner.removeprefix(USER_PREFIX), self._provider, request.animal, self._price)

    def make_started_event(self, request: TurnRequest, session_id: str | None = None) -> Started:
        """The first event of a new turn."""
        animal = request.animal
        return Started(
            turn_id=make_id("turn"),
            session_id=session_id or make_id("sess"),
            animal_id=animal.animal_id,
            animal_name=animal.name,
            # Not cached: while a provider is unavailable, its fallback names another model.
            model=self._provider.get_model(animal).model_id,
            age_group=request.age_group,
            disclosure=animal.disclosure,
            session_name=request.session.name,
        )

    async def _write_to_store(self, begin: Callable[[], Awaitable[str]]) -> str:
        try:
            return await begin()
        except TurnRunning:
            # The running turn may belong to a dead process. Then it is settled now, and the session is free.
            if not await self._leases.settle_orphans():
                raise
            return await begin()

    def _make_session(self, request: TurnRequest) -> SessionRecord:
        now, ref = self._clock.now(), request.session
        return SessionRecord(
            session_id=ref.session_id or make_id("sess"),
            animal_id=request.animal.animal_id,
            owner=ref.owner,
            created_at=now,
            last_message_at=now,
            ttl_s=self._session_ttl_s,
            handle=ref.handle,
            locked_at=now if ref.handle else None,
            name_key=ref.name_key,
            name=ref.name,
            is_claimed=ref.is_proved,
        )

    async def _find_session(self, request: TurnRequest) -> SessionRecord | None:
        """The stored session that the request refers to; None when the request starts a new one."""
        ref = request.session
        if ref.session_id is None:
            return None
        session = await self._store.get_session(ref.session_id)
        if session is None and not ref.is_client_chosen:
            raise SessionNotFound("There is no such session. Leave sessionId out to begin a new one.")
        if session is not None and ref.handle is None and session.animal_id != request.animal.animal_id:
            raise AnimalMismatch(
                f"This session is a talk with {session.animal_id}. Leave sessionId out to talk with another animal."
            )
        return session

    def _make_record(self, request: TurnRequest, started: Started, *, is_queued: bool) -> TurnRecord:
        now = self._clock.now()
        return TurnRecord(
            turn_id=started.turn_id,
            session_id=started.session_id,
            animal_id=started.animal_id,
            age_group=request.age_group,
            message=request.message,
            model=started.model,
            created_at=now,
            metadata=request.metadata,
            worker=self._leases.worker,
            lease_until=now + self._leases.duration,
            media_urls=request.media_urls,
            is_bound=request.is_bound,
            is_queued=is_queued,
        )


class RunningTurn:
    """A turn that runs in this process: its task, its readers, and the result it was cancelled with, if it was.

    While it `is_queued` its task waits for the earlier turns of its session.
    `orphan_grace_s` is how long it goes on after its last reader has left. A turn that never had a reader has no such
    limit: its client polls.
    """

    def __init__(
        self,
        writer: TurnWriter,
        orphan_grace_s: float,
        on_orphaned: Callable[[RunningTurn], None],
        *,
        is_stored: bool = True,
        is_queued: bool = False,
    ) -> None:
        self.writer = writer
        self.is_stored = is_stored
        self.is_queued = is_queued
        self.task: asyncio.Task[None] | None = None
        self.cancel_result: TurnResult | ChatError | None = None
        self.has_started = False
        self.is_finishing = False
        self._orphan_grace_s = orphan_grace_s
        self._on_orphaned = on_orphaned
        self._reader_count = 0
        self._orphan_timer: asyncio.TimerHandle | None = None

    def cancel(self, result: TurnResult | ChatError) -> None:
        """End the turn early with this result. No effect on a turn that is cancelled or finishing already."""
        if self.cancel_result is None and not self.is_finishing:
            self.cancel_result = result
            # A task that is cancelled before its first step never runs, and so could not write the turn's end.
            if self.has_started and self.task is not None:
                self.task.cancel()

    def stop(self) -> None:
        """End the turn early; its reply is the text so far."""
        writer = self.writer
        self.cancel(
            TurnResult(
                FinishReason.STOPPED,
                usage=writer.usage_so_far,
                moderation=writer.moderation,
                held_back_ms=writer.held_back_ms,
            )
        )

    def leave_queue(self) -> None:
        """The turn runs now."""
        self.is_queued = False
        self.writer.record_start()

    def start_finishing(self) -> None:
        """From now on nothing changes the turn's result."""
        self.is_finishing = True
        self._clear_orphan_timer()

    @property
    def ends_soon(self) -> bool:
        """The turn is cancelled or finishing, or it is cancelled as soon as its reader's disconnect is noticed."""
        return self.is_finishing or self.cancel_result is not None or self._orphan_grace_s == 0

    @property
    def is_unread(self) -> bool:
        """All readers have left. A turn that never had one is not unread: its client polls."""
        return self._orphan_timer is not None

    def add_reader(self) -> None:
        self._reader_count += 1
        self._clear_orphan_timer()

    def remove_reader(self) -> None:
        self._reader_count -= 1
        if self._reader_count == 0:
            self._start_orphan_timer()

    def record_poll(self) -> None:
        """A client still waits for the turn: if the orphan timer runs, it starts anew."""
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


class TurnFinisher:
    """Ends turns: stores the outcome first, then appends the terminal event that matches what is stored."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def finish(self, writer: TurnWriter, result: TurnResult | ChatError, request: TurnRequest) -> bool:
        """Settle the turn, then append its terminal event. False when the store was unavailable: it is not settled.

        `Completed` is appended only when the reply is stored, or when storage is optional for the request.
        """
        is_settled = True
        outcome = self._make_outcome(writer, result, request.charge)
        try:
            settled = await self._settle_with_retries(writer.turn_id, outcome)
            if settled is None:
                result = await self._find_earlier_end(writer.turn_id)
            elif isinstance(result, TurnResult):
                result = replace(result, tokens_charged=settled.tokens_charged)
        except StoreUnavailable as error:
            is_settled = False
            log.warning("The store is unavailable: the reply is not stored", turn=shorten_id(writer.turn_id))
            if not request.is_storage_optional:
                result = error
        await self._append_terminal_event(writer, result, outcome)
        return is_settled

    async def finish_unstored(self, writer: TurnWriter, result: TurnResult | ChatError) -> None:
        """End a turn that was never stored: append its terminal event."""
        await self._append_terminal_event(writer, result, self._make_outcome(writer, result, None))

    async def _append_terminal_event(
        self, writer: TurnWriter, result: TurnResult | ChatError, outcome: Outcome
    ) -> None:
        with suppress(LogClosed):
            if isinstance(result, TurnResult):
                await writer.append(writer.builder.complete(result, outcome.latency_ms))
            else:
                await writer.append(writer.builder.fail(result, outcome.latency_ms))
        status, latency_ms = outcome.status.value, outcome.latency_ms
        log.info(
            "turn_ended",
            turn=shorten_id(writer.turn_id),
            animal=writer.builder.started.animal_id,
            status=status,
            reason=None if isinstance(result, TurnResult) else result.code,
            latency_ms=latency_ms,
        )

    async def _settle_with_retries(self, turn_id: str, outcome: Outcome) -> Outcome | None:
        for delay_s in SETTLE_RETRY_DELAYS_S:
            try:
                return await self._store.settle_turn(turn_id, outcome)
            except StoreUnavailable:
                await asyncio.sleep(delay_s)
        return await self._store.settle_turn(turn_id, outcome)

    async def _find_earlier_end(self, turn_id: str) -> ChatError:
        """Why the turn could not be settled: another process did, taking this one for dead, or it was deleted."""
        turn = await self._store.get_turn(turn_id)
        return Interrupted() if turn is not None else SessionDeleted()

    def _make_outcome(self, writer: TurnWriter, result: TurnResult | ChatError, charge: Charge | None) -> Outcome:
        if isinstance(result, ChatError):
            # What was said before somebody deleted the session is not free. Of a turn that failed it is.
            cost = (
                charge.compute_cost(writer.usage_so_far) if charge and isinstance(result, SessionDeleted) else NO_COST
            )
            return Outcome(
                status=TurnStatus.FAILED,
                ended_at=self._clock.now(),
                reply=writer.reply or None,
                moderation=writer.moderation,
                latency_ms=writer.elapsed_ms,
                problem=result.problem,
                progress=writer.builder.progress,
                credits_used=cost.credits,
                tokens_charged=cost.tokens,
            )
        cost = charge.compute_cost(result.usage) if charge else NO_COST
        return Outcome(
            status=result.finish_reason.turn_status,
            ended_at=self._clock.now(),
            reply=writer.reply,
            finish_reason=result.finish_reason,
            sources=result.sources,
            usage=result.usage,
            moderation=result.moderation,
            latency_ms=writer.elapsed_ms,
            first_token_ms=writer.builder.first_token_ms,
            credits_used=cost.credits,
            model=result.model or writer.builder.started.model,
            tokens_charged=cost.tokens,
        )
