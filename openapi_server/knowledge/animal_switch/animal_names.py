"""What visitors call the animals: "Leo", "the lion", "lions", "that puma". Knows words, not what is asked with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from openapi_server.knowledge.retrieval.query import tokenize
from openapi_server.knowledge.retrieval.spelling import Speller

_Phrase = tuple[str, ...]

# Common names that no animal's file says, by the last word of the species. Also plurals that follow no rule.
_ALSO_CALLED: Mapping[str, tuple[str, ...]] = {
    "alligator": ("gator",),
    "chimpanzee": ("chimp",),
    "cougar": ("puma", "mountain lion", "catamount"),
    "crocodile": ("croc",),
    "hippopotamus": ("hippo", "hippopotami"),
    "mouse": ("mice",),
    "octopus": ("octopi",),
    "orangutan": ("orang utan",),
    "rhinoceros": ("rhino",),
    "seahorse": ("sea horse",),
    "tortoise": ("turtle",),
    "wolf": ("wolves",),
}

# Named after one animal, but another, wherever the zoo has none of that kind.
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

_SHORTEST_MISSPELT = 5
"""Shorter names are one slip away from too many words: "line", "aunts"."""


@dataclass(frozen=True, slots=True)
class NameMatch:
    """An animal, where a message names it. `place`: which it is. `by_name`: by its own name. `is_many`: "tigers"."""

    animal_index: int
    is_own_name: bool = False
    is_plural: bool = False


class AnimalNames:
    """What the animals are called. Where two share a name, it means the first; an own name goes before a kind's."""

    def __init__(self, titles: Sequence[tuple[str, str]]) -> None:
        """`titles`: each animal's own name and its species."""
        self._called: dict[_Phrase, NameMatch] = {}
        for place, (name, _) in enumerate(titles):
            self._called.setdefault(tokenize(name), NameMatch(place, is_own_name=True))
        # Of "ライオン" we know no word: whoever is called so is found by id alone.
        species = [(place, words) for place, (_, kind) in enumerate(titles) if (words := tokenize(kind))]
        for kinds in (_whole_kinds, _short_kinds, _other_kinds):
            for place, words in species:
                self._add(place, kinds(words))
        spelled = (word for phrase, called in self._called.items() if not called.is_own_name for word in phrase)
        self._speller = Speller(word for word in spelled if len(word) >= _SHORTEST_MISSPELT)
        self._longest = max(map(len, (*self._called, *_NAMESAKES)))

    def _add(self, place: int, kinds: Iterable[_Phrase]) -> None:
        for kind in kinds:
            self._called.setdefault(kind, NameMatch(place))
            self._called.setdefault(_plural(kind), NameMatch(place, is_plural=True))

    def find_names(self, words: Sequence[str]) -> Iterator[str | NameMatch]:
        """The words, with every name of an animal replaced by who is called so. Longer names are read first."""
        at = 0
        while at < len(words):
            ends = range(min(at + self._longest, len(words)), at, -1)
            end = next((end for end in ends if self._is_name(tuple(words[at:end]))), at + 1)
            phrase = tuple(words[at:end])
            yield self._called.get(phrase) or self._misspelt(phrase) or "-".join(phrase)
            at = end

    def _is_name(self, phrase: _Phrase) -> bool:
        return phrase in self._called or phrase in _NAMESAKES

    def _misspelt(self, phrase: _Phrase) -> NameMatch | None:
        if len(phrase) > 1 or len(phrase[0]) < _SHORTEST_MISSPELT - 1:
            return None
        meant = (self._called.get((word,)) for word in self._speller.suggest(phrase[0]))
        return next((called for called in meant if called), None)


def _whole_kinds(species: _Phrase) -> Iterator[_Phrase]:
    """ "Red-eyed tree frog", "tree frog", but not yet "frog"."""
    yield from (species[start:] for start in range(max(1, len(species) - 1)))
    yield from ((word, species[-1]) for word in species[:-1])


def _short_kinds(species: _Phrase) -> Iterator[_Phrase]:
    yield species[-1:]


def _other_kinds(species: _Phrase) -> Iterator[_Phrase]:
    yield from (tokenize(name) for name in _ALSO_CALLED.get(species[-1], ()))


def _plural(kind: _Phrase) -> _Phrase:
    """English, by rule; what follows no rule stands in the table.

    >>> _plural(("leafcutter", "ant")), _plural(("octopus",)), _plural(("butterfly",))
    (('leafcutter', 'ants'), ('octopuses',), ('butterflies',))
    """
    *first, last = kind
    if re.search(r"(?:s|x|z|ch|sh)$", last):
        return (*first, f"{last}es")
    if re.search(r"[^aeiou]y$", last):
        return (*first, f"{last[:-1]}ies")
    return (*first, f"{last}s")
