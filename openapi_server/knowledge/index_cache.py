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
_REMEMBERED = 8


@dataclass(frozen=True, slots=True)
class _Resident:
    animal: Animal
    index: FactIndex


class Residents:
    """`animals` and `animal` may be asked anywhere; the rest belongs to one thread, as the indexes do."""

    def __init__(self, animals: Sequence[Animal], lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._now = {animal.animal_id: self._indexed(animal) for animal in animals}
        self._former: deque[_Resident] = deque()

    def animals(self) -> Sequence[Animal]:
        return tuple(resident.animal for resident in self._now.values())

    def animal(self, animal_id: str) -> Animal | None:
        resident = self._now.get(animal_id)
        return resident.animal if resident else None

    def is_current(self, animal: Animal) -> bool:
        return self.animal(animal.animal_id) is animal

    def index(self, animal: Animal) -> FactIndex:
        """The index of this very animal; made for it when it is none that we know."""
        known = (each for each in (*self._now.values(), *self._former) if each.animal is animal)
        return (next(known, None) or self._remember(self._indexed(animal))).index

    def teller(self, fact: Fact) -> Animal | None:
        """Whose fact it is: the animal as it was when this very fact was found."""
        everybody = (each.animal for each in (*self._now.values(), *self._former))
        return next((animal for animal in everybody if any(own is fact for own in animal.facts)), None)

    def change(self, changed: Mapping[str, Animal | None]) -> None:
        """Put each in the place of the one with its id; None: that one is gone. Others are not touched."""
        indexed = {animal_id: self._indexed(animal) for animal_id, animal in changed.items() if animal is not None}
        for animal_id in changed.keys() & self._now.keys():
            self._remember(self._now[animal_id])
        kept = {animal_id: resident for animal_id, resident in self._now.items() if animal_id not in changed}
        # One assignment: whoever asks from another thread sees all as it was, or all as it is.
        self._now = dict(sorted((kept | indexed).items()))

    def close(self) -> None:
        for resident in (*self._now.values(), *self._former):
            resident.index.close()

    def _indexed(self, animal: Animal) -> _Resident:
        return _Resident(animal, FactIndex(animal, self._lexicon))

    def _remember(self, resident: _Resident) -> _Resident:
        self._former.append(resident)
        if len(self._former) > _REMEMBERED:
            self._former.popleft().index.close()
        return resident
