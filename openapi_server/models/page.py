"""One page of a listing, and its cursor: an opaque position that only this server reads."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from openapi_server.models.errors import FieldError, InvalidInput

T = TypeVar("T")


class Row(Protocol):
    """A row of a database: values by column."""

    def __getitem__(self, column: str, /) -> Any: ...


R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing; `next_cursor` is None on the last page."""

    items: tuple[T, ...]
    next_cursor: str | None = None


def make_page(rows: Sequence[R], limit: int, decode: Callable[[R], T], *position_columns: str) -> Page[T]:
    """The page of the first `limit` rows. A query selects `limit + 1` rows, which shows whether there is another page.

    The cursor encodes the last row's values in `position_columns`, by which the rows are ordered.
    """
    listed = rows[:limit]
    has_more = len(rows) > limit
    next_cursor = encode_cursor(*(listed[-1][column] for column in position_columns)) if has_more else None
    return Page(tuple(decode(row) for row in listed), next_cursor)


def encode_cursor(*position: str | int) -> str:
    """
    >>> decode_cursor(encode_cursor("2026-11-21", 7), str, int)
    ['2026-11-21', 7]
    """
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *types: type) -> list[str | int]:
    """The values that were encoded. Raises `InvalidInput` unless they have these types: another listing's cursor."""
    try:
        position = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        position = None
    has_types = isinstance(position, list) and [type(part) for part in position] == list(types)
    if not has_types or not all(map(_is_storable, position)):
        raise InvalidInput(
            "The cursor is not one of ours.",
            errors=(FieldError("cursor", "must be the nextCursor of an earlier answer"),),
        )
    return list(position)


def _is_storable(part: str | int) -> bool:
    """Databases take integers of at most 64 bits, and no lone surrogates (which are not printable)."""
    return part.isprintable() if isinstance(part, str) else -(2**63) <= part < 2**63
