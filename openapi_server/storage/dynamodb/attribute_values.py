"""Values as DynamoDB stores them, by kind: `{"S": "Leo"}`, `{"N": "7"}`; and how large it counts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Attributes by name: texts, integers, booleans, bytes, lists and maps. None stands for no attribute.
Item = dict[str, Any]


def count_bytes(value: Any) -> int:
    """About what DynamoDB counts, and never less.

    >>> count_bytes("Löwe"), count_bytes(["a", 1]), count_bytes(True)
    (5, 28, 1)
    """
    match value:
        case str():
            return len(value.encode())
        case bytes():
            return len(value)
        case bool() | None:
            return 1
        case int():
            return 21
        case list():
            return 3 + sum(1 + count_bytes(part) for part in value) + 1
        case dict():
            return 3 + sum(1 + len(name.encode()) + count_bytes(part) for name, part in value.items())
    raise TypeError(f"{type(value)} cannot be stored")


def encode_value(value: Any) -> dict[str, Any]:
    """A value as DynamoDB takes it.

    >>> encode_value({"a": [1, "b"]})
    {'M': {'a': {'L': [{'N': '1'}, {'S': 'b'}]}}}
    """
    match value:
        case str():
            return {"S": value}
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case bytes():
            return {"B": value}
        case list():
            return {"L": [encode_value(part) for part in value]}
        case dict():
            return {"M": {name: encode_value(part) for name, part in value.items() if part is not None}}
    raise TypeError(f"{type(value)} cannot be stored")


def decode_value(stored: Mapping[str, Any]) -> Any:
    """The value that was encoded.

    >>> decode_value(encode_value({"a": [1, "b", True]}))
    {'a': [1, 'b', True]}
    """
    ((kind, value),) = stored.items()
    match kind:
        case "N":
            return int(value)
        case "B":
            return bytes(value)
        case "L":
            return [decode_value(part) for part in value]
        case "M":
            return {name: decode_value(part) for name, part in value.items()}
    return value


def decode_item(stored: Mapping[str, Any]) -> Item:
    return {name: decode_value(value) for name, value in stored.items()}
