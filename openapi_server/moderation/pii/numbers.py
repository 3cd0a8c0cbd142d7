"""Numbers that ring somewhere, and those that pay. All others (kilograms, years, rooms) are nobody's business."""

from __future__ import annotations

import re
from collections.abc import Iterator

_DIGIT_WORDS = "zero|oh|one|two|three|four|five|six|seven|eight|nine|double|triple"
_GAP = r"[ ./\-–]{0,3}"
_LOOKS_LIKE_ONE = re.compile(
    "|".join(
        (
            # +49 151 2345678, 0049 151 2345678
            rf"(?<![\w.,])(?:\+|00)[1-9](?:{_GAP}\(?\d\)?){{6,13}}(?!\w)",
            # 0151 2345678, 07700 900123, 030/1234567, (030) 1234567
            rf"(?<![\w.,])\(?0\d{{1,5}}\)?{_GAP}\d{{2,}}(?:{_GAP}\d{{2,}}){{0,4}}(?![\w,]|\.\d)",
            # (555) 123-4567, 555-123-4567, 555.123.4567, 1-800-555-0199
            r"(?<![\w.,])(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[.-]\d{4}(?!\w)",
            r"(?<![\w.,])(?:1[ .-])?\(\d{3}\) ?\d{3} \d{4}(?!\w)",
            r"(?<![\w.,])555[ -]\d{4}(?!\w)",
            rf"\b(?:(?:{_DIGIT_WORDS})[ ,-]+){{6,14}}(?:{_DIGIT_WORDS})\b",
        )
    ),
    re.I,
)
_IS_ABOUT_ONE = (
    r"(?:(?:phone|mobile|cell|telephone|tel|handy|whatsapp|home|contact|mum'?s|mom'?s|dad'?s|my|our)\.? ?(?:phone )?"
    r"(?:number|no\.?|nummer)|phone|mobile|telephone|handynummer|telefon|tel\.?|whatsapp|call (?:me|us|my \w+)"
    r"|text (?:me|us)|ring me|reach me|my number)"
)
_TOLD = re.compile(
    rf"\b{_IS_ABOUT_ONE}(?:'s| is| ist| on| at| under|:|,| unter)* ?(?P<it>\+?\(?\d(?:{_GAP}\(?\d\)?){{4,14}})(?!\w)"
    r"(?! ?(?:%|km|kg|years?|times|o'clock|minutes|hours|days))",
    re.I,
)
# Ten or eleven digits in one go, unless they count something or are what children type.
_COUNTABLE = r"(?:years?|ants?|stars?|k?m|kg|metres?|animals?|people|times|bees|cells)"
_LONG = re.compile(rf"(?<![\w.,+])[1-9]\d{{9,10}}(?![\w,]|\.\d)(?! {_COUNTABLE}\b)")
_COUNTED = re.compile(r"(?:0000|0?1234567|12345|98765)")
_DATE = re.compile(r"\d{1,2}[./-]\d{1,2}[./-](?:\d{2}|\d{4})|\d{4}[./-]\d{1,2}[./-]\d{1,2}")
_CARD = re.compile(r"(?<![\w.,])\d{4}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?!\w)")


def find_phone_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Where a phone number stands: by its shape, or by what is said of it."""
    for found in _TOLD.finditer(text):
        yield found.span("it")
    for found in _LOOKS_LIKE_ONE.finditer(text):
        if not _DATE.fullmatch(found[0]) and not _is_small(found[0]):
            yield found.span()
    for found in _LONG.finditer(text):
        if not _COUNTED.search(found[0]):
            yield found.span()


def find_card_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Where the number of a payment card stands. Its last digit proves it (ISO/IEC 7812-1, annex B)."""
    for found in _CARD.finditer(text):
        if _has_check_digit(re.sub(r"\D", "", found[0])):
            yield found.span()


def _is_small(shape: str) -> bool:
    """Numbers in words always are long enough; in digits, "0.5" or "007" rings nowhere."""
    digits = sum(map(str.isdigit, shape))
    return 0 < digits < 7


def _has_check_digit(digits: str) -> bool:
    doubled = [int(digit) * (2 - at % 2) for at, digit in enumerate(reversed(digits), 1)]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0
