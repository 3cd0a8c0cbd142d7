"""The conversation as the offline provider sees it: the parsed message, the visitor's name, earlier replies."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from openapi_server import linear_regex
from openapi_server.first_names import is_insulting_name
from openapi_server.linear_regex import IGNORECASE
from openapi_server.models.animal import NICKNAMES, Animal
from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.providers.offline.intents import Intent, detect_intent


@dataclass(frozen=True)
class Conversation:
    """A prompt with its parsed message and what its history says. All random choices use the seeded generator `rng`."""

    prompt: Prompt
    seed: int
    message: ParsedMessage = field(init=False)
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        rng_seed = f"{self.seed}:{len(self.prompt.history)}:{self.prompt.message}"
        object.__setattr__(self, "rng", random.Random(rng_seed))  # noqa: S311 - variety, not secrecy
        object.__setattr__(self, "message", parse_message(self.prompt.message, list_own_names(self.animal)))

    @property
    def animal(self) -> Animal:
        return self.prompt.animal

    @property
    def history(self) -> Sequence[Exchange]:
        return self.prompt.history

    @property
    def last_reply(self) -> str:
        return self.history[-1].reply if self.history else ""

    @property
    def is_with_preschooler(self) -> bool:
        return self.prompt.age_group is AgeGroup.PRESCHOOL

    @property
    def is_with_older(self) -> bool:
        return self.prompt.age_group.rank >= AgeGroup.MIDDLE.rank

    @cached_property
    def visitor_name(self) -> str | None:
        """The visitor's first name: from this message, else the last one given in the history; None if never given."""
        if self.message.name:
            return self.message.name
        given = (find_visitor_name(exchange.message) for exchange in reversed(self.history))
        return next((name for name in given if name), None)

    @cached_property
    def intent(self) -> Intent | None:
        """What the message wants beside a greeting; None for a question about facts."""
        return detect_intent(self.message.rest)

    @cached_property
    def has_introduced_itself(self) -> bool:
        """True when a reply in the history contains the animal's name (the replies may be another animal's)."""
        return any(_contains_name(exchange.reply, self.animal.name) for exchange in self.history)

    def insert_name(self, line: str) -> str:
        """The line with `{name}` replaced: by ", Mia", or by nothing while the name is not known."""
        return line.replace("{name}", f", {self.visitor_name}" if self.visitor_name else "")

    def was_said(self, line: str, *, ever: bool = False) -> bool:
        """True when the last reply (`ever`: any reply) contains this line, with or without a name in it."""
        if not self.history:
            return not ever and not line.replace("{name}", "")
        parts = line.split("{name}")
        replies = [exchange.reply for exchange in self.history] if ever else [self.last_reply]
        return any(all(part in reply for part in parts) for reply in replies)

    def pick_line(self, lines: Sequence[str], *, never_twice: bool = False) -> str:
        """One of the lines at random, with the visitor's name: none of the last reply while there is another one.

        `never_twice`: none of any earlier reply while there is another one.
        """
        unsaid = [line for line in lines if not self.was_said(line, ever=True)] if never_twice else []
        fresh = unsaid or [line for line in lines if not self.was_said(line)] or lines
        return self.insert_name(self.rng.choice(fresh))


def _contains_name(text: str, name: str) -> bool:
    """True when the name is in the text as a word of its own."""
    at = text.find(name)
    while at >= 0:
        before, after = text[:at][-1:], text[at + len(name) :][:1]
        if not (before.isalnum() or after.isalnum() or "_" in before + after):
            return True
        at = text.find(name, at + len(name))
    return False


def list_told_topics(chat: Conversation) -> frozenset[str]:
    """The topics of the facts in earlier replies and in the prompt."""
    told = {fact_id for exchange in chat.history for fact_id in exchange.fact_ids}
    told |= {fact.fact_id for fact in chat.prompt.facts}
    return frozenset(fact.topic for fact in chat.animal.facts if fact.fact_id in told)


def list_own_names(animal: Animal) -> frozenset[str]:
    """The words that address this animal: its name, the last word of its species, and that word's nicknames."""
    return _list_own_names(animal.name, animal.species)


@lru_cache(maxsize=1024)
def _list_own_names(name: str, species: str) -> frozenset[str]:
    kind = species.split()[-1].lower()
    # Messages are compared word by word, so a nickname of two words would never be found.
    nicknames = (nickname for nickname in NICKNAMES.get(kind, ()) if " " not in nickname)
    return frozenset({*name.lower().split(), kind, *nicknames})


# --- Parsing one message. Any text is legal.

_MAX_CHARS = 1_000
_MAX_NAME_CHARS = 4_000
"""Names are searched for in a longer part of the message: some visitors give theirs at the end of a long story."""
_MAX_GREETING_WORDS = 4

_HELLO = (
    r"(?:hi+|hello+|hey+|heya|hiya|hallo|howdy|yo|hola|good (?:morning|afternoon|evening|day)|greetings|morning)"
    r"(?: there| again)?"
)
_GREETING = linear_regex.compile(rf"{_HELLO}(?: {_HELLO})*(?: |$)")

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
_NUMBERS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen".split()
# What `after` matches is not part of the age.
_AGE = linear_regex.compile(
    rf"\b(?:i am|i'?m)(?: already| nearly| almost| only)? (\d{{1,2}}|{'|'.join(_NUMBERS)})"
    r"(?: and a half)?(?: years?(?: old)?| yrs?(?: old)?)?"
    r"(?P<after>\s*$|\s*[.,!?;]|\s+(?:and|but|now)\b|\s+(?:how|what|why|do|are|can))",
    IGNORECASE,
)
_WORD = linear_regex.compile(r"[^\W_]+")
# For bytes of ASCII: each that is no letter and no digit ends a word.
_WORD_BYTES = bytes(code if code < 128 and chr(code).isalnum() else ord(" ") for code in range(256)).lower()


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


def simplify_text(text: str) -> str:
    """The words in lower case, without accents and punctuation, joined by spaces.

    >>> simplify_text("What's THAT?!")
    'whats that'
    """
    text = text[:_MAX_CHARS]
    if text.isascii():
        return " ".join(text.encode("ascii").translate(_WORD_BYTES, b"'`").decode("ascii").split())
    letters = unicodedata.normalize("NFKD", text).lower()
    letters = "".join(letter for letter in letters if letter not in "'’`" and not unicodedata.combining(letter))
    return " ".join(_WORD.findall(letters))


def parse_message(message: str, own_names: frozenset[str] = frozenset()) -> ParsedMessage:
    """Parse a message. `own_names`: the words that address the animal ("hi Leo!")."""
    text = message[:_MAX_CHARS].replace("’", "'")
    name = find_visitor_name(message)
    age = _AGE.search(text)
    kept = _strip_introduction(text, name, age)
    normalized = simplify_text(kept)
    greeting = _GREETING.match(normalized)
    rest = normalized[greeting.end() :] if greeting else normalized
    return ParsedMessage(
        rest=_strip_address(rest, own_names),
        has_greeting=greeting is not None,
        name=name,
        age=_spell_age(age.group(1)) if age else None,
        has_words=bool(simplify_text(text)),
        has_emoji=not text.isascii() and any(unicodedata.category(letter) == "So" for letter in text),
        is_question="?" in message or bool(_ASKS.match(rest)),
    )


_ASKS = linear_regex.compile(
    r"(?:and |but |so |ok |then )*(?:what|whats|who|whos|where|wheres|when|why|how|hows|which|do|does"
    r"|did|can|could|are|is|was|were|have|has|will|would|should"
    r"|tell me|wot|wat|explain)\b"
)


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


def _spell_age(number: str) -> str:
    """An age up to fourteen in words; others as they were written."""
    return _NUMBERS[int(number) - 1] if number.isdigit() and 0 < int(number) <= len(_NUMBERS) else number.lower()


def _is_name(word: str) -> bool:
    lower = word.lower()
    return lower not in _NOT_NAMES and not lower.endswith("ing") and not is_insulting_name(word)


_NEXT_CLAUSE = linear_regex.compile(r"$|[,.!?]|and\b|i am\b|i'?m\b", IGNORECASE)
_CONJUNCTION = linear_regex.compile(r"^[\s,.!]*(?:and|but|so)\b", IGNORECASE)


def _is_whole_clause(text: str, match: linear_regex.Match) -> bool:
    """True for "hi im mia" and "im mia and ...": a name in lower case has to be the whole clause."""
    before, after = text[: match.start()].strip(" ,.!"), text[match.end() :].strip()
    is_at_start = not before or (
        _GREETING.match(simplify_text(before)) is not None and len(before.split()) <= _MAX_GREETING_WORDS
    )
    return is_at_start and bool(_NEXT_CLAUSE.match(after))


def _format_name(word: str) -> str:
    return word if any(letter.isupper() for letter in word[1:]) and not word.isupper() else word.title()


def _strip_introduction(text: str, name: str | None, age: linear_regex.Match | None) -> str:
    if age:
        text = text[: age.start()] + "." + text[age.start("after") :]
    if name:
        for pattern in (_NAME_STATED, _IM_NAME):
            text = _strip_name(text, name, pattern)
    return _CONJUNCTION.sub("", text) if name or age else text


def _strip_name(text: str, name: str, pattern: linear_regex.Pattern) -> str:
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


def _strip_address(rest: str, own_names: frozenset[str]) -> str:
    """Remove "leo" or "mr lion" from the start, with the courtesies before it, and "leo" from the end."""
    words = rest.split()
    while words and (words[0] in own_names or words[0] in _COURTESIES):
        words.pop(0)
    while len(words) > 1 and words[-1] in own_names and words[-2] not in ("a", "the", "an", "real"):
        words.pop()
    return " ".join(words)


_COURTESIES = frozenset("mr mrs dear little big um hmm and oh so well please".split())
