"""Detects the intent of a message that is no question about facts: small talk, errands, requests for an animal.

The patterns of each intent are in `intents.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import Enum, auto
from pathlib import Path

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


_PATTERNS = tuple(
    (Intent[name.upper()], re.compile("|".join(patterns)))
    for name, patterns in load_patterns(Path(__file__).with_name("intents.yaml"))["intents"].items()
)


def detect_intent(text: str) -> Intent | None:
    """The first intent whose pattern matches the normalized message, in the order of the file; else None."""
    return next((intent for intent, pattern in _PATTERNS if pattern.search(text)), None)


_OTHER_ANIMAL = re.compile(
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
# because these patterns are put together from an animal's names.

_NOT_A_REQUEST = re.compile(r"\b(?:who|whom|why|not|dont|never|cant)\b")
_OPENING = r"(?:(?:hi|hello|hey|ok|okay|so|and|now|please|oh|yes|no|excuse me) )*"
_POLITE_WORDS = r"(?: (?:please|pls|now|again|instead|for (?:me|us)|there|here|today|too))*"
_TO_TALK = (
    r"(?:(?:talk|speak|chat|talking|speaking|chatting) (?:\w+ )?(?:to|with)"
    r"|(?:switch|change|swap|go|get|take|bring|put|connect|transfer|say|back|on|over|through|hello|hi)"
    r"(?: (?:me|us|back|over|on|through|hello|hi))* (?:to|with)|(?:question|looking) for"
    r"|talk|meet|want|would like|id like|get|call|fetch|bring|meant?|said)"
)


def is_switch_request(text: str, own_names: Collection[str]) -> bool:
    """True when the normalized message asks to talk with this animal, and for nothing else.

    >>> is_switch_request("may i talk to the tiger", {"bulan", "tiger"})
    True
    >>> is_switch_request("may i talk to the tiger", {"leo", "lion"})
    False
    """
    own = rf"(?:{'|'.join(re.escape(name) for name in sorted(own_names))})s?"
    kind = rf"(?:the |an? |mr |mrs |dear )?(?:\w+ ){{0,2}}{own}"
    requests = (
        rf"(?:.*\b(?:i|we|me|us|lets|my \w+|(?:can|could|will) you)\b.* )?{_TO_TALK} {kind}{_POLITE_WORDS}",
        rf"(?:is|are) {kind} (?:there|here|around|available|home|in){_POLITE_WORDS}",
        rf"(?:can|could|will|would|may) {kind} (?:please )?(?:answer|talk|speak|hear|come|listen)"
        rf"(?: (?:to|with|me|us|here|over))*{_POLITE_WORDS}",
        rf"(?:{own} )?are (?:you|u) (?:there|here|listening)(?: {own})?{_POLITE_WORDS}",
        rf"(?:{own} )?can (?:you|u) hear me(?: {own})?{_POLITE_WORDS}",
        rf"(?:the )?{own}(?: (?:please|now|instead))+",
    )
    return not _NOT_A_REQUEST.search(text) and any(re.fullmatch(_OPENING + request, text) for request in requests)
