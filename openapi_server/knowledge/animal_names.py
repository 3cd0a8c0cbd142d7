"""The names of the animals in a message: "Leo", "the lion", "lions", "that puma"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from openapi_server.knowledge.retrieval.query import tokenize
from openapi_server.knowledge.retrieval.spelling import Speller
from openapi_server.models.animal import NICKNAMES

_Phrase = tuple[str, ...]

# Names that contain the name of another animal. The zoo may have one of these species, too: then it is a name.
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
"""Shorter names are one letter away from too many words: "line", "aunts"."""


@dataclass(frozen=True, slots=True)
class NameMatch:
    """A name in a message. `animal_index`: whose it is. `is_own_name`: "Leo", else a species. `is_plural`: "tigers"."""

    animal_index: int
    is_own_name: bool = False
    is_plural: bool = False


class AnimalNames:
    """The names of some animals. Where two share a name, it is the first one's; an own name precedes a species."""

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
        """The words in their order, with a match in the place of each name. The longest possible name is taken."""
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
    """ "Red-eyed tree frog", "tree frog", but not yet "frog"."""
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
    if re.search(r"(?:s|x|z|ch|sh)$", last):
        return (*first, f"{last}es")
    if re.search(r"[^aeiou]y$", last):
        return (*first, f"{last[:-1]}ies")
    return (*first, f"{last}s")
