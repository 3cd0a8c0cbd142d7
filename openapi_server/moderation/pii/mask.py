"""Personal data that visitors volunteer (PII), masked before anything is stored, logged or sent to a model.

A first name stays, for the animal may use it. Towns stay, and so do people of whom nobody says that they know them.
Numbers that are neither phone nor payment-card numbers (kilograms, years, rooms) stay, too.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from openapi_server.moderation.pii.names import find_surnames
from openapi_server.moderation.pii.patterns import EXPRESSIONS


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
"""What an animal's reply must not contain either. A surname or a school in a reply may be anybody's."""


@dataclass(frozen=True, slots=True)
class MaskedText:
    """The text with personal data replaced, and the kinds of that data, never the data."""

    text: str
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MaskPattern:
    """One more thing to mask, as a rule says it: its category, what to look for, what to put there."""

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
    """Replace every piece of personal data by its placeholder; all else stays as it is, to the character.

    >>> mask_text("My name is John Doe and I live at 12 Oak Street.").text
    'My name is John [surname] and I live at [address].'
    """
    plain, offsets = _normalize_with_offsets(text)
    matches = sorted(_find_matches(plain, kinds, others))
    pieces, at = [], 0
    for match in matches:
        pieces += [text[at : offsets[match.start]], match.replacement]
        at = offsets[match.end - 1] + 1
    return MaskedText("".join([*pieces, text[at:]]), tuple(dict.fromkeys(match.kind for match in matches)))


def find_kinds(text: str, kinds: Collection[PiiKind] = CONTACT_KINDS) -> tuple[str, ...]:
    """Which kinds of personal data are in the text."""
    matches = sorted(_find_matches(_normalize_with_offsets(text)[0], kinds))
    return tuple(dict.fromkeys(match.kind for match in matches))


def remove_placeholders(text: str) -> str:
    """The text without the placeholders of masked data: a search for "school" would find schools of fish.

    >>> remove_placeholders("I go to [school]. What do you eat?")
    'I go to . What do you eat?'
    """
    return _PLACEHOLDER.sub("", text)


# --- Finders: each yields where one kind of personal data stands, as (start, end)


def find_phone_numbers(text: str) -> _Spans:
    """Phone numbers, by their shape or by the words before them."""
    # Ours: phonenumbers' matcher, for three countries and "possible" numbers, finds 9 of our 10 formats and takes 24
    # of 896 harmless texts for numbers; with "valid" numbers it is 4 and 2 (ours: 10 and 0). It has 48 MB.
    yield from _find_patterns(text, "phone_number_told")
    for found in EXPRESSIONS["phone_number_shape"].finditer(text):
        if not EXPRESSIONS["date"].fullmatch(found[0]) and not _has_few_digits(found[0]):
            yield found.span()
    for found in EXPRESSIONS["long_number"].finditer(text):
        if not EXPRESSIONS["typed_digits"].search(found[0]):
            yield found.span()


def find_card_numbers(text: str) -> _Spans:
    """Payment-card numbers: 13 to 19 digits with a valid check digit."""
    for found in EXPRESSIONS["card_number"].finditer(text):
        if _has_valid_check_digit(re.sub(r"\D", "", found[0])):
            yield found.span()


def _has_few_digits(shape: str) -> bool:
    """True for "0.5" or "007". Numbers in words have no digits, and always are long enough."""
    digits = sum(map(str.isdigit, shape))
    return 0 < digits < 7


def _has_valid_check_digit(digits: str) -> bool:
    """The Luhn algorithm (ISO/IEC 7812-1, annex B)."""
    # Ours: python-stdnum gives the same results as these two lines at the same speed, but takes 40 ms to import.
    doubled = [int(digit) * (2 - at % 2) for at, digit in enumerate(reversed(digits), 1)]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0


def _find_patterns(text: str, *names: str) -> _Spans:
    """What the patterns match; where one has a group with a name, only that part."""
    for name in names:
        pattern = EXPRESSIONS[name]
        for found in pattern.finditer(text):
            group = next((group for group in pattern.groupindex if found[group]), 0)
            start, end = found.span(group)
            yield start + len(text[start:end]) - len(text[start:end].lstrip()), end


def _build_finder(*names: str) -> Callable[[str], _Spans]:
    return lambda text: _find_patterns(text, *names)


# Of two matches that overlap, the kind that stands first here stays.
_FINDERS: tuple[tuple[PiiKind, Callable[[str], _Spans]], ...] = (
    (PiiKind.EMAIL, _build_finder("email")),
    (PiiKind.LINK, _build_finder("link")),
    (PiiKind.PASSWORD, _build_finder("password")),
    (PiiKind.ACCOUNT, _build_finder("account")),
    (PiiKind.CARD, find_card_numbers),
    (PiiKind.ADDRESS, _build_finder("address", "address_told")),
    (PiiKind.PHONE, find_phone_numbers),
    (PiiKind.SCHOOL, _build_finder("school_told", "school_named", "school_attended", "school")),
    (PiiKind.SURNAME, find_surnames),
)
_PLACEHOLDER = re.compile("|".join(re.escape(kind.placeholder) for kind in PiiKind))


def _find_matches(text: str, kinds: Collection[PiiKind], others: Sequence[MaskPattern] = ()) -> list[_Match]:
    matches: list[_Match] = []
    for candidate in _find_candidates(text, kinds, others):
        is_free = all(candidate.end <= match.start or match.end <= candidate.start for match in matches)
        if candidate.start < candidate.end and is_free:
            matches.append(candidate)
    return matches


def _find_candidates(text: str, kinds: Collection[PiiKind], others: Sequence[MaskPattern]) -> Iterator[_Match]:
    for kind, find in _FINDERS:
        if kind in kinds:
            yield from (_Match(start, end, kind.value, kind.placeholder) for start, end in sorted(find(text)))
    for other in others:
        spans = (found.span() for found in other.pattern.finditer(text))
        yield from (_Match(start, end, other.category, other.replacement) for start, end in spans)


def _normalize_with_offsets(text: str) -> tuple[str, list[int]]:
    """The text with compatibility characters as plain ones (NFKC) and without invisible ones, and where each was.

    Character by character, so that each of the result has its place in the text.
    """
    plain: list[str] = []
    offsets: list[int] = []
    for at, character in enumerate(text):
        if character.isascii():
            plain.append(character)
            offsets.append(at)
        elif unicodedata.category(character) != "Cf":
            normalized = unicodedata.normalize("NFKC", character)
            plain.append(normalized if len(normalized) == 1 else character)
            offsets.append(at)
    return "".join(plain).replace("\u2019", "'"), offsets


# --- JSON

_NAME_PARTS = re.compile(r"(?<=[a-z])(?=[A-Z])|[_\W]+")
# As the value of a member that is about phone numbers, this is masked; as another's, it stays.
_SAMPLE_PHONE_NUMBER = "5550100"


def mask_json(text: str, mask: Callable[[str], str]) -> str:
    """The JSON text with every string in it masked, the names of members included.

    A member's name says what its value is, as a sentence does: {"lastName": "Doe"} is read as "my last name is Doe".
    A number is masked only because of its member's name: most long numbers are times.

    >>> mask_json('{"lastName":"Doe","kiosk":"north"}', lambda text: text.replace("name is Doe", "name is ?"))
    '{"lastName":"?","kiosk":"north"}'
    """
    return json.dumps(_mask_value(json.loads(text), "", cache(mask)), ensure_ascii=False, separators=(",", ":"))


def _mask_value(value: Any, name: str, mask: Callable[[str], str]) -> Any:
    match value:
        case dict():
            return {mask(key): _mask_value(member, key, mask) for key, member in value.items()}
        case list():
            return [_mask_value(member, name, mask) for member in value]
        case str():
            return _mask_member(value, name, mask)
        case int() | float() if not isinstance(value, bool) and _is_about_phone_numbers(name, mask):
            return _mask_member(str(value), name, mask)
        case _:
            return value


def _is_about_phone_numbers(name: str, mask: Callable[[str], str]) -> bool:
    return _mask_member(_SAMPLE_PHONE_NUMBER, name, mask) != _SAMPLE_PHONE_NUMBER


def _mask_member(value: str, name: str, mask: Callable[[str], str]) -> str:
    """What masking leaves of the value behind "my last name is "."""
    before = f"my {_NAME_PARTS.sub(' ', name).strip().lower()} is " if name else ""
    masked = mask(before + value)
    return masked.removeprefix(before) if masked.startswith(before) else mask(value)
