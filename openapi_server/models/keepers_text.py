"""What no text of a keeper may hold: characters that nobody sees, and placeholders that nothing fills in."""

from __future__ import annotations

import re
import unicodedata

from openapi_server import linear_regex

# Whatever needs a second look; most texts have none of it. Letters, marks and visible signs of all scripts are absent.
_SUSPECT = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2028-\u202e\u2060-\u206f"
    "\u3164\ud800-\udfff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    # The last two code points of each plane.
    "\U0001fffe\U0001ffff\U0002fffe\U0002ffff\U0003fffe\U0003ffff\U0004fffe\U0004ffff\U0005fffe\U0005ffff"
    "\U0006fffe\U0006ffff\U0007fffe\U0007ffff\U0008fffe\U0008ffff\U0009fffe\U0009ffff\U000afffe\U000affff"
    "\U000bfffe\U000bffff\U000cfffe\U000cffff\U000dfffe\U000dffff\U000efffe\U000effff\U000ffffe\U000fffff"
    "\U0010fffe\U0010ffff"
    "]"
)
_JOINERS = "\u200c\u200d"
# The scripts whose letters are joined or kept apart by these: Arabic and its neighbours, those of South and South-East
# Asia, Mongolian, Tibetan, Adlam. (CONTEXTJ of RFC 5892 is about the same.)
_JOINING_SCRIPT = re.compile(
    "[\u0600-\u109f\u1780-\u1aff\u1b00-\u1c7f\u1cd0-\u1cff\ua800-\ua82f\ua840-\uabff\ufb50-\ufdcf\ufdf0-\ufdff"
    "\ufe70-\ufefc\U00010a00-\U00010fff\U00011000-\U00011fff\U0001e900-\U0001e95f]"
)
# Those that are written without blanks: U+200B is where a line may end.
_SCRIPT_WITHOUT_BLANKS = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\uaa60-\uaadf]")
_MONGOLIAN = range(0x1800, 0x18B0)
# The flags of England, Scotland and Wales are spelt out in characters that are invisible elsewhere (UTS 51).
_FLAG = linear_regex.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")
_PLACEHOLDER = linear_regex.compile(
    r"[{}]|<%|%>|<\?|\?>|\$[A-Za-z_]|%\(\w|(?<!\S)%[sdr]\b|(?<!\d)%[A-Za-z_]\w{0,63}%|\[\[\w{1,64}\]\]|<<\w{1,64}>>"
)


def find_hidden_character(text: str) -> str | None:
    """The first character that nobody sees, as "U+202E RIGHT-TO-LEFT OVERRIDE"; None when there is none.

    These are control characters other than tab and line end, format characters, half surrogate pairs and code points
    that are no characters. What a script or an emoji is written with stays: joiners between letters of scripts that
    join, variation selectors, marks of direction (U+200E, U+200F, U+061C).

    >>> find_hidden_character("Roar\\u202e!"), find_hidden_character("می\\u200cخواهم 👩\\u200d🔬")
    ('U+202E RIGHT-TO-LEFT OVERRIDE', None)
    """
    if _SUSPECT.search(text) is None:
        return None
    text = _FLAG.sub("\U0001f3f4", text)
    for found in _SUSPECT.finditer(text):
        if not _belongs(text, found.start()):
            return f"U+{ord(found[0]):04X} {unicodedata.name(found[0], '')}".rstrip()
    return None


def find_placeholder(text: str, allowed: str = "") -> str | None:
    """The first sign of a placeholder, such as "{" or "%(n"; None when there is none but the allowed one.

    >>> find_placeholder("Hello{name}!", "{name}"), find_placeholder("Hello {0}!"), find_placeholder("I cost $5, 50 %.")
    (None, '{', None)
    """
    found = _PLACEHOLDER.search(text.replace(allowed, "") if allowed else text)
    return found[0] if found else None


def _belongs(text: str, at: int) -> bool:
    """Whether the suspect character is one with which its neighbours are written."""
    sign, before, after = text[at], text[at - 1 : at], text[at + 1 : at + 2]
    if not before or before in _JOINERS:
        return False
    if sign == "\r":
        return after == "\n"
    if sign in _JOINERS and _JOINING_SCRIPT.match(before):
        return True
    if sign == "\u200d":
        return _is_symbol(before) and _is_symbol(after)
    if sign == "\u200b":
        return bool(_SCRIPT_WITHOUT_BLANKS.match(before) and after)
    if "\u180b" <= sign <= "\u180f":
        return ord(before) in _MONGOLIAN and not "\u180b" <= before <= "\u180f"
    if "\ufe00" <= sign <= "\ufe0f" or "\U000e0100" <= sign <= "\U000e01ef":
        # One after a visible character; several in a row can carry a hidden text.
        return before.isprintable() and not before.isspace() and not _SUSPECT.match(before)
    return "\u115f" <= sign <= "\u1160" and _is_jamo(before + after)


def _is_symbol(sign: str) -> bool:
    """A pictograph, or what follows one: a skin tone, the selector of emoji."""
    return sign == "\ufe0f" or (sign != "" and unicodedata.category(sign).startswith("S"))


def _is_jamo(signs: str) -> bool:
    return any("\u1100" <= sign <= "\u11ff" for sign in signs)
