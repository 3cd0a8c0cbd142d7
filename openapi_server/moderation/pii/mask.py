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
from openapi_server.moderation.pii.names import find_surnames
from openapi_server.moderation.pii.numbers import find_card_numbers, find_phone_numbers


class PiiKind(StrEnum):
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


CONTACT_KINDS = frozenset({PiiKind.EMAIL, PiiKind.LINK, PiiKind.ACCOUNT, PiiKind.CARD, PiiKind.ADDRESS, PiiKind.PHONE})
"""What no animal's reply has either. A surname or a school in a reply may be anybody's."""


@dataclass(frozen=True, slots=True)
class MaskedText:
    """The text with what is personal replaced, and what that was: kinds, never the data."""

    text: str
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MaskPattern:
    """Something else to mask, as a rule names it: its category, what to look for, what to put there."""

    category: str
    pattern: re.Pattern[str]
    replacement: str


@dataclass(frozen=True, slots=True, order=True)
class _Match:
    start: int
    end: int
    kind: str
    replacement: str


_Spans = Iterator[tuple[int, int]]


def mask_text(text: str, kinds: Collection[PiiKind] = tuple(PiiKind), others: Sequence[MaskPattern] = ()) -> MaskedText:
    """Replace every piece of personal data by a word in brackets; all else stays as it is, to the character.

    >>> mask("My name is John Doe and I live at 12 Oak Street.").text
    'My name is John [surname] and I live at [address].'
    """
    seen, origins = _normalize_with_offsets(text)
    finds = sorted(_find_matches(seen, kinds, others))
    pieces, at = [], 0
    for find in finds:
        pieces += [text[at : origins[find.start]], find.replacement]
        at = origins[find.end - 1] + 1
    return MaskedText("".join([*pieces, text[at:]]), tuple(dict.fromkeys(find.kind for find in finds)))


def find_kinds(text: str, kinds: Collection[PiiKind] = CONTACT_KINDS) -> tuple[str, ...]:
    """Which kinds of personal data stand in the text."""
    return tuple(dict.fromkeys(find.kind for find in sorted(_find_matches(_normalize_with_offsets(text)[0], kinds))))


def remove_placeholders(text: str) -> str:
    """The text without the words that masks left: a search for "school" would find schools of fish.

    >>> without_masks("I go to [school]. What do you eat?")
    'I go to . What do you eat?'
    """
    return _PLACEHOLDER.sub("", text)


def _build_finder(*patterns: re.Pattern[str]) -> Callable[[str], _Spans]:
    """Finds what the patterns match, or the part of it whose group has a name."""

    def find(text: str) -> _Spans:
        for pattern in patterns:
            for found in pattern.finditer(text):
                name = next((name for name in pattern.groupindex if found[name]), 0)
                start, end = found.span(name)
                yield start + len(text[start:end]) - len(text[start:end].lstrip()), end

    return find


# Of two finds that overlap, the one that comes first here stays.
_FINDERS: tuple[tuple[PiiKind, Callable[[str], _Spans]], ...] = (
    (PiiKind.EMAIL, _build_finder(contacts.EMAIL)),
    (PiiKind.LINK, _build_finder(contacts.LINK)),
    (PiiKind.PASSWORD, _build_finder(contacts.PASSWORD)),
    (PiiKind.ACCOUNT, _build_finder(contacts.ACCOUNT)),
    (PiiKind.CARD, find_card_numbers),
    (PiiKind.ADDRESS, _build_finder(places.ADDRESS, places.TOLD_ADDRESS)),
    (PiiKind.PHONE, find_phone_numbers),
    (PiiKind.SCHOOL, _build_finder(places.TOLD_SCHOOL, places.IS_CALLED_BY_NAME, places.GOES_TO_SCHOOL, places.SCHOOL)),
    (PiiKind.SURNAME, find_surnames),
)
_PLACEHOLDER = re.compile("|".join(re.escape(kind.placeholder) for kind in PiiKind))


def _find_matches(text: str, kinds: Collection[PiiKind], others: Sequence[MaskPattern] = ()) -> list[_Match]:
    finds: list[_Match] = []
    for find in _find_candidates(text, kinds, others):
        if find.start < find.end and all(find.end <= other.start or other.end <= find.start for other in finds):
            finds.append(find)
    return finds


def _find_candidates(text: str, kinds: Collection[PiiKind], others: Sequence[MaskPattern]) -> Iterator[_Match]:
    for kind, finder in _FINDERS:
        if kind in kinds:
            yield from (_Match(start, end, kind.value, kind.placeholder) for start, end in sorted(finder(text)))
    for other in others:
        spans = (found.span() for found in other.pattern.finditer(text))
        yield from (_Match(start, end, other.category, other.replacement) for start, end in spans)


def _normalize_with_offsets(text: str) -> tuple[str, list[int]]:
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
