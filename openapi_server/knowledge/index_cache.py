"""Indexes of the current animals and of previous versions: a turn is answered from the version it started with."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openapi_server.knowledge.retrieval.index import FactIndex
from openapi_server.knowledge.retrieval.query import Lexicon
from openapi_server.models.animal import Animal, Fact

# Previous versions that are kept. Enough: only milliseconds pass between the start of a turn and its last look-up.
_MAX_PREVIOUS = 8


@dataclass(frozen=True, slots=True)
class _CacheEntry:
    animal: Animal
    index: FactIndex


class IndexCache:
    """The current animals and the latest previous versions of changed ones, each with the index of its facts.

    `list_animals`, `get_animal` and `find_current_index` are thread-safe. All other methods must be called on one
    thread, as the indexes are.
    """

    def __init__(self, animals: Sequence[Animal], lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._current = {animal.animal_id: self._build_entry(animal) for animal in animals}
        self._animals = tuple(entry.animal for entry in self._current.values())
        self._previous: deque[_CacheEntry] = deque()

    def list_animals(self) -> Sequence[Animal]:
        """The same object as long as no animal is changed."""
        return self._animals

    def get_animal(self, animal_id: str) -> Animal | None:
        entry = self._current.get(animal_id)
        return entry.animal if entry else None

    def is_current(self, animal: Animal) -> bool:
        return self.get_animal(animal.animal_id) is animal

    def find_current_index(self, animal: Animal) -> FactIndex | None:
        """The index of this very version of the animal; None if it is not the current one. Thread-safe."""
        entry = self._current.get(animal.animal_id)
        return entry.index if entry is not None and entry.animal is animal else None

    def get_index(self, animal: Animal) -> FactIndex:
        """The index of this very version of the animal; built now if it is not in the cache."""
        current = self.find_current_index(animal)
        if current is not None:
            return current
        cached = (each for each in (*self._current.values(), *self._previous) if each.animal is animal)
        return (next(cached, None) or self._keep_previous(self._build_entry(animal))).index

    def find_animal_of(self, fact: Fact) -> Animal | None:
        """The version of the animal that this very fact object belongs to; None if it is not in the cache."""
        versions = (each.animal for each in (*self._current.values(), *self._previous))
        return next((animal for animal in versions if any(own is fact for own in animal.facts)), None)

    def update(self, changed: Mapping[str, Animal | None]) -> None:
        """Replace the animals with these ids; None: delete it. Others, and their indexes, stay as they are."""
        indexed = {animal_id: self._build_entry(animal) for animal_id, animal in changed.items() if animal is not None}
        for animal_id in changed.keys() & self._current.keys():
            self._keep_previous(self._current[animal_id])
        kept = {animal_id: entry for animal_id, entry in self._current.items() if animal_id not in changed}
        # One assignment, so that other threads see either all of the changes or none.
        self._current = dict(sorted((kept | indexed).items()))
        self._animals = tuple(entry.animal for entry in self._current.values())

    def close(self) -> None:
        for entry in (*self._current.values(), *self._previous):
            entry.index.close()

    def _build_entry(self, animal: Animal) -> _CacheEntry:
        return _CacheEntry(animal, FactIndex(animal, self._lexicon))

    def _keep_previous(self, entry: _CacheEntry) -> _CacheEntry:
        self._previous.append(entry)
        if len(self._previous) > _MAX_PREVIOUS:
            self._previous.popleft().index.close()
        return entry
