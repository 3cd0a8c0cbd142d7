"""The conversation as the offline provider sees it: the parsed message, the visitor, earlier replies."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from openapi_server import linear_regex
from openapi_server.linear_regex import IGNORECASE
from openapi_server.models.animal import NICKNAMES, Animal
from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.providers.offline.intents import Intent, detect_intent
from openapi_server.providers.offline.text import GREETING, MAX_CHARS, simplify_text
from openapi_server.providers.offline.visitor_names import find_visitor_name, strip_visitor_name


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

_NUMBERS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen".split()
# What `after` matches is not part of the age.
_AGE = linear_regex.compile(
    rf"\b(?:i am|i'?m)(?: already| nearly| almost| only)? (\d{{1,2}}|{'|'.join(_NUMBERS)})"
    r"(?: and a half)?(?: years?(?: old)?| yrs?(?: old)?)?"
    r"(?P<after>\s*$|\s*[.,!?;]|\s+(?:and|but|now)\b|\s+(?:how|what|why|do|are|can))",
    IGNORECASE,
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


def parse_message(message: str, own_names: frozenset[str] = frozenset()) -> ParsedMessage:
    """Parse a message. `own_names`: the words that address the animal ("hi Leo!")."""
    text = message[:MAX_CHARS].replace("’", "'")
    name = find_visitor_name(message)
    age = _AGE.search(text)
    kept = _strip_introduction(text, name, age)
    normalized = simplify_text(kept)
    greeting = GREETING.match(normalized)
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


def _spell_age(number: str) -> str:
    """An age up to fourteen in words; others as they were written."""
    return _NUMBERS[int(number) - 1] if number.isdigit() and 0 < int(number) <= len(_NUMBERS) else number.lower()


_CONJUNCTION = linear_regex.compile(r"^[\s,.!]*(?:and|but|so)\b", IGNORECASE)


def _strip_introduction(text: str, name: str | None, age: linear_regex.Match | None) -> str:
    if age:
        text = text[: age.start()] + "." + text[age.start("after") :]
    if name:
        text = strip_visitor_name(text, name)
    return _CONJUNCTION.sub("", text) if name or age else text


def _strip_address(rest: str, own_names: frozenset[str]) -> str:
    """Remove "leo" or "mr lion" from the start, with the courtesies before it, and "leo" from the end."""
    words = rest.split()
    while words and (words[0] in own_names or words[0] in _COURTESIES):
        words.pop(0)
    while len(words) > 1 and words[-1] in own_names and words[-2] not in ("a", "the", "an", "real"):
        words.pop()
    return " ".join(words)


_COURTESIES = frozenset("mr mrs dear little big um hmm and oh so well please".split())
