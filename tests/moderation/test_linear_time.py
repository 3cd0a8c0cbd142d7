"""Whatever text comes from outside: moderation takes time linear in it, and little of it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from openapi_server.models.turn import AgeGroup
from openapi_server.moderation.normalize import list_variants, remove_padding
from tests.support.fakes import make_lion
from tests.support.report import Report
from tests.support.rules import load_input_rules, load_output_rules

INPUT_RULES, OUTPUT_RULES, LION = load_input_rules(), load_output_rules(), make_lion()
FUNCTIONS: dict[str, Callable[[str], object]] = {
    "mask": INPUT_RULES.mask_text,
    "input rules": lambda text: INPUT_RULES.find_matching_rules(text, LION, AgeGroup.ELEMENTARY),
    "output rules": lambda text: OUTPUT_RULES._find_category(text, OUTPUT_RULES._rules),
    "padding": remove_padding,
}
UNITS = [
    "0", "a", "A", "lion ", "Aa-", "a.", "@", "(0", "0 1-2/(3) ", "my number is 0 ", " ", "\n", "'\"",
    "a\u200b", "٣", "a\u0301",
    "0151 2345678, ", "mia.b@web.de ", "my name is Mia Doe. ", "12 Oak ", "i ", "%41", "\\u0041", "&amp;",
    "68 ", "🦁", "中", "Ä",
    "kill", "i g n o r e ", "1gn0r3 ", "aaab", "ignore all ", "doe is my ",
]  # fmt: skip
ALPHABETS = ["0123456789 -./()+", "01 -", "Aab -.'", "abcdefghijklm nop", "aA0 @.-_!?'\n\u200b\u0301٣ä"]


def measure_ms(function: Callable[[str], object], text: str) -> float:
    """The processor's time, for other tests run, too."""
    started_s = time.thread_time()
    function(text)
    return (time.thread_time() - started_s) * 1_000


def grows_linearly(function: Callable[[str], object], make_text: Callable[[int], str]) -> bool:
    """Four times the text takes four times as long, not sixteen times. A busy machine may try again."""
    for _ in range(4):
        short_ms = measure_ms(function, make_text(5_000))
        if measure_ms(function, make_text(20_000)) < 8 * short_ms + 15:
            return True
    return False


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("unit", UNITS)
def test_repeated_text_takes_linear_time(name: str, unit: str) -> None:
    """A character, a word, or a few signs of several classes, again and again."""
    assert grows_linearly(FUNCTIONS[name], lambda length: (unit * length)[:length])


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_mixed_text_takes_linear_time(name: str, alphabet: str) -> None:
    mixed = "".join(random.Random(1).choices(alphabet, k=20_000))  # noqa: S311 - a text, not a secret

    assert grows_linearly(FUNCTIONS[name], lambda length: mixed[:length])


@pytest.mark.parametrize(
    "text",
    [
        "0" * 100 + "a",
        "0" * 3_999 + "a",
        "my number is " + "0" * 260 + "x ",
        "Aa-" * 1_333 + "!",
        "a" * 3_999 + "@",
        "my school is called " + "a b " * 900,
        "12 Oak " * 570,
    ],
)
def test_texts_that_once_took_seconds(text: str, report: Report) -> None:
    """One message of a hundred characters took twenty seconds."""
    worst = {name: min(measure_ms(function, text) for _ in range(3)) for name, function in FUNCTIONS.items()}
    report(f"{text[:20]!r}, {len(text)} characters: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in worst.items()))

    assert max(worst.values()) < 150


def test_a_character_reference_without_end_is_text() -> None:
    """Python makes no number of more than 4,300 digits."""
    text = "&#" + "1" * 5_000 + ";"

    assert list_variants(text, INPUT_RULES._segmenter)[0] == text
