"""Credits in DynamoDB: what is left of a user's credits by their time of expiry, and the entries that add up to it.

`reserve_credits`, `settle_reservation` and `detach_reservation` are parts of a step's transaction, so that a turn and
its reservation start and end in one. Every change reads and writes the user's item `CREDITS`, so two never overlap.
What a turn has reserved is kept with its lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from openapi_server.models.credits import (
    NO_COST,
    Allocation,
    Balance,
    Charge,
    Cost,
    CreditEntry,
    CreditEntryKind,
    DailyUsage,
)
from openapi_server.models.errors import InsufficientCredits, UserNotFound
from openapi_server.models.page import Page, decode_cursor, make_page
from openapi_server.models.turn import IdempotencyKey
from openapi_server.protocols import Clock
from openapi_server.storage.dynamodb.attribute_values import Item
from openapi_server.storage.dynamodb.batches_and_transactions import Database, Key, Table, Transaction
from openapi_server.storage.dynamodb.items import lease_key, make_state_key
from openapi_server.storage.retention_window import encode_time

# When credits expire that never do: it sorts behind all encoded times.
NEVER = "9999"
ENTRY, USAGE = "ENTRY#", "USAGE#"
_MAX_ENTRY = 10**12 - 1


def account_key(username: str) -> Key:
    return make_state_key("USER", username, "ACCOUNT")


def credits_key(username: str) -> Key:
    return make_state_key("USER", username, "CREDITS")


def entry_key(username: str, number: int) -> Key:
    return make_state_key("USER", username, f"{ENTRY}{number:012d}")


def allocation_key(key: str) -> Key:
    """Of an idempotency key that stands for an allocation."""
    return make_state_key("ALLOCATION", key)


def usage_key(username: str, day: str) -> Key:
    return make_state_key("USER", username, f"{USAGE}{day}")


class DynamoCredits:
    """`CreditStore` over the tables of a `DynamoStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def allocate_credits(self, allocation: Allocation, key: IdempotencyKey | None = None) -> CreditEntry:
        username = allocation.username
        at = encode_time(allocation.at)
        until = encode_time(allocation.expires_at) if allocation.expires_at else NEVER

        def insert(transaction: Transaction) -> CreditEntry:
            earlier_keys = [allocation_key(key.key)] if key else []
            transaction.load(account_key(username), credits_key(username), *earlier_keys)
            if transaction.get(account_key(username)) is None:
                raise UserNotFound
            earlier = _find_earlier_entry(transaction, key, allocation.at) if key else None
            if earlier is not None:
                return earlier
            purse = _Purse(transaction, username)
            purse.expire(at)
            purse.lots[until] = purse.lots.get(until, 0) + allocation.credits
            request = key.key if key else None
            entry = purse.add(
                CreditEntryKind.ALLOCATE, allocation.credits, at, notes=allocation.notes, requestKey=request
            )
            purse.store()
            if key is not None:
                made = {"username": username, "entry": entry["number"], "ttl": int(key.expires_at.timestamp()) + 1}
                transaction.put(allocation_key(key.key), made)
            return decode_credit_entry(entry)

        return await self._database.transact(insert, f"user {username}")

    async def get_balance(self, username: str) -> Balance | None:
        now = encode_time(self._clock.now())

        def read() -> Balance | None:
            found = self._database.get_many([account_key(username), credits_key(username)])
            if account_key(username) not in found:
                return None
            return compute_balance(username, found.get(credits_key(username)), now)

        return await self._database.run(read)

    async def list_entries(self, username: str, limit: int, cursor: str | None = None) -> Page[CreditEntry]:
        (before,) = decode_cursor(cursor, int) if cursor else (_MAX_ENTRY,)
        number = min(max(int(before), 0), _MAX_ENTRY)
        high = f"{ENTRY}{number:012d}"

        def read() -> list[Item]:
            found = self._database.query(
                Table.STATE, f"USER#{username}", low=ENTRY, high=high, descending=True, limit=limit + 1
            )
            return [item for _, item in zip(range(limit + 1), found, strict=False)]

        return make_page(await self._database.run(read), limit, decode_credit_entry, "number")

    async def list_daily_usage(self, username: str, first: date, last: date) -> Sequence[DailyUsage]:
        low, high = f"{USAGE}{first.isoformat()}", f"{USAGE}{last.isoformat()}U"

        def read() -> list[DailyUsage]:
            found = self._database.query(Table.STATE, f"USER#{username}", low=low, high=high)
            return [
                DailyUsage(date.fromisoformat(item["sk"][len(USAGE) :]), item["turns"], item["tokens"], item["credits"])
                for item in found
            ]

        return await self._database.run(read)


class _Purse:
    """A user's credits within one transaction: `lots` is what is left, by the time at which it expires."""

    def __init__(self, transaction: Transaction, username: str) -> None:
        item = transaction.get(credits_key(username)) or {}
        transaction.hot.add(f"user {username}")
        self._transaction = transaction
        self._username = username
        self._next_entry = int(item.get("nextEntry", 1))
        self.lots: dict[str, int] = dict(item.get("lots", {}))
        # The turns that have something reserved.
        self.held: list[str] = list(item.get("held", ()))

    def expire(self, now: str) -> None:
        """Lose what has expired, with one entry for all of it."""
        expired = sum(credits for until, credits in self.lots.items() if until <= now)
        self.lots = {until: credits for until, credits in self.lots.items() if until > now}
        if expired:
            self.add(CreditEntryKind.EXPIRE, -expired, now)

    def take(self, credits: int) -> dict[str, int]:
        """Take that much, or all there is if that is less: what expires first, first."""
        taken: dict[str, int] = {}
        for until in sorted(self.lots):
            part = min(credits - sum(taken.values()), self.lots[until])
            if part:
                taken[until] = part
                self.lots[until] -= part
        return taken

    def give_back(self, taken: dict[str, int], spent: int) -> None:
        for until in sorted(taken):
            part = min(spent, taken[until])
            spent -= part
            self.lots[until] = self.lots.get(until, 0) + taken[until] - part

    def add(self, kind: CreditEntryKind, credits: int, now: str, **details: Any) -> Item:
        """Add an entry."""
        number = self._next_entry
        self._next_entry += 1
        entry = {
            "number": number,
            "username": self._username,
            "kind": kind.value,
            "credits": credits,
            "at": now,
            **details,
        }
        self._transaction.put(entry_key(self._username, number), entry)
        return entry

    def store(self) -> None:
        lots = {until: credits for until, credits in self.lots.items() if credits}
        item = {"lots": lots, "nextEntry": self._next_entry, "held": self.held}
        self._transaction.put(credits_key(self._username), item)


def compute_balance(username: str, item: Item | None, now: str) -> Balance:
    lots = {until: credits for until, credits in (item or {}).get("lots", {}).items() if until > now and credits}
    first = min(lots, default=NEVER)
    return Balance(username, sum(lots.values()), None if first == NEVER else datetime.fromisoformat(first))


def reserve_credits(transaction: Transaction, charge: Charge, turn_id: str, now: str) -> Item:
    """Reserve what the turn may cost, or all there is if that is less. `InsufficientCredits` if there is none.

    Returns what stands beside the lease of the turn.
    """
    purse = _Purse(transaction, charge.username)
    purse.expire(now)
    taken = purse.take(charge.max_credits)
    if not taken:
        raise InsufficientCredits("Ask an administrator for more credits.")
    entry = purse.add(CreditEntryKind.RESERVE, -sum(taken.values()), now, turnId=turn_id)
    purse.held.append(turn_id)
    purse.store()
    return {"username": charge.username, "entry": entry["number"], "parts": taken}


def settle_reservation(
    transaction: Transaction, turn_id: str, lease: Item | None, used: Cost, now: str
) -> tuple[Cost, list[int]]:
    """Charge what the turn has used, and refund what else it has reserved. Returns what was charged: never more than
    was reserved, and nothing without a reservation; and the numbers of the turn's entries.

    What is refunded after it has expired is lost at once, with an entry of its own.
    """
    reservation = (lease or {}).get("reservation")
    if reservation is None or transaction.get(credits_key(reservation["username"])) is None:
        return used.limit(0), []
    username = reservation["username"]
    purse = _Purse(transaction, username)
    reserved = sum(reservation["parts"].values())
    charged = used.limit(reserved)
    purse.give_back(reservation["parts"], charged.credits)
    purse.held = [held for held in purse.held if held != turn_id]
    details: dict[str, Any] = {}
    if lease is not None and (not lease.get("isDetached") or _names_turn(transaction, username, reservation["entry"])):
        # The credit history of an erased session names no turn any more.
        details["turnId"] = turn_id
    if charged.credits:
        details |= {"tokens": charged.tokens, "spent": charged.credits}
        _count_usage(transaction, username, charged, now)
    kind = CreditEntryKind.SETTLE if charged.credits else CreditEntryKind.REFUND
    entry = purse.add(kind, reserved - charged.credits, now, **details)
    purse.expire(now)
    purse.store()
    return charged, [reservation["entry"], entry["number"]]


def detach_reservation(transaction: Transaction, turn_id: str, now: str) -> list[int]:
    """The turn is about to be deleted. Its lease is deleted, too, unless its process still has to settle it.

    While it runs, what it has reserved is kept with the lease: its process knows how much was said. What no process
    will settle is refunded. Returns the numbers of its entries.
    """
    lease = transaction.get(lease_key(turn_id))
    if lease is None:
        return []
    reservation = lease.get("reservation")
    if reservation is not None and lease.get("leaseUntil", "") > now:
        transaction.put(lease_key(turn_id), {**lease, "isDetached": True})
        return [reservation["entry"]]
    transaction.delete(lease_key(turn_id))
    return settle_reservation(transaction, turn_id, lease, NO_COST, now)[1]


def _names_turn(transaction: Transaction, username: str, number: int) -> bool:
    return "turnId" in (transaction.get(entry_key(username, number)) or {})


def _count_usage(transaction: Transaction, username: str, charged: Cost, now: str) -> None:
    """Add to what the user has spent on this day. Encoded times begin with their day."""
    key = usage_key(username, now[:10])
    day = transaction.get(key) or {"turns": 0, "tokens": 0, "credits": 0}
    counted = {
        "turns": day["turns"] + 1,
        "tokens": day["tokens"] + (charged.tokens or 0),
        "credits": day["credits"] + charged.credits,
    }
    transaction.put(key, counted)


def _find_earlier_entry(transaction: Transaction, key: IdempotencyKey, at: datetime) -> CreditEntry | None:
    """The entry that was made with the key, while the key is valid; after that the key is free again."""
    made = transaction.get(allocation_key(key.key))
    entry = transaction.get(entry_key(made["username"], made["entry"])) if made else None
    if entry is None or entry["at"] <= encode_time(at - (key.expires_at - at)):
        return None
    return decode_credit_entry(entry)


def decode_credit_entry(item: Item) -> CreditEntry:
    return CreditEntry(
        entry_id=str(item["number"]),
        username=item["username"],
        kind=CreditEntryKind(item["kind"]),
        credits=item["credits"],
        at=datetime.fromisoformat(item["at"]),
        turn_id=item.get("turnId"),
        notes=item.get("notes"),
        tokens=item.get("tokens"),
        spent=item.get("spent"),
    )
