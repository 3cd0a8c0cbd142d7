"""Which animal a visitor asks to talk with: "May I talk to the tiger?", "Hello Leo!", "Bulan, are you there?".

A message that only mentions an animal requests none. In doubt there is no request: a switch that nobody asked for
disturbs a conversation more than one that has to be asked for again. The wordings stand in `animal_switch.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from openapi_server.knowledge.animal_names import AnimalNames, NameMatch
from openapi_server.knowledge.retrieval.query import tokenize
from openapi_server.models.animal import Animal
from openapi_server.pattern_files import load_patterns

_MAX_CHARS = 1_000
_FILLERS = frozenset("and but please pls plz thanks thank you now today too again so then to ask".split())

_WORDINGS = load_patterns(Path(__file__).with_name("animal_switch.yaml"))
_SWITCH_REQUESTS = tuple(re.compile(pattern) for pattern in _WORDINGS["switch_requests"])
_ADDRESSES = tuple(re.compile(pattern) for pattern in _WORDINGS["addresses"])
_BARE_NAMES = tuple(re.compile(pattern) for pattern in _WORDINGS["bare_names"])


def detect_requested_animal(message: str, animals: Sequence[Animal]) -> Animal | None:
    """The animal that the visitor asks to talk with; None when the message asks for none. Any text is legal.

    Only animals whose status is "active" can be asked for. An explicit request precedes an address: "Hi Leo, may I
    talk to the tiger?" asks for the tiger.
    """
    active = [animal for animal in animals if animal.status == "active"]
    names = _get_names(tuple((animal.name, animal.species) for animal in active))
    sentences = [_mark_names(sentence, names) for sentence in _split_into_clauses(message)]
    is_single_statement = len(sentences) == 1 and "?" not in message
    for patterns in (_SWITCH_REQUESTS, _ADDRESSES, _BARE_NAMES if is_single_statement else ()):
        for text, matches in sentences:
            if found := _find_first(patterns, text):
                return active[matches[int(found["at"])].animal_index]
    return None


def strip_switch_request(message: str, animal: Animal) -> str:
    """The message without the request to talk with this animal; the whole message when nothing else is in it.

    "I want to talk to the giraffe. How tall is she?" asks for her height, not for how giraffes talk. The species is
    put before the rest, because "she" is the animal that was requested.
    """
    names = _get_names(((animal.name, animal.species),))
    sentences = [sentence.strip() for sentence in _split_into_clauses(message)]
    rests = [_strip_from_sentence(sentence, names) for sentence in sentences]
    asked = ". ".join(rest for rest in rests if not _FILLERS.issuperset(tokenize(rest)))
    return f"{animal.species}: {asked}" if rests != sentences and asked else message


def _strip_from_sentence(sentence: str, names: AnimalNames) -> str:
    """The unchanged sentence when it has no request; else its other words, normalized and without the animal's name."""
    text, _ = _mark_names(sentence, names)
    request = _find_first(_SWITCH_REQUESTS, text)
    if request is None:
        return sentence
    return re.sub(r"<\w+>", "", text[: request.start()] + text[request.end() :]).strip(" ,")


@lru_cache(maxsize=64)
def _get_names(titles: tuple[tuple[str, str], ...]) -> AnimalNames:
    """Cached: building the names takes 2 ms, ten times as long as reading a message. Changed animals have a new key."""
    return AnimalNames(titles)


def _find_first(patterns: Sequence[re.Pattern[str]], text: str) -> re.Match[str] | None:
    """The match whose animal is named first: "may I talk to the lion instead of the tiger" asks for the lion."""
    found = (match for pattern in patterns if (match := pattern.search(text)))
    return min(found, key=lambda match: match.start("at"), default=None)


def _split_into_clauses(message: str) -> Iterator[str]:
    """Split at every mark that can end a request. Unlike `models.sentences`, also at `;`, `:` and line breaks."""
    text = re.sub(r"\b(mr|mrs|ms|dr|st)\.", r"\1 ", message[:_MAX_CHARS], flags=re.I)
    yield from (part for part in re.split(r"[.!?;:\n…]+", text) if tokenize(part))


def _mark_names(sentence: str, names: AnimalNames) -> tuple[str, Sequence[NameMatch]]:
    """The normalized sentence with a mark in the place of each name, and the matches by the marks' numbers.

    "May I talk to the tiger?" becomes "may i talk to the <one0>".
    """
    words: list[str] = []
    matches: list[NameMatch] = []
    for part in re.split(r"(,|\s[-–—]+\s|\b['’]s\b)", sentence):
        if re.fullmatch(r"['’]s", part):
            _append_s(words, matches)
            continue
        if re.fullmatch(r",|\s[-–—]+\s", part):
            words.append(",")
        for found in names.find_names(tokenize(part)):
            words.append(found if isinstance(found, str) else _make_mark(found, len(matches)))
            matches += [] if isinstance(found, str) else [found]
    return " ".join(words), matches


def _append_s(words: list[str], matches: Sequence[NameMatch]) -> None:
    """Make "lets" of "let's". After a name the 's becomes a word: "the tiger's keeper" is not the tiger."""
    if matches and words and words[-1].startswith("<"):
        words.append("owns")
    elif words:
        words[-1] += "s"


def _make_mark(match: NameMatch, number: int) -> str:
    kind = "name" if match.is_own_name else "many" if match.is_plural else "one"
    return f"<{kind}{number}>"
