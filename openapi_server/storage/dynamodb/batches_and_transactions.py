"""DynamoDB from threads beside the event loop: reads by key, queries of one partition, and optimistic transactions.

A step of a store is a function that runs in one thread from its beginning to its end. What it decides by, it reads in a
`Transaction`, which remembers what it has seen. The commit writes all or nothing, and only where every item that was
read is still the same: each item has a `rev`, which is new with each write. Otherwise the step is run again.
So a step reads like one on a database with serializable transactions. Queries are not remembered: nothing is decided by
what a query did not find.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from openapi_server.models.errors import StoreUnavailable
from openapi_server.storage.dynamodb.attribute_values import Item, count_bytes, decode_item, encode_value

T = TypeVar("T")

THREADS = 32
CONNECT_TIMEOUT_S, READ_TIMEOUT_S, CALL_ATTEMPTS = 2.0, 5.0, 3
RETRY_AFTER_S = 2
# DynamoDB's own limits; an item may have 400 KB there, names included.
MAX_ITEM_BYTES = 350_000
MAX_READS, MAX_WRITES, MAX_TRANSACTION = 100, 25, 100
MAX_PARTITION_BYTES, MAX_SORT_BYTES = 2048, 1024
# How often a step is run again because another one was quicker, and how long it waits before, at most.
STEP_ATTEMPTS, MAX_PAUSE_S = 40, 0.25
_CONFLICTS = frozenset({"ConditionalCheckFailed", "TransactionConflict"})
_THROTTLES = frozenset({"ThrottlingError", "ProvisionedThroughputExceeded"})

log = structlog.get_logger(__name__)


class Table(StrEnum):
    """The tables, by what they hold. `state` has everything that is neither a session nor a turn."""

    SESSIONS = "sessions"
    TURNS = "turns"
    STATE = "state"

    @property
    def key_attributes(self) -> tuple[str, ...]:
        """The partition key, and the sort key where there is one. All are texts."""
        return _KEY_ATTRIBUTES[self]


_KEY_ATTRIBUTES = {
    Table.SESSIONS: ("sessionId",),
    Table.TURNS: ("sessionId", "timestamp"),
    Table.STATE: ("pk", "sk"),
}


class Key(NamedTuple):
    """Where an item is. `sort` is empty in the table of sessions."""

    table: Table
    partition: str
    sort: str = ""

    @property
    def is_valid(self) -> bool:
        """Whether DynamoDB takes it. A key that it does not take has no item: ids come from outside."""
        has_sort = len(self.table.key_attributes) == 2
        return 0 < len(self.partition.encode()) <= MAX_PARTITION_BYTES and (
            not has_sort or 0 < len(self.sort.encode()) <= MAX_SORT_BYTES
        )

    @property
    def attributes(self) -> dict[str, dict[str, str]]:
        """The key as DynamoDB takes it."""
        values = (self.partition, self.sort)
        return {name: {"S": value} for name, value in zip(self.table.key_attributes, values, strict=False)}


class ItemTooLarge(Exception):
    """The item would have more than `MAX_ITEM_BYTES`."""


@dataclass(frozen=True, slots=True)
class TableNames:
    """What the tables are called in DynamoDB."""

    sessions: str
    turns: str
    state: str

    def __getitem__(self, table: Table) -> str:
        return str(getattr(self, table.value))


def open_client(
    region: str, endpoint: str | None, *, read_timeout_s: float = READ_TIMEOUT_S, connections: int = THREADS
) -> Any:
    """A client, which so many threads may use. boto3 finds credentials as usual: environment, profile or role."""
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": CALL_ATTEMPTS},
        max_pool_connections=connections,
    )
    return boto3.session.Session().client("dynamodb", region_name=region, endpoint_url=endpoint or None, config=config)


class Database:
    """The tables, and threads for what is done with them.

    `run` runs a step; the other methods are for the functions that it runs. What DynamoDB refuses is logged and becomes
    `StoreUnavailable`.
    """

    def __init__(self, client: Any, names: TableNames) -> None:
        self.client = client
        self.names = names
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dynamodb")
        self._locks = tuple(threading.Lock() for _ in range(64))
        self._submitted = 0

    @property
    def waiting(self) -> int:
        """How many steps wait for a thread."""
        return max(0, self._submitted - THREADS)

    async def run(self, step: Callable[[], T]) -> T:
        """Run the step in a thread. Once begun it goes on, also where its caller is cancelled."""
        done = asyncio.get_running_loop().run_in_executor(self._threads, _report_failures, step)
        self._submitted += 1
        done.add_done_callback(self._count_done)
        return await done

    def _count_done(self, _: object) -> None:
        self._submitted -= 1

    async def transact(self, step: Callable[[Transaction], T], *hot: str) -> T:
        """Run a step with a transaction: see `commit`."""
        return await self.run(lambda: self.commit(step, *hot))

    async def close(self) -> None:
        """Let running steps end, then close the connections."""
        await asyncio.to_thread(self._threads.shutdown)
        self.client.close()

    # Transactions

    def commit(self, step: Callable[[Transaction], T], *hot: str) -> T:
        """The result of the step, whose writes are stored. It is run again where another one was quicker.

        `hot` names what many steps of this process want at the same moment, such as a session: they wait for each other
        here, in place of being run again and again. What a step finds to be so, it adds to `Transaction.hot`.
        """
        names = set(hot)
        for attempt in range(STEP_ATTEMPTS):
            transaction = Transaction(self)
            with self._hold(names):
                result = step(transaction)
                if transaction.commit():
                    return result
            names |= transaction.hot
            time.sleep(random.uniform(0, min(MAX_PAUSE_S, 0.004 * 2**attempt)))  # noqa: S311  # no secret
        log.error("store_failed", error="conflicts", reason=f"{STEP_ATTEMPTS} attempts met another writer")
        raise StoreUnavailable(retry_after_s=RETRY_AFTER_S)

    @contextmanager
    def _hold(self, names: Collection[str]) -> Iterator[None]:
        """Hold the locks of the names, in an order that is the same for everybody."""
        numbers = sorted({zlib.crc32(name.encode()) % len(self._locks) for name in names})
        with ExitStack() as held:
            for number in numbers:
                held.enter_context(self._locks[number])
            yield

    # Reads

    def get(self, key: Key) -> Item | None:
        """The item as it is now; None when there is none."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Item]:
        """Those of the items that there are."""
        found: dict[Key, Item] = {}
        wanted = list(dict.fromkeys(key for key in keys if key.is_valid))
        if len(wanted) == 1:
            answer = self.client.get_item(
                TableName=self.names[wanted[0].table], Key=wanted[0].attributes, ConsistentRead=True
            )
            return {wanted[0]: decode_item(answer["Item"])} if "Item" in answer else {}
        for part in _split(wanted, MAX_READS):
            found.update(self._get_batch(part))
        return found

    def _get_batch(self, keys: Sequence[Key]) -> Iterator[tuple[Key, Item]]:
        tables = {self.names[key.table]: key.table for key in keys}
        request: dict[str, Any] = {name: {"Keys": [], "ConsistentRead": True} for name in tables}
        for key in keys:
            request[self.names[key.table]]["Keys"].append(key.attributes)
        for _ in _iterate_attempts():
            answer = self.client.batch_get_item(RequestItems=request)
            for name, items in answer["Responses"].items():
                for item in map(decode_item, items):
                    yield get_key(tables[name], item), item
            request = answer.get("UnprocessedKeys") or {}
            if not request:
                return

    def query(
        self,
        table: Table,
        partition: str,
        *,
        low: str = "",
        high: str = "",
        descending: bool = False,
        limit: int | None = None,
    ) -> Iterator[Item]:
        """The items of the partition with a sort key of `low` or more, and less than `high`, in their order.

        `limit`: about how many the caller wants; there may be more. Everything that was written before is found.
        """
        if (low and high and low >= high) or not Key(table, partition, "-").is_valid:
            return
        partition_attribute, sort_attribute = table.key_attributes
        conditions, names = ["#p = :p"], {"#p": partition_attribute}
        values = {":p": {"S": partition}}
        if low or high:
            names["#s"] = sort_attribute
        if low and high:
            # Both ends count: the last one is left out below.
            conditions.append("#s BETWEEN :low AND :high")
            values |= {":low": {"S": low}, ":high": {"S": high}}
        elif low:
            conditions.append("#s >= :low")
            values[":low"] = {"S": low}
        elif high:
            conditions.append("#s < :high")
            values[":high"] = {"S": high}
        request: dict[str, Any] = {
            "TableName": self.names[table],
            "KeyConditionExpression": " AND ".join(conditions),
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
            "ScanIndexForward": not descending,
            "ConsistentRead": True,
        }
        if limit is not None:
            request["Limit"] = limit
        while True:
            answer = self.client.query(**request)
            for item in map(decode_item, answer["Items"]):
                if item[sort_attribute] != high:
                    yield item
            if not answer.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    # Writes that nothing depends on

    def write_many(self, puts: Iterable[tuple[Key, Item]] = (), deletes: Iterable[Key] = ()) -> None:
        """Write in batches, whatever is there. Not in one step: for what may be repeated after a crash."""
        requests = [
            *((key, {"PutRequest": {"Item": make_stored(key, item, new_rev())}}) for key, item in dict(puts).items()),
            *((key, {"DeleteRequest": {"Key": key.attributes}}) for key in dict.fromkeys(deletes)),
        ]
        for part in _split(requests, MAX_WRITES):
            request: dict[str, list[Any]] = {}
            for key, each in part:
                request.setdefault(self.names[key.table], []).append(each)
            for _ in _iterate_attempts():
                request = self.client.batch_write_item(RequestItems=request).get("UnprocessedItems") or {}
                if not request:
                    break

    def update(self, key: Key, values: Mapping[str, Any], unless: str) -> bool:
        """Set some attributes of an item. False where there is no item, or where it has the attribute `unless`."""
        changes = {**values, "rev": new_rev()}
        names = {f"#a{number}": name for number, name in enumerate(changes)}
        try:
            self.client.update_item(
                TableName=self.names[key.table],
                Key=key.attributes,
                UpdateExpression="SET " + ", ".join(f"#a{n} = :a{n}" for n in range(len(changes))),
                ConditionExpression="attribute_exists(#k) AND attribute_not_exists(#u)",
                ExpressionAttributeNames={**names, "#k": key.table.key_attributes[0], "#u": unless},
                ExpressionAttributeValues={
                    f":a{number}": encode_value(value) for number, value in enumerate(changes.values())
                },
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False
        return True


@dataclass(slots=True)
class Transaction:
    """What one step has read, and what it will write. Its own writes are visible to its reads."""

    database: Database
    hot: set[str] = field(default_factory=set)
    _seen: dict[Key, Item | None] = field(default_factory=dict)
    # None: delete the item.
    _written: dict[Key, Item | None] = field(default_factory=dict)

    def load(self, *keys: Key) -> None:
        """Read the items in one request, for `get`."""
        missing = [key for key in keys if key not in self._seen]
        found = self.database.get_many(missing)
        self._seen.update({key: found.get(key) for key in missing})

    def get(self, key: Key) -> Item | None:
        """The item; None when there is none. A copy: what is changed in it is not stored."""
        if key not in self._seen and key not in self._written:
            self.load(key)
        item = self._written[key] if key in self._written else self._seen[key]
        return dict(item) if item is not None else None

    def put(self, key: Key, item: Item) -> None:
        """Replace the item, or create it. If it was read, only where it still is what was read."""
        self._written[key] = {name: value for name, value in item.items() if value is not None}

    def delete(self, key: Key) -> None:
        self._written[key] = None

    def commit(self) -> bool:
        """Store what was written. False, and nothing is stored, where another step has changed what was read."""
        if not self._written:
            return True
        rev = new_rev()
        requests = [self._make_request(key, rev) for key in {**self._written, **self._seen} if key.is_valid]
        try:
            if len(requests) == 1:
                self._write_one(requests[0])
            else:
                self.database.client.transact_write_items(TransactItems=requests, ClientRequestToken=f"zoochat-{rev}")
        except ClientError as error:
            failures = _list_failures(error)
            if not failures:
                raise
            # An answer was lost, and the client sent the request again: it met its own writes.
            return any(item.get("rev") == {"S": rev} for _, item in failures)
        return True

    def _make_request(self, key: Key, rev: str) -> dict[str, Any]:
        """The part of the commit that writes the item, or checks that it is what was read."""
        request: dict[str, Any] = {"TableName": self.database.names[key.table]}
        if key in self._seen:
            seen = self._seen[key]
            request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
            if seen is None:
                request["ConditionExpression"] = "attribute_not_exists(#k)"
                request["ExpressionAttributeNames"] = {"#k": key.table.key_attributes[0]}
            else:
                request["ConditionExpression"] = "#r = :r"
                request["ExpressionAttributeNames"] = {"#r": "rev"}
                request["ExpressionAttributeValues"] = {":r": {"S": seen["rev"]}}
        if key not in self._written:
            return {"ConditionCheck": {**request, "Key": key.attributes}}
        item = self._written[key]
        if item is None:
            return {"Delete": {**request, "Key": key.attributes}}
        return {"Put": {**request, "Item": make_stored(key, item, rev)}}

    def _write_one(self, request: dict[str, Any]) -> None:
        """Costs half of what a transaction does."""
        ((kind, details),) = request.items()
        client = self.database.client
        (client.put_item if kind == "Put" else client.delete_item)(**details)


def _list_failures(error: ClientError) -> list[tuple[str, Mapping[str, Any]]]:
    """Why a commit may be tried again: codes, with the items that were in the way. Empty where it may not."""
    code = error.response["Error"]["Code"]
    if code == "ConditionalCheckFailedException":
        return [(code, error.response.get("Item") or {})]
    if code in ("TransactionConflictException", "TransactionInProgressException"):
        return [(code, {})]
    if code != "TransactionCanceledException":
        return []
    reasons = [reason for reason in error.response.get("CancellationReasons", ()) if reason.get("Code") != "None"]
    if any(reason.get("Code") not in _CONFLICTS | _THROTTLES for reason in reasons):
        return []
    return [(str(reason["Code"]), reason.get("Item") or {}) for reason in reasons]


def _report_failures(step: Callable[[], T]) -> T:
    """Run it. Errors are logged, and what callers are told does not name the cause: it may name the account."""
    try:
        return step()
    except (BotoCoreError, ClientError, ItemTooLarge) as error:
        log.error("store_failed", error=type(error).__name__, reason=str(error))
        raise StoreUnavailable(retry_after_s=RETRY_AFTER_S) from error


def _iterate_attempts() -> Iterator[None]:
    """For batches that DynamoDB does in part: waits before each further attempt."""
    for attempt in range(10):
        if attempt:
            time.sleep(random.uniform(0, min(1.0, 0.01 * 2**attempt)))  # noqa: S311  # no secret
        yield
    log.error("store_failed", error="throttled", reason="batches were not processed")
    raise StoreUnavailable(retry_after_s=RETRY_AFTER_S)


def _split(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    rest = iter(values)
    while part := list(islice(rest, size)):
        yield part


def new_rev() -> str:
    """Random: an item that was deleted and made anew must not look like the one that was read."""
    return secrets.token_hex(8)


def get_key(table: Table, item: Item) -> Key:
    return Key(table, *(item[name] for name in table.key_attributes))


def make_stored(key: Key, item: Item, rev: str) -> dict[str, Any]:
    """The item with its key, as DynamoDB takes it. Raises `ItemTooLarge`."""
    named = {**item, **dict(zip(key.table.key_attributes, key[1:], strict=False)), "rev": rev}
    size = sum(len(name.encode()) + count_bytes(value) for name, value in named.items())
    if size > MAX_ITEM_BYTES:
        raise ItemTooLarge(f"an item of {size:,} bytes is larger than {MAX_ITEM_BYTES:,}")
    return {name: encode_value(value) for name, value in named.items() if value is not None}
