"""What DynamoDB refuses and moto takes: every request of the tests is held against it before it is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
MAX_ITEM_BYTES = 400 * 1024
MAX_TRANSACTION_BYTES, MAX_TRANSACTION_ITEMS = 4 * 1024**2, 100
MAX_BATCH_WRITES, MAX_BATCH_READS, MAX_BATCH_BYTES = 25, 100, 16 * 1024**2
MAX_TOKEN_CHARS = 36
MAX_KEY_BYTES = {"partition": 2048, "sort": 1024}
MAX_DIGITS = 38
SORT_KEYS = ("sk", "timestamp")
PARTITION_KEYS = ("pk", "sessionId")
# All that an expression may have beside placeholders. Names of attributes are always placeholders: there are hundreds
# of reserved words.
GRAMMAR = frozenset(
    "AND OR NOT SET REMOVE ADD DELETE BETWEEN IN attribute_exists attribute_not_exists attribute_type begins_with "
    "contains size if_not_exists list_append".split()
)
EXPRESSIONS = (
    "ConditionExpression",
    "FilterExpression",
    "KeyConditionExpression",
    "ProjectionExpression",
    "UpdateExpression",
)
_WORD = re.compile(r"[#:]?[A-Za-z_][A-Za-z0-9_]*")
_BETWEEN = re.compile(r"BETWEEN (:\w+) AND (:\w+)")


class Refused(AssertionError):
    """DynamoDB would answer with a ValidationException."""


class Rules:
    """Holds requests against DynamoDB's rules. Remembers the tokens: one must not come back with another request."""

    def __init__(self) -> None:
        self.checked = 0
        self._tokens: dict[str, str] = {}

    def watch(self, client: Any) -> Any:
        """Check every request of a client of boto3. Returns the client."""
        client.meta.events.register("before-parameter-build.dynamodb", self._check_event)
        return client

    def _check_event(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.check(model.name, params)

    def check(self, operation: str, params: Mapping[str, Any]) -> None:
        """Raise `Refused` for a request that DynamoDB does not take."""
        self.checked += 1
        match operation:
            case "TransactWriteItems":
                self._check_transaction(params)
            case "BatchWriteItem":
                _check_batch_write(params["RequestItems"])
            case "BatchGetItem":
                _check_batch_get(params["RequestItems"])
            case _:
                check_request(params)

    def _check_transaction(self, params: Mapping[str, Any]) -> None:
        items = params["TransactItems"]
        _require(0 < len(items) <= MAX_TRANSACTION_ITEMS, f"a transaction of {len(items)} items")
        targets = []
        for item in items:
            ((kind, request),) = item.items()
            _require(kind in ("Put", "Update", "Delete", "ConditionCheck"), f"no such operation {kind}")
            _require(kind != "ConditionCheck" or "ConditionExpression" in request, "a check without a condition")
            check_request(request)
            targets.append(_identify(request["TableName"], request.get("Key") or request["Item"]))
        _require(len(set(targets)) == len(targets), "two operations of a transaction on one item")
        size = sum(count_bytes(request.get("Item", {})) for item in items for request in item.values())
        _require(size <= MAX_TRANSACTION_BYTES, f"a transaction of {size} bytes")
        token = params.get("ClientRequestToken")
        if token is not None:
            _require(0 < len(token) <= MAX_TOKEN_CHARS, f"a token of {len(token)} characters")
            body = json.dumps(items, sort_keys=True, default=str)
            _require(self._tokens.setdefault(token, body) == body, "a token of another request")


def _check_batch_write(tables: Mapping[str, Any]) -> None:
    requests = [(table, request) for table, requests in tables.items() for request in requests]
    _require(0 < len(requests) <= MAX_BATCH_WRITES, f"a batch of {len(requests)} writes")
    targets, size = [], 0
    for table, request in requests:
        ((kind, details),) = request.items()
        values = details["Item"] if kind == "PutRequest" else details["Key"]
        _check_values(values)
        targets.append(_identify(table, values))
        size += count_bytes(values)
    _require(len(set(targets)) == len(targets), "two writes of a batch to one item")
    _require(size <= MAX_BATCH_BYTES, f"a batch of {size} bytes")


def _check_batch_get(tables: Mapping[str, Any]) -> None:
    targets = []
    for table, request in tables.items():
        _require(bool(request["Keys"]), f"no keys of {table}")
        for key in request["Keys"]:
            _check_values(key)
            targets.append(_identify(table, key))
    _require(0 < len(targets) <= MAX_BATCH_READS, f"a batch of {len(targets)} reads")
    _require(len(set(targets)) == len(targets), "two reads of a batch of one item")


def check_request(request: Mapping[str, Any]) -> None:
    """Expressions, values and keys of one request."""
    for part in ("Item", "Key", "ExclusiveStartKey"):
        if part in request:
            _check_values(request[part])
    _require(request.get("Limit", 1) >= 1, "a limit below 1")
    used = {word for text in _list_expressions(request) for word in _WORD.findall(text)}
    names, values = request.get("ExpressionAttributeNames"), request.get("ExpressionAttributeValues")
    _require(names != {} and values != {}, "empty names or values of an expression")
    given = {*(names or {}), *(values or {})}
    placeholders = {word for word in used if word[0] in "#:"}
    _require(placeholders <= given, f"undefined: {placeholders - given}")
    _require(given <= placeholders, f"unused: {given - placeholders}")
    _require(
        used - placeholders <= GRAMMAR, f"bare names, which may be reserved words: {used - placeholders - GRAMMAR}"
    )
    _check_key_condition(request)


def _check_key_condition(request: Mapping[str, Any]) -> None:
    condition = request.get("KeyConditionExpression")
    if condition is None:
        return
    values = request["ExpressionAttributeValues"]
    for value in values.values():
        _require(value != {"S": ""}, "an empty text in the condition of a key")
    for low, high in _BETWEEN.findall(condition):
        _require(values[low]["S"].encode() <= values[high]["S"].encode(), "BETWEEN with its bounds the wrong way round")
    names = {request["ExpressionAttributeNames"][name] for name in re.findall(r"#\w+", condition)}
    _require(bool(names & set(PARTITION_KEYS)), "a query without a partition key")
    for name, placeholder in re.findall(r"(#\w+) [<>=]+ (:\w+)", condition):
        _check_key(request["ExpressionAttributeNames"][name], values[placeholder])


def _check_values(values: Mapping[str, Any]) -> None:
    size = count_bytes(values)
    _require(size <= MAX_ITEM_BYTES, f"an item of {size} bytes")
    _require(any(name in values for name in PARTITION_KEYS), "no partition key")
    for name, value in values.items():
        _check_key(name, value)
        _check_numbers(value)


def _check_key(name: str, value: Mapping[str, Any]) -> None:
    kind = "partition" if name in PARTITION_KEYS else "sort" if name in SORT_KEYS else None
    if kind is not None and "S" in value:
        size = len(value["S"].encode())
        _require(0 < size <= MAX_KEY_BYTES[kind], f"a {kind} key {name} of {size} bytes")


def _check_numbers(value: Mapping[str, Any]) -> None:
    ((kind, inner),) = value.items()
    if kind == "N":
        _require(re.fullmatch(rf"-?[0-9]{{1,{MAX_DIGITS}}}", inner) is not None, f"the number {inner}")
    for part in inner if kind == "L" else inner.values() if kind == "M" else ():
        _check_numbers(part)


def _list_expressions(request: Mapping[str, Any]) -> Iterator[str]:
    for name in EXPRESSIONS:
        if name in request:
            _require(bool(request[name]), f"an empty {name}")
            yield request[name]


def _identify(table: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    keys = SORT_KEYS[:1] + PARTITION_KEYS[:1] if "pk" in values else PARTITION_KEYS[1:] + SORT_KEYS[1:]
    return (table, *(str(values.get(name)) for name in keys))


def count_bytes(values: Mapping[str, Any]) -> int:
    """The size of an item as DynamoDB counts it, or a little more: names, values, and what holds them."""
    return sum(len(name.encode()) + _count_value(value) for name, value in values.items())


def _count_value(value: Mapping[str, Any]) -> int:
    ((kind, inner),) = value.items()
    match kind:
        case "S":
            return len(inner.encode())
        case "B":
            return len(inner)
        case "N":
            return len(inner) // 2 + 2
        case "L":
            return 3 + sum(1 + _count_value(part) for part in inner)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _count_value(part) for name, part in inner.items())
    return 1


def _require(is_taken: bool, what: str) -> None:
    if not is_taken:
        raise Refused(f"DynamoDB refuses {what}")
