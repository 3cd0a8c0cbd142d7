"""Which animal a visitor asks to talk with: "May I talk to the tiger?", "Hello Leo!", "Bulan, are you there?".

A message that only speaks about an animal wishes for none. When in doubt there is no wish: staying with the animal
that is there disturbs a talk less than a sudden stranger does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from openapi_server.knowledge.animal_switch.animal_names import AnimalNames, NameMatch
from openapi_server.knowledge.animal_switch.patterns import ADDRESSES, BARE_NAME, SWITCH_REQUESTS
from openapi_server.knowledge.retrieval.query import tokenize
from openapi_server.models.animal import Animal

_LETTER_LIMIT = 1_000
_SAYS_NOTHING = frozenset("and but please pls plz thanks thank you now today too again so then to ask".split())


def detect_requested_animal(message: str, animals: Sequence[Animal]) -> Animal | None:
    """The animal that the visitor asks to talk with; None when the message asks for none. Any text is legal.

    Only animals whose status is "active" can be asked for.
    """
    active = [animal for animal in animals if animal.status == "active"]
    names = _call_names(tuple((animal.name, animal.species) for animal in active))
    sentences = [_marked(sentence, names) for sentence in _sentences(message)]
    for patterns in (SWITCH_REQUESTS, ADDRESSES, _called_out(message, len(sentences))):
        for said, called in sentences:
            if found := _first(patterns, said):
                return active[called[int(found["at"])].animal_index]
    return None


def strip_switch_request(message: str, animal: Animal) -> str:
    """What is asked of the animal beside the wish to talk with it; the whole message where there is nothing beside.

    "I want to talk to the giraffe. How tall is she?" asks for her height, not for how giraffes talk. The animal is
    named before it, for "she" is the animal that was wished for.
    """
    names = _call_names(((animal.name, animal.species),))
    sentences = [sentence.strip() for sentence in _sentences(message)]
    rests = [_without_wish(sentence, names) for sentence in sentences]
    asked = ". ".join(rest for rest in rests if not _SAYS_NOTHING.issuperset(tokenize(rest)))
    return f"{animal.species}: {asked}" if rests != sentences and asked else message


def _without_wish(sentence: str, names: AnimalNames) -> str:
    """The sentence as it is when it wishes for nothing, else its other words, plain and without the animal's name."""
    said, _ = _marked(sentence, names)
    wish = _first(SWITCH_REQUESTS, said)
    return sentence if wish is None else re.sub(r"<\w+>", "", said[: wish.start()] + said[wish.end() :]).strip(" ,")


@lru_cache(maxsize=64)
def _call_names(titles: tuple[tuple[str, str], ...]) -> AnimalNames:
    """Made anew when the keepers change an animal: making them takes 2 ms, reading a message a tenth of that."""
    return AnimalNames(titles)


def _called_out(message: str, sentences: int) -> tuple[re.Pattern[str], ...]:
    return (BARE_NAME,) if sentences == 1 and "?" not in message else ()


def _first(patterns: Sequence[re.Pattern[str]], said: str) -> re.Match[str] | None:
    """The animal that comes first in the sentence: "may I talk to the lion instead of the tiger" means the lion."""
    found = (match for pattern in patterns if (match := pattern.search(said)))
    return min(found, key=lambda match: match.start("at"), default=None)


def _sentences(message: str) -> Iterator[str]:
    text = re.sub(r"\b(mr|mrs|ms|dr|st)\.", r"\1 ", message[:_LETTER_LIMIT], flags=re.I)
    yield from (part for part in re.split(r"[.!?;:\n…]+", text) if tokenize(part))


def _marked(sentence: str, names: AnimalNames) -> tuple[str, Sequence[NameMatch]]:
    """The sentence in plain words, with a mark where an animal is named: "may i talk to the <one0>"."""
    words: list[str] = []
    called: list[NameMatch] = []
    for part in re.split(r"(,|\s[-–—]+\s|\b['’]s\b)", sentence):
        if re.fullmatch(r"['’]s", part):
            _end_with_s(words, called)
            continue
        if re.fullmatch(r",|\s[-–—]+\s", part):
            words.append(",")
        for found in names.find_names(tokenize(part)):
            words.append(found if isinstance(found, str) else _mark(found, len(called)))
            called += [] if isinstance(found, str) else [found]
    return " ".join(words), called


def _end_with_s(words: list[str], called: Sequence[NameMatch]) -> None:
    """ "Let's" is one word, and "the tiger's keeper" is not the tiger."""
    if called and words and words[-1].startswith("<"):
        words.append("owns")
    elif words:
        words[-1] += "s"


def _mark(called: NameMatch, place: int) -> str:
    kind = "name" if called.is_own_name else "many" if called.is_plural else "one"
    return f"<{kind}{place}>"
