"""Parses a visitor's message: greeting, name, age, and the rest. Any text is legal."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_MAX_CHARS = 1_000
_MAX_NAME_CHARS = 4_000
"""A name is searched for in the whole message: some visitors tell it at the end of a long story."""
_MAX_GREETING_WORDS = 4

_GREETING = re.compile(
    r"(?:(?:hi+|hello+|hey+|heya|hiya|hallo|howdy|yo|hola|good (?:morning|afternoon|evening|day)"
    r"|greetings|morning)(?: there| again)?\b ?)+"
)

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
_RUDE = frozenset(
    """poo poop poopy poopoo pee wee bum butt fart fuck shit ass arse bitch dick cock penis sex willy stupid
    idiot hitler nazi""".split()
)

_NAME = r"([^\W\d_]{2,15}(?:-[^\W\d_]{2,15})?)"
_NAME_STATED = re.compile(
    r"\b(?:my name(?:'?s| is)|i(?: am|'?m) called|(?:you can |please |just |they )*call me)[ :]+"
    + _NAME
    + r"(?![\w'])",
    re.I,
)
_IM_NAME = re.compile(r"\b(?:i am|i'?m|this is)[ ]+" + _NAME + r"(?![\w'])", re.I)
_SURNAMES = re.compile(
    r"(?: \[surname\]"
    r"| (?!(?:What|How|Why|Where|When|Who|Which|Do|Does|Are|Is|Can|Could|May|Tell|Please|Nice|Hi|Hello|And|But|So"
    r"|I)\b)[A-Z][\w'-]+){1,2}(?![\w'])"
)
_NUMBERS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen".split()
_AGE = re.compile(
    rf"\b(?:i am|i'?m)(?: already| nearly| almost| only)? (\d{{1,2}}"
    rf"|{'|'.join(_NUMBERS)})\b(?: and a half)?(?: years?(?: old)?| yrs?(?: old)?)?"
    r"(?=\s*(?:$|[.,!?;]|and\b|but\b|now\b|how|what|why|do|are|can))",
    re.I,
)


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """`rest`: the normalized message without greeting, name and age. `name` and `age` are the visitor's, if given."""

    rest: str
    has_greeting: bool = False
    name: str | None = None
    age: str | None = None
    has_words: bool = True
    has_emoji: bool = False
    is_question: bool = False


def normalize_text(text: str) -> str:
    """The words in lower case, without accents and punctuation, joined by spaces.

    >>> normalize_text("What's THAT?!")
    'whats that'
    """
    letters = unicodedata.normalize("NFKD", text[:_MAX_CHARS]).lower()
    letters = "".join(letter for letter in letters if letter not in "'’`" and not unicodedata.combining(letter))
    return " ".join(re.findall(r"[^\W_]+", letters))


def parse_message(message: str, own_names: frozenset[str] = frozenset()) -> ParsedMessage:
    """Parse a message. `own_names`: the words that address the animal ("hi Leo!")."""
    text = message[:_MAX_CHARS].replace("’", "'")
    name = find_visitor_name(message)
    age = _AGE.search(text)
    kept = _strip_introduction(text, name, age)
    greeting = _GREETING.match(normalize_text(kept))
    rest = normalize_text(kept)[greeting.end() :] if greeting else normalize_text(kept)
    return ParsedMessage(
        rest=_strip_address(rest, own_names),
        has_greeting=greeting is not None,
        name=name,
        age=_spell_age(age.group(1)) if age else None,
        has_words=bool(normalize_text(text)),
        has_emoji=any(unicodedata.category(letter) == "So" for letter in text),
        is_question="?" in message or bool(_ASKS.match(rest)),
    )


_ASKS = re.compile(
    r"(?:and |but |so |ok |then )*(?:what|whats|who|whos|where|wheres|when|why|how|hows|which|do|does"
    r"|did|can|could|are|is|was|were|have|has|will|would|should"
    r"|tell me|wot|wat|explain)\b"
)


def find_visitor_name(text: str) -> str | None:
    """The first name that a visitor gives; never a surname, because that is personal data not to be repeated."""
    text = text[:_MAX_NAME_CHARS].replace("’", "'")
    for match in _NAME_STATED.finditer(text):
        if _is_name(match.group(1)):
            return _format_name(match.group(1))
    for match in _IM_NAME.finditer(text):
        if _is_name(match.group(1)) and (match.group(1)[0].isupper() or _is_whole_clause(text, match)):
            return _format_name(match.group(1))
    return None


def _spell_age(number: str) -> str:
    """An age up to fourteen in words; others as they were written."""
    return _NUMBERS[int(number) - 1] if number.isdigit() and 0 < int(number) <= len(_NUMBERS) else number.lower()


def _is_name(word: str) -> bool:
    lower = word.lower()
    return lower not in _NOT_NAMES and lower not in _RUDE and not lower.endswith("ing")


def _is_whole_clause(text: str, match: re.Match[str]) -> bool:
    """True for "hi im mia" and "im mia and ...": a name in lower case has to be the whole clause."""
    before, after = text[: match.start()].strip(" ,.!"), text[match.end() :].strip()
    is_at_start = not before or (
        _GREETING.match(normalize_text(before)) is not None and len(before.split()) <= _MAX_GREETING_WORDS
    )
    return is_at_start and bool(re.match(r"$|[,.!?]|and\b|i am\b|i'?m\b", after, re.I))


def _format_name(word: str) -> str:
    return word if any(letter.isupper() for letter in word[1:]) and not word.isupper() else word.title()


def _strip_introduction(text: str, name: str | None, age: re.Match[str] | None) -> str:
    if age:
        text = text[: age.start()] + "." + text[age.end() :]
    if name:
        for pattern in (_NAME_STATED, _IM_NAME):
            text = _strip_name(text, name, pattern)
    return re.sub(r"^[\s,.!]*(?:and|but|so)\b", "", text, flags=re.I) if name or age else text


def _strip_name(text: str, name: str, pattern: re.Pattern[str]) -> str:
    """Remove "my name is Mia", and the surname if one follows."""
    kept, at = "", 0
    for match in pattern.finditer(text):
        if match.group(1).lower() == name.lower():
            kept += text[at : match.start()]
            at = match.end()
            surnames = _SURNAMES.match(text[at:])
            at += surnames.end() if surnames else 0
    return kept + text[at:]


def _strip_address(rest: str, own_names: frozenset[str]) -> str:
    """Remove "leo" or "mr lion" from the start, with the courtesies before it, and "leo" from the end."""
    words = rest.split()
    while words and (words[0] in own_names or words[0] in _COURTESIES):
        words.pop(0)
    while len(words) > 1 and words[-1] in own_names and words[-2] not in ("a", "the", "an", "real"):
        words.pop()
    return " ".join(words)


_COURTESIES = frozenset("mr mrs dear little big um hmm and oh so well please".split())
