"""The keepers' library: every animal, and the facts that answer a question."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from openapi_server.animals import Animal, Exchange, Fact
from openapi_server.knowledge.followups import FollowUp, follow_up, in_context, offer, same_again, untold
from openapi_server.knowledge.lexicon import Lexicon
from openapi_server.knowledge.loading import read_folder
from openapi_server.knowledge.questions import Question
from openapi_server.knowledge.ranking import Found, best_for
from openapi_server.knowledge.search import FactIndex
from openapi_server.knowledge.wishes import wished
from openapi_server.turn import AgeGroup

T = TypeVar("T")

PACKAGED_ANIMALS = Path(__file__).with_name("animals")

# "Tell me about lions": no word says what, and the animal may choose.
_ASKS_FOR_ANYTHING = re.compile(r"\b(?:tell|know|learn|facts?|interesting|special)\b")

_CANDIDATES = 8
_LOOK_BACK = 3


class AnimalLibrary:
    """Implements `Knowledge`. All look-ups run on one worker thread: the event loop never waits for SQLite, and
    the indexes, which are not made for two readers at a time, never have two."""

    def __init__(self, animals: Sequence[Animal], lexicon: Lexicon) -> None:
        self._animals = {animal.animal_id: animal for animal in animals}
        self._lexicon = lexicon
        self._indexes = {animal.animal_id: FactIndex(animal, lexicon) for animal in animals}
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="knowledge")

    @classmethod
    def load(cls, folder: Path | None = None) -> AnimalLibrary:
        """Read a folder of animal files (by default the packaged one). Raises `AnimalFileError`."""
        return cls(read_folder(folder or PACKAGED_ANIMALS), Lexicon.load())

    def close(self) -> None:
        """Let the worker finish and drop the indexes. Nothing may be asked afterwards."""
        self._worker.shutdown()
        for index in self._indexes.values():
            index.close()

    def animals(self) -> Sequence[Animal]:
        return tuple(self._animals.values())

    def animal(self, animal_id: str) -> Animal | None:
        return self._animals.get(animal_id)

    def wished(self, message: str) -> Animal | None:
        return wished(message, self.animals())

    async def retrieve(self, animal: Animal, message: str, history: Sequence[Exchange]) -> Sequence[Fact]:
        found = await self._off_the_loop(lambda: self._find(animal, message, history))
        return [each.fact for each in found[:_CANDIDATES]]

    async def rerank(
        self, facts: Sequence[Fact], message: str, history: Sequence[Exchange], age_group: AgeGroup
    ) -> Sequence[Fact]:
        if not facts:
            return []
        return await self._off_the_loop(lambda: self._rerank(facts, message, history, age_group))

    async def _off_the_loop(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _rerank(
        self, facts: Sequence[Fact], message: str, history: Sequence[Exchange], age_group: AgeGroup
    ) -> list[Fact]:
        """Searching again is a millisecond, and spares every caller from carrying scores about."""
        animal = self._animals[facts[0].animal_id]
        score_by_id = {each.fact.fact_id: each.score for each in self._find(animal, message, history)}
        found = [Found(fact, score_by_id.get(fact.fact_id, 0.0)) for fact in facts]
        return best_for(found, message, history, age_group)

    def _find(self, animal: Animal, message: str, history: Sequence[Exchange]) -> list[Found]:
        match follow_up(message):
            case None:
                return self._search(animal, message, history)
            case FollowUp.YES:
                return self._accept(animal, history)
            case FollowUp.WHY | FollowUp.AGAIN as kind:
                return _in_order(same_again(animal.facts, history, for_why=kind is FollowUp.WHY))
            case kind:
                return self._go_on(animal, history, surprise=kind is FollowUp.SURPRISE)

    def _search(self, animal: Animal, message: str, history: Sequence[Exchange]) -> list[Found]:
        index = self._indexes[animal.animal_id]
        question = index.read(message)
        if not question.terms and question.is_about_it and _ASKS_FOR_ANYTHING.search(question.said):
            return self._go_on(animal, history, surprise=True)
        alone = index.search(question)
        complete = in_context(question, self._question_before(animal, history))
        if complete is question or (question.stands_alone and not alone):
            return alone  # what was said before may put facts in another order, not answer for an unknown word
        return index.search(complete) or alone

    def _question_before(self, animal: Animal, history: Sequence[Exchange]) -> Question | None:
        """What the talk is about: the last question that was answered, or else the fact told last."""
        answered = next((each for each in reversed(history[-_LOOK_BACK:]) if each.fact_ids), None)
        if answered is None:
            return None
        read = self._indexes[animal.animal_id].read
        question = read(answered.message)
        if question.stands_alone and follow_up(answered.message) is None:
            return question
        return read(answered.fact_ids[0].rpartition("/")[2].replace("_", " "))

    def _accept(self, animal: Animal, history: Sequence[Exchange]) -> list[Found]:
        """The visitor said yes: to what the animal offered to tell, or else to hearing more."""
        offered = offer(history[-1].reply) if history else ""
        if not offered:
            return []
        index = self._indexes[animal.animal_id]
        return index.search(index.read(offered)) or self._go_on(animal, history, surprise=False)

    def _go_on(self, animal: Animal, history: Sequence[Exchange], *, surprise: bool) -> list[Found]:
        return _in_order(untold(animal.facts, history, self._lexicon.near, surprise=surprise))


def _in_order(facts: Sequence[Fact]) -> list[Found]:
    """Facts that were not searched for keep their order: each is worth a little less than the one before."""
    return [Found(fact, 0.9**place) for place, fact in enumerate(facts)]
