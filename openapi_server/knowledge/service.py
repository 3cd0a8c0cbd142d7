"""The keepers' library: every animal, and the facts that answer a question."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog

from openapi_server.knowledge.animal_switch.detection import detect_requested_animal, strip_switch_request
from openapi_server.knowledge.index_cache import IndexCache
from openapi_server.knowledge.retrieval.followups import (
    FollowUp,
    add_context,
    detect_follow_up,
    find_offer,
    list_last_facts,
    list_untold_facts,
)
from openapi_server.knowledge.retrieval.fusion import MAX_CANDIDATES, SemanticIndex, fuse_rankings
from openapi_server.knowledge.retrieval.query import Query
from openapi_server.knowledge.retrieval.ranking import ScoredFact, select_facts
from openapi_server.knowledge.retrieval.synonyms import Lexicon
from openapi_server.knowledge.schema import PACKAGED_ANIMALS, AnimalFileError, parse_animal, read_folder
from openapi_server.models.animal import Animal, Fact
from openapi_server.models.document import VersionedDocument
from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.prompt import Exchange
from openapi_server.models.turn import AgeGroup
from openapi_server.protocols import DocumentStore

T = TypeVar("T")

# "Tell me about lions": no word says what, and the animal may choose.
_OPEN_QUESTION = re.compile(r"\b(?:tell|know|learn|facts?|interesting|special)\b")

_MAX_HISTORY_EXCHANGES = 3

log = structlog.get_logger(__name__)


class KnowledgeService:
    """Implements `Knowledge`. All look-ups run on one worker thread: the event loop never waits for SQLite, and
    the indexes, which are not made for two readers at a time, never have two.

    Without `meanings` facts are found by their words alone.
    """

    def __init__(
        self, animals: Sequence[Animal], lexicon: Lexicon, semantic_index: SemanticIndex | None = None
    ) -> None:
        self._index_cache = IndexCache(animals, lexicon)
        self._lexicon = lexicon
        self._semantic_index = semantic_index
        self._index_semantically(animals)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="knowledge")
        self._store: DocumentStore | None = None
        self._version = 0
        self._refresh_lock = asyncio.Lock()

    @classmethod
    def load(cls, folder: Path | None = None, semantic_index: SemanticIndex | None = None) -> KnowledgeService:
        """Read a folder of animal files (by default the packaged one). Raises `AnimalFileError`."""
        return cls(read_folder(folder or PACKAGED_ANIMALS), Lexicon.load(), semantic_index)

    @classmethod
    async def open(cls, store: DocumentStore, semantic_index: SemanticIndex | None = None) -> KnowledgeService:
        """Every animal that the store has, and from now on every change of them."""
        news = await store.list_changes(0)
        animals = [animal for animal in _parse_readable(news.documents).values() if animal is not None]
        library = cls(animals, Lexicon.load(), semantic_index)
        library._store, library._version = store, news.version
        return library

    def close(self) -> None:
        """Let the worker finish and drop the indexes. Nothing may be asked afterwards."""
        self._worker.shutdown()
        if self._semantic_index is not None:
            self._semantic_index.close()
        self._index_cache.close()

    def list_animals(self) -> Sequence[Animal]:
        return self._index_cache.list_animals()

    def get_animal(self, animal_id: str) -> Animal | None:
        return self._index_cache.get_animal(animal_id)

    async def refresh(self) -> None:
        try:
            if self._store is not None and (await self._store.list_changes(self._version)).documents:
                await self._load_changes(self._store)
        except StoreUnavailable:
            log.warning("The store is away: the animals are told as they were")

    def find_requested_animal(self, message: str) -> Animal | None:
        return detect_requested_animal(message, self.list_animals())

    async def retrieve(self, animal: Animal, message: str, history: Sequence[Exchange]) -> Sequence[Fact]:
        found = await self._run_on_worker(
            lambda: self._find_facts(animal, strip_switch_request(message, animal), history)
        )
        return [each.fact for each in found[:MAX_CANDIDATES]]

    async def rerank(
        self, facts: Sequence[Fact], message: str, history: Sequence[Exchange], age_group: AgeGroup
    ) -> Sequence[Fact]:
        if not facts:
            return []
        return await self._run_on_worker(lambda: self._rerank(facts, message, history, age_group))

    async def _load_changes(self, store: DocumentStore) -> None:
        """One at a time; whoever waited finds that there is nothing left to do, or the next change."""
        async with self._refresh_lock:
            news = await store.list_changes(self._version)
            changed = await self._run_on_worker(lambda: _parse_readable(news.documents))
            await self._run_on_worker(lambda: self._index_cache.update(changed))
            self._version = news.version
            self._index_semantically(animal for animal in changed.values() if animal is not None)

    def _index_semantically(self, animals: Iterable[Animal]) -> None:
        for animal in animals:
            if self._semantic_index is not None:
                self._semantic_index.index_animal(animal)

    async def _run_on_worker(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _rerank(
        self, facts: Sequence[Fact], message: str, history: Sequence[Exchange], age_group: AgeGroup
    ) -> list[Fact]:
        """Searching again is a millisecond, and spares every caller from carrying scores about."""
        animal = self._index_cache.find_animal_of(facts[0])
        if animal is None:
            return list(facts)  # nobody here has told it: all that is known is the order in which it came
        message = strip_switch_request(message, animal)
        score_by_id = {each.fact.fact_id: each.score for each in self._find_facts(animal, message, history)}
        found = [ScoredFact(fact, score_by_id.get(fact.fact_id, 0.0)) for fact in facts]
        return select_facts(found, message, history, age_group)

    def _find_facts(self, animal: Animal, message: str, history: Sequence[Exchange]) -> list[ScoredFact]:
        match detect_follow_up(message):
            case None:
                return self._search(animal, message, history)
            case FollowUp.ACCEPT_OFFER:
                return self._follow_offer(animal, history)
            case FollowUp.WHY | FollowUp.REPEAT as kind:
                return _score_in_order(list_last_facts(animal.facts, history, for_why=kind is FollowUp.WHY))
            case kind:
                return self._find_new_facts(animal, history, surprise=kind is FollowUp.SURPRISE)

    def _search(self, animal: Animal, message: str, history: Sequence[Exchange]) -> list[ScoredFact]:
        question = self._index_cache.get_index(animal).parse_query(message)
        if not question.terms and question.is_about_animal and _OPEN_QUESTION.search(question.text):
            return self._find_new_facts(animal, history, surprise=True)
        alone = self._rank_facts(animal, question, message)
        before = self._find_previous_query(animal, history)
        complete = add_context(question, before)
        if before is None or complete is question or (question.is_self_contained and not alone):
            return alone  # what was said before may put facts in another order, not answer for an unknown word
        said = message if question.is_self_contained else f"{before.text}: {message}"
        return self._rank_facts(animal, complete, said) or alone

    def _rank_facts(self, animal: Animal, question: Query, message: str) -> list[ScoredFact]:
        """By words and, where the animal's facts are learned, by meaning too. `message`: how the question was put."""
        matched = self._index_cache.get_index(animal).search(question)
        meanings = self._semantic_index if question.terms and self._index_cache.is_current(animal) else None
        nearness = meanings.compute_similarities(animal.animal_id, message) if meanings else None
        return matched.facts if nearness is None else fuse_rankings(animal.facts, matched, nearness)

    def _find_previous_query(self, animal: Animal, history: Sequence[Exchange]) -> Query | None:
        """What the talk is about: the last question that was answered, or else the fact told last."""
        answered = next((each for each in reversed(history[-_MAX_HISTORY_EXCHANGES:]) if each.fact_ids), None)
        if answered is None:
            return None
        read = self._index_cache.get_index(animal).parse_query
        question = read(answered.message)
        if question.is_self_contained and detect_follow_up(answered.message) is None:
            return question
        return read(answered.fact_ids[0].rpartition("/")[2].replace("_", " "))

    def _follow_offer(self, animal: Animal, history: Sequence[Exchange]) -> list[ScoredFact]:
        """The visitor said yes: to what the animal offered to tell, or else to hearing more."""
        offered = find_offer(history[-1].reply) if history else ""
        if not offered:
            return []
        question = self._index_cache.get_index(animal).parse_query(offered)
        return self._rank_facts(animal, question, offered) or self._find_new_facts(animal, history, surprise=False)

    def _find_new_facts(self, animal: Animal, history: Sequence[Exchange], *, surprise: bool) -> list[ScoredFact]:
        return _score_in_order(
            list_untold_facts(animal.facts, history, self._lexicon.related_topics, surprise=surprise)
        )


def _score_in_order(facts: Sequence[Fact]) -> list[ScoredFact]:
    """Facts that were not searched for keep their order: each is worth a little less than the one before."""
    return [ScoredFact(fact, 0.9**place) for place, fact in enumerate(facts)]


def _parse_readable(news: Mapping[str, VersionedDocument | None]) -> dict[str, Animal | None]:
    """Without those that a newer version of this server wrote, and this one cannot read: they stay as they were."""
    changed: dict[str, Animal | None] = {}
    for animal_id, kept in news.items():
        try:
            changed[animal_id] = parse_animal(kept.document, Path(animal_id), kept.version) if kept else None
        except AnimalFileError as error:
            log.error("animal_unreadable", animal_id=animal_id, field=error.field, complaint=error.message)
    return changed
