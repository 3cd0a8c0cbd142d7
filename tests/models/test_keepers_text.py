"""Keepers' texts: what nobody sees and what nothing fills in is found; honest text of any script stays."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.models.keepers_text import find_hidden_character, find_placeholder

HONEST = [
    "Roar!\r\nYes, I am \t a lion.",
    "Löwen schlafen bis zu 20 Stunden – “unglaublich”, oder? ½ °C, 5 €, A\u00a0B\u202fC",
    "cafe\u0301 n\u0303",
    "می\u200cخواهم شیر را ببینم",
    "مرحبا بكم في حديقة الحيوان\u061c!",
    "שלום\u200f! \u05e9\u05b8\u05c1לום",
    "क्\u200dष, नमस्ते, क्\u200cष",
    "ශ්\u200dරී ලංකා",
    "বাংলা, தமிழ், తెలుగు, ಕನ್ನಡ, മലയാളം\u200d",
    "ភាសា\u200bខ្មែរ",
    "ไทย\u200bไทย, ລາວ, မြန်မာ, བོད་ཡིག",
    "ᠠ\u180bᠡ",
    "葛\U000e0100城, 中文, 日本語, 한국어 ㄱ",
    "\u1112\u119e\u11ab \u115f\u1161",
    "👩\u200d👩\u200d👧\u200d👦 👩🏽\u200d🔬 ❤\ufe0f\u200d🔥 🐻\u200d❄\ufe0f 🙂\u200d↔\ufe0f 🏳\ufe0f\u200d🌈",
    "1\ufe0f\u20e3 ☀\ufe0e 🇩🇪",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "3 < 4 > 2 & $5, 50 %, 100% sure, 5%to6%, me & you, it's #1 (really) [laughs]",
]
HIDDEN = [
    "a\0b", "a\x07", "\x1b[31mred", "a\x7f", "a\rb", "a\x0bb", "a\x85b", "a\x9f", "ki\xadll",
    "a\u2028b", "a\u2029b", "\u2028", "Roar\u2028",
    "a\u202ab", "a\u202bb", "a\u202cb", "a\u202db", "a\u202eb", "a\u2066b\u2069", "a\u2067b", "a\u2068b",
    "\ufffe", "a\uffff", "\ufdd0", "\ufdef", "a\U0001fffe", "\U0010ffff",
    "\ud800", "\udfffx", "\udd81\ud83e",
    "\U000e0001", "a\U000e0041\U000e0042", "🏴\U000e0067", "🏴\U000e0067\U000e0062", "\U000e007f",
    "k\u200bill", "k\u200cill", "k\u200dill", "\u200dkill", "\ufeffRoar", "a\u2060b", "a\u2064b", "\u206aa",
    "می\u200c\u200cخ", "👩\u200d\u200d🔬", "👩\u200da", "a\u200d👩", "ไ\u200b",
    "a\ufe0f\ufe0e", "\ufe0fa", " \ufe0f", "😀\U000e0100\U000e0101\U000e0102", "a\u180eb", "a\u180bb",
    "\u3164", "\uffa0", "a\u115f", "a\u034fb", "\ufff9a\ufffbb", "\U000e0fff",
]  # fmt: skip
PLACEHOLDERS = [
    "{animal}", "{0}", "{}", "{{x}}", "${x}", "#{x}", "{% x %}", "{", "}", "$name", "${", "%(x)s", "%(name)05d",
    "<% x %>", "<%= x", "x %>", "<?php x ?>", "Hi %s!", "%d lions", "%name%", "[[name]]", "<<name>>",
]  # fmt: skip


@pytest.mark.parametrize("text", HONEST)
def test_honest_text_of_any_script_stays(text: str) -> None:
    """Joiners, selectors and marks of direction where scripts and emoji need them."""
    assert find_hidden_character(text) is None
    assert find_placeholder(text) is None


@pytest.mark.parametrize("text", HIDDEN, ids=ascii)
def test_what_nobody_sees_is_named(text: str) -> None:
    """By its number, which can be searched for."""
    found = find_hidden_character(text)

    assert found is not None
    assert any(found.startswith(f"U+{ord(sign):04X}") for sign in text)


@given(st.characters(categories=("Cc", "Cs", "Cf", "Zl", "Zp")))
def test_no_character_of_control_or_format_stands_between_latin_letters(sign: str) -> None:
    """But the tab, the line feed, marks of direction, and the visible ones, such as the Arabic number sign."""
    allowed = sign in "\t\n\u200e\u200f\u061c" or unicodedata.name(sign, "").split()[0:1] in (
        ["ARABIC"], ["SYRIAC"], ["KAITHI"], ["EGYPTIAN"],
    )  # fmt: skip
    assert (find_hidden_character(f"a{sign}b") is None) == allowed


def test_no_code_point_that_is_no_character_is_text() -> None:
    """The 66 noncharacters of Unicode."""
    noncharacters = [code for code in range(sys.maxunicode + 1) if code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF]

    assert len(noncharacters) == 66
    assert all(find_hidden_character(f"a{chr(code)}b") for code in noncharacters)


@pytest.mark.parametrize("text", PLACEHOLDERS)
def test_placeholders_of_any_template_are_found(text: str) -> None:
    """Nothing fills them in, so visitors would hear them."""
    assert find_placeholder(text)
    assert find_placeholder(f"Hello{{name}}, {text}", "{name}")


def test_a_known_placeholder_is_no_error() -> None:
    """Only as it is spelt."""
    assert find_placeholder("Hello{name}! {name}", "{name}") is None
    assert all(find_placeholder(text, "{name}") for text in ("{ name }", "{Name}", "{name", "{{name}}", "{name!r}"))
