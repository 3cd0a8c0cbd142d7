"""Endings: a turn's outcome is settled in the store first, and then its readers are told, once."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from openapi_server.engine.turn_request import TurnRequest
from openapi_server.engine.turn_writer import TurnWriter, shorten_id
from openapi_server.models.credits import Charge
from openapi_server.models.errors import ChatError, Interrupted, SessionDeleted, StoreUnavailable
from openapi_server.models.session import Outcome
from openapi_server.models.turn import FinishReason, TurnStatus
from openapi_server.models.turn_events import TurnResult
from openapi_server.protocols import Clock, LogClosed, Store

# Seconds to wait before each further try to write an outcome; after the last one the readers are told of the failure.
SETTLE_RETRY_DELAYS_S = (0.1, 0.3, 1.0, 3.0)

log = structlog.get_logger(__name__)


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
