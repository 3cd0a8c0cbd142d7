"""The residents: the animals as they are now, each with an index over its facts, and a few as they were a moment ago.

A turn keeps the animal that it began with. When its keepers change it meanwhile, the turn is still answered from what
it knew then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openapi_server.knowledge.retrieval.search import FactIndex
from openapi_server.knowledge.retrieval.synonyms import Lexicon
from openapi_server.models.animal import Animal, Fact

# Between a turn's beginning and its last look-up there are milliseconds, and keepers are not that quick.
_MAX_PREVIOUS = 8


@dataclass(frozen=True, slots=True)
class _CacheEntry:
    animal: Animal
    index: FactIndex


class IndexCache:
    """`animals` and `animal` may be asked anywhere; the rest belongs to one thread, as the indexes do."""

    def __init__(self, animals: Sequence[Animal], lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._current = {animal.animal_id: self._build_entry(animal) for animal in animals}
        self._previous: deque[_CacheEntry] = deque()

    def list_animals(self) -> Sequence[Animal]:
        return tuple(resident.animal for resident in self._current.values())

    def get_animal(self, animal_id: str) -> Animal | None:
        resident = self._current.get(animal_id)
        return resident.animal if resident else None

    def is_current(self, animal: Animal) -> bool:
        return self.get_animal(animal.animal_id) is animal

    def get_index(self, animal: Animal) -> FactIndex:
        """The index of this very animal; made for it when it is none that we know."""
        known = (each for each in (*self._current.values(), *self._previous) if each.animal is animal)
        return (next(known, None) or self._keep_previous(self._build_entry(animal))).index

    def find_animal_of(self, fact: Fact) -> Animal | None:
        """Whose fact it is: the animal as it was when this very fact was found."""
        everybody = (each.animal for each in (*self._current.values(), *self._previous))
        return next((animal for animal in everybody if any(own is fact for own in animal.facts)), None)

    def update(self, changed: Mapping[str, Animal | None]) -> None:
        """Put each in the place of the one with its id; None: that one is gone. Others are not touched."""
        indexed = {animal_id: self._build_entry(animal) for animal_id, animal in changed.items() if animal is not None}
        for animal_id in changed.keys() & self._current.keys():
            self._keep_previous(self._current[animal_id])
        kept = {animal_id: resident for animal_id, resident in self._current.items() if animal_id not in changed}
        # One assignment: whoever asks from another thread sees all as it was, or all as it is.
        self._current = dict(sorted((kept | indexed).items()))

    def close(self) -> None:
        for resident in (*self._current.values(), *self._previous):
            resident.index.close()

    def _build_entry(self, animal: Animal) -> _CacheEntry:
        return _CacheEntry(animal, FactIndex(animal, self._lexicon))

    def _keep_previous(self, resident: _CacheEntry) -> _CacheEntry:
        self._previous.append(resident)
        if len(self._previous) > _MAX_PREVIOUS:
            self._previous.popleft().index.close()
        return resident
