"""Where each item is, what sessions and turns look like as items, and which of them a reader may see.

The layout is told whole in `docs/decisions`. Keys of the table of state are `KIND#id`; a sort key of one item alone is
`SELF`. Times are texts whose order is the order in time.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter

from openapi_server.models.errors import FieldError, InvalidInput
from openapi_server.models.page import decode_cursor
from openapi_server.models.session import DeviceUser, SessionRecord
from openapi_server.models.turn import AgeGroup, Lease, Outcome, TurnRecord
from openapi_server.storage.dynamodb.attribute_values import Item
from openapi_server.storage.dynamodb.batches_and_transactions import Key, Table
from openapi_server.storage.retention_window import RetentionWindow, decode_time, encode_time

OUTCOME = TypeAdapter(Outcome)
SELF = "-"
# Lists of everything are spread over so many partitions, because one takes a thousand writes a second. Never changed.
SHARDS = 4
# How long after its end DynamoDB may delete what this server has not: when no server has run for so long.
TTL_GRACE = timedelta(days=7)
# No text in a cursor of ours is longer: DynamoDB refuses longer keys.
_MAX_CURSOR_PART = 700


def make_state_key(kind: str, name: str, sort: str = SELF) -> Key:
    return Key(Table.STATE, f"{kind}#{name}", sort)


def choose_shard(name: str) -> str:
    return str(zlib.crc32(name.encode()) % SHARDS)


def list_shards() -> Iterator[str]:
    return map(str, range(SHARDS))


def end_of(prefix: str) -> str:
    """The first text behind all those that begin with the prefix, for `Database.query`.

    >>> end_of("CHANGE#")
    'CHANGE$'
    """
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def after(sort: str) -> str:
    """The first text behind this one."""
    return f"{sort}\0"


# Keys


def session_key(session_id: str) -> Key:
    return Key(Table.SESSIONS, session_id)


def turn_key(session_id: str, timestamp: str) -> Key:
    return Key(Table.TURNS, session_id, timestamp)


def pointer_key(turn_id: str) -> Key:
    """Where a turn is, by its id. Nothing in it ever changes."""
    return make_state_key("TURN", turn_id)


def lease_key(turn_id: str) -> Key:
    """Of a turn without an outcome: its lease, and the credits that it has reserved."""
    return make_state_key("RUNNING", choose_shard(turn_id), turn_id)


def all_turns_key(turn_id: str, created_at: str) -> Key:
    return make_state_key("TURNS", choose_shard(turn_id), f"{created_at}#{turn_id}")


def owner_key(owner: str, last_activity: str, session_id: str) -> Key:
    return make_state_key("OWNER", owner, f"SESSION#{last_activity}#{session_id}")


def name_key(owner: str, client_name: str, session_id: str) -> Key:
    return make_state_key("NAME", f"{client_name}#{owner}", session_id)


def expiry_key(session_id: str, check_at: str) -> Key:
    return make_state_key("EXPIRY", choose_shard(session_id), f"{check_at}#{session_id}")


def words_key(session_id: str, created_at: str) -> Key:
    """Of a session with a title or an opening, which are deleted by age."""
    return make_state_key("WORDS", choose_shard(session_id), f"{created_at}#{session_id}")


def purge_key(session_id: str) -> Key:
    """Of a session that was deleted and whose turns are not yet: until they are, no new one has its id."""
    return make_state_key("PURGES", SELF, session_id)


def device_key(user_id: str) -> Key:
    return make_state_key("DEVICE", user_id)


def handle_key(handle: str, user_id: str) -> Key:
    return make_state_key("HANDLE", handle, user_id)


def request_key(key: str) -> Key:
    """Of an idempotency key that stands for a turn."""
    return make_state_key("KEY", key)


# Times


def make_ttl(until: datetime) -> int:
    """For DynamoDB's deletion by age, in seconds since 1970."""
    return math.ceil((until + TTL_GRACE).timestamp())


def add_microsecond(timestamp: str) -> str:
    return encode_time(datetime.fromisoformat(timestamp) + timedelta(microseconds=1))


# Sessions


def encode_session(session: SessionRecord, earlier: Item | None = None) -> Item:
    """The item of the session. What only the store knows of it is taken from the earlier item."""
    hidden = {"incarnation": "", "messageCount": int(session.opening is not None), "unended": []}
    if earlier is not None:
        kept = ("incarnation", "messageCount", "unended", "lastTimestamp", "checkAt")
        hidden = {name: earlier[name] for name in kept if name in earlier}
    unended = hidden["unended"]
    return {
        **hidden,
        "sessionId": session.session_id,
        "status": "running" if unended else "idle",
        "animalId": session.animal_id,
        "userId": session.owner,
        "createdAt": encode_time(session.created_at),
        "lastActivity": encode_time(session.last_message_at),
        "expiresAt": encode_time(session.expires_at),
        "turnCount": session.turn_count,
        "ttlS": session.ttl_s,
        "title": session.title,
        "opening": session.opening,
        "handle": session.handle,
        "lockedAt": encode_time(session.locked_at) if session.locked_at else None,
        "nameKey": session.name_key,
        "name": session.name,
        "isClaimed": session.is_claimed,
        "isCharged": session.is_charged,
        "ttl": make_ttl(session.expires_at),
    }


def decode_session(item: Item, since: str = "") -> SessionRecord:
    """The session. Its title and opening are left out when it was created at `since` or earlier: they are too old."""
    has_texts = item["createdAt"] > since
    return SessionRecord(
        session_id=item["sessionId"],
        animal_id=item["animalId"],
        owner=item.get("userId"),
        created_at=datetime.fromisoformat(item["createdAt"]),
        last_message_at=datetime.fromisoformat(item["lastActivity"]),
        turn_count=item["turnCount"],
        ttl_s=item["ttlS"],
        title=item.get("title") if has_texts else None,
        opening=item.get("opening") if has_texts else None,
        handle=item.get("handle"),
        locked_at=decode_time(item.get("lockedAt")),
        name_key=item.get("nameKey"),
        name=item.get("name"),
        is_claimed=item["isClaimed"],
        is_charged=item["isCharged"],
    )


def is_visible_session(item: Item | None, window: RetentionWindow) -> bool:
    """Whether there is such a session that has not expired, and whose turns are not all too old."""
    return item is not None and item["expiresAt"] > window.now and item["lastActivity"] > window.since


# Turns


def encode_turn(
    turn: TurnRecord, timestamp: str, incarnation: str, keys: Sequence[str], until: datetime | None
) -> Item:
    """The item of a turn that begins. `until`: when it is too old."""
    return {
        "sessionId": turn.session_id,
        "timestamp": timestamp,
        "incarnation": incarnation,
        "turnId": turn.turn_id,
        "userMessage": turn.message,
        "metadata": turn.metadata,
        "animalId": turn.animal_id,
        "ageGroup": turn.age_group.value,
        "model": turn.model,
        "createdAt": encode_time(turn.created_at),
        "worker": turn.worker,
        "leaseUntil": encode_time(turn.lease_until) if turn.lease_until else None,
        "mediaUrls": list(turn.media_urls) or None,
        "isBound": turn.is_bound,
        "isQueued": turn.is_queued,
        "startedAt": encode_time(turn.started_at) if turn.started_at else None,
        "keys": list(keys) or None,
        "ttl": make_ttl(until) if until else None,
    }


def decode_turn(item: Item, owner: str | None, lease: Item | None = None) -> TurnRecord:
    outcome = OUTCOME.validate_json(item["outcome"]) if "outcome" in item else None
    return TurnRecord(
        turn_id=item["turnId"],
        session_id=item["sessionId"],
        animal_id=item["animalId"],
        age_group=AgeGroup(item["ageGroup"]),
        message=item["userMessage"],
        model=item["model"],
        created_at=datetime.fromisoformat(item["createdAt"]),
        metadata=item.get("metadata"),
        worker=item["worker"],
        lease_until=decode_time((lease or item).get("leaseUntil")),
        owner=owner,
        media_urls=tuple(item.get("mediaUrls", ())),
        is_bound=item["isBound"],
        is_queued=item["isQueued"],
        started_at=decode_time(item.get("startedAt")),
        outcome=replace(outcome, reply=item.get("assistantReply")) if outcome else None,
    )


def encode_outcome(outcome: Outcome) -> str:
    """The outcome as JSON, without the reply, which is an attribute of the turn."""
    return OUTCOME.dump_json(outcome, exclude={"reply"}).decode()


def is_visible_turn(item: Item, session: Item | None, window: RetentionWindow) -> bool:
    return (
        session is not None
        and is_visible_session(session, window)
        and item["incarnation"] == session["incarnation"]
        and item["createdAt"] > window.since
    )


def decode_lease(turn_id: str, item: Item) -> Lease:
    """A turn without a lease counts as abandoned."""
    until = decode_time(item.get("leaseUntil")) or datetime.min.replace(tzinfo=UTC)
    return Lease(turn_id, item["worker"], until)


def decode_device(user_id: str, item: Item) -> DeviceUser:
    return DeviceUser(user_id, item["handle"], datetime.fromisoformat(item["createdAt"]))


# Pages


def decode_position(cursor: str, parts: int) -> list[str]:
    """The texts of a cursor that can be part of a key. Raises `InvalidInput`."""
    position = [str(part) for part in decode_cursor(cursor, *[str] * parts)]
    if any(len(part.encode()) > _MAX_CURSOR_PART for part in position):
        message = "must be the nextCursor of an earlier answer"
        raise InvalidInput("The cursor is not one of ours.", errors=(FieldError("cursor", message),))
    return position
