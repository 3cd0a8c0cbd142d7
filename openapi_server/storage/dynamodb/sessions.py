"""Sessions and turns in DynamoDB: every process of a zoo sees the same, on whichever machine it runs."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

from openapi_server.models.credits import Charge
from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.page import Page, encode_cursor, make_page
from openapi_server.models.session import ALL_SESSIONS, SessionClaim, SessionFilter, SessionRecord
from openapi_server.models.turn import IdempotencyKey, Lease, Outcome, TurnOwnership, TurnRecord
from openapi_server.protocols import Clock
from openapi_server.storage.dynamodb.attribute_values import Item
from openapi_server.storage.dynamodb.batches_and_transactions import RETRY_AFTER_S, Database, Table, Transaction
from openapi_server.storage.dynamodb.deletion import (
    count_expired_sessions,
    delete_expired_sessions,
    delete_old_turns,
    delete_session,
    finish_purge,
    move_expiry,
)
from openapi_server.storage.dynamodb.items import (
    SELF,
    after,
    decode_lease,
    decode_position,
    decode_session,
    decode_turn,
    end_of,
    is_visible_session,
    is_visible_turn,
    lease_key,
    list_shards,
    make_state_key,
    pointer_key,
    purge_key,
    session_key,
    turn_key,
)
from openapi_server.storage.dynamodb.turns import (
    Beginning,
    NeedsPurge,
    begin_turn,
    compute_check_time,
    find_turn_of_key,
    put_new_session,
    put_session,
    settle_turn,
    start_queued_turn,
)
from openapi_server.storage.retention_window import RetentionWindow, encode_time

# So many leases are renewed one after the other by one thread.
LEASES_AT_ONCE = 10


class DynamoStore:
    """`Store` over the tables. `retention`: how long turns are kept; None: as long as their session."""

    def __init__(self, database: Database, clock: Clock, retention: timedelta | None = None) -> None:
        self._database = database
        self._clock = clock
        self._retention = retention

    @property
    def _window(self) -> RetentionWindow:
        return RetentionWindow.at(self._clock.now(), self._retention)

    # Sessions

    async def create_session(self, session: SessionRecord) -> None:
        key = session_key(session.session_id)

        def create(transaction: Transaction) -> None:
            transaction.load(key, purge_key(session.session_id))
            if transaction.get(key) is not None or transaction.get(purge_key(session.session_id)) is not None:
                raise StoreUnavailable(retry_after_s=RETRY_AFTER_S)
            put_new_session(transaction, session, self._retention)

        await self._database.transact(create, f"session {session.session_id}")

    async def get_session(self, session_id: str) -> SessionRecord | None:
        window = self._window

        def read() -> SessionRecord | None:
            item = self._database.get(session_key(session_id))
            return decode_session(item, window.since) if item and is_visible_session(item, window) else None

        return await self._database.run(read)

    async def find_named_sessions(
        self, session_ids: Sequence[str], owner: str | None, name_key: str
    ) -> Sequence[SessionRecord]:
        window = self._window

        def read() -> list[SessionRecord]:
            named = self._database.query(Table.STATE, f"NAME#{name_key}#{owner}") if owner is not None else ()
            wanted = [*session_ids, *(place["sk"] for place in named)]
            found = self._database.get_many(session_key(session_id) for session_id in wanted).values()
            return [decode_session(item, window.since) for item in found if is_visible_session(item, window)]

        sessions = sorted(await self._database.run(read), key=lambda session: session.session_id)
        return sorted(sessions, key=lambda session: session.last_message_at, reverse=True)

    async def list_sessions(
        self, owner: str, limit: int, cursor: str | None = None, only: SessionFilter = ALL_SESSIONS
    ) -> Page[SessionRecord]:
        highs = [end_of("SESSION#")]
        if cursor:
            highs.append("SESSION#{}#{}".format(*decode_position(cursor, 2)))
        if only.until is not None:
            highs.append(f"SESSION#{encode_time(only.until)}")
        low = f"SESSION#{encode_time(only.since)}" if only.since is not None else "SESSION#"
        window = self._window

        def read() -> list[Item]:
            places = self._database.query(
                Table.STATE, f"OWNER#{owner}", low=low, high=min(highs), descending=True, limit=limit + 1
            )
            visible = (
                item
                for item in self._read_sessions(places, limit + 1)
                if is_visible_session(item, window) and only.animal_id in (None, item["animalId"])
            )
            return list(islice(visible, limit + 1))

        items = await self._database.run(read)
        return make_page(items, limit, lambda item: decode_session(item, window.since), "lastActivity", "sessionId")

    def _read_sessions(self, places: Iterator[Item], size: int) -> Iterator[Item]:
        """The sessions that the items name, in their order."""
        while part := list(islice(places, size)):
            found = self._database.get_many(session_key(place["sessionId"]) for place in part)
            for place in part:
                session = found.get(session_key(place["sessionId"]))
                # One that has moved on since is found where it is now.
                if session is not None and place["sk"].startswith(f"SESSION#{session['lastActivity']}#"):
                    yield session

    async def count_messages(self, session_ids: Sequence[str]) -> Mapping[str, int]:
        window = self._window

        def count() -> dict[str, int]:
            found = self._database.get_many(session_key(session_id) for session_id in session_ids)
            counts = {}
            for session_id in session_ids:
                session = found.get(session_key(session_id))
                is_visible = session is not None and is_visible_session(session, window)
                counts[session_id] = self._count_visible_messages(session, window) if session and is_visible else 0
            return counts

        return await self._database.run(count)

    def _count_visible_messages(self, session: Item, window: RetentionWindow) -> int:
        if session["createdAt"] > window.since:
            return int(session["messageCount"])
        turns = self._query_turns(session, window, low=window.since)
        return sum(1 + ("assistantReply" in turn) for turn in turns)

    async def set_session_ttl(self, session_id: str, ttl_s: int) -> SessionRecord | None:
        window = self._window

        def change(transaction: Transaction) -> SessionRecord | None:
            item = transaction.get(session_key(session_id))
            if item is None or not is_visible_session(item, window):
                return None
            changed = replace(decode_session(item), ttl_s=ttl_s)
            put = put_session(transaction, changed, item)
            if compute_check_time(changed, self._retention) < item["checkAt"]:
                move_expiry(transaction, put, window)
            return decode_session(put, window.since)

        return await self._database.transact(change, f"session {session_id}")

    async def delete_session(self, session_id: str) -> Sequence[str] | None:
        window = self._window

        def delete() -> Sequence[str] | None:
            deleted = delete_session(self._database, session_id, window.now, window=window)
            return deleted.turn_ids if deleted else None

        return await self._database.run(delete)

    # Turns begin and end

    async def begin_turn(
        self,
        turn: TurnRecord,
        new_session: SessionRecord | None = None,
        keys: Sequence[IdempotencyKey] = (),
        charge: Charge | None = None,
        claim: SessionClaim | None = None,
        max_queued: int = 0,
    ) -> str:
        window = RetentionWindow.at(turn.created_at, self._retention)
        begin = Beginning(turn, new_session, keys, charge, claim, max_queued, window, self._retention)
        hot = [f"session {turn.session_id}", *(f"key {key.key}" for key in keys)]
        hot += [f"user {begin.payer}"] if begin.payer else []

        def try_to_begin() -> str:
            for _ in range(3):
                try:
                    return self._database.commit(lambda transaction: begin_turn(transaction, begin), *hot)
                except NeedsPurge:
                    finish_purge(self._database, turn.session_id)
                    self._delete_expired(turn.session_id, window)
            raise StoreUnavailable(retry_after_s=RETRY_AFTER_S)

        return await self._database.run(try_to_begin)

    def _delete_expired(self, session_id: str, window: RetentionWindow) -> None:
        """Make room for a new session. The device's user stays."""
        item = self._database.get(session_key(session_id))
        if item is not None and not is_visible_session(item, window):
            delete_session(self._database, session_id, window.now, with_device=False)

    async def start_queued_turn(self, turn_id: str, at: datetime, charge: Charge | None = None) -> str | None:
        now = encode_time(at)
        hot = [f"user {charge.username}"] if charge else []
        return await self._database.transact(
            lambda transaction: start_queued_turn(transaction, turn_id, charge, now), *hot
        )

    async def has_turn(self, keys: Sequence[IdempotencyKey]) -> bool:
        window = self._window

        def find(transaction: Transaction) -> bool:
            return any(find_turn_of_key(transaction, key, window) is not None for key in keys)

        return await self._database.transact(find)

    async def settle_turn(self, turn_id: str, outcome: Outcome) -> Outcome | None:
        return await self._database.transact(lambda transaction: settle_turn(transaction, turn_id, outcome))

    async def list_running_turns(self) -> Sequence[Lease]:
        def read() -> list[Lease]:
            return [
                decode_lease(item["sk"], item)
                for shard in list_shards()
                for item in self._database.query(Table.STATE, f"RUNNING#{shard}")
            ]

        return await self._database.run(read)

    async def renew_leases(self, turn_ids: Sequence[str], until: datetime) -> Sequence[str]:
        values = {"leaseUntil": encode_time(until)}

        def renew(part: Sequence[str]) -> list[str]:
            return [
                turn_id for turn_id in part if self._database.update(lease_key(turn_id), values, unless="isDetached")
            ]

        parts = [turn_ids[start : start + LEASES_AT_ONCE] for start in range(0, len(turn_ids), LEASES_AT_ONCE)]
        renewed = await asyncio.gather(*(self._database.run(partial(renew, part)) for part in parts))
        return [turn_id for part in renewed for turn_id in part]

    # Turns are read

    async def get_turn(self, turn_id: str) -> TurnRecord | None:
        window = self._window

        def read() -> TurnRecord | None:
            place = self._database.get(pointer_key(turn_id))
            return next(self._read_turns([place], window), None) if place else None

        return await self._database.run(read)

    async def get_turn_ownership(self, turn_id: str) -> TurnOwnership | None:
        window = self._window

        def read() -> TurnOwnership | None:
            place = self._database.get(pointer_key(turn_id))
            # Of a turn that is not there, too: the answer must take the same time.
            session = self._database.get(session_key(place["sessionId"] if place else turn_id or SELF))
            if place is None or session is None or not is_visible_turn(place, session, window):
                return None
            return TurnOwnership(place["sessionId"], session.get("userId"), place["isBound"])

        return await self._database.run(read)

    def _read_turns(self, places: Sequence[Item], window: RetentionWindow) -> Iterator[TurnRecord]:
        """The visible ones of the turns that the items name, in their order."""
        keys = [turn_key(place["sessionId"], place["timestamp"]) for place in places]
        sessions = {session_key(place["sessionId"]) for place in places}
        leases = [lease_key(place["turnId"]) for place in places]
        found = self._database.get_many([*keys, *sessions, *leases])
        for place, key, lease in zip(places, keys, leases, strict=True):
            turn, session = found.get(key), found.get(session_key(place["sessionId"]))
            if turn is not None and turn["turnId"] == place["turnId"] and is_visible_turn(turn, session, window):
                yield decode_turn(turn, (session or {}).get("userId"), found.get(lease))

    def _query_turns(
        self,
        session: Item,
        window: RetentionWindow,
        *,
        low: str = "",
        high: str = "",
        descending: bool = False,
        limit: int | None = None,
    ) -> Iterator[Item]:
        """The visible turns of a visible session."""
        found = self._database.query(
            Table.TURNS, session["sessionId"], low=low, high=high, descending=descending, limit=limit
        )
        return (turn for turn in found if is_visible_turn(turn, session, window))

    def _add_leases(self, turns: Sequence[Item], session: Item) -> list[TurnRecord]:
        leases = self._database.get_many(lease_key(turn["turnId"]) for turn in turns if "outcome" not in turn)
        return [decode_turn(turn, session.get("userId"), leases.get(lease_key(turn["turnId"]))) for turn in turns]

    async def list_turns(self, session_id: str, limit: int, cursor: str | None = None) -> Page[TurnRecord]:
        low = after(decode_position(cursor, 1)[0]) if cursor else ""
        window = self._window

        def read() -> Page[TurnRecord]:
            session = self._database.get(session_key(session_id))
            if session is None or not is_visible_session(session, window):
                return Page(())
            found = list(islice(self._query_turns(session, window, low=low, limit=limit + 1), limit + 1))
            turns = self._add_leases(found[:limit], session)
            next_cursor = encode_cursor(found[limit - 1]["timestamp"]) if len(found) > limit else None
            return Page(tuple(turns), next_cursor)

        return await self._database.run(read)

    async def list_latest_turns(self, session_id: str, limit: int) -> Sequence[TurnRecord]:
        window = self._window

        def read() -> list[TurnRecord]:
            session = self._database.get(session_key(session_id))
            if session is None or not is_visible_session(session, window):
                return []
            found = list(islice(self._query_turns(session, window, descending=True, limit=limit), limit))
            return self._add_leases(found[::-1], session)

        return await self._database.run(read)

    async def list_owner_turns(self, owner: str | None, limit: int, cursor: str | None = None) -> Page[TurnRecord]:
        before = tuple(decode_position(cursor, 2)) if cursor else ("~", "")
        window = self._window

        def read() -> Page[TurnRecord]:
            if owner is None:
                return self._list_all_turns(limit, before, window)
            return self._list_owner_turns(owner, limit, before, window)

        return await self._database.run(read)

    def _list_all_turns(self, limit: int, before: tuple[str, ...], window: RetentionWindow) -> Page[TurnRecord]:
        """Of all partitions with a part of the turns, the latest."""
        shards = [
            self._database.query(Table.STATE, f"TURNS#{shard}", high="#".join(before), descending=True, limit=limit + 1)
            for shard in list_shards()
        ]
        places = heapq.merge(*shards, key=lambda place: str(place["sk"]), reverse=True)
        found: list[TurnRecord] = []
        while len(found) <= limit and (part := list(islice(places, limit + 1))):
            found += self._read_turns(part, window)
        last = found[limit - 1] if len(found) > limit else None
        next_cursor = encode_cursor(encode_time(last.created_at), last.turn_id) if last else None
        return Page(tuple(found[:limit]), next_cursor)

    def _list_owner_turns(
        self, owner: str, limit: int, before: tuple[str, ...], window: RetentionWindow
    ) -> Page[TurnRecord]:
        """Of the sessions with the latest turns, the latest; a session is read only if it may have one of them."""
        places = self._database.query(Table.STATE, f"OWNER#{owner}", low="SESSION#", high=end_of("SESSION#"))
        sessions = [
            place for place in places if place.get("lastTimestamp") is not None and place["createdAt"] <= before[0]
        ]
        found: list[tuple[str, str, Item, Item]] = []
        for place in sorted(sessions, key=lambda place: str(place["lastTimestamp"]), reverse=True):
            if len(found) > limit and found[limit][0] > place["lastTimestamp"]:
                break
            session = self._database.get(session_key(place["sessionId"]))
            if session is None or not is_visible_session(session, window):
                continue
            turns = self._query_turns(session, window, high=after(before[0]), descending=True, limit=limit + 1)
            positions = ((turn["timestamp"], turn["turnId"], turn, session) for turn in turns)
            found += islice((each for each in positions if each[:2] < before), limit + 1)
            found.sort(key=lambda each: each[:2], reverse=True)
            del found[limit + 1 :]
        page = [record for _, _, turn, session in found[:limit] for record in self._add_leases([turn], session)]
        next_cursor = encode_cursor(*found[limit - 1][:2]) if len(found) > limit else None
        return Page(tuple(page), next_cursor)

    # Retention, and the store itself

    async def count_expired_sessions(self) -> int:
        window = self._window
        return await self._database.run(lambda: count_expired_sessions(self._database, window))

    async def delete_expired_sessions(self, limit: int) -> int:
        window = self._window
        return await self._database.run(lambda: delete_expired_sessions(self._database, window, limit))

    async def delete_old_turns(self, limit: int) -> int:
        window = self._window
        return await self._database.run(lambda: delete_old_turns(self._database, window, limit))

    async def vacuum(self, at_most_bytes: int | None = None) -> bool:
        """There are no files: DynamoDB keeps nothing of a deleted item but in backups."""
        return True

    async def ping(self) -> None:
        await self._database.run(lambda: write_probe(self._database, self._clock.now()))

    async def close(self) -> None:
        await self._database.close()


def write_probe(database: Database, now: datetime) -> None:
    """Write one small item, to learn whether the tables can be written to."""
    database.write_many([(make_state_key("PROBE", SELF), {"at": encode_time(now)})])
