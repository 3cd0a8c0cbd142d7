"""Personal data that visitors volunteer (PII), masked before anything is stored, logged or sent to a model.

First names stay, because the animal may use them. Towns stay, and so do names of people whom the visitor does not
claim to know.
Numbers that are neither phone nor payment-card numbers (kilograms, years, rooms) stay, too.
The patterns are in pii.yaml.
"""

from __future__ import annotations

import json
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from openapi_server import linear_regex
from openapi_server.linear_regex import Pattern, Prefilter, PreparedText
from openapi_server.models.hidden_characters import is_invisible
from openapi_server.yaml_files import load_patterns

# --- The patterns of pii.yaml


def _join(patterns: list[str]) -> str:
    """One expression that matches any of the patterns. Group names must be unique, so each `it` gets a number."""
    return "|".join(pattern.replace("(?P<it>", f"(?P<it{number}>") for number, pattern in enumerate(patterns))


def _load() -> tuple[dict[str, Pattern], dict[str, frozenset[str]]]:
    content: dict[str, Any] = load_patterns(Path(__file__).with_name("pii.yaml"))
    sources = {name: (_join(patterns), linear_regex.IGNORECASE) for name, patterns in content["ignoring_case"].items()}
    sources |= {name: (_join(patterns), 0) for name, patterns in content["case_sensitive"].items()}
    words = {name: frozenset(" ".join(lines).split()) for name, lines in content["words"].items()}
    return linear_regex.compile_all(sources), words


_EXPRESSIONS, _WORDS = _load()


def prepare_patterns() -> None:
    """What the first text would wait for."""
    _PREFILTER.prepare()


# --- Masking


class PiiKind(StrEnum):
    """A kind of personal data. Its placeholder, which replaces the data, is readable for a child."""

    EMAIL = "e-mail address"
    LINK = "link"
    PASSWORD = "password"  # noqa: S105 - the word, not a password
    ACCOUNT = "account name"
    BANK = "bank account"
    IDENTITY = "identity number"
    CARD = "card number"
    ADDRESS = "address"
    PHONE = "phone number"
    SCHOOL = "school"
    SURNAME = "surname"

    @property
    def placeholder(self) -> str:
        return f"[{self.value}]"


CONTACT_KINDS = frozenset(PiiKind) - {PiiKind.PASSWORD, PiiKind.SCHOOL, PiiKind.SURNAME}
"""What a reply must not contain either. Surnames and schools may be in replies: they may be public."""


@dataclass(frozen=True, slots=True)
class MaskedText:
    """The text with personal data replaced by placeholders, and the kinds of data that were found."""

    text: str
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MaskPattern:
    """Personal data that a rule of the zoo defines: its category, the pattern, and what replaces it."""

    category: str
    pattern: Pattern
    replacement: str


@dataclass(frozen=True, slots=True, order=True)
class _PiiMatch:
    start: int
    end: int
    kind: str
    replacement: str


_Spans = Iterator[tuple[int, int]]

# As much of the text before a number is read to see what the number is of.
_MAX_NUMBERED_CHARS = 40
# That of Norway.
_MIN_IBAN_CHARS = 15


def mask_text(text: str, kinds: Collection[PiiKind] = tuple(PiiKind), others: Sequence[MaskPattern] = ()) -> MaskedText:
    """Replace every piece of personal data by its placeholder; all other characters stay as they are.

    >>> mask_text("My name is John Doe and I live at 12 Oak Street.").text
    'My name is John [surname] and I live at [address].'
    """
    plain, offsets = _normalize_with_offsets(text)
    matches = _find_matches(plain, kinds, others)
    pieces, at = [], 0
    for match in matches:
        pieces += [text[at : offsets[match.start]], match.replacement]
        at = offsets[match.end - 1] + 1
    return MaskedText("".join([*pieces, text[at:]]), tuple(dict.fromkeys(match.kind for match in matches)))


def find_kinds(text: str, kinds: Collection[PiiKind] = CONTACT_KINDS) -> tuple[str, ...]:
    """The kinds of personal data in the text, in the order in which they occur."""
    matches = _find_matches(_normalize_with_offsets(text)[0], kinds)
    return tuple(dict.fromkeys(match.kind for match in matches))


def remove_placeholders(text: str) -> str:
    """The text without the placeholders of masked data: a search for "school" would find schools of fish.

    >>> remove_placeholders("I go to [school]. What do you eat?")
    'I go to . What do you eat?'
    """
    return _PLACEHOLDER.sub("", text)


# --- Finders: each yields the (start, end) of every occurrence of one kind of personal data


def find_phone_numbers(text: str) -> _Spans:
    """Phone numbers, recognized by their shape or by the words before them."""
    # Not the library phonenumbers: for three countries and "possible" numbers, it finds 9 of our 10 formats and takes
    # 24 of 896 harmless texts for numbers; with "valid" numbers 4 and 2 (ours: 10 and 0). It needs 48 MB.
    yield from _find_patterns(text, "phone_number_stated")
    for found in _EXPRESSIONS["phone_number_shape"].finditer(text):
        if not _EXPRESSIONS["date"].fullmatch(found[0]) and not _has_few_digits(found[0]):
            yield found.span()
    for found in _EXPRESSIONS["long_number"].finditer(text):
        before = text[max(0, found.start() - _MAX_NUMBERED_CHARS) : found.start()]
        is_numbered = _EXPRESSIONS["numbered_thing"].search(before)
        if not is_numbered and not _EXPRESSIONS["typed_digits"].search(found[0]):
            yield found.span()


def find_card_numbers(text: str) -> _Spans:
    """Payment-card numbers: 13 to 19 digits with a valid check digit, which begin as those of a bank do.

    Times in milliseconds, and dates with a time, have as many digits, and each tenth of them a valid check digit.
    """
    for found in _EXPRESSIONS["card_number"].finditer(text):
        digits = "".join(filter(str.isdecimal, found[0]))
        if _EXPRESSIONS["issuer"].match(digits) and _has_valid_check_digit(digits):
            yield found.span()


def find_bank_accounts(text: str) -> _Spans:
    """International bank account numbers (IBAN) with valid check digits. A word in capitals may stand behind one."""
    for found in _EXPRESSIONS["iban"].finditer(text):
        start, end = found.span()
        while end - start >= _MIN_IBAN_CHARS:
            if _has_valid_iban_digits(text[start:end].replace(" ", "").upper()):
                yield start, end
                break
            end = text.rfind(" ", start, end)


def _has_valid_iban_digits(iban: str) -> bool:
    """The check of ISO 13616, by MOD 97-10 of ISO/IEC 7064."""
    # To a pattern, U+0130 is an "i".
    return iban.isascii() and int("".join(str(int(each, 36)) for each in iban[4:] + iban[:4])) % 97 == 1


def _has_few_digits(shape: str) -> bool:
    """True for "0.5" and "007". A number in words has no digits; the pattern makes sure that it is long enough."""
    digits = sum(map(str.isdigit, shape))
    return 0 < digits < 7


def _has_valid_check_digit(digits: str) -> bool:
    """The Luhn algorithm (ISO/IEC 7812-1, annex B)."""
    # Not python-stdnum: it gives the same results at the same speed, but takes 40 ms to import.
    doubled = [int(digit) * (2 - at % 2) for at, digit in enumerate(reversed(digits), 1)]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0


def _find_patterns(text: str, *names: str) -> _Spans:
    for name in names:
        yield from _find_spans(text, _EXPRESSIONS[name])


def _find_spans(text: str, pattern: Pattern) -> _Spans:
    """The matches of a pattern; of one with a named group, only what the group matches."""
    for found in pattern.finditer(text):
        group = next((group for group in pattern.groupindex if found[group]), 0)
        start, end = found.span(group)
        yield start + len(text[start:end]) - len(text[start:end].lstrip()), start + len(text[start:end].rstrip())


def _build_finder(*names: str) -> tuple[Callable[[str], _Spans], frozenset[str]]:
    return lambda text: _find_patterns(text, *names), frozenset(names)


# --- Surnames. The first name stays; the words after it that can be a surname are found.

# An initial keeps its full stop; a longer word's full stop ends the sentence.
_WORD = linear_regex.compile(r"[^\W\d_]\.(?= )|st\.(?= )|[^\W\d_](?:[\w'’-]*\w)?", linear_regex.IGNORECASE)
_NOT_SURNAMES = _WORDS["not_surnames"]
_NOT_FIRST_NAMES = _WORDS["not_first_names"] | _NOT_SURNAMES
_MAX_WORDS = 4


# The expressions behind which a surname stands, or a first name with one.
_BEFORE_SURNAMES = ("surname_after_title", "surname_stated")
_BEFORE_FIRST_NAMES = ("name_introduced", "name_of_relative")
_BEFORE_NAMES = ("name_stated", *_BEFORE_FIRST_NAMES, *_BEFORE_SURNAMES)


def find_surnames(text: str) -> Iterator[tuple[int, int]]:
    """The (start, end) of each surname; middle names are part of it."""
    for found in _EXPRESSIONS["name_stated"].finditer(text):
        yield from _find_after_first_name(text, found.end(), is_surely_a_name=True)
    for name in _BEFORE_FIRST_NAMES:
        for found in _EXPRESSIONS[name].finditer(text):
            yield from _find_after_first_name(text, found.end(), is_surely_a_name=False)
    for name in _BEFORE_SURNAMES:
        for found in _EXPRESSIONS[name].finditer(text):
            yield from _find_name_words(text, found.end(), needs_capitals=False)


def _find_after_first_name(text: str, at: int, *, is_surely_a_name: bool) -> Iterator[tuple[int, int]]:
    first = _WORD.match(text, at)
    if first is None or first[0].casefold() in _NOT_FIRST_NAMES or first[0].endswith("."):
        return
    has_capital = first[0][0].isupper()
    if not is_surely_a_name and (not has_capital or first[0].isupper()):
        return
    if text[first.end() : first.end() + 1] == " ":
        yield from _find_name_words(text, first.end() + 1, needs_capitals=has_capital and not first[0].isupper())


def _find_name_words(text: str, at: int, *, needs_capitals: bool) -> Iterator[tuple[int, int]]:
    """The words from `at` that can be a surname. Without capitals to go by: one word, and particles before it."""
    start, end = at, at
    for _ in range(_MAX_WORDS):
        word = _WORD.match(text, at)
        if word is None or word[0].casefold() in _NOT_SURNAMES:
            break
        is_particle = _EXPRESSIONS["name_particle"].fullmatch(word[0]) is not None
        if needs_capitals and not is_particle and not word[0][0].isupper():
            break
        end = end if is_particle else word.end()
        at = word.end() + 1
        is_last = not needs_capitals and not is_particle and not word[0].endswith(".")
        if is_last or text[word.end() : at] != " ":
            break
    if end > start:
        yield start, end


# --- Matches of all kinds

# The order is the priority: of two matches that overlap, the one of the earlier kind counts. With the names of the
# expressions of which one matches in each text where the finder finds something.
_FINDERS: tuple[tuple[PiiKind, Callable[[str], _Spans], frozenset[str]], ...] = (
    (PiiKind.EMAIL, *_build_finder("email")),
    (PiiKind.LINK, *_build_finder("link")),
    (PiiKind.PASSWORD, *_build_finder("password")),
    (PiiKind.ACCOUNT, *_build_finder("account")),
    (PiiKind.BANK, find_bank_accounts, frozenset({"iban"})),
    (PiiKind.IDENTITY, *_build_finder("social_security_number")),
    (PiiKind.CARD, find_card_numbers, frozenset({"card_number"})),
    (PiiKind.ADDRESS, *_build_finder("address", "address_stated")),
    (PiiKind.PHONE, find_phone_numbers, frozenset({"phone_number_stated", "phone_number_shape", "long_number"})),
    (PiiKind.SCHOOL, *_build_finder("school_stated", "school_named", "school_attended", "school")),
    (PiiKind.SURNAME, find_surnames, frozenset(_BEFORE_NAMES)),
)
_SEARCHED = tuple(sorted(name for _, _, names in _FINDERS for name in names))
_PREFILTER = Prefilter(_EXPRESSIONS[name] for name in _SEARCHED)
_PLACEHOLDER = linear_regex.compile("|".join(linear_regex.escape(kind.placeholder) for kind in PiiKind))


def _find_matches(text: str, kinds: Collection[PiiKind], others: Sequence[MaskPattern] = ()) -> list[_PiiMatch]:
    """The matches in their order in the text; none overlaps another."""
    matches: list[_PiiMatch] = []
    starts: list[int] = []
    for candidate in _find_candidates(text, kinds, others):
        at = bisect_left(starts, candidate.start)
        is_free = (at == 0 or matches[at - 1].end <= candidate.start) and (
            at == len(matches) or candidate.end <= starts[at]
        )
        if candidate.start < candidate.end and is_free:
            matches.insert(at, candidate)
            starts.insert(at, candidate.start)
    return matches


def _find_candidates(text: str, kinds: Collection[PiiKind], others: Sequence[MaskPattern]) -> Iterator[_PiiMatch]:
    possible = {_SEARCHED[number] for number in _PREFILTER.list_candidates(text)}
    for kind, find, names in _FINDERS:
        if kind in kinds and not possible.isdisjoint(names):
            yield from (_PiiMatch(start, end, kind.value, kind.placeholder) for start, end in sorted(find(text)))
    for other in others:
        spans = _find_spans(text, other.pattern)
        yield from (_PiiMatch(start, end, other.category, other.replacement) for start, end in spans)


# What ASCII text has to be normalized for: white space that is no single blank, and marks around digits.
_IS_UNEVEN = re.compile(r"""[^\S ]|  |["'`*][+(]?\d|\d["'`*]""")
# A run of marks before a number, or behind one.
_RUN_OF_MARKS = re.compile(
    r"""(?<![^\s(:=\[])["'`*]{3}(?=[+(]?\d)|(?<![^\s(:=\[])["'`*]{2}(?=[+(]?\d)|(?<![^\s(:=\[])["'`*](?=[+(]?\d)"""
    r"""|(?<=\d)["'`*]{3}(?!\w)|(?<=\d)["'`*]{2}(?!\w)|(?<=\d)["'`*](?!\w)"""
)
_QUOTES = dict.fromkeys("\u2018\u2019\u201a", "'") | dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"')
# U+2010, which is also the NFKC form of U+2011, is a hyphen everywhere; these may part sentences.
_DASH = re.compile(r"(?<=[\d)])( ?)[\u2012-\u2014\u2212]|[\u2012-\u2014\u2212](?= ?[\d(])")


def _normalize_with_offsets(text: str) -> tuple[PreparedText, Sequence[int]]:
    """The text as masks read it, and the offset of each remaining character in the original.

    In NFKC and without invisible characters; a run of white space is one blank, digits of all scripts are ASCII, dashes
    beside digits are hyphens, and quotation marks, asterisks and backticks around digits are left out. Normalized
    character by character; one whose NFKC form is longer than one character stays as it is.
    """
    if text.isascii() and not _IS_UNEVEN.search(text):
        return PreparedText(text), range(len(text))
    known: dict[str, str] = {}
    plain: list[str] = []
    offsets: list[int] = []
    last = ""
    for at, character in enumerate(text):
        normalized = known.get(character)
        if normalized is None:
            normalized = known[character] = _normalize_character(character)
        if normalized and not normalized == last == " ":
            plain.append(normalized)
            offsets.append(at)
            last = normalized
    # A blank at the end would stand between a pattern and the end of the text.
    joined = "".join(plain).rstrip()
    return _leave_out_marks(_DASH.sub(r"\1-", joined), offsets)


def _leave_out_marks(plain: str, offsets: list[int]) -> tuple[PreparedText, Sequence[int]]:
    """The text without the marks around numbers, and the offset of each character that is left."""
    marked = {at for found in _RUN_OF_MARKS.finditer(plain) for at in range(*found.span())}
    if not marked:
        return PreparedText(plain), offsets
    kept = [at for at in range(len(plain)) if at not in marked]
    return PreparedText("".join([plain[at] for at in kept])), [offsets[at] for at in kept]


def _normalize_character(character: str) -> str:
    if not character.isascii() and is_invisible(character):
        return ""
    normalized = unicodedata.normalize("NFKC", character)
    normalized = normalized if len(normalized) == 1 else character
    if normalized.isspace():
        return " "
    if normalized.isdecimal():
        return str(unicodedata.decimal(normalized))
    return "-" if normalized == "\u2010" else _QUOTES.get(normalized, normalized)


# --- JSON

_NAME_PARTS = linear_regex.compile(r"(?<=[a-z])(?=[A-Z])|[_\W]+")
# Masked only behind the name of a member whose value is a phone number ("mobile").
_SAMPLE_PHONE_NUMBER = "5550100"


def mask_json(text: str, mask: Callable[[str], str]) -> str:
    """The JSON text with every string in it masked, names of members included.

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
    """Masks the value as part of a sentence such as "my last name is Doe"."""
    before = f"my {_NAME_PARTS.sub(' ', name).strip().lower()} is " if name else ""
    masked = mask(before + value)
    return masked.removeprefix(before) if masked.startswith(before) else mask(value)
