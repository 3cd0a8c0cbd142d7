"""The visitor's own first name: which words of a message are one ("I'm Mia"), and which are not ("I'm hungry").

Surnames are found to be removed. Which names insult is decided in `insulting_names`.
"""

from __future__ import annotations

from openapi_server import linear_regex
from openapi_server.insulting_names import is_insulting_name
from openapi_server.linear_regex import IGNORECASE
from openapi_server.providers.offline.text import GREETING, simplify_text

# Longer than the part of a message that is parsed: some visitors give their name at the end of a long story.
_MAX_NAME_CHARS = 4_000
_MAX_GREETING_WORDS = 4

# Words that follow "I'm" and are no name.
_NOT_NAMES = frozenset(
    """a an the not so very really too just also still sorry hungry thirsty tired bored happy sad good fine ok
    okay well great here back there ready done sick ill cold hot scared afraid lost sure glad excited
    curious angry mad going gonna coming looking trying asking talking doing learning reading writing
    watching playing eating sitting standing living from in at on with your you my his her their one two
    three four five six seven eight nine ten eleven twelve thirteen old young big small tall short funny
    silly smart clever boy girl man woman kid child teacher mum mom dad human people better best new
    only alone lonely crying sleepy busy late early almost nearly about like never always visiting
    wondering thinking serious kidding joking confused sorry yes no all both as if that this it being
    called named pregnant vegetarian vegan german english french american british bad worried upset
    unhappy nervous what who why how when where and but or allergic interested doctor lion tiger cute
    pretty cool awesome amazing stupid nobody someone fan stuck""".split()
)

_NAME = r"([^\W\d_]{2,15}(?:-[^\W\d_]{2,15})?)"
_NAME_STATED = linear_regex.compile(
    r"\b(?:my name(?:'?s| is)|i(?: am|'?m) called|(?:you can |please |just |they )*call me)[ :]+"
    + _NAME
    + r"(?![\w'])",
    IGNORECASE,
)
_IM_NAME = linear_regex.compile(r"\b(?:i am|i'?m|this is)[ ]+" + _NAME + r"(?![\w'])", IGNORECASE)
_SURNAME = linear_regex.compile(r" (?:\[surname\](?![\w'])|(?P<word>[A-Z]\w*)[\w'-]*)")
_MAX_SURNAMES = 2
# Words with a capital that begin the next clause.
_NOT_SURNAMES = frozenset(
    """What How Why Where When Who Which Do Does Are Is Can Could May Tell Please Nice Hi Hello And But So I""".split()
)
_NEXT_CLAUSE = linear_regex.compile(r"$|[,.!?]|and\b|i am\b|i'?m\b", IGNORECASE)


def find_visitor_name(text: str) -> str | None:
    """The first name that a visitor gives; never an insult, nor a surname: that is personal data not to be repeated."""
    text = text[:_MAX_NAME_CHARS].replace("’", "'")
    for match in _NAME_STATED.finditer(text):
        if _is_name(match.group(1)):
            return _format_name(match.group(1))
    for match in _IM_NAME.finditer(text):
        if _is_name(match.group(1)) and (match.group(1)[0].isupper() or _is_whole_clause(text, match)):
            return _format_name(match.group(1))
    return None


def strip_visitor_name(text: str, name: str) -> str:
    """The text without the sentences that give the name, such as "my name is Mia", and without surnames after it."""
    for pattern in (_NAME_STATED, _IM_NAME):
        text = _strip_with(text, name, pattern)
    return text


def _is_name(word: str) -> bool:
    lower = word.lower()
    return lower not in _NOT_NAMES and not lower.endswith("ing") and not is_insulting_name(word)


def _is_whole_clause(text: str, match: linear_regex.Match) -> bool:
    """True for "hi im mia" and "im mia and ...": a name in lower case has to be the whole clause."""
    before, after = text[: match.start()].strip(" ,.!"), text[match.end() :].strip()
    is_at_start = not before or (
        GREETING.match(simplify_text(before)) is not None and len(before.split()) <= _MAX_GREETING_WORDS
    )
    return is_at_start and bool(_NEXT_CLAUSE.match(after))


def _format_name(word: str) -> str:
    return word if any(letter.isupper() for letter in word[1:]) and not word.isupper() else word.title()


def _strip_with(text: str, name: str, pattern: linear_regex.Pattern) -> str:
    """Remove "my name is Mia", and the surname if one follows."""
    kept, at = "", 0
    for match in pattern.finditer(text):
        if match.group(1).lower() == name.lower():
            kept += text[at : match.start()]
            at = match.end()
            at = _find_surnames_end(text, at)
    return kept + text[at:]


def _find_surnames_end(text: str, at: int) -> int:
    """The end of the surnames that stand at this place; the place itself when none does."""
    for _ in range(_MAX_SURNAMES):
        surname = _SURNAME.match(text, at)
        if surname is None or surname["word"] in _NOT_SURNAMES or len(surname[0]) < 3:
            break
        at = surname.end()
    return at
