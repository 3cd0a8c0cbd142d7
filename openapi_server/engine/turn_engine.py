"""The turn engine: starts turns, runs each in a task of its own, and lets any number of clients read them.

A turn's task is detached from the connection that started it: clients may leave, resume, poll or stop. The states of a
turn, and what each event does to it, are in `turn_lifecycle`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import structlog

from openapi_server.engine.leases import Leases
from openapi_server.engine.pipeline import Pipeline
from openapi_server.engine.remote_turns import RemoteTurns
from openapi_server.engine.turn_lifecycle import ExistingTurn, RunningTurn, StartedTurn, TurnFinisher, TurnStarter
from openapi_server.engine.turn_queue import TurnQueue
from openapi_server.engine.turn_reader import TurnReader
from openapi_server.engine.turn_request import OnBusy, SessionRef, TurnRequest
from openapi_server.engine.turn_scheduler import TurnScheduler
from openapi_server.engine.turn_writer import TurnWriter
from openapi_server.instruments import Instruments
from openapi_server.models.credits import TokenPrice
from openapi_server.models.errors import (
    ChatError,
    Draining,
    FieldError,
    Interrupted,
    InvalidInput,
    LogGone,
    SessionDeleted,
    SessionNotFound,
    StoreUnavailable,
    TurnElsewhere,
    TurnNotFound,
    TurnRunning,
    TurnTimeout,
)
from openapi_server.models.ids import shorten_id
from openapi_server.models.turn import IdempotencyKey, TurnRecord
from openapi_server.models.turn_event_order import TurnResult
from openapi_server.models.turn_events import Entry, Failed, Started, TurnState, fold
from openapi_server.protocols import (
    Clock,
    EntryAhead,
    EventLog,
    HistoryLost,
    LogClosed,
    LogUnavailable,
    Signal,
    Store,
    Tail,
)
from openapi_server.worker_threads import run_by_size

# How long the start of a turn waits for the end of the one before in its session, in seconds.
ENDING_TURN_WAIT_S = 0.5
# How long the log of a turn that has just begun in another process is waited for, in seconds.
NEW_LOG_WAIT_S, NEW_LOG_POLL_S = 1.0, 0.05

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """Time limits in seconds, and the price of tokens in sessions that cost credits.

    `turn_deadline_s`: the longest run of a turn. `orphan_grace_s`: how long it goes on without readers. `drain_s`: the
    time that running turns get when the server shuts down. `session_ttl_s`: when a new session expires.
    `queue_timeout_s`: the longest wait for the earlier turns of a session, of which `queue_depth` wait at most.
    """

    turn_deadline_s: float
    orphan_grace_s: float
    drain_s: float
    session_ttl_s: int
    price: TokenPrice = TokenPrice()
    queue_timeout_s: float = 30
    queue_depth: int = 8


@dataclass(frozen=True, slots=True)
class AcceptedTurn:
    """The turn that answers a request: a new one, or the earlier one that an idempotency key belongs to.

    `is_first`: the session was begun with it. `is_new`: this request has started it.
    """

    turn_id: str
    session_id: str
    animal_id: str
    is_first: bool = False
    is_new: bool = False


class TurnEngine:
    """Runs turns. Call its methods on the event loop only."""

    def __init__(
        self,
        pipeline: Pipeline,
        store: Store,
        event_log: EventLog,
        clock: Clock,
        leases: Leases,
        limits: TurnLimits,
        instruments: Instruments | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._store = store
        self._log = event_log
        self._clock = clock
        self._leases = leases
        self._limits = limits
        self._instruments = instruments or Instruments()
        self._starter = TurnStarter(
            store, clock, leases, pipeline.provider, limits.session_ttl_s, limits.price, limits.queue_depth
        )
        self._queue = TurnQueue(store, clock, leases, limits.queue_timeout_s)
        self.scheduler = TurnScheduler()
        self._finisher = TurnFinisher(store, clock)
        self._running: dict[str, RunningTurn] = {}
        self._remote_turns = RemoteTurns(store, event_log, limits.orphan_grace_s)
        leases.track(lambda: self._running, event_log.renew, self._remote_turns.end_log)
        event_log.listen(self._on_signal)
        self._reader_count = 0
        self._is_draining = False
        self._jobs: list[asyncio.Task[None]] = []

    @property
    def running_count(self) -> int:
        return len(self._running) - self.queued_count

    @property
    def queued_count(self) -> int:
        """How many turns wait for an earlier one of their session."""
        return sum(turn.is_queued for turn in self._running.values())

    @property
    def reader_count(self) -> int:
        return self._reader_count

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    async def open(self) -> int:
        """Start renewing leases, and settle the turns of dead processes. Returns how many were settled."""
        check_quiet = partial(self._remote_turns.check_quiet, self._leases.interval_s)
        jobs = (self._leases.run(self._on_lease_lost, check_quiet), self._remote_turns.tell_readers())
        self._jobs = [asyncio.create_task(job) for job in jobs]
        return await self._leases.settle_orphans()

    async def start_turn(self, request: TurnRequest, keys: Sequence[IdempotencyKey] = ()) -> AcceptedTurn:
        """Store the visitor's message, create the turn's log and start its task.

        `request.on_busy` says what happens while the session has another turn. A turn that has to wait for it is
        accepted at once, too, and has a log.

        Raises `Draining`, `SessionNotFound`, `AnimalMismatch`, `TurnRunning`, `KeyReused`, `SessionClaimed`,
        `InsufficientCredits` or `StoreUnavailable`.
        """
        try:
            return await self._start_turn(request, keys)
        except ChatError as error:
            self._instruments.metrics.count_refused_turn(request.contract, error.code)
            raise

    async def _start_turn(self, request: TurnRequest, keys: Sequence[IdempotencyKey]) -> AcceptedTurn:
        if self._is_draining:
            raise Draining(retry_after_s=5)
        # Here, for all contracts: before anything is stored, logged or sent to a provider.
        request = await run_by_size(request.size, partial(request.clean_text, self._pipeline.moderator.mask_pii))
        try:
            started = await self._start_in_store(request, keys)
        except StoreUnavailable:
            if not request.is_storage_optional:
                raise
            log.warning("The store is unavailable: answering without memory")
            request = replace(request, session=SessionRef(), recall_from_session_id=None)
            unstored = StartedTurn(self._starter.make_started_event(request))
            return await self._launch(request, unstored, is_stored=False)
        if isinstance(started, ExistingTurn):
            return await self._accept_existing(started.turn_id)
        return await self._launch(replace(request, charge=started.charge), started)

    async def _start_in_store(self, request: TurnRequest, keys: Sequence[IdempotencyKey]) -> StartedTurn | ExistingTurn:
        try:
            return await self._starter.start(request, keys)
        except TurnRunning as busy:
            if request.on_busy is not OnBusy.REJECT:
                return await self._enqueue(request, keys, busy.turn_id or "")
            # Clients abort a turn and start the next at once: a turn that is about to end is waited for.
            if not await self._wait_for_ending_turn(busy.turn_id or ""):
                raise
            return await self._starter.start(request, keys)

    async def _enqueue(
        self, request: TurnRequest, keys: Sequence[IdempotencyKey], busy_turn_id: str
    ) -> StartedTurn | ExistingTurn:
        """Queue the turn, and stop the running one if the request interrupts it.

        Not the other way round: a turn that is refused, or was accepted before, interrupts nothing.
        """
        started = await self._starter.start(request, keys, is_queued=True)
        running = self._running.get(busy_turn_id)
        if isinstance(started, StartedTurn) and running is None and request.on_busy is OnBusy.INTERRUPT:
            # Of another process. Whether it is unread is not known here: for that it is not interrupted.
            await self._log.signal(busy_turn_id, Signal.STOP)
        if isinstance(started, StartedTurn) and running is not None and _is_interrupted(running, request.on_busy):
            log.info("turn_interrupted", turn=shorten_id(running.writer.turn_id))
            running.stop()
        return started

    async def _wait_for_ending_turn(self, turn_id: str) -> bool:
        running = self._running.get(turn_id)
        if running is None or running.task is None or not running.ends_soon:
            return False
        done, _ = await asyncio.wait((running.task,), timeout=ENDING_TURN_WAIT_S)
        return bool(done)

    async def _launch(self, request: TurnRequest, started: StartedTurn, *, is_stored: bool = True) -> AcceptedTurn:
        """Start the turn's task."""
        event = started.event
        writer = self._make_writer(event, request.contract)
        await writer.open()
        grace_s = 0.0 if request.is_cancelled_on_disconnect else self._limits.orphan_grace_s
        running = RunningTurn(writer, grace_s, self._on_orphaned, is_stored=is_stored, is_queued=started.is_queued)
        self._running[event.turn_id] = running
        running.task = asyncio.create_task(self._run_turn(request, running))
        return AcceptedTurn(event.turn_id, event.session_id, event.animal_id, started.is_new_session, is_new=True)

    def _make_writer(self, started: Started, contract: str) -> TurnWriter:
        metrics = self._instruments.metrics.begin_turn(started, contract, self._clock.monotonic())
        trace = self._instruments.tracer.trace_turn(started, contract)
        return TurnWriter(started, self._log, self._clock, metrics, trace)

    async def open_reader(self, turn_id: str, after: int = 0, *, is_observer: bool = False) -> TurnReader:
        """A reader of the entries behind number `after`. An observer does not keep the turn running, nor is counted.

        Raises `TurnNotFound`, `LogGone` when the log has expired or is lost, `TurnElsewhere` when the turn runs in
        another process and cannot be read from here, and `InvalidInput` when there is no entry `after` yet.
        """
        tail, entries = await self._open_tail(turn_id, after)
        running = self._running.get(turn_id)
        is_queued = running is not None and running.is_queued
        if is_observer:
            return TurnReader(turn_id, entries, tail, self._clock, is_queued=is_queued)
        self._reader_count += 1
        if running is not None:
            running.add_reader()
        elif self._log.is_shared and not tail.is_over:
            await self._remote_turns.add_reader(turn_id)
            return TurnReader(turn_id, entries, tail, self._clock, self._on_reader_elsewhere_closed)
        return TurnReader(turn_id, entries, tail, self._clock, self._on_reader_closed, is_queued=is_queued)

    async def _open_tail(self, turn_id: str, after: int) -> tuple[Tail, Sequence[Entry]]:
        """The tail, and the entries before it."""
        tail: Tail | None = None
        try:
            tail = await self._open_tail_in_time(turn_id, after)
            entries = None if tail is None else await self._log.list_entries(turn_id)
        except EntryAhead:
            message = "names an event that has not happened"
            errors = (FieldError("Last-Event-ID", message),)
            raise InvalidInput(f"Last-Event-ID {message}.", errors=errors) from None
        except (HistoryLost, LogUnavailable) as error:
            if tail is not None:
                tail.close()
            raise await self._explain_missing_log(turn_id, error) from None
        if tail is None or entries is None:
            raise await self._explain_missing_log(turn_id)
        return tail, entries[:after]

    async def _open_tail_in_time(self, turn_id: str, after: int) -> Tail | None:
        """The tail. The log of a turn that has just begun in another process may be a moment away."""
        tail = await self._log.open_tail(turn_id, after)
        if tail is None and self._log.is_shared:
            with suppress(TimeoutError):
                async with asyncio.timeout(NEW_LOG_WAIT_S):
                    while tail is None and (await self.get_turn(turn_id)).outcome is None:
                        await asyncio.sleep(NEW_LOG_POLL_S)
                        tail = await self._log.open_tail(turn_id, after)
        return tail

    async def get_turn(self, turn_id: str) -> TurnRecord:
        """The stored turn, which is settled first if it is orphaned. Raises `TurnNotFound`."""
        turn = await self._store.get_turn(turn_id)
        if turn is not None and turn.outcome is None and turn_id not in self._running:
            await self._leases.settle_orphans()
            turn = await self._store.get_turn(turn_id)
        if turn is None:
            raise TurnNotFound
        return turn

    async def stop_turn(self, turn_id: str) -> TurnRecord:
        """Stop the turn, unless it has ended, and wait for its end. Raises `TurnNotFound` and `TurnElsewhere`."""
        running = self._running.get(turn_id)
        if running is not None:
            running.stop()
            if running.task is not None:
                await asyncio.wait((running.task,))
        turn = await self.get_turn(turn_id)
        if turn.outcome is None:
            turn = await self._remote_turns.stop(turn_id) or turn
        if turn.outcome is None:
            raise TurnElsewhere(retry_after_s=2)
        return turn

    async def get_state(self, turn_id: str) -> TurnState | None:
        """The turn's state by its log; None when it cannot be read here."""
        if turn_id in self._running:
            self._running[turn_id].record_poll()
        try:
            entries = await self._log.list_entries(turn_id)
        except (HistoryLost, LogUnavailable):
            return None
        if entries is not None and turn_id not in self._running:
            await self._log.signal(turn_id, Signal.READ)
        return None if entries is None else fold(entries)

    def call_at_end(self, turn_id: str, callback: Callable[[], None]) -> None:
        """Call it when the turn has ended in this process; at once when it does not run here."""
        running = self._running.get(turn_id)
        if running is None or running.task is None:
            callback()
        else:
            running.task.add_done_callback(lambda task: callback())

    async def delete_turns(self, turn_ids: Sequence[str]) -> None:
        """After the deletion of their session: cancel those that run, and delete all logs. Readers are told so."""
        await self._cancel_turns(turn_ids, SessionDeleted())
        for turn_id in turn_ids:
            with suppress(LogClosed):
                await self._log.append(turn_id, [Failed(SessionDeleted().problem)])
        await asyncio.gather(*(self._log.delete(turn_id) for turn_id in turn_ids))

    def start_draining(self) -> None:
        """Refuse new turns from now on, and end those that wait for another one."""
        self._is_draining = True
        self._log.cut_off()
        for turn in self._running.values():
            if turn.is_queued:
                turn.cancel(Draining("The server restarts, and the message had not had its turn. Send it again."))

    async def drain(self) -> None:
        """Refuse new turns, give the running ones `drain_s` seconds to finish, and interrupt the rest."""
        self.start_draining()
        tasks = [turn.task for turn in self._running.values() if turn.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=self._limits.drain_s)
        await self._cancel_turns(list(self._running), Interrupted())

    async def close(self) -> None:
        """Refuse new turns, interrupt the running ones, and wait until all are settled."""
        self.start_draining()
        await self._cancel_turns(list(self._running), Interrupted())
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    async def _cancel_turns(self, turn_ids: Sequence[str], error: ChatError) -> None:
        running = [self._running[turn_id] for turn_id in turn_ids if turn_id in self._running]
        for turn in running:
            turn.cancel(error)
        await asyncio.gather(*(turn.task for turn in running if turn.task is not None), return_exceptions=True)

    async def _accept_existing(self, turn_id: str) -> AcceptedTurn:
        turn = await self._store.get_turn(turn_id)
        if turn is None:
            raise SessionNotFound
        page = await self._store.list_turns(turn.session_id, 1)
        is_first = bool(page.items) and page.items[0].turn_id == turn_id
        return AcceptedTurn(turn_id, turn.session_id, turn.animal_id, is_first)

    async def _explain_missing_log(self, turn_id: str, error: Exception | None = None) -> ChatError:
        """Why a log cannot be read, or not from there on; `error` is what the log itself says."""
        turn = await self.get_turn(turn_id)
        if turn.outcome is None and (not self._log.is_shared or isinstance(error, LogUnavailable)):
            return TurnElsewhere(turn_id=turn_id, retry_after_s=2)
        if turn.outcome is None:
            detail = "The turn runs in another process, and its events are lost. Its state can be polled: see Link."
        else:
            why = "its events were kept long enough" if error is None else "its last events cannot be read any more"
            detail = f"The turn has ended and {why}. Its {'error' if turn.problem else 'reply'} is kept: see Link."
        return LogGone(
            detail,
            turn_id=turn_id,
            headers={"Link": f'</convo_turn/{turn_id}>; rel="alternate"'},
            details=(("earliestEventId", None),),
        )

    async def _run_turn(self, request: TurnRequest, running: RunningTurn) -> None:
        """The turn's task. Readers wait for its end, so whatever happens here becomes exactly one terminal event."""
        try:
            result = await self._produce_result(request, running)
            running.start_finishing()
            if running.is_stored:
                if not await self._finisher.finish(running.writer, result, request):
                    self._leases.abandon(running.writer.turn_id)
            else:
                await self._finisher.finish_unstored(running.writer, result)
        except Exception:
            # A bug: the end could not be written. Readers must not wait for it for ever.
            log.exception("turn_not_ended", turn=shorten_id(running.writer.turn_id))
            with suppress(LogClosed):
                await running.writer.append(running.writer.builder.fail(ChatError(), running.writer.elapsed_ms))
        finally:
            del self._running[running.writer.turn_id]
            self._queue.wake(running.writer.session_id)

    async def _produce_result(self, request: TurnRequest, running: RunningTurn) -> TurnResult | ChatError:
        running.has_started = True
        if running.cancel_result is not None:
            return running.cancel_result
        try:
            has_waited = running.is_queued
            if has_waited:
                await self._queue.wait(running.writer.turn_id, running.writer.session_id, request)
                running.leave_queue()
            async with asyncio.timeout(self._limits.turn_deadline_s):
                if not has_waited:
                    await self.scheduler.wait()
                return await self._pipeline.run(request, running.writer)
        except TimeoutError:
            return TurnTimeout()
        except ChatError as error:
            return error
        except (asyncio.CancelledError, LogClosed):
            return running.cancel_result or Interrupted()
        except Exception:
            # An error that no provider or store should raise: readers get a problem, the log the traceback.
            log.exception("turn_crashed", turn=shorten_id(running.writer.turn_id))
            return ChatError()

    def _on_reader_closed(self, reader: TurnReader) -> None:
        self._reader_count -= 1
        if reader.turn_id in self._running:
            self._running[reader.turn_id].remove_reader()

    def _on_reader_elsewhere_closed(self, reader: TurnReader) -> None:
        self._reader_count -= 1
        self._remote_turns.remove_reader(reader.turn_id)

    def _on_signal(self, signal: Signal, turn_id: str) -> None:
        """Another process asks something of one of this process's turns."""
        running = self._running.get(turn_id)
        if running is None:
            return
        match signal:
            case Signal.STOP:
                running.stop()
            case Signal.READ:
                running.record_poll()
            case Signal.DELETE | Signal.FENCED:
                self._on_lease_lost(turn_id)

    def _on_orphaned(self, running: RunningTurn) -> None:
        log.info("Stream cancelled by client", turn=shorten_id(running.writer.turn_id))
        running.stop()

    def _on_lease_lost(self, turn_id: str) -> None:
        # Deleted, or settled by another process: then the finisher finds out, and nothing more is charged.
        running = self._running.get(turn_id)
        # A turn that was begun while the store was away never had a lease.
        if running is not None and running.is_stored:
            running.cancel(SessionDeleted())


def _is_interrupted(running: RunningTurn, on_busy: OnBusy) -> bool:
    if running.is_queued:
        return False
    return on_busy is OnBusy.INTERRUPT or (on_busy is OnBusy.INTERRUPT_UNREAD and running.is_unread)
