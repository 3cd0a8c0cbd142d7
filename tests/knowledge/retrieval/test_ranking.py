"""Fusion of full-text and semantic search, with cosines that each test chooses."""

from __future__ import annotations

from openapi_server.knowledge.retrieval.index import ScoredFact, SearchResult
from openapi_server.knowledge.retrieval.query import Query, Term
from openapi_server.knowledge.retrieval.ranking import MAX_CANDIDATES, Similarities, fuse_rankings
from openapi_server.models.animal import Fact
from tests.support.fakes import make_fact

FACTS = tuple(make_fact(name) for name in "mane roar paws cubs tail teeth sleep speed poo water".split())
MANE, ROAR, PAWS = FACTS[:3]
ASKS = Query("something", (Term(("something",)),))


def make_similarities(out_of_scope: float = 0.0, **cosines: float) -> Similarities:
    by_name = {fact.fact_id: cosines.get(fact.fact_id.rpartition("/")[2], 0.0) for fact in FACTS}
    return Similarities(by_name, out_of_scope)


def make_result(*facts: Fact, coverage: float = 0.0, query: Query = ASKS) -> SearchResult:
    return SearchResult(query, [ScoredFact(fact, 6.0 - rank) for rank, fact in enumerate(facts)], coverage)


def test_a_paraphrase_finds_what_its_words_do_not() -> None:
    """No word matches, and the most similar fact is the answer."""
    assert fuse_rankings(FACTS, make_result(), make_similarities(roar=0.6))[0].fact == ROAR


def test_a_fact_that_both_searches_find_comes_first() -> None:
    """Second in both rankings beats first in one."""
    found = fuse_rankings(FACTS, make_result(PAWS, ROAR, coverage=1), make_similarities(mane=0.5, roar=0.48))

    assert found[0].fact == ROAR


def test_a_message_more_similar_to_out_of_scope_questions_finds_nothing() -> None:
    """Every question is similar to some fact, so similarity alone is not enough."""
    assert fuse_rankings(FACTS, make_result(), make_similarities(out_of_scope=0.6, roar=0.5)) == []


def test_a_matching_word_alone_does_not_answer_a_dissimilar_question() -> None:
    """Full-text search finds a fact, but the question is about something else."""
    assert fuse_rankings(FACTS, make_result(ROAR, coverage=0.6), make_similarities(out_of_scope=0.8, roar=0.2)) == []


def test_full_coverage_outweighs_a_doubtful_similarity() -> None:
    """The questions in `asks` count more than a low similarity."""
    found = fuse_rankings(FACTS, make_result(ROAR, coverage=1), make_similarities(out_of_scope=0.4, roar=0.2))

    assert found[0].fact == ROAR


def test_a_message_to_the_animal_needs_less_similarity() -> None:
    """The same similarity is enough when the animal is addressed, and not enough otherwise."""
    to_it = Query("you", ASKS.terms, is_about_animal=True)
    similarities = make_similarities(out_of_scope=0.3, roar=0.3)

    assert fuse_rankings(FACTS, make_result(query=to_it), similarities)
    assert fuse_rankings(FACTS, make_result(), similarities) == []


def test_a_query_without_terms_finds_nothing() -> None:
    """A question about the visitor or another animal is not answered, however similar it is to a fact."""
    assert fuse_rankings(FACTS, make_result(query=Query("what is my name")), make_similarities(roar=0.9)) == []


def test_candidates_are_few_and_best_first() -> None:
    """However many facts there are, the best eight go on to be ranked."""
    found = fuse_rankings(FACTS, make_result(MANE, coverage=1), make_similarities(roar=0.6, cubs=0.5))
    scores = [each.score for each in found]

    assert len(scores) == MAX_CANDIDATES < len(FACTS)
    assert scores == sorted(scores, reverse=True)
