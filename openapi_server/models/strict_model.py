"""Pydantic models of keepers' documents: unknown members are refused, and every error is a plain sentence.

What a document must be is said by types and `Field` limits, from which pydantic also makes a JSON schema: a test
compares it with the schema in `openapi.yaml`. `explain_refusal` says what to tell the keeper when a value is refused.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from openapi_server import linear_regex
from openapi_server.models.hidden_characters import find_hidden_character

_EXPLAINED = "explained"
_MESSAGES = {
    "missing": "is missing",
    "extra_forbidden": "is not a key of this format",
    "invalid_key": "is not a key of this format",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
}
# An unknown key may be as long as the file.
_MAX_KEY_CHARS = 100
# Parts of an error's place that are not keys of the document: pydantic's own, and the tags of unions.
_MARKS = ("[key]", "[name]", "[texts]")


class StrictModel(BaseModel):
    """A mapping of which every key is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def make_error(message: str, field: str = "") -> PydanticCustomError:
    """What a validator raises to refuse a value, in words that the keeper reads as they are.

    `field`: the member that is to be named, where a validator of a whole mapping raises it.
    """
    return PydanticCustomError(_EXPLAINED, "{message}", {"message": message, "field": field})


def explain_refusal(template: str) -> WrapValidator:
    """Say this when the type or a limit refuses a value, unless a validator has said more; `{value!r}` is the value."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            if error.errors()[0]["type"] == _EXPLAINED:
                raise
            raise make_error(template.format(value=_Quoted(value))) from None

    return WrapValidator(validate)


def explain_choice(choices: Iterable[str]) -> WrapValidator:
    """What to say of a value that is not one of the choices."""
    listed = ", ".join(choices)
    return explain_refusal(f"{{value!r}} is not one of: {listed}")


def quote_value(value: object) -> str:
    """The value as Python writes it, shortened: for messages that quote what the keeper wrote.

    >>> quote_value("lion"), quote_value(12), len(quote_value(["roar" * 500] * 1000)) < 300
    ("'lion'", '12', True)
    """
    return _QUOTES.repr(value)


_QUOTES = reprlib.Repr()
_QUOTES.maxstring = _QUOTES.maxother = _QUOTES.maxlong = 80
_QUOTES.maxlist = _QUOTES.maxdict = 3
_QUOTES.maxlevel = 2


class _Quoted:
    """For templates, where `{value!r}` is the value, shortened."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        return quote_value(self._value)


def clean_text(value: object, *, ignoring: str = "") -> str:
    """The text without blanks around it. Refuses what is no text, or blank without the part to ignore."""
    if not isinstance(value, str) or not value.replace(ignoring, "").strip():
        raise make_error(f"must be a text that is not empty, is {quote_value(value)}")
    return value.strip()


def require_readable(text: str, field: str = "") -> None:
    """Refuse characters that nobody sees: no store, stream or terminal carries all of them, and they hide words."""
    hidden = find_hidden_character(text)
    if hidden is not None:
        raise make_error(f"must not hold characters that nobody sees, holds {hidden}", field)


def require_one_line(text: str) -> None:
    """Refuse line breaks and tabs: in the middle of a sentence, or of a list, they are no part of what is said."""
    found = next((character for character in text if character in _LINE_BREAKS), None)
    if found is not None:
        raise make_error(f"must be one line without tabs, holds U+{ord(found):04X}")


_LINE_BREAKS = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029")


def require_no_placeholder(text: str, allowed: str = "") -> None:
    """Refuse what would be read out as it stands, for nothing fills it in. `allowed`: what something fills in."""
    found = find_placeholder(text, allowed)
    if found is not None:
        reason = f"the only placeholder is {allowed}" if allowed else "nothing is filled in here"
        raise make_error(f"{reason}: must not hold {found}")


def find_placeholder(text: str, allowed: str = "") -> str | None:
    """The first sign of a placeholder, such as "{" or "%(n"; None when there is none but the allowed one.

    >>> find_placeholder("Hello{name}!", "{name}"), find_placeholder("Hello {0}!"), find_placeholder("I cost $5, 50 %.")
    (None, '{', None)
    """
    found = _PLACEHOLDER.search(text.replace(allowed, "") if allowed else text)
    return found[0] if found else None


_PLACEHOLDER = linear_regex.compile(
    r"[{}]|<%|%>|<\?|\?>|\$[A-Za-z_]|%\(\w|(?<!\S)%[sdr]\b|(?<!\d)%[A-Za-z_]\w{0,63}%|\[\[\w{1,64}\]\]|<<\w{1,64}>>"
)


def require_list(max_items: int | None = None) -> BeforeValidator:
    """A list with an item at least. Texts, sets and mappings are no lists, though pydantic would read some as such."""

    def validate(value: object) -> object:
        if not isinstance(value, list) or not value:
            raise make_error("must be a list that is not empty")
        if max_items is not None and len(value) > max_items:
            raise make_error(f"must hold at most {max_items}, holds {len(value)}")
        return value

    return BeforeValidator(validate)


def require_few(max_items: int) -> BeforeValidator:
    """A mapping with at most so many members. Other values are refused by the type."""

    def validate(value: object) -> object:
        if isinstance(value, dict) and len(value) > max_items:
            raise make_error(f"must hold at most {max_items}, holds {len(value)}")
        return value

    return BeforeValidator(validate)


def list_errors(error: ValidationError) -> list[tuple[tuple[str | int, ...], str]]:
    """Where each error is, as keys and list indexes from the top of the document, and what is wrong there.

    Marks in a place that are no keys, such as pydantic's `[key]` and the tags of our unions, are left out.
    """
    errors = error.errors(include_url=False)
    # What is too short was refused by a validator of ours; pydantic says it again of lists whose items are all wrong.
    return [(_find_place(details), _describe(details)) for details in errors if details["type"] != "too_short"]


def format_place(place: Iterable[str | int]) -> str:
    """
    >>> format_place(("facts", 0, "asks", 2))
    'facts[0].asks[2]'
    """
    parts = (f"[{part}]" if isinstance(part, int) else f".{part[:_MAX_KEY_CHARS]}" for part in place if part != "")
    return "".join(parts).removeprefix(".")


def _describe(details: ErrorDetails) -> str:
    return _MESSAGES.get(details["type"], details["msg"])


def _find_place(details: ErrorDetails) -> tuple[str | int, ...]:
    place, field = details["loc"], details.get("ctx", {}).get("field")
    kept = [part for part in place if part not in _MARKS]
    if place[-1:] == ("[key]",) or details["type"] == "invalid_key":
        # The key itself is wrong: it may be a number, which is no index of a list.
        return (*kept[:-1], str(kept[-1]))
    return (*kept, field) if field else tuple(kept)
