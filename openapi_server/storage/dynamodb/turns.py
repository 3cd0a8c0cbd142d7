"""The steps of `DynamoStore` that begin and end a turn, each in one transaction.

The session's item is the referee: it lists its turns that have no outcome, in their order, and every step that begins,
starts or ends one replaces it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from openapi_server.models.credits import Charge, Cost
from openapi_server.models.errors import KeyReused, SessionClaimed, SessionNotFound, TurnNotFound, TurnRunning
from openapi_server.models.session import SessionClaim, SessionRecord
from openapi_server.models.turn import IdempotencyKey, Outcome, TurnRecord, TurnStatus
from openapi_server.storage.dynamodb.attribute_values import Item
from openapi_server.storage.dynamodb.batches_and_transactions import Key, Transaction, new_rev
from openapi_server.storage.dynamodb.credits import credits_key, reserve_credits, settle_reservation
from openapi_server.storage.dynamodb.items import (
    add_microsecond,
    all_turns_key,
    decode_session,
    device_key,
    encode_outcome,
    encode_session,
    encode_turn,
    expiry_key,
    handle_key,
    is_visible_session,
    is_visible_turn,
    lease_key,
    name_key,
    owner_key,
    pointer_key,
    purge_key,
    request_key,
    session_key,
    turn_key,
    words_key,
)
from openapi_server.storage.retention_window import RetentionWindow, encode_time


class NeedsPurge(Exception):
    """A session with this id has expired, or was deleted a moment ago: its turns are to be deleted first."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The arguments of `Store.begin_turn`, with the window at the time of the turn. `retention`: as of the store."""

    turn: TurnRecord
    new_session: SessionRecord | None
    keys: Sequence[IdempotencyKey]
    charge: Charge | None
    claim: SessionClaim | None
    max_queued: int
    window: RetentionWindow
    retention: timedelta | None

    @property
    def payer(self) -> str | None:
        """Who pays now: a queued turn costs nothing yet."""
        return self.charge.username if self.charge and not self.turn.is_queued else None


# Sessions


def compute_check_time(session: SessionRecord, retention: timedelta | None) -> str:
    """When the session expires unless it goes on."""
    end = session.expires_at
    return encode_time(min(end, session.last_message_at + retention) if retention else end)


def put_new_session(transaction: Transaction, session: SessionRecord, retention: timedelta | None) -> Item:
    """The item of a new session, which is written with what finds it. The caller has read that there is none."""
    check_at = compute_check_time(session, retention)
    item = {**encode_session(session), "incarnation": new_rev(), "checkAt": check_at}
    transaction.put(session_key(session.session_id), item)
    for key, place in make_places(item):
        transaction.put(key, place)
    transaction.put(expiry_key(session.session_id, check_at), make_expiry(item))
    return item


def put_session(transaction: Transaction, session: SessionRecord, earlier: Item, **hidden: Any) -> Item:
    """Replace the session, and move what finds it where that has changed. `hidden`: what only the store knows of it."""
    item = encode_session(session, {**earlier, **hidden})
    transaction.put(session_key(session.session_id), item)
    for key, place in make_places(item):
        transaction.put(key, place)
    for key in set(_list_places(earlier)) - set(_list_places(item)):
        transaction.delete(key)
    if item.get("userId") != earlier.get("userId"):
        transaction.put(expiry_key(session.session_id, item["checkAt"]), make_expiry(item))
    return item


def make_expiry(session: Item) -> Item:
    """What has to be known of a session to delete it, even when DynamoDB has deleted its item by age."""
    known = ("sessionId", "incarnation", "createdAt", "userId", "nameKey", "handle")
    return {name: session[name] for name in known if session.get(name) is not None}


def _list_places(session: Item) -> list[Key]:
    """The keys of the items that find the session: by its owner, its client's name, and the age of its title."""
    session_id, owner = session["sessionId"], session.get("userId")
    places = []
    if owner is not None:
        places.append(owner_key(owner, session["lastActivity"], session_id))
        if session.get("nameKey") is not None:
            places.append(name_key(owner, session["nameKey"], session_id))
    if session.get("title") is not None or session.get("opening") is not None:
        places.append(words_key(session_id, session["createdAt"]))
    return places


def make_places(session: Item) -> Iterator[tuple[Key, Item]]:
    """The items that find the session."""
    found = {
        "sessionId": session["sessionId"],
        "createdAt": session["createdAt"],
        "lastTimestamp": session.get("lastTimestamp"),
    }
    for key in _list_places(session):
        is_by_age = key.partition.startswith("WORDS#")
        yield key, found if is_by_age else {**found, "ttl": session["ttl"]}


def delete_places(transaction: Transaction, session: Item) -> None:
    for key in (*_list_places(session), words_key(session["sessionId"], session["createdAt"])):
        transaction.delete(key)


# A turn begins


def begin_turn(transaction: Transaction, begin: Beginning) -> str:
    """`Store.begin_turn`. Raises `NeedsPurge`, too."""
    turn = begin.turn
    transaction.load(
        session_key(turn.session_id),
        *(request_key(key.key) for key in begin.keys),
        *([purge_key(turn.session_id)] if begin.new_session else ()),
        *([credits_key(begin.payer)] if begin.payer else ()),
    )
    earlier = _find_earlier_turn(transaction, begin.keys, begin.window)
    if earlier is not None:
        _store_keys(transaction, begin.keys, earlier)
        return str(earlier["turnId"])
    session = _find_or_create_session(transaction, begin)
    if begin.claim is not None and not begin.claim.matches(decode_session(session)):
        raise SessionClaimed
    _require_room(session, turn, begin.max_queued)
    now = encode_time(turn.created_at)
    timestamp = _choose_timestamp(session, now)
    reservation = None
    if begin.charge is not None and not turn.is_queued:
        reservation = reserve_credits(transaction, begin.charge, turn.turn_id, begin.window.now)
    continued = _continue_session(session, turn, begin.claim)
    waiting = {"turnId": turn.turn_id, "timestamp": timestamp, "isQueued": turn.is_queued}
    put_session(
        transaction,
        continued,
        session,
        unended=[*session["unended"], waiting],
        messageCount=session["messageCount"] + 1,
        lastTimestamp=timestamp,
    )
    incarnation = session["incarnation"]
    until = turn.created_at + begin.retention if begin.retention else None
    item = encode_turn(turn, timestamp, incarnation, [key.key for key in begin.keys], until)
    if reservation is not None:
        item |= {"payer": reservation["username"], "entries": [reservation["entry"]]}
    place = make_place(item)
    lease = {**place, "worker": turn.worker, "leaseUntil": item["leaseUntil"], "reservation": reservation}
    transaction.put(turn_key(turn.session_id, timestamp), item)
    transaction.put(pointer_key(turn.turn_id), place)
    transaction.put(all_turns_key(turn.turn_id, now), place)
    transaction.put(lease_key(turn.turn_id), lease)
    _store_keys(transaction, begin.keys, item)
    return turn.turn_id


def make_place(turn: Item) -> Item:
    """Where the turn is, and whose."""
    return {name: turn[name] for name in ("turnId", "sessionId", "timestamp", "incarnation", "createdAt", "isBound")}


def _find_earlier_turn(
    transaction: Transaction, keys: Sequence[IdempotencyKey], window: RetentionWindow
) -> Item | None:
    """The item of the turn that one of the keys was used for already. `KeyReused` for another body."""
    for key in keys:
        found = find_turn_of_key(transaction, key, window)
        if found is None:
            continue
        body_hash, turn = found
        if body_hash != key.body_hash:
            raise KeyReused("Use a new Idempotency-Key for every new request.")
        return turn
    return None


def find_turn_of_key(transaction: Transaction, key: IdempotencyKey, window: RetentionWindow) -> tuple[str, Item] | None:
    """The hash of the body that the key was used with, and its turn. A key is valid as long as its turn is visible."""
    used = transaction.get(request_key(key.key))
    if used is None or used["expiresAt"] <= window.now:
        return None
    transaction.load(turn_key(used["sessionId"], used["timestamp"]), session_key(used["sessionId"]))
    turn = transaction.get(turn_key(used["sessionId"], used["timestamp"]))
    if turn is None or turn["turnId"] != used["turnId"]:
        return None
    if not is_visible_turn(turn, transaction.get(session_key(used["sessionId"])), window):
        return None
    return used["bodyHash"], turn


def _store_keys(transaction: Transaction, keys: Sequence[IdempotencyKey], turn: Item) -> None:
    """Let every key stand for the turn, also when it was found by only one of them."""
    for key in keys:
        earlier = transaction.get(request_key(key.key))
        if earlier is not None and earlier["turnId"] == turn["turnId"]:
            # Not even for its time of expiry: hundreds of repetitions would wait for each other.
            continue
        transaction.put(request_key(key.key), make_used_key(key.body_hash, turn, key.expires_at))
    known = list(turn.get("keys") or ())
    new = [key.key for key in keys if key.key not in known]
    if new:
        transaction.put(turn_key(turn["sessionId"], turn["timestamp"]), {**turn, "keys": [*known, *new]})


def make_used_key(body_hash: str, turn: Item, expires_at: datetime) -> Item:
    """What an idempotency key stands for."""
    return {
        "bodyHash": body_hash,
        "turnId": turn["turnId"],
        "sessionId": turn["sessionId"],
        "timestamp": turn["timestamp"],
        "expiresAt": encode_time(expires_at),
        "ttl": int(expires_at.timestamp()) + 1,
    }


def _find_or_create_session(transaction: Transaction, begin: Beginning) -> Item:
    session = transaction.get(session_key(begin.turn.session_id))
    if session is not None and is_visible_session(session, begin.window):
        return session
    new = begin.new_session
    if new is None:
        raise SessionNotFound
    if session is not None or transaction.get(purge_key(new.session_id)) is not None:
        raise NeedsPurge
    item = put_new_session(transaction, new, begin.retention)
    if new.handle is not None and transaction.get(device_key(new.session_id)) is None:
        device = {"handle": new.handle, "createdAt": begin.window.now}
        transaction.put(device_key(new.session_id), device)
        transaction.put(handle_key(new.handle, new.session_id), device)
    return item


def _require_room(session: Item, turn: TurnRecord, max_queued: int) -> None:
    """Raise `TurnRunning` when the turn can neither run nor wait; it names the turn that runs, or runs next."""
    ahead = session["unended"]
    if turn.is_queued and sum(each["isQueued"] for each in ahead) >= max_queued:
        detail = "Too many messages wait for their turn in this session already. Send this one again later."
        raise TurnRunning(detail, turn_id=ahead[0]["turnId"] if ahead else None)
    if ahead and not turn.is_queued:
        raise TurnRunning("Wait for the running turn to end, or read along with it.", turn_id=ahead[0]["turnId"])


def _choose_timestamp(session: Item, now: str) -> str:
    """The place of a new turn in its session: its time, or just behind the last turn where the clock went back."""
    last = session.get("lastTimestamp")
    return max(now, str(session["createdAt"]), add_microsecond(last) if last else "")


def _continue_session(item: Item, turn: TurnRecord, claim: SessionClaim | None) -> SessionRecord:
    session = decode_session(item)
    continued = replace(session, last_message_at=turn.created_at, turn_count=session.turn_count + 1)
    if session.animal_id != turn.animal_id:
        continued = replace(continued, animal_id=turn.animal_id, locked_at=turn.created_at)
    if claim is not None and claim.is_proved and not session.is_claimed:
        continued = replace(continued, owner=claim.owner, is_claimed=True)
    return continued


# A turn goes on, and ends


def start_queued_turn(transaction: Transaction, turn_id: str, charge: Charge | None, now: str) -> str | None:
    """`Store.start_queued_turn`."""
    lease = transaction.get(lease_key(turn_id))
    if lease is None:
        raise TurnNotFound
    place = turn_key(lease["sessionId"], lease["timestamp"])
    transaction.load(
        session_key(lease["sessionId"]), place, *([credits_key(charge.username)] if charge is not None else ())
    )
    session, turn = transaction.get(session_key(lease["sessionId"])), transaction.get(place)
    unended = session["unended"] if session is not None else []
    waiting = next((each for each in unended if each["turnId"] == turn_id and each["isQueued"]), None)
    if session is None or turn is None or waiting is None:
        raise TurnNotFound
    if unended[0]["turnId"] != turn_id:
        return str(unended[0]["turnId"])
    details: dict[str, Any] = {}
    if charge is not None:
        reservation = reserve_credits(transaction, charge, turn_id, now)
        lease["reservation"] = reservation
        details = {"payer": reservation["username"], "entries": [reservation["entry"]]}
    unended = [{**waiting, "isQueued": False}, *unended[1:]]
    transaction.put(session_key(lease["sessionId"]), {**session, "unended": unended})
    transaction.put(place, {**turn, **details, "isQueued": False, "startedAt": now})
    transaction.put(lease_key(turn_id), lease)
    return None


def settle_turn(transaction: Transaction, turn_id: str, outcome: Outcome) -> Outcome | None:
    """`Store.settle_turn`."""
    now = encode_time(outcome.ended_at)
    lease = transaction.get(lease_key(turn_id))
    if lease is None:
        return None
    place, session_place = turn_key(lease["sessionId"], lease["timestamp"]), session_key(lease["sessionId"])
    payer = (lease.get("reservation") or {}).get("username")
    transaction.load(place, session_place, *([credits_key(payer)] if payer else ()))
    cost = Cost(max(outcome.credits_used, 0), outcome.tokens_charged)
    charged, entries = settle_reservation(transaction, turn_id, lease, cost, now)
    transaction.delete(lease_key(turn_id))
    turn, session = transaction.get(place), transaction.get(session_place)
    if turn is None or session is None or turn["turnId"] != turn_id or session["incarnation"] != turn["incarnation"]:
        # It was deleted while it ran.
        return None
    settled = replace(outcome, credits_used=charged.credits, tokens_charged=charged.tokens)
    ended = {
        **turn,
        "endedAt": now,
        "outcome": encode_outcome(settled),
        "assistantReply": settled.reply,
        "leaseUntil": lease.get("leaseUntil"),
        "entries": entries or turn.get("entries"),
    }
    transaction.put(place, ended)
    transaction.put(session_place, leave_session(session, turn_id, int(settled.reply is not None)))
    if settled.status is TurnStatus.FAILED and turn["isQueued"]:
        # A turn that never ran has answered nothing: the same request, sent again, is asked anew.
        _free_keys(transaction, turn)
    return settled


def leave_session(session: Item, turn_id: str, more_messages: int) -> Item:
    """The session without the turn among those that have no outcome."""
    unended = [each for each in session["unended"] if each["turnId"] != turn_id]
    return {
        **session,
        "unended": unended,
        "status": "running" if unended else "idle",
        "messageCount": session["messageCount"] + more_messages,
    }


def _free_keys(transaction: Transaction, turn: Item) -> None:
    for name in turn.get("keys") or ():
        used = transaction.get(request_key(name))
        if used is not None and used["turnId"] == turn["turnId"]:
            transaction.delete(request_key(name))
