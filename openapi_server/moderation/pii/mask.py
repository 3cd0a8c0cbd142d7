"""Personal data that visitors volunteer, masked before anything is stored, logged or sent to a mind.

A first name stays, for the animal may use it. Towns stay, and so do people of whom nobody says that they know them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from openapi_server.moderation.pii import contacts, places
from openapi_server.moderation.pii.names import surnames
from openapi_server.moderation.pii.numbers import card_numbers, phone_numbers


class Kind(StrEnum):
    """What was masked. Its placeholder stands in the text then, readable for a child."""

    EMAIL = "e-mail address"
    LINK = "link"
    PASSWORD = "password"  # noqa: S105 - the word, not a password
    ACCOUNT = "account name"
    CARD = "card number"
    ADDRESS = "address"
    PHONE = "phone number"
    SCHOOL = "school"
    SURNAME = "surname"

    @property
    def placeholder(self) -> str:
        return f"[{self.value}]"


CONTACTS = frozenset({Kind.EMAIL, Kind.LINK, Kind.ACCOUNT, Kind.CARD, Kind.ADDRESS, Kind.PHONE})
"""What no animal's reply has either. A surname or a school in a reply may be anybody's."""


@dataclass(frozen=True, slots=True)
class Masked:
    """The text with what is personal replaced, and what that was: kinds, never the data."""

    text: str
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pattern:
    """Something else to mask, as a rule names it: its category, what to look for, what to put there."""

    category: str
    pattern: re.Pattern[str]
    replacement: str


@dataclass(frozen=True, slots=True, order=True)
class _Find:
    start: int
    end: int
    kind: str
    replacement: str


_Spans = Iterator[tuple[int, int]]


def mask(text: str, kinds: Collection[Kind] = tuple(Kind), others: Sequence[Pattern] = ()) -> Masked:
    """Replace every piece of personal data by a word in brackets; all else stays as it is, to the character.

    >>> mask("My name is John Doe and I live at 12 Oak Street.").text
    'My name is John [surname] and I live at [address].'
    """
    seen, origins = _aligned(text)
    finds = sorted(_found(seen, kinds, others))
    pieces, at = [], 0
    for find in finds:
        pieces += [text[at : origins[find.start]], find.replacement]
        at = origins[find.end - 1] + 1
    return Masked("".join([*pieces, text[at:]]), tuple(dict.fromkeys(find.kind for find in finds)))


def found_kinds(text: str, kinds: Collection[Kind] = CONTACTS) -> tuple[str, ...]:
    """Which kinds of personal data stand in the text."""
    return tuple(dict.fromkeys(find.kind for find in sorted(_found(_aligned(text)[0], kinds))))


def without_masks(text: str) -> str:
    """The text without the words that masks left: a search for "school" would find schools of fish.

    >>> without_masks("I go to [school]. What do you eat?")
    'I go to . What do you eat?'
    """
    return _PLACEHOLDER.sub("", text)


def _whole(*patterns: re.Pattern[str]) -> Callable[[str], _Spans]:
    """Finds what the patterns match, or the part of it whose group has a name."""

    def find(text: str) -> _Spans:
        for pattern in patterns:
            for found in pattern.finditer(text):
                name = next((name for name in pattern.groupindex if found[name]), 0)
                start, end = found.span(name)
                yield start + len(text[start:end]) - len(text[start:end].lstrip()), end

    return find


# Of two finds that overlap, the one that comes first here stays.
_FINDERS: tuple[tuple[Kind, Callable[[str], _Spans]], ...] = (
    (Kind.EMAIL, _whole(contacts.EMAIL)),
    (Kind.LINK, _whole(contacts.LINK)),
    (Kind.PASSWORD, _whole(contacts.PASSWORD)),
    (Kind.ACCOUNT, _whole(contacts.ACCOUNT)),
    (Kind.CARD, card_numbers),
    (Kind.ADDRESS, _whole(places.ADDRESS, places.TOLD_ADDRESS)),
    (Kind.PHONE, phone_numbers),
    (Kind.SCHOOL, _whole(places.TOLD_SCHOOL, places.IS_CALLED_BY_NAME, places.GOES_TO_SCHOOL, places.SCHOOL)),
    (Kind.SURNAME, surnames),
)
_PLACEHOLDER = re.compile("|".join(re.escape(kind.placeholder) for kind in Kind))


def _found(text: str, kinds: Collection[Kind], others: Sequence[Pattern] = ()) -> list[_Find]:
    finds: list[_Find] = []
    for find in _all(text, kinds, others):
        if find.start < find.end and all(find.end <= other.start or other.end <= find.start for other in finds):
            finds.append(find)
    return finds


def _all(text: str, kinds: Collection[Kind], others: Sequence[Pattern]) -> Iterator[_Find]:
    for kind, finder in _FINDERS:
        if kind in kinds:
            yield from (_Find(start, end, kind.value, kind.placeholder) for start, end in sorted(finder(text)))
    for other in others:
        spans = (found.span() for found in other.pattern.finditer(text))
        yield from (_Find(start, end, other.category, other.replacement) for start, end in spans)


def _aligned(text: str) -> tuple[str, list[int]]:
    """The text as it is seen, and for each of its letters the place in the text that it came from.

    Letter by letter, so that places can be told: wide letters become plain ones, invisible ones are left out.
    """
    seen: list[str] = []
    origins: list[int] = []
    for place, letter in enumerate(text):
        if letter.isascii():
            seen.append(letter)
            origins.append(place)
        elif unicodedata.category(letter) != "Cf":
            plain = unicodedata.normalize("NFKC", letter)
            seen.append(plain if len(plain) == 1 else letter)
            origins.append(place)
    return "".join(seen).replace("\u2019", "'"), origins
