"""One page of a listing, and its cursor: an opaque position that only this server reads."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Generic, TypeVar

from openapi_server.models.errors import FieldError, InvalidInput

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing; `next_cursor` is opaque and None on the last page."""

    items: tuple[T, ...]
    next_cursor: str | None = None


def encode_cursor(*place: str | int) -> str:
    """
    >>> decode_cursor(encode_cursor("2026-11-21", 7), str, int)
    ['2026-11-21', 7]
    """
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: type) -> list[str | int]:
    """The place a cursor marks. `InvalidInput` for anything that this server did not make."""
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        place = None
    is_ours = isinstance(place, list) and [type(part) for part in place] == list(kinds)
    if not is_ours or not all(map(_is_storable, place)):
        raise InvalidInput(
            "The cursor is not one of ours.",
            errors=(FieldError("cursor", "must be the nextCursor of an earlier answer"),),
        )
    return list(place)


def _is_storable(part: str | int) -> bool:
    """No store takes numbers beyond 64 bits, or half a surrogate pair (which is not printable either)."""
    return part.isprintable() if isinstance(part, str) else -(2**63) <= part < 2**63
