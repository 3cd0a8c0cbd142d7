"""The keepers' library: every animal, and the facts that answer a question."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog

from openapi_server.knowledge.animal_switch.detection import beyond_wish, wished
from openapi_server.knowledge.documents.schema import AnimalFileError, animal_of, read_folder
from openapi_server.knowledge.index_cache import Residents
from openapi_server.knowledge.retrieval.followups import FollowUp, follow_up, in_context, offer, same_again, untold
from openapi_server.knowledge.retrieval.fusion import CANDIDATES, Meanings, fused
from openapi_server.knowledge.retrieval.query import Question
from openapi_server.knowledge.retrieval.ranking import Found, best_for
from openapi_server.knowledge.retrieval.synonyms import Lexicon
from openapi_server.models.animal import Animal, Exchange, Fact
from openapi_server.models.document import KeptAnimal
from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.turn import AgeGroup
from openapi_server.protocols import AnimalStore

T = TypeVar("T")

PACKAGED_ANIMALS = Path(__file__).with_name("animals")

# "Tell me about lions": no word says what, and the animal may choose.
_ASKS_FOR_ANYTHING = re.compile(r"\b(?:tell|know|learn|facts?|interesting|special)\b")

_LOOK_BACK = 3

log = structlog.get_logger(__name__)


class AnimalLibrary:
    """Implements `Knowledge`. All look-ups run on one worker thread: the event loop never waits for SQLite, and
    the indexes, which are not made for two readers at a time, never have two.

    Without `meanings` facts are found by their words alone.
    """

    def __init__(self, animals: Sequence[Animal], lexicon: Lexicon, meanings: Meanings | None = None) -> None:
        self._residents = Residents(animals, lexicon)
        self._lexicon = lexicon
        self._meanings = meanings
        self._learn(animals)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="knowledge")
        self._store: AnimalStore | None = None
        self._version = 0
        self._changing = asyncio.Lock()

    @classmethod
    def load(cls, folder: Path | None = None, meanings: Meanings | None = None) -> AnimalLibrary:
        """Read a folder of animal files (by default the packaged one). Raises `AnimalFileError`."""
        return cls(read_folder(folder or PACKAGED_ANIMALS), Lexicon.load(), meanings)

    @classmethod
    async def open(cls, store: AnimalStore, meanings: Meanings | None = None) -> AnimalLibrary:
        """Every animal that the store has, and from now on every change of them."""
        news = await store.news(0)
        animals = [animal for animal in _readable(news.animals).values() if animal is not None]
        library = cls(animals, Lexicon.load(), meanings)
        library._store, library._version = store, news.version
        return library

    def close(self) -> None:
        """Let the worker finish and drop the indexes. Nothing may be asked afterwards."""
        self._worker.shutdown()
        if self._meanings is not None:
            self._meanings.close()
        self._residents.close()

    def animals(self) -> Sequence[Animal]:
        return self._residents.animals()

    def animal(self, animal_id: str) -> Animal | None:
        return self._residents.animal(animal_id)

    async def refresh(self) -> None:
        try:
            if self._store is not None and (await self._store.news(self._version)).animals:
                await self._take_in(self._store)
        except StoreUnavailable:
            log.warning("The store is away: the animals are told as they were")

    def wished(self, message: str) -> Animal | None:
        return wished(message, self.animals())

    async def retrieve(self, animal: Animal, message: str, history: Sequence[Exchange]) -> Sequence[Fact]:
        found = await self._off_the_loop(lambda: self._find(animal, beyond_wish(message, animal), history))
        return [each.fact for each in found[:CANDIDATES]]

    async def rerank(
        self, facts: Sequence[Fact], message: str, history: Sequence[Exchange], age_group: AgeGroup
    ) -> Sequence[Fact]:
        if not facts:
            return []
        return await self._off_the_loop(lambda: self._rerank(facts, message, history, age_group))

    async def _take_in(self, store: AnimalStore) -> None:
        """One at a time; whoever waited finds that there is nothing left to do, or the next change."""
        async with self._changing:
            news = await store.news(self._version)
            changed = await self._off_the_loop(lambda: _readable(news.animals))
            await self._off_the_loop(lambda: self._residents.change(changed))
            self._version = news.version
            self._learn(animal for animal in changed.values() if animal is not None)

    def _learn(self, animals: Iterable[Animal]) -> None:
        for animal in animals:
            if self._meanings is not None:
                self._meanings.learn(animal)

    async def _off_the_loop(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _rerank(
        self, facts: Sequence[Fact], message: str, history: Sequence[Exchange], age_group: AgeGroup
    ) -> list[Fact]:
        """Searching again is a millisecond, and spares every caller from carrying scores about."""
        animal = self._residents.teller(facts[0])
        if animal is None:
            return list(facts)  # nobody here has told it: all that is known is the order in which it came
        message = beyond_wish(message, animal)
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
        question = self._residents.index(animal).read(message)
        if not question.terms and question.is_about_it and _ASKS_FOR_ANYTHING.search(question.said):
            return self._go_on(animal, history, surprise=True)
        alone = self._found(animal, question, message)
        before = self._question_before(animal, history)
        complete = in_context(question, before)
        if before is None or complete is question or (question.stands_alone and not alone):
            return alone  # what was said before may put facts in another order, not answer for an unknown word
        said = message if question.stands_alone else f"{before.said}: {message}"
        return self._found(animal, complete, said) or alone

    def _found(self, animal: Animal, question: Question, message: str) -> list[Found]:
        """By words and, where the animal's facts are learned, by meaning too. `message`: how the question was put."""
        matched = self._residents.index(animal).search(question)
        meanings = self._meanings if question.terms and self._residents.is_current(animal) else None
        nearness = meanings.nearness(animal.animal_id, message) if meanings else None
        return matched.found if nearness is None else fused(animal.facts, matched, nearness)

    def _question_before(self, animal: Animal, history: Sequence[Exchange]) -> Question | None:
        """What the talk is about: the last question that was answered, or else the fact told last."""
        answered = next((each for each in reversed(history[-_LOOK_BACK:]) if each.fact_ids), None)
        if answered is None:
            return None
        read = self._residents.index(animal).read
        question = read(answered.message)
        if question.stands_alone and follow_up(answered.message) is None:
            return question
        return read(answered.fact_ids[0].rpartition("/")[2].replace("_", " "))

    def _accept(self, animal: Animal, history: Sequence[Exchange]) -> list[Found]:
        """The visitor said yes: to what the animal offered to tell, or else to hearing more."""
        offered = offer(history[-1].reply) if history else ""
        if not offered:
            return []
        question = self._residents.index(animal).read(offered)
        return self._found(animal, question, offered) or self._go_on(animal, history, surprise=False)

    def _go_on(self, animal: Animal, history: Sequence[Exchange], *, surprise: bool) -> list[Found]:
        return _in_order(untold(animal.facts, history, self._lexicon.near, surprise=surprise))


def _in_order(facts: Sequence[Fact]) -> list[Found]:
    """Facts that were not searched for keep their order: each is worth a little less than the one before."""
    return [Found(fact, 0.9**place) for place, fact in enumerate(facts)]


def _readable(news: Mapping[str, KeptAnimal | None]) -> dict[str, Animal | None]:
    """Without those that a newer version of this server wrote, and this one cannot read: they stay as they were."""
    changed: dict[str, Animal | None] = {}
    for animal_id, kept in news.items():
        try:
            changed[animal_id] = animal_of(kept.document, Path(animal_id), kept.version) if kept else None
        except AnimalFileError as error:
            log.error("animal_unreadable", animal_id=animal_id, field=error.field, complaint=error.complaint)
    return changed
