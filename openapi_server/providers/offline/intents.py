"""Detects the intent of a message that is no question about facts: small talk, errands, requests for an animal.

The patterns of each intent are in `intents.yaml`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from pathlib import Path
from typing import Any

from openapi_server import linear_regex
from openapi_server.linear_regex import Detector, Pattern, PreparedText
from openapi_server.yaml_files import load_patterns


class Intent(Enum):
    LOST = auto()
    SAD = auto()
    GOODBYE = auto()
    THANKS = auto()
    SORRY = auto()
    HOW_ARE_YOU = auto()
    MY_NAME = auto()
    REAL = auto()
    WHO_ARE_YOU = auto()
    BIRTHDAY = auto()
    FAVOURITE = auto()
    JOKE = auto()
    STORY = auto()
    WHAT_CAN_I_ASK = auto()
    LOVE_ME = auto()
    LOVE = auto()
    INSULT = auto()
    COMPLIMENT = auto()
    PET = auto()
    FEED = auto()
    COME_HOME = auto()
    WHERE_HERE = auto()
    TOILET = auto()
    VISIT_INFO = auto()
    ERRAND = auto()
    BOY_OR_GIRL = auto()
    SOUND = auto()
    PLAY = auto()
    MY_BIRTHDAY = auto()
    BORED = auto()
    LAUGH = auto()
    WHY = auto()
    REALLY = auto()
    AGAIN = auto()
    YUCK = auto()
    WOW = auto()
    MORE = auto()
    YES = auto()
    NO = auto()
    NONSENSE = auto()


@dataclass(frozen=True, slots=True)
class _IntentPattern:
    """`unless`: what must not be behind a match."""

    intent: Intent
    pattern: Pattern
    unless: Pattern | None = None

    def matches(self, text: str) -> bool:
        if self.unless is None:
            return self.pattern.search(text) is not None
        return any(not self.unless.search(text, found.end()) for found in self.pattern.finditer(text))


def _make_patterns(intent: Intent, given: list[Any]) -> list[_IntentPattern]:
    """Those without a condition as one, which is faster."""
    plain = [each for each in given if isinstance(each, str)]
    conditional = [each for each in given if isinstance(each, dict)]
    made = [_IntentPattern(intent, linear_regex.compile("|".join(plain)))] if plain else []
    return made + [
        _IntentPattern(intent, linear_regex.compile(each["pattern"]), linear_regex.compile(each["unless"]))
        for each in conditional
    ]


_WORDINGS = load_patterns(Path(__file__).with_name("intents.yaml"))
_PATTERNS = tuple(
    pattern for name, given in _WORDINGS["intents"].items() for pattern in _make_patterns(Intent[name.upper()], given)
)
_NONSENSE_WORD = linear_regex.compile(rf"^(?:{_WORDINGS['nonsense_word']})$")


@cache
def _compile_any() -> Detector:
    """Finds whether any pattern matches, in a hundredth of the time that all of them take: most messages have none.

    Compiled when the first message comes, so that a start does not wait for it.
    """
    return linear_regex.compile_detector((), [each.pattern.pattern for each in _PATTERNS])


def detect_intent(text: str) -> Intent | None:
    """The first intent whose pattern matches the normalized message, in the order of the file; else None."""
    prepared = PreparedText(text)
    found = None
    if _compile_any().search(prepared):
        found = next((pattern.intent for pattern in _PATTERNS if pattern.matches(prepared)), None)
    return found or (Intent.NONSENSE if _is_nonsense(text) else None)


def _is_nonsense(text: str) -> bool:
    words = text.split()
    return bool(words) and all(_NONSENSE_WORD.search(word) or _repeats_itself(word) for word in words)


def _repeats_itself(word: str) -> bool:
    """True for "lalala": one to three letters, three times or more."""
    return any(
        len(word) % length == 0 and len(word) >= 3 * length and word == word[:length] * (len(word) // length)
        for length in (1, 2, 3)
    )


_OTHER_ANIMAL = linear_regex.compile(
    r"\b(cheetah|lion|tiger|leopard|jaguar|cougar|puma|wolf|bear|polar bear|dog|cat|horse|cow|pig|sheep"
    r"|goat|elephant|rhino|hippo|giraffe|zebra|monkey|gorilla|chimpanzee"
    r"|snake|crocodile|alligator|lizard|tortoise|turtle|frog|shark|whale|dolphin|octopus|squid|crab"
    r"|jellyfish|seahorse|penguin|eagle|owl|parrot|flamingo|ant|spider|bee"
    r"|butterfly|mouse|rabbit|fox|deer|kangaroo|koala|panda|camel|hyena|meerkat|otter|seal|bat)(?:s|es)?\b"
)


def find_other_animal(text: str, own_names: Collection[str]) -> str | None:
    """The first animal named in a normalized message that is not this one."""
    named = (animal.group(1) for animal in _OTHER_ANIMAL.finditer(text))
    return next((animal for animal in named if animal not in own_names), None)


# A request for this animal: "May I talk to the tiger?", said to the tiger. Code rather than data in `intents.yaml`,
# because these patterns are put together from pieces that no other intent needs.

_NOT_A_REQUEST = linear_regex.compile(r"\b(?:who|whom|why|not|dont|never|cant)\b")
# Stands for each of the animal's own names in a message.
_OWN = "<own>"
_OPENING = r"(?:(?:hi|hello|hey|ok|okay|so|and|now|please|oh|yes|no|excuse me) )*"
_POLITE_WORDS = r"(?: (?:please|pls|now|again|instead|for (?:me|us)|there|here|today|too))*"
_TO_TALK = (
    r"(?:(?:talk|speak|chat|talking|speaking|chatting) (?:\w+ )?(?:to|with)"
    r"|(?:switch|change|swap|go|get|take|bring|put|connect|transfer|say|back|on|over|through|hello|hi)"
    r"(?: (?:me|us|back|over|on|through|hello|hi))* (?:to|with)|(?:question|looking) for"
    r"|talk|meet|want|would like|id like|get|call|fetch|bring|meant?|said)"
)


_KIND = rf"(?:the |an? |mr |mrs |dear )?(?:[^ ]+ ){{0,2}}{_OWN}"
_SWITCH_REQUEST = linear_regex.compile_detector(
    (),
    [
        rf"^{_OPENING}(?:{request})$"
        for request in (
            rf"(?:(?:[^ ]+ )*(?:i|we|me|us|lets|my [^ ]+|(?:can|could|will) you) (?:[^ ]+ )*)?{_TO_TALK} {_KIND}"
            rf"{_POLITE_WORDS}",
            rf"(?:is|are) {_KIND} (?:there|here|around|available|home|in){_POLITE_WORDS}",
            rf"(?:can|could|will|would|may) {_KIND} (?:please )?(?:answer|talk|speak|hear|come|listen)"
            rf"(?: (?:to|with|me|us|here|over))*{_POLITE_WORDS}",
            rf"(?:{_OWN} )?are (?:you|u) (?:there|here|listening)(?: {_OWN})?{_POLITE_WORDS}",
            rf"(?:{_OWN} )?can (?:you|u) hear me(?: {_OWN})?{_POLITE_WORDS}",
            rf"(?:the )?{_OWN}(?: (?:please|now|instead))+",
        )
    ],
)


def is_switch_request(text: str, own_names: Collection[str]) -> bool:
    """True when the normalized message asks to talk with this animal, and for nothing else.

    >>> is_switch_request("may i talk to the tiger", {"bulan", "tiger"})
    True
    >>> is_switch_request("may i talk to the tiger", {"leo", "lion"})
    False
    """
    if _NOT_A_REQUEST.search(text):
        return False
    names = {*own_names, *(f"{name}s" for name in own_names)}
    return _SWITCH_REQUEST.search(" ".join([_OWN if word in names else word for word in text.split()]))
