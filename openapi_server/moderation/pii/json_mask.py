"""Personal data in an object that a client sent along: masked as in a message, wherever in it a text stands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

Mask = Callable[[str], str]

_NEW_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])|[_\W]+")
# What a phone number could be; told of a member that is none, it stays.
_ANY_NUMBER = "5550100"


def mask_json(text: str, mask: Mask) -> str:
    """The JSON text with every string in it masked, the names of members included.

    A member's name says what its value is, as a sentence would. A number is only masked for what its name says: most
    long ones are times.

    >>> masked_object('{"lastName":"Doe","kiosk":"north"}', lambda text: text.replace("name is Doe", "name is ?"))
    '{"lastName":"?","kiosk":"north"}'
    """
    return json.dumps(_mask_value(json.loads(text), "", cache(mask)), ensure_ascii=False, separators=(",", ":"))


def _mask_value(value: Any, name: str, mask: Mask) -> Any:
    match value:
        case dict():
            return {mask(key): _mask_value(member, key, mask) for key, member in value.items()}
        case list():
            return [_mask_value(member, name, mask) for member in value]
        case str():
            return _mask_in_sentence(value, name, mask)
        case int() | float() if (
            not isinstance(value, bool) and _mask_in_sentence(_ANY_NUMBER, name, mask) != _ANY_NUMBER
        ):
            return _mask_in_sentence(str(value), name, mask)
        case _:
            return value


def _mask_in_sentence(value: str, name: str, mask: Mask) -> str:
    """The value as it is left when the visitor says it: "my last name is Doe"."""
    before = f"my {_NEW_WORD.sub(' ', name).strip().lower()} is " if name else ""
    told = mask(before + value)
    return told.removeprefix(before) if told.startswith(before) else mask(value)
