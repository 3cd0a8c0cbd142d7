"""JSON from outside, parsed strictly: what two readers could take differently, or what cannot be kept, is refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

from openapi_server.models.errors import InvalidInput

MAX_DEPTH = 32
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def parse_json(raw: bytes) -> object:
    """The value of a JSON text (RFC 8259, UTF-8); `InvalidInput` names the field and what is wrong with it.

    Python's parser accepts more than we do. Refused are also: other encodings, `NaN`, `Infinity` and numbers that
    Python rounds to it (`1e400`), a key that occurs twice in one object, integers of thousands of digits, nesting
    deeper than `MAX_DEPTH`, and NUL and lone surrogates, which no store or stream can carry.

    >>> parse_json(b'{"message": "Hello!"}')
    {'message': 'Hello!'}
    """
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_build_object, parse_constant=_reject_constant)
    except UnicodeDecodeError:
        raise InvalidInput.for_field("body", "must be UTF-8") from None
    except RecursionError:
        raise InvalidInput.for_field("body", f"must not be nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise InvalidInput.for_field("body", f"is not JSON: {error.msg} at character {error.pos}") from None
    except ValueError:
        # The only other ValueError of json.loads is the interpreter's limit on the digits of an integer.
        raise InvalidInput.for_field("body", "holds a number that is too long") from None
    if not _is_surely_storable(value):
        _require_storable(value)
    return value


def _is_surely_storable(value: object) -> bool:
    """False for what `_require_storable` has to look at: it makes the paths of all values, which takes long."""
    level = [value]
    for _ in range(MAX_DEPTH):
        deeper: list[object] = []
        for part in level:
            if isinstance(part, str):
                if _UNSTORABLE.search(part):
                    return False
            elif isinstance(part, dict):
                deeper += part.keys()
                deeper += part.values()
            elif isinstance(part, list):
                deeper += part
            elif isinstance(part, float) and math.isinf(part):
                return False
        level = deeper
    return not level


def _require_storable(value: object) -> None:
    for path, part, depth in _iterate_values(value):
        if depth > MAX_DEPTH:
            raise InvalidInput.for_field("body", f"must not be nested deeper than {MAX_DEPTH} levels")
        if isinstance(part, str) and _UNSTORABLE.search(part):
            raise InvalidInput.for_field(path, "must not hold NUL or half a surrogate pair")
        if isinstance(part, float) and math.isinf(part):
            raise InvalidInput.for_field(path, "is a number too large to keep")


def _build_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value: dict[str, object] = {}
    for name, part in pairs:
        if name in value:
            raise InvalidInput.for_field(escape_name(name), "is there twice")
        value[name] = part
    return value


def _reject_constant(name: str) -> object:
    raise InvalidInput.for_field("body", f"{name} is not JSON")


def _iterate_values(value: object) -> Iterator[tuple[str, object, int]]:
    """Every key and value with its path and depth. Not recursive, because the depth is not known to be small."""
    stack: list[tuple[str, object, int]] = [("body", value, 0)]
    while stack:
        path, part, depth = stack.pop()
        yield path, part, depth
        if isinstance(part, dict):
            for key, child in part.items():
                yield "body", key, depth
                stack.append((escape_name(key) if path == "body" else f"{path}.{escape_name(key)}", child, depth + 1))
        elif isinstance(part, list):
            stack.extend((f"{path}[{index}]", child, depth + 1) for index, child in enumerate(part))


def escape_name(name: str) -> str:
    """A name from outside as a problem and the log may have it: without control characters, and short."""
    return name.encode("unicode_escape").decode()[:64]
