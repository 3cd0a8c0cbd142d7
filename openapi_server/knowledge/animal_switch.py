"""Which animal a visitor asks to talk with: "May I talk to the tiger?", "Hello Leo!", "Bulan, are you there?".

A message that only mentions an animal requests none. In doubt there is no request: a switch that nobody asked for
disturbs a conversation more than one that has to be requested again. The patterns are in `animal_switch.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from openapi_server import linear_regex
from openapi_server.knowledge.retrieval.query import tokenize
from openapi_server.knowledge.retrieval.spelling import Speller
from openapi_server.linear_regex import IGNORECASE, Match, Pattern, PreparedText
from openapi_server.models.animal import NICKNAMES, Animal
from openapi_server.yaml_files import load_patterns

_MAX_CHARS = 1_000
_FILLERS = frozenset("and but please pls plz thanks thank you now today too again so then to ask".split())

_WORDINGS = load_patterns(Path(__file__).with_name("animal_switch.yaml"))


@cache
def _get_patterns(name: str) -> tuple[Pattern, ...]:
    """The patterns of one list of the file, compiled when they are needed: that takes a third of a second for all."""
    return tuple(linear_regex.compile(pattern) for pattern in _WORDINGS[name])


def prepare_patterns() -> None:
    """Compile all patterns, so that the first message need not wait for it."""
    for name in _WORDINGS:
        _get_patterns(name)


_THEM = linear_regex.compile(r"\b(?:they|them|their)\b")
_TITLE = linear_regex.compile(r"\b(mr|mrs|ms|dr|st)\.", IGNORECASE)
_CLAUSE_ENDS = str.maketrans(dict.fromkeys(".!?;:…", "\n"))
_PART_END = linear_regex.compile(r",|\s[-–—]+\s|\b['’]s\b")
_MARK = linear_regex.compile(r"<\w+>")


def detect_requested_animal(message: str, animals: Sequence[Animal]) -> Animal | None:
    """The animal that the visitor asks to talk with; None when the message asks for none. Any text is legal.

    Only animals whose status is "active" can be asked for. An explicit request precedes an address: "Hi Leo, may I
    talk to the tiger?" asks for the tiger.
    """
    active = [animal for animal in animals if animal.status == "active"]
    names = _get_names(tuple((animal.name, animal.species) for animal in active))
    sentences = [_mark_names(sentence, names) for sentence in _split_into_clauses(message)]
    is_single_statement = len(sentences) == 1 and "?" not in message
    finders = (_find_request, _find_address, *((_find_bare_name,) if is_single_statement else ()))
    for find in finders:
        for text, matches in sentences:
            if matches and (found := find(text)):
                return active[matches[int(found["at"])].animal_index]
    return None


def _find_request(text: str) -> Match | None:
    return _find_first(_get_patterns("switch_requests"), text)


def _find_address(text: str) -> Match | None:
    found = (match for pattern in _get_patterns("addresses_unless_about_them") if (match := pattern.search(text)))
    return _choose_first(
        [_find_first(_get_patterns("addresses"), text), *(each for each in found if not _THEM.search(text, each.end()))]
    )


def _find_bare_name(text: str) -> Match | None:
    return _find_first(_get_patterns("bare_names"), text)


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
    text, matches = _mark_names(sentence, names)
    request = _find_request(text) if matches else None
    if request is None:
        return sentence
    return _MARK.sub("", text[: request.start()] + text[request.end() :]).strip(" ,")


@lru_cache(maxsize=64)
def _get_names(titles: tuple[tuple[str, str], ...]) -> AnimalNames:
    """Cached: building the names takes 2 ms, ten times as long as reading a message. Changed animals have a new key."""
    return AnimalNames(titles)


def _find_first(patterns: Sequence[Pattern], text: str) -> Match | None:
    prepared = PreparedText(text)
    return _choose_first(pattern.search(prepared) for pattern in patterns)


def _choose_first(found: Iterable[Match | None]) -> Match | None:
    """The match whose animal is named first: "may I talk to the lion instead of the tiger" asks for the lion."""
    return min((match for match in found if match), key=lambda match: match.start("at"), default=None)


def _split_into_clauses(message: str) -> Iterator[str]:
    """Split at every mark that can end a request. Unlike `models.sentences`, also at `;`, `:` and line breaks."""
    text = message[:_MAX_CHARS]
    if "." in text:
        text = _TITLE.sub(r"\1 ", text)
    yield from (part for part in text.translate(_CLAUSE_ENDS).split("\n") if tokenize(part))


def _mark_names(sentence: str, names: AnimalNames) -> tuple[str, Sequence[NameMatch]]:
    """The normalized sentence with a numbered mark in place of each name, and the matches in the order of the numbers.

    "May I talk to the tiger?" becomes "may i talk to the <one0>".
    """
    words: list[str] = []
    matches: list[NameMatch] = []
    for part, end in _split_into_parts(sentence):
        for found in names.find_names(tokenize(part)):
            words.append(found if isinstance(found, str) else _make_mark(found, len(matches)))
            matches += [] if isinstance(found, str) else [found]
        if end[-1:] == "s":
            _append_s(words, matches)
        elif end:
            words.append(",")
    return " ".join(words), matches


def _split_into_parts(sentence: str) -> Iterator[tuple[str, str]]:
    """The parts with what ends each: a comma, a dash, or the letter s behind an apostrophe."""
    at = 0
    for found in _PART_END.finditer(sentence):
        yield sentence[at : found.start()], found[0]
        at = found.end()
    yield sentence[at:], ""


def _append_s(words: list[str], matches: Sequence[NameMatch]) -> None:
    """Make "lets" of "let's". After a name the 's becomes a word: "the tiger's keeper" is not the tiger."""
    if matches and words and words[-1].startswith("<"):
        words.append("owns")
    elif words:
        words[-1] += "s"


def _make_mark(match: NameMatch, number: int) -> str:
    kind = "name" if match.is_own_name else "many" if match.is_plural else "one"
    return f"<{kind}{number}>"


# --- The names of animals in a message: "Leo", "the lion", "lions", "that puma"

_Phrase = tuple[str, ...]

# Species whose names contain another animal's. They are skipped, unless the zoo has the species itself.
_NAMESAKES = tuple(
    tuple(name.split())
    for name in (
        "mountain lion",
        "sea lion",
        "ant lion",
        "lion fish",
        "lion king",
        "tiger shark",
        "tiger fish",
        "tiger lily",
        "elephant seal",
        "elephant shrew",
        "ant eater",
        "frog fish",
    )
)

_MIN_CORRECTED_LENGTH = 5
"""Shorter names differ in one letter from too many words: "line", "aunts"."""


@dataclass(frozen=True, slots=True)
class NameMatch:
    """A name in a message. `animal_index`: the animal that has it. `is_own_name`: "Leo", not a species. `is_plural`:
    "tigers"."""

    animal_index: int
    is_own_name: bool = False
    is_plural: bool = False


class AnimalNames:
    """Finds the names of the given animals. Of two that share a name, the first has it; own names precede species."""

    def __init__(self, titles: Sequence[tuple[str, str]]) -> None:
        """`titles`: the own name and the species of each animal."""
        self._matches: dict[_Phrase, NameMatch] = {}
        for index, (name, _) in enumerate(titles):
            self._matches.setdefault(tokenize(name), NameMatch(index, is_own_name=True))
        # A name like "ライオン" has no tokens: such an animal can only be chosen by its id.
        species = [(index, words) for index, (_, kind) in enumerate(titles) if (words := tokenize(kind))]
        for list_names in (_list_long_names, _list_short_names, _list_nicknames):
            for index, words in species:
                self._add(index, list_names(words))
        species_words = (word for name, match in self._matches.items() if not match.is_own_name for word in name)
        self._speller = Speller(word for word in species_words if len(word) >= _MIN_CORRECTED_LENGTH)
        self._max_words = max(map(len, (*self._matches, *_NAMESAKES)))

    def _add(self, index: int, names: Iterable[_Phrase]) -> None:
        for name in names:
            self._matches.setdefault(name, NameMatch(index))
            self._matches.setdefault(_pluralize(name), NameMatch(index, is_plural=True))

    def find_names(self, words: Sequence[str]) -> Iterator[str | NameMatch]:
        """The words in their order, with a match in place of each name. The longest possible name is taken."""
        at = 0
        while at < len(words):
            ends = range(min(at + self._max_words, len(words)), at, -1)
            end = next((end for end in ends if self._is_name(tuple(words[at:end]))), at + 1)
            phrase = tuple(words[at:end])
            yield self._matches.get(phrase) or self._find_misspelt(phrase) or "-".join(phrase)
            at = end

    def _is_name(self, phrase: _Phrase) -> bool:
        return phrase in self._matches or phrase in _NAMESAKES

    def _find_misspelt(self, phrase: _Phrase) -> NameMatch | None:
        if len(phrase) > 1 or len(phrase[0]) < _MIN_CORRECTED_LENGTH - 1:
            return None
        suggested = (self._matches.get((word,)) for word in self._speller.suggest(phrase[0]))
        return next((match for match in suggested if match), None)


def _list_long_names(species: _Phrase) -> Iterator[_Phrase]:
    """The species' names of two words or more: "red-eyed tree frog", "tree frog"; of one-word species that word."""
    yield from (species[start:] for start in range(max(1, len(species) - 1)))
    yield from ((word, species[-1]) for word in species[:-1])


def _list_short_names(species: _Phrase) -> Iterator[_Phrase]:
    yield species[-1:]


def _list_nicknames(species: _Phrase) -> Iterator[_Phrase]:
    yield from (tokenize(name) for name in NICKNAMES.get(species[-1], ()))


def _pluralize(name: _Phrase) -> _Phrase:
    """The plural by the rules of English spelling; irregular ones are among the nicknames.

    The library `inflect` is not used: importing it takes seconds, and it makes "flamingoes" where children write
    "flamingos".

    >>> _pluralize(("leafcutter", "ant")), _pluralize(("octopus",)), _pluralize(("butterfly",))
    (('leafcutter', 'ants'), ('octopuses',), ('butterflies',))
    """
    *first, last = name
    if last.endswith(("s", "x", "z", "ch", "sh")):
        return (*first, f"{last}es")
    if len(last) > 1 and last.endswith("y") and last[-2] not in "aeiou":
        return (*first, f"{last[:-1]}ies")
    return (*first, f"{last}s")
