"""Hidden characters: what nobody sees is found and removed; honest text of any script stays, however it is cut."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.models.control_characters import remove_control_characters
from openapi_server.models.hidden_characters import HiddenCharacterRemover, find_hidden_character

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


@pytest.mark.parametrize("text", HONEST)
def test_honest_text_of_any_script_stays(text: str) -> None:
    """Joiners, selectors and marks of direction where scripts and emoji need them."""
    assert find_hidden_character(text) is None


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


def remove(text: str, sizes: list[int]) -> str:
    """The text, fed in pieces of those sizes, and the rest at once."""
    remover, visible, at = HiddenCharacterRemover(), "", 0
    for size in sizes:
        visible += remover.feed(text[at : at + size])
        at += size
    return visible + remover.feed(text[at:]) + remover.finish()


REMOVED = [
    ("Roar\u202e!\u202c \u2066I\u2069", "Roar! I"),
    ("\ufeffk\u200bi\u2060l\u2064l\xad", "kill"),
    ("k\u200di\u200cl\ufe0fl\U000e0100", "kill"),
    ("é\ufe0fж\ufe0f 1\ufe0f\ufe0e\u20e3", "éж 1\ufe0f\u20e3"),
    ("one\u2028two\u2029three", "one\ntwo\nthree"),
    ("\u2028", "\n"),
    ("a\U000e0041\U000e0042b", "ab"),
    ("🏴\U000e0067\U000e0062 🏴\U000e007f", "🏴 🏴"),
    ("🏴" + "\U000e0067" * 7 + "\U000e007f!", "🏴!"),
    ("🏴\u200b\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "🏴"),
    ("🏴\u200d☠\ufe0f", "🏴\u200d☠\ufe0f"),
    ("👩\u200d\u200d🔬 👩\u200d", "👩\u200d🔬 👩"),
    ("👩\u200d\ufe0f\u200d", "👩\ufe0f"),
    ("می\u200c\u200cخ", "می\u200cخ"),
    ("ไ\u200b\u202e", "ไ"),
    ("a\u115f\u1160b", "ab"),
    ("😀\U000e0100\U000e0101\U000e0102", "😀\U000e0100"),
    ("a\ufffe\uffff\U0010ffffb", "ab"),
]


@pytest.mark.parametrize(("text", "visible"), [*REMOVED, *((text.replace("\r", ""),) * 2 for text in HONEST)])
def test_what_nobody_sees_is_removed(text: str, visible: str) -> None:
    """Whole, and character by character; text of any script stays as it is."""
    assert remove(text, []) == visible
    assert remove(text, [1] * len(text)) == visible


MIXTURE = st.lists(
    st.sampled_from([*"aé 1\n", "👩", "🔬", "🏴", "ไ", "می", "ക", "ᠠ", "\u1112", *HIDDEN])
    | st.sampled_from([*"\u200b\u200c\u200d\ufe0f\u180b\u115f\u202e\u2028", *map(chr, range(0xE0061, 0xE0080))])
    | st.characters(exclude_categories=["Cs"]),
    max_size=20,
).map("".join)


@given(text=MIXTURE.map(lambda text: text.encode(errors="ignore").decode()), sizes=st.lists(st.integers(0, 5)))
def test_nothing_hidden_is_left_however_the_text_is_cut(text: str, sizes: list[int]) -> None:
    """And what is left stays, for it is removed again on its way."""
    visible = remove(text, [])

    assert find_hidden_character(visible) is None
    assert remove(text, sizes) == remove(text, [1] * len(text)) == remove(visible, []) == visible


@given(text=st.text(st.characters(categories=("L", "N", "P", "Zs")), max_size=50))
def test_no_visible_character_is_removed(text: str) -> None:
    """Of letters, digits, signs and blanks all are left, but those that look like nothing."""
    assert [*remove(text, [])] == [sign for sign in text if find_hidden_character(f"x{sign}") is None]


@given(st.text(st.characters(categories=["Cc", "L", "Zs"])))
def test_control_characters_are_removed_wherever_they_stand(text: str) -> None:
    """All but the tab and the line feed."""
    kept = (sign for sign in text if sign in "\t\n" or unicodedata.category(sign) != "Cc")
    assert remove_control_characters(text) == "".join(kept)
