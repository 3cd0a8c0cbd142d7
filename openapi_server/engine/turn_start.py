"""Beginnings: a question is checked, gets its ids, and is kept by the store, which says whether its session is free."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from openapi_server.engine.leases import Leases
from openapi_server.engine.turn_request import TurnRequest
from openapi_server.models.credits import Charge
from openapi_server.models.errors import AnimalMismatch, SessionNotFound, TurnRunning
from openapi_server.models.session import IdempotencyKey, SessionRecord, TurnRecord
from openapi_server.models.turn import Started
from openapi_server.protocols import Clock, Provider, Store


def make_id(prefix: str) -> str:
    """An id that cannot be guessed (128 random bits): holding a session's or a turn's id is the right to it."""
    return f"{prefix}_{secrets.token_hex(16)}"


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
