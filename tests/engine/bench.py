"""A turn engine over fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from openapi_server.engine.leases import Leases
from openapi_server.engine.pipeline import Pipeline
from openapi_server.engine.turn_engine import TurnEngine, TurnLimits
from openapi_server.engine.turn_request import SessionRef, TurnRequest
from openapi_server.event_logs.memory import MemoryEventLog
from openapi_server.models.credits import Charge
from openapi_server.models.errors import StoreUnavailable, TurnRunning
from openapi_server.models.session import SessionClaim, SessionRecord
from openapi_server.models.turn import IdempotencyKey, Lease, Outcome, TurnRecord
from openapi_server.models.turn_events import Entry
from openapi_server.protocols import Moderator, Provider
from tests.support.fakes import AllowsAll, FakeClock, FakeKnowledge, make_lion
from tests.support.rules import load_output_rules

# The real rules for replies, which the engine applies to what a provider generates.
REPLIES = load_output_rules()


class DictStore:
    """A store in dictionaries. `outcomes` has every outcome that was written for a turn, in order.

    While `fails_to_settle` is set, outcomes cannot be written; `failing_methods` are the names of methods that raise.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, SessionRecord] = {}
        self.turns: dict[str, TurnRecord] = {}
        self.outcomes: dict[str, list[Outcome]] = {}
        self.fails_to_settle = False
        self.was_renewed = asyncio.Event()
        self._has_asked_to_renew = False
        self.failing_methods: frozenset[str] = frozenset()

    async def begin_turn(
        self,
        turn: TurnRecord,
        new_session: SessionRecord | None = None,
        keys: Sequence[IdempotencyKey] = (),
        charge: Charge | None = None,
        claim: SessionClaim | None = None,
        max_queued: int = 0,
    ) -> str:
        self._require_reachable("begin_turn")
        if new_session is not None:
            self.sessions[new_session.session_id] = new_session
        ahead = self._list_unended(turn.session_id)
        queued = [other for other in ahead if other.is_queued]
        if len(queued) >= max_queued if turn.is_queued else ahead:
            raise TurnRunning(turn_id=ahead[0].turn_id if ahead else None)
        self.turns[turn.turn_id] = turn
        return turn.turn_id

    async def start_queued_turn(self, turn_id: str, at: datetime, charge: Charge | None = None) -> str | None:
        self._require_reachable("start_queued_turn")
        turn = self.turns[turn_id]
        first, *_ = self._list_unended(turn.session_id)
        if first.turn_id != turn_id:
            return first.turn_id
        self.turns[turn_id] = replace(turn, is_queued=False, started_at=at)
        return None

    def _list_unended(self, session_id: str) -> list[TurnRecord]:
        """The session's turns without an outcome, oldest first."""
        theirs = [turn for turn in self.turns.values() if turn.session_id == session_id]
        return [turn for turn in theirs if turn.turn_id not in self.outcomes]

    async def get_turn(self, turn_id: str) -> TurnRecord | None:
        turn = self.turns.get(turn_id)
        return replace(turn, outcome=self.outcomes.get(turn_id, [None])[0]) if turn else None

    async def settle_turn(self, turn_id: str, outcome: Outcome) -> Outcome | None:
        self._require_reachable("settle_turn")
        if self.fails_to_settle:
            raise StoreUnavailable
        self.outcomes.setdefault(turn_id, []).append(outcome)
        return outcome if len(self.outcomes[turn_id]) == 1 else None

    async def get_session(self, session_id: str) -> SessionRecord | None:
        self._require_reachable("get_session")
        return self.sessions.get(session_id)

    async def list_latest_turns(self, session_id: str, limit: int) -> list[TurnRecord]:
        self._require_reachable("list_latest_turns")
        theirs = [turn for turn in self.turns.values() if turn.session_id == session_id]
        return [replace(turn, outcome=self.outcomes.get(turn.turn_id, [None])[0]) for turn in theirs[-limit:]]

    async def list_running_turns(self) -> list[Lease]:
        return [
            Lease(turn.turn_id, turn.worker, turn.lease_until or turn.created_at)
            for turn in self.turns.values()
            if turn.turn_id not in self.outcomes
        ]

    async def renew_leases(self, turn_ids: Sequence[str], until: datetime) -> list[str]:
        if self._has_asked_to_renew:
            # What the first renewal has led to has happened.
            self.was_renewed.set()
        self._has_asked_to_renew = True
        return [turn_id for turn_id in turn_ids if turn_id in self.turns and turn_id not in self.outcomes]

    def _require_reachable(self, method: str) -> None:
        if method in self.failing_methods:
            raise StoreUnavailable


class EngineBench:
    """An engine, and the fakes it runs on."""

    def __init__(
        self,
        provider: Provider,
        *,
        moderator: Moderator | None = None,
        store: DictStore | None = None,
        deadline_s: float = 10,
        grace_s: float = 30,
        queue_timeout_s: float = 10,
        queue_depth: int = 8,
        lease_s: float = 30,
    ) -> None:
        self.provider = provider
        self.store = store or DictStore()
        self.clock = FakeClock()
        self.log = MemoryEventLog(self.clock)
        pipeline = Pipeline(provider, FakeKnowledge(), moderator or AllowsAll(), REPLIES, self.store, 5)  # type: ignore[arg-type]
        self.leases = Leases(self.store, self.clock, "here/1/aaaa", lease_s)  # type: ignore[arg-type]
        limits = TurnLimits(
            deadline_s,
            grace_s,
            drain_s=5,
            session_ttl_s=86_400,
            queue_timeout_s=queue_timeout_s,
            queue_depth=queue_depth,
        )
        self.engine = TurnEngine(pipeline, self.store, self.log, self.clock, self.leases, limits)  # type: ignore[arg-type]

    async def read_to_end(self, turn_id: str) -> list[Entry]:
        """All entries of the turn, read by a reader of the engine."""
        entries: list[Entry] = []
        with await self.engine.open_reader(turn_id) as reader:
            while not reader.is_over:
                entries += await reader.read(5)
        return entries

    async def read_log(self, turn_id: str) -> list[Entry]:
        """All entries of the turn, read from the log: the engine counts no reader."""
        tail = await self.log.open_tail(turn_id)
        assert tail is not None
        entries: list[Entry] = []
        while not tail.is_over:
            entries += await tail.read(5)
        return entries


def make_request(session_id: str | None = None) -> TurnRequest:
    return TurnRequest(make_lion(), "Hello!", session=SessionRef(session_id))
