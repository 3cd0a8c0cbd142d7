"""Deletes sessions and turns: because somebody wants it, or because they are outside of the retention window.

A session is deleted in one transaction, and from then on nobody sees its turns. These are deleted after it, in batches:
a session may have more of them than a transaction holds. A note in the partition `PURGES` says that they are still
there; whoever finds one (the hourly job, or a new session with the same id) goes on where a process has stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from openapi_server.storage.dynamodb.attribute_values import Item
from openapi_server.storage.dynamodb.batches_and_transactions import Database, Key, Table, Transaction
from openapi_server.storage.dynamodb.credits import detach_reservation
from openapi_server.storage.dynamodb.items import (
    SELF,
    all_turns_key,
    decode_session,
    device_key,
    end_of,
    expiry_key,
    handle_key,
    is_visible_session,
    lease_key,
    list_shards,
    make_state_key,
    name_key,
    pointer_key,
    purge_key,
    request_key,
    session_key,
    turn_key,
    words_key,
)
from openapi_server.storage.dynamodb.turns import (
    compute_check_time,
    delete_places,
    leave_session,
    make_expiry,
    put_session,
)
from openapi_server.storage.retention_window import RetentionWindow


@dataclass(frozen=True, slots=True)
class DeletedSession:
    """The session as it was stored, and its turns, oldest first."""

    session: Item
    turns: tuple[Item, ...]

    @property
    def turn_ids(self) -> list[str]:
        return [turn["turnId"] for turn in self.turns]


def delete_session(
    database: Database, session_id: str, now: str, *, window: RetentionWindow | None = None, with_device: bool = True
) -> DeletedSession | None:
    """Delete the session with its turns, and let go of what they have reserved; None when there is none.

    `window`: only if a reader may see it. `with_device`: the device's user, too.
    """

    def close(transaction: Transaction) -> Item | None:
        session = transaction.get(session_key(session_id))
        if session is None or (window is not None and not is_visible_session(session, window)):
            return None
        close_session(transaction, session, now, with_device=with_device)
        return session

    session = database.commit(close, f"session {session_id}")
    if session is None:
        finish_purge(database, session_id)
        return None
    return DeletedSession(session, tuple(delete_content(database, session)))


def close_session(transaction: Transaction, session: Item, now: str, *, with_device: bool) -> None:
    """Delete the session's item, what finds it, and the reservation of the turn that runs."""
    session_id = session["sessionId"]
    for waiting in session["unended"]:
        if not waiting["isQueued"]:
            entries = detach_reservation(transaction, waiting["turnId"], now)
            _note_entries(transaction, session_id, waiting["timestamp"], entries)
    transaction.delete(session_key(session_id))
    delete_places(transaction, session)
    transaction.delete(expiry_key(session_id, session["checkAt"]))
    transaction.put(purge_key(session_id), {"incarnation": session["incarnation"]})
    if with_device:
        _delete_device(transaction, session_id)


def _note_entries(transaction: Transaction, session_id: str, timestamp: str, entries: list[int]) -> None:
    """An erasure reads from the turn which credit entries name it."""
    turn = transaction.get(turn_key(session_id, timestamp)) if entries else None
    if turn is not None:
        transaction.put(turn_key(session_id, timestamp), {**turn, "entries": entries})


def _delete_device(transaction: Transaction, user_id: str) -> None:
    device = transaction.get(device_key(user_id))
    if device is not None:
        transaction.delete(device_key(user_id))
        transaction.delete(handle_key(device["handle"], user_id))


def finish_purge(database: Database, session_id: str) -> None:
    """Delete what a process has left of a session that is deleted already."""
    note = database.get(purge_key(session_id))
    if note is not None:
        delete_content(database, {"sessionId": session_id, "incarnation": note["incarnation"]})


def delete_content(database: Database, session: Item) -> list[Item]:
    """Delete the turns of a session that is deleted, and the answers about it. Returns the turns, oldest first."""
    session_id = session["sessionId"]
    turns = [
        turn
        for turn in database.query(Table.TURNS, session_id)
        # Not those of a new session with the same id.
        if turn["incarnation"] == session["incarnation"]
    ]
    leases = database.get_many(lease_key(turn["turnId"]) for turn in turns if "outcome" not in turn)
    detached = {key for key, lease in leases.items() if lease.get("isDetached")}
    keys = [key for turn in turns for key in list_turn_keys(turn) if key not in detached]
    database.write_many(deletes=keys)
    delete_answers(database, "SUBJECT", session_id)
    database.write_many(deletes=[purge_key(session_id)])
    return turns


def list_turn_keys(turn: Item) -> Iterator[Key]:
    """The keys of all items that belong to the turn."""
    turn_id = turn["turnId"]
    yield turn_key(turn["sessionId"], turn["timestamp"])
    yield pointer_key(turn_id)
    yield all_turns_key(turn_id, turn["createdAt"])
    if "outcome" not in turn:
        yield lease_key(turn_id)
    yield from (request_key(name) for name in turn.get("keys") or ())


def delete_answers(database: Database, kind: str, name: str) -> None:
    """Delete the stored answers to requests of an owner (`OWNER`) or about a session or user (`SUBJECT`)."""
    places = list(database.query(Table.STATE, f"{kind}#{name}", low="ANSWER#", high=end_of("ANSWER#")))
    answers = [make_state_key("ANSWER", place["sk"].removeprefix("ANSWER#")) for place in places]
    database.write_many(deletes=[*answers, *(Key(Table.STATE, place["pk"], place["sk"]) for place in places)])


# By age


def find_due_sessions(database: Database, now: str) -> Iterator[tuple[Item, Item | None]]:
    """What is known of the sessions that were to be looked at by now, each with its item if there still is one."""
    for shard in list_shards():
        batch: list[Item] = []
        for due in database.query(Table.STATE, f"EXPIRY#{shard}", high=end_of(f"{now}#")):
            batch.append(due)
            if len(batch) == 100:
                yield from _pair_sessions(database, batch)
                batch = []
        yield from _pair_sessions(database, batch)


def _pair_sessions(database: Database, due: list[Item]) -> Iterator[tuple[Item, Item | None]]:
    sessions = database.get_many(session_key(each["sessionId"]) for each in due)
    for each in due:
        session = sessions.get(session_key(each["sessionId"]))
        is_same = session is not None and session["incarnation"] == each["incarnation"]
        yield each, session if is_same else None


def is_deletable(database: Database, session: Item, window: RetentionWindow) -> bool:
    """Whether the session has expired, and none of its turns runs in a process that is believed to be alive."""
    if is_visible_session(session, window):
        return False
    leases = database.get_many(lease_key(waiting["turnId"]) for waiting in session["unended"])
    return all(lease.get("leaseUntil", "") <= window.now for lease in leases.values())


def count_expired_sessions(database: Database, window: RetentionWindow) -> int:
    """`Store.count_expired_sessions`."""
    due = find_due_sessions(database, window.now)
    return sum(session is None or is_deletable(database, session, window) for _, session in due)


def delete_expired_sessions(database: Database, window: RetentionWindow, limit: int) -> int:
    """`Store.delete_expired_sessions`. A session that goes on is looked at again when it would expire now."""
    for note in list(database.query(Table.STATE, f"PURGES#{SELF}")):
        finish_purge(database, note["sk"])
    deleted = 0
    for due, session in find_due_sessions(database, window.now):
        if deleted == limit:
            break
        if session is None:
            _delete_remains(database, due)
            deleted += 1
        elif is_deletable(database, session, window):
            deleted += _delete_expired(database, session, window)
        elif is_visible_session(session, window):
            _look_again_later(database, session, window)
    return deleted


def _delete_expired(database: Database, session: Item, window: RetentionWindow) -> bool:
    """False where it went on meanwhile. The device's user goes with it, and is made anew with the next message."""

    def close(transaction: Transaction) -> bool:
        found = transaction.get(session_key(session["sessionId"]))
        if found is None or found["rev"] != session["rev"]:
            return False
        close_session(transaction, found, window.now, with_device=True)
        return True

    is_deleted = database.commit(close, f"session {session['sessionId']}")
    if is_deleted:
        delete_content(database, session)
    return is_deleted


def _delete_remains(database: Database, due: Item) -> None:
    """Delete what is left of a session whose item DynamoDB has deleted by age."""
    session_id, owner = due["sessionId"], due.get("userId")

    def close(transaction: Transaction) -> None:
        session = transaction.get(session_key(session_id))
        if session is not None and session["incarnation"] == due["incarnation"]:
            return
        if session is None:
            transaction.put(purge_key(session_id), {"incarnation": due["incarnation"]})
            _delete_device(transaction, session_id)
            transaction.delete(words_key(session_id, due["createdAt"]))
            if owner is not None and due.get("nameKey") is not None:
                transaction.delete(name_key(owner, due["nameKey"], session_id))
        transaction.delete(Key(Table.STATE, due["pk"], due["sk"]))

    database.commit(close, f"session {session_id}")
    finish_purge(database, session_id)


def _look_again_later(database: Database, session: Item, window: RetentionWindow) -> None:
    def move(transaction: Transaction) -> None:
        found = transaction.get(session_key(session["sessionId"]))
        if found is not None and found["rev"] == session["rev"]:
            move_expiry(transaction, found, window)

    database.commit(move, f"session {session['sessionId']}")


def move_expiry(transaction: Transaction, session: Item, window: RetentionWindow) -> None:
    """Look at the session when it expires."""
    check_at = session["expiresAt"]
    if window.since:
        record = decode_session(session)
        retention = datetime.fromisoformat(window.now) - datetime.fromisoformat(window.since)
        check_at = compute_check_time(record, retention)
    session_id = session["sessionId"]
    moved = {**session, "checkAt": check_at}
    transaction.put(session_key(session_id), moved)
    transaction.delete(expiry_key(session_id, session["checkAt"]))
    transaction.put(expiry_key(session_id, check_at), make_expiry(moved))


def delete_old_turns(database: Database, window: RetentionWindow, limit: int) -> int:
    """`Store.delete_old_turns`."""
    if not window.since:
        return 0
    deleted = 0
    for shard in list_shards():
        for place in database.query(Table.STATE, f"TURNS#{shard}", high=end_of(f"{window.since}#")):
            if deleted == limit:
                return deleted
            delete_turn(database, place, window)
            deleted += 1
    for shard in list_shards():
        for found in database.query(Table.STATE, f"WORDS#{shard}", high=end_of(f"{window.since}#")):
            _delete_words(database, found)
    return deleted


def delete_turn(database: Database, place: Item, window: RetentionWindow) -> None:
    """Delete the turn, let go of the credits that it holds, and let its session no longer count it."""
    session_id, turn_id = place["sessionId"], place["turnId"]

    def delete(transaction: Transaction) -> None:
        where = turn_key(session_id, place["timestamp"])
        transaction.load(where, session_key(session_id))
        turn, session = transaction.get(where), transaction.get(session_key(session_id))
        transaction.delete(all_turns_key(turn_id, place["createdAt"]))
        transaction.delete(pointer_key(turn_id))
        if turn is None or turn["turnId"] != turn_id:
            return
        if "outcome" not in turn:
            detach_reservation(transaction, turn_id, window.now)
        for key in list_turn_keys(turn):
            if key != lease_key(turn_id):
                transaction.delete(key)
        if session is not None and session["incarnation"] == turn["incarnation"]:
            left = leave_session(session, turn_id, -1 - ("assistantReply" in turn))
            transaction.put(session_key(session_id), {**left, "turnCount": session["turnCount"] - 1})

    database.commit(delete, f"session {session_id}")


def _delete_words(database: Database, found: Item) -> None:
    """Delete the session's title and opening."""
    session_id = found["sessionId"]

    def delete(transaction: Transaction) -> None:
        session = transaction.get(session_key(session_id))
        if session is None or session["createdAt"] != found["createdAt"]:
            transaction.delete(Key(Table.STATE, found["pk"], found["sk"]))
            return
        bare = replace(decode_session(session), title=None, opening=None)
        put_session(transaction, bare, session, messageCount=session["messageCount"] - ("opening" in session))

    database.commit(delete, f"session {session_id}")


def delete_expired_content(database: Database, session_ids: list[str], window: RetentionWindow) -> None:
    """Delete those of the sessions that have expired, and their turns that are too old."""
    for session_id in session_ids:
        session = database.get(session_key(session_id))
        if session is not None and not is_visible_session(session, window):
            delete_session(database, session_id, window.now)
        elif session is not None and window.since:
            for turn in list(database.query(Table.TURNS, session_id)):
                if turn["createdAt"] <= window.since:
                    delete_turn(database, turn, window)
