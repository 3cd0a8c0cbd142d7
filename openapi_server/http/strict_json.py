"""JSON as we read it: RFC 8259 in UTF-8, without the doors that Python's reader leaves open."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

from openapi_server.models.errors import FieldError, InvalidInput

MAX_DEPTH = 32
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def parse_json(raw: bytes) -> object:
    """The value of one JSON text, or `InvalidInput` that says what is wrong and where.

    Refused beside bad syntax: other encodings, `NaN`, `Infinity` and what Python rounds to it (`1e400`), a key twice
    in one object, numbers of thousands of digits, nesting deeper than `MAX_DEPTH`, NUL and lone surrogates (no store
    or stream can carry them).

    >>> parse(b'{"message": "Hello!"}')
    {'message': 'Hello!'}
    """
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_build_object, parse_constant=_reject_constant)
    except UnicodeDecodeError:
        raise _refused("body", "must be UTF-8") from None
    except RecursionError:
        raise _refused("body", f"must not be nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise _refused("body", f"is not JSON: {error.msg} at character {error.pos}") from None
    except ValueError:
        # json.loads has no other ValueError than the interpreter's limit on the digits of an integer.
        raise _refused("body", "holds a number that is too long") from None
    for path, part, depth in _iterate_values(value):
        if depth > MAX_DEPTH:
            raise _refused("body", f"must not be nested deeper than {MAX_DEPTH} levels")
        if isinstance(part, str) and _UNSTORABLE.search(part):
            raise _refused(path, "must not hold NUL or half a surrogate pair")
        if isinstance(part, float) and math.isinf(part):
            raise _refused(path, "is a number too large to keep")
    return value


def _build_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value: dict[str, object] = {}
    for name, part in pairs:
        if name in value:
            raise _refused(_escape_name(name), "is there twice")
        value[name] = part
    return value


def _reject_constant(name: str) -> object:
    raise _refused("body", f"{name} is not JSON")


def _iterate_values(value: object) -> Iterator[tuple[str, object, int]]:
    """Every key and value with its path and depth; a stack of our own, because depth is what we guard against."""
    stack: list[tuple[str, object, int]] = [("body", value, 0)]
    while stack:
        path, part, depth = stack.pop()
        yield path, part, depth
        if isinstance(part, dict):
            for key, child in part.items():
                yield "body", key, depth
                stack.append((_escape_name(key) if path == "body" else f"{path}.{_escape_name(key)}", child, depth + 1))
        elif isinstance(part, list):
            stack.extend((f"{path}[{index}]", child, depth + 1) for index, child in enumerate(part))


def _escape_name(name: str) -> str:
    return name.encode("unicode_escape").decode()[:64]


def _refused(field: str, message: str) -> InvalidInput:
    return InvalidInput(f"{field}: {message}", errors=(FieldError(field, message),))
