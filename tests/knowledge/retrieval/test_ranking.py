"""Words and meaning together, with cosines of the test's choice."""

from __future__ import annotations

from openapi_server.knowledge.retrieval.index import ScoredFact, SearchResult
from openapi_server.knowledge.retrieval.query import Query, Term
from openapi_server.knowledge.retrieval.ranking import MAX_CANDIDATES, Similarities, fuse_rankings
from openapi_server.models.animal import Fact
from tests.support.fakes import make_fact

FACTS = tuple(make_fact(name) for name in "mane roar paws cubs tail teeth sleep speed poo water".split())
MANE, ROAR, PAWS = FACTS[:3]
ASKS = Query("something", (Term(("something",)),))


def near(outside: float = 0.0, **cosines: float) -> Similarities:
    by_name = {fact.fact_id: cosines.get(fact.fact_id.rpartition("/")[2], 0.0) for fact in FACTS}
    return Similarities(by_name, outside)


def by_words(*facts: Fact, coverage: float = 0.0, question: Query = ASKS) -> SearchResult:
    return SearchResult(question, [ScoredFact(fact, 6.0 - place) for place, fact in enumerate(facts)], coverage)


def test_a_paraphrase_finds_what_its_words_do_not() -> None:
    """No word matches, and the nearest fact is the answer."""
    assert fuse_rankings(FACTS, by_words(), near(roar=0.6))[0].fact == ROAR


def test_what_words_and_meaning_agree_on_comes_first() -> None:
    """A fact that is second by words and second by meaning beats one that is only near."""
    found = fuse_rankings(FACTS, by_words(PAWS, ROAR, coverage=1), near(mane=0.5, roar=0.48))

    assert found[0].fact == ROAR


def test_nearer_to_what_no_fact_answers_is_not_found() -> None:
    """Every question is near to some fact; one that is nearer to what nobody wrote down is answered by none."""
    assert fuse_rankings(FACTS, by_words(), near(outside=0.6, roar=0.5)) == []


def test_a_chance_word_does_not_answer_for_the_meaning() -> None:
    """The words find something, but the question is about something else altogether."""
    assert fuse_rankings(FACTS, by_words(ROAR, coverage=0.6), near(outside=0.8, roar=0.2)) == []


def test_words_that_cover_all_of_it_are_believed() -> None:
    """What the keepers wrote into `asks` counts, also where the meaning is in doubt."""
    assert fuse_rankings(FACTS, by_words(ROAR, coverage=1), near(outside=0.4, roar=0.2))[0].fact == ROAR


def test_what_is_said_to_the_animal_is_rather_about_it() -> None:
    """The same nearness is enough when the animal is spoken to, and not enough when it is not."""
    to_it = Query("you", ASKS.terms, is_about_animal=True)
    nearness = near(outside=0.3, roar=0.3)

    assert fuse_rankings(FACTS, by_words(question=to_it), nearness)
    assert fuse_rankings(FACTS, by_words(), nearness) == []


def test_what_asks_for_nothing_finds_nothing() -> None:
    """A question about the visitor, or another animal, stays unanswered however near it sounds."""
    assert fuse_rankings(FACTS, by_words(question=Query("what is my name")), near(roar=0.9)) == []


def test_candidates_are_few_and_best_first() -> None:
    """However many facts there are, the best eight go on to be ranked."""
    scores = [each.score for each in fuse_rankings(FACTS, by_words(MANE, coverage=1), near(roar=0.6, cubs=0.5))]

    assert len(scores) == MAX_CANDIDATES < len(FACTS)
    assert scores == sorted(scores, reverse=True)
