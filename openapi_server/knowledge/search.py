"""The search for facts that answer a visitor's message, in the light of what was said before."""

from __future__ import annotations

from collections.abc import Sequence

from openapi_server import linear_regex
from openapi_server.knowledge.animal_switch import strip_switch_request
from openapi_server.knowledge.index_cache import IndexCache
from openapi_server.knowledge.retrieval.follow_ups import (
    FollowUp,
    add_context,
    detect_follow_up,
    find_offer,
    list_last_facts,
    list_untold_facts,
)
from openapi_server.knowledge.retrieval.index import FactIndex, KeptTerms, LookUpNeeded, ScoredFact
from openapi_server.knowledge.retrieval.query import Lexicon, Query
from openapi_server.knowledge.retrieval.ranking import MAX_CANDIDATES, SemanticIndex, fuse_rankings, select_facts
from openapi_server.models.animal import Animal, Fact
from openapi_server.models.prompt import Exchange
from openapi_server.models.turn import AgeGroup

# "Tell me about lions" names no topic, so any fact is an answer.
_OPEN_QUESTION = linear_regex.compile(r"\b(?:tell|know|learn|facts?|interesting|special)\b")

_MAX_HISTORY_EXCHANGES = 3


class FactSearch:
    """Finds and ranks facts. All but `retrieve_kept` must be called on one thread, as the indexes are.

    Without a `semantic_index`, facts are found by full-text search alone.
    """

    def __init__(self, index_cache: IndexCache, lexicon: Lexicon, semantic_index: SemanticIndex | None) -> None:
        self._index_cache = index_cache
        self._lexicon = lexicon
        self._semantic_index = semantic_index

    def retrieve(
        self, animal: Animal, message: str, history: Sequence[Exchange], question: str | None = None
    ) -> FoundFacts:
        """`question`: see `FoundFacts`, where it is known already."""
        if question is None:
            question = strip_switch_request(message, animal)
        index = self._index_cache.get_index(animal)
        return FoundFacts(self._find_facts(index, animal, question, history), message, history, question)

    def retrieve_kept(self, animal: Animal, message: str, history: Sequence[Exchange]) -> FoundFacts | str:
        """On any thread: the facts, where nothing has to be looked up for them; else the question."""
        question = strip_switch_request(message, animal)
        index = self._index_cache.find_current_index(animal)
        if index is None:
            return question
        try:
            return FoundFacts(self._find_facts(KeptTerms(index), animal, question, history), message, history, question)
        except LookUpNeeded:
            return question

    def rerank(
        self, facts: Sequence[Fact], message: str, history: Sequence[Exchange], age_group: AgeGroup
    ) -> list[Fact]:
        """Facts that were not found by this very search are searched for again."""
        animal = self._index_cache.find_animal_of(facts[0])
        if animal is None:
            return list(facts)  # no version of the animal is left to search: the order is all that is known
        message = strip_switch_request(message, animal)
        scored = self._find_facts(self._index_cache.get_index(animal), animal, message, history)
        score_by_id = {each.fact.fact_id: each.score for each in scored}
        found = [ScoredFact(fact, score_by_id.get(fact.fact_id, 0.0)) for fact in facts]
        return select_facts(found, message, history, age_group)

    def _find_facts(
        self, index: FactIndex | KeptTerms, animal: Animal, message: str, history: Sequence[Exchange]
    ) -> list[ScoredFact]:
        match detect_follow_up(message):
            case None:
                return self._search(index, animal, message, history)
            case FollowUp.ACCEPT_OFFER:
                return self._follow_offer(index, animal, history)
            case FollowUp.WHY | FollowUp.REPEAT as kind:
                return _score_in_order(list_last_facts(animal.facts, history, for_why=kind is FollowUp.WHY))
            case kind:
                return self._find_new_facts(animal, history, surprise=kind is FollowUp.SURPRISE)

    def _search(
        self, index: FactIndex | KeptTerms, animal: Animal, message: str, history: Sequence[Exchange]
    ) -> list[ScoredFact]:
        query = index.parse_query(message)
        if not query.terms and query.is_about_animal and _OPEN_QUESTION.search(query.text):
            return self._find_new_facts(animal, history, surprise=True)
        facts = self._rank_facts(index, animal, query, message)
        previous = self._find_previous_query(index, history)
        query_in_context = add_context(query, previous)
        if previous is None or query_in_context is query or (query.is_self_contained and not facts):
            return facts  # the context may change the order of facts, but it does not answer for an unknown word
        message_in_context = message if query.is_self_contained else f"{previous.text}: {message}"
        return self._rank_facts(index, animal, query_in_context, message_in_context) or facts

    def _rank_facts(self, index: FactIndex | KeptTerms, animal: Animal, query: Query, message: str) -> list[ScoredFact]:
        """The facts that answer the query; also by the meaning of the message, if the animal's facts are indexed."""
        result = index.search(query)
        semantic_index = self._semantic_index if query.terms and self._index_cache.is_current(animal) else None
        similarities = semantic_index.compute_similarities(animal.animal_id, message) if semantic_index else None
        return result.facts if similarities is None else fuse_rankings(animal.facts, result, similarities)

    def _find_previous_query(self, index: FactIndex | KeptTerms, history: Sequence[Exchange]) -> Query | None:
        """The topic of the conversation: the last message that was answered, or else the name of the fact told then."""
        answered = next((each for each in reversed(history[-_MAX_HISTORY_EXCHANGES:]) if each.fact_ids), None)
        if answered is None:
            return None
        query = index.parse_query(answered.message)
        if query.is_self_contained and detect_follow_up(answered.message) is None:
            return query
        return index.parse_query(answered.fact_ids[0].rpartition("/")[2].replace("_", " "))

    def _follow_offer(
        self, index: FactIndex | KeptTerms, animal: Animal, history: Sequence[Exchange]
    ) -> list[ScoredFact]:
        """After "yes": the facts that the last reply offered, or else facts that were not told yet."""
        offer = find_offer(history[-1].reply) if history else ""
        if not offer:
            return []
        query = index.parse_query(offer)
        return self._rank_facts(index, animal, query, offer) or self._find_new_facts(animal, history, surprise=False)

    def _find_new_facts(self, animal: Animal, history: Sequence[Exchange], *, surprise: bool) -> list[ScoredFact]:
        return _score_in_order(
            list_untold_facts(animal.facts, history, self._lexicon.related_topics, surprise=surprise)
        )


class FoundFacts(list[Fact]):
    """The best of what a search has found, with the scores and what was asked: ranking it needs no second search.

    `question`: the message without a request for another animal.
    """

    def __init__(self, scored: Sequence[ScoredFact], message: str, history: Sequence[Exchange], question: str) -> None:
        self.scored = scored[:MAX_CANDIDATES]
        super().__init__([each.fact for each in self.scored])
        self.question = question
        self._message = message
        self._history = history

    def answer(self, message: str, history: Sequence[Exchange]) -> bool:
        """Whether they were found for this message."""
        return self._message == message and self._history == history


def _score_in_order(facts: Sequence[Fact]) -> list[ScoredFact]:
    """Scores that keep the order of facts that were not searched for."""
    return [ScoredFact(fact, 0.9**position) for position, fact in enumerate(facts)]
