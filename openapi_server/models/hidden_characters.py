"""Characters that nobody sees: keepers' texts with one are refused, and from what a model says they are removed.

These are control characters other than tab and line end, format characters, half surrogate pairs and code points that
are no characters. What a script or an emoji is written with is not hidden: joiners between letters of scripts that
join, variation selectors, marks of direction (U+200E, U+200F, U+061C).
"""

from __future__ import annotations

import re
import unicodedata

from openapi_server import linear_regex
from openapi_server.models.control_characters import remove_control_characters

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
_JUDGED_BY_NEXT = ("\u115f", "\u1160", "\u200b", "\u200d")
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
_BLACK_FLAG = "\U0001f3f4"
_FLAG = linear_regex.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")
_FLAG_END = "\U000e007f"
_FLAG_LETTERS = re.compile("[\U000e0030-\U000e0039\U000e0061-\U000e007a]*")
_MAX_FLAG_LETTERS = 6
_SURROGATES = range(0xD800, 0xE000)
_LINE_SEPARATORS = re.compile("[\u2028\u2029]")


def find_hidden_character(text: str) -> str | None:
    """The first character that nobody sees, as "U+202E RIGHT-TO-LEFT OVERRIDE"; None when there is none.

    >>> find_hidden_character("Roar\\u202e!"), find_hidden_character("می\\u200cخواهم 👩\\u200d🔬")
    ('U+202E RIGHT-TO-LEFT OVERRIDE', None)
    """
    if _SUSPECT.search(text) is None:
        return None
    text = _FLAG.sub(_BLACK_FLAG, text)
    for found in _SUSPECT.finditer(text):
        at = found.start()
        if not _belongs(text[at - 1 : at], found[0], text[at + 1 : at + 2]):
            return f"U+{ord(found[0]):04X} {unicodedata.name(found[0], '')}".rstrip()
    return None


def is_invisible(sign: str) -> bool:
    """Whether nobody sees the character by itself, though a script or an emoji may be written with it. Blanks are seen.

    >>> is_invisible("\ufe0f"), is_invisible("\u200f"), is_invisible("\u2028"), is_invisible("\u0301")
    (True, True, False, False)
    """
    is_ignored = _SUSPECT.match(sign) is not None or unicodedata.category(sign) == "Cf"
    return is_ignored and not sign.isspace()


def is_blank(text: str) -> bool:
    """Whether nothing of the text can be seen.

    >>> is_blank(" \u200b\\n"), is_blank("\u200b.")
    (True, False)
    """
    return all(sign.isspace() or is_invisible(sign) for sign in text)


def remove_hidden_characters(text: str) -> str:
    """The text without the characters that nobody sees. Line separators become line feeds."""
    remover = HiddenCharacterRemover()
    return remover.feed(text) + remover.finish()


class HiddenCharacterRemover:
    """As `remove_hidden_characters`, for a text that comes in pieces.

    The same text gives the same result however it is cut. Only what depends on the next characters waits for them: a
    joiner, and the beginning of a flag. Half surrogate pairs stay, for their other half may come.

    >>> remover = HiddenCharacterRemover()
    >>> remover.feed("Ro\\u202ear! 👩\\u200d"), remover.feed("🔬\\u200d"), remover.finish()
    ('Roar! 👩', '\\u200d🔬', '')
    """

    def __init__(self) -> None:
        self._before = ""
        self._waiting = ""

    def feed(self, text: str) -> str:
        if not self._waiting and text.isascii() and text.isprintable():
            # Most pieces: all in them is seen, and nothing depends on what comes next.
            self._before = text[-1:] or self._before
            return text
        text = self._waiting + remove_control_characters(text)
        self._waiting = ""
        if not text.isascii():
            text = _LINE_SEPARATORS.sub("\n", text)
            end = _find_undecided_end(text)
            text, self._waiting = text[:end], text[end:]
        return self._remove(text)

    def finish(self) -> str:
        text, self._waiting = self._waiting, ""
        return self._remove(text)

    def _remove(self, text: str) -> str:
        if not text.isascii() and _SUSPECT.search(text):
            text = "".join(self._list_visible(text))
        self._before = _BLACK_FLAG if text.endswith(_FLAG_END) else text[-1:] or self._before
        return text

    def _list_visible(self, text: str) -> list[str]:
        kept: list[str] = []
        before, at = self._before, 0
        while found := _SUSPECT.search(text, at):
            start = found.start()
            kept.append(text[at:start])
            before = text[start - 1] if start > at else before
            flag = _FLAG.match(text, start - 1) if start > at and before == _BLACK_FLAG else None
            at = flag.end() if flag else found.end()
            if flag:
                kept.append(text[start:at])
            elif ord(found[0]) in _SURROGATES or _belongs(before, found[0], (text[at:] or self._waiting)[:1]):
                kept.append(before := found[0])
        return [*kept, text[at:]]


def _find_undecided_end(text: str) -> int:
    """Up to where the text is decided, whatever comes next."""
    flag = text.rfind(_BLACK_FLAG, max(0, len(text) - 1 - _MAX_FLAG_LETTERS))
    if flag >= 0 and _FLAG_LETTERS.fullmatch(text, flag + 1):
        return flag
    return len(text) - text.endswith(_JUDGED_BY_NEXT)


def _belongs(before: str, sign: str, after: str) -> bool:
    """Whether the suspect character is one with which its neighbours are written. They are "" where there are none."""
    if not before or before in _JOINERS:
        return False
    if sign == "\r":
        return after == "\n"
    if sign in _JOINERS and _JOINING_SCRIPT.match(before):
        return True
    if sign == "\u200d":
        return (before == "\ufe0f" or _is_symbol(before)) and _is_symbol(after)
    if sign == "\u200b":
        return bool(_SCRIPT_WITHOUT_BLANKS.match(before) and after and not _SUSPECT.match(after))
    if "\u180b" <= sign <= "\u180f":
        return ord(before) in _MONGOLIAN and not "\u180b" <= before <= "\u180f"
    if "\ufe00" <= sign <= "\ufe0f" or "\U000e0100" <= sign <= "\U000e01ef":
        # One after a visible character; several in a row can carry a hidden text. No alphabet with capitals has any.
        is_visible = before.isprintable() and not before.isspace() and not _SUSPECT.match(before)
        return is_visible and before.lower() == before.upper()
    return "\u115f" <= sign <= "\u1160" and (_is_jamo(before) or _is_jamo(after))


def _is_symbol(sign: str) -> bool:
    """A pictograph, or a skin tone after one."""
    return sign != "" and unicodedata.category(sign).startswith("S")


def _is_jamo(sign: str) -> bool:
    return "\u1100" <= sign <= "\u11ff" and not "\u115f" <= sign <= "\u1160"
