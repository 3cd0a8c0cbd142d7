"""Ranks and selects facts: by full-text and semantic search, the visitor's age group, and what was told before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from openapi_server import linear_regex
from openapi_server.knowledge.retrieval.follow_ups import (
    FollowUp,
    detect_follow_up,
    is_detail_question,
    list_told_fact_ids,
)
from openapi_server.knowledge.retrieval.index import ScoredFact, SearchResult
from openapi_server.knowledge.retrieval.query import tokenize
from openapi_server.models.animal import Animal, Fact
from openapi_server.models.prompt import Exchange
from openapi_server.models.turn import AgeGroup

# --- Fusion of both searches: whether the facts answer a query at all, and which of them do

MAX_CANDIDATES = 8

# The constant k of reciprocal rank fusion, from the paper that proposed it (Cormack, Clarke and Buettcher, 2009).
_RRF_K = 60

# Fitted to questions.yaml and paraphrases.yaml in tests/knowledge/retrieval, and rounded. Similarity to a fact is not
# enough, as every question is similar to some fact: it has to be more similar to it than to out-of-scope questions.
_OUT_OF_SCOPE_WEIGHT, _ABOUT_ANIMAL_BONUS, _COVERAGE_BONUS = 0.9, 0.2, 0.4
_MIN_CONFIDENCE = 0.15

_FULL_TEXT_WEIGHT, _MAX_FULL_TEXT_SCORE = 0.3, 12.0


@dataclass(frozen=True, slots=True)
class Similarities:
    """Cosine similarities (-1 to 1) of a message with each of an animal's facts, and the highest of those with
    out-of-scope questions."""

    by_fact_id: Mapping[str, float]
    out_of_scope: float


class SemanticIndex(Protocol):
    """Compares messages with facts by their meaning."""

    def index_animal(self, animal: Animal) -> None:
        """Index the animal's facts in the background, in place of an earlier version of it. Returns at once."""

    def compute_similarities(self, animal_id: str, message: str) -> Similarities | None:
        """None while the animal is not indexed. Takes some milliseconds of processor time."""

    def close(self) -> None: ...


def fuse_rankings(facts: Sequence[Fact], result: SearchResult, similarities: Similarities) -> list[ScoredFact]:
    """The facts that answer the query, best first; none when neither words nor meaning are similar enough."""
    if not result.query.terms or not _is_answerable(result, similarities):
        return []
    full_text_scores = {each.fact.fact_id: each.score for each in result.facts}
    candidates = _select_candidates(facts, result, similarities)
    scored = [ScoredFact(fact, _compute_score(fact.fact_id, full_text_scores, similarities)) for fact in candidates]
    return sorted(scored, key=lambda each: -each.score)


def _is_answerable(result: SearchResult, similarities: Similarities) -> bool:
    highest = max(similarities.by_fact_id.values(), default=0.0)
    bonus = _ABOUT_ANIMAL_BONUS * result.query.is_about_animal + _COVERAGE_BONUS * result.coverage
    return highest - _OUT_OF_SCOPE_WEIGHT * similarities.out_of_scope + bonus >= _MIN_CONFIDENCE


def _select_candidates(facts: Sequence[Fact], result: SearchResult, similarities: Similarities) -> list[Fact]:
    """The best by reciprocal rank fusion: full-text scores and cosine similarities have no common scale."""
    by_similarity = sorted(facts, key=lambda fact: -similarities.by_fact_id.get(fact.fact_id, -1.0))
    scores: defaultdict[str, float] = defaultdict(float)
    for ranking in ([each.fact for each in result.facts], by_similarity):
        for rank, fact in enumerate(ranking, start=1):
            scores[fact.fact_id] += 1 / (_RRF_K + rank)
    return sorted(facts, key=lambda fact: -scores[fact.fact_id])[:MAX_CANDIDATES]


def _compute_score(fact_id: str, full_text_scores: Mapping[str, float], similarities: Similarities) -> float:
    """The order of the few candidates; ranks say too little about how much better the best one is.

    Measured against ranks alone: the right fact comes first for 109 instead of 104 of 126 paraphrases, and for 220
    instead of 223 of 252 plainer questions. Ages and "told recently" are weighed against this score, too: neighbours
    in rank differ by 2%, so either would outweigh any match.
    """
    full_text = min(full_text_scores.get(fact_id, 0.0), _MAX_FULL_TEXT_SCORE) / _MAX_FULL_TEXT_SCORE
    return similarities.by_fact_id.get(fact_id, 0.0) + _FULL_TEXT_WEIGHT * full_text


# --- Selection by age group and history

MAX_FACTS = 3

_RECENT_EXCHANGES = 4
_TOLD_LAST, _TOLD_RECENTLY, _TOLD_BUT_MORE_WANTED = 0.5, 0.7, 0.1
_FACTOR_PER_BAND_ABOVE = 0.5

# Facts about these topics are never told to visitors younger than the level of the fact.
_STRICT_TOPICS = frozenset({"mating", "death"})
_STRICT_TOPICS_FOR_PRESCHOOL = _STRICT_TOPICS | {"threats"}

# When the best fact is not for this age group, others must have at least this share of its score.
_MIN_SHARE_OF_UNSUITABLE = 0.9

_WANTS_MORE = linear_regex.compile(r"\b(?:more|else|another|other)\b")


def select_facts(
    found: Sequence[ScoredFact], message: str, history: Sequence[Exchange], age_group: AgeGroup
) -> list[Fact]:
    """At most `MAX_FACTS` facts that suit the age, best first; those told recently come later."""
    min_score = _MIN_SHARE_OF_UNSUITABLE * max(
        (each.score for each in found if not _suits(each.fact, age_group)), default=0.0
    )
    suited = [each for each in found if _suits(each.fact, age_group) and each.score >= min_score]
    # Without a history nothing was told before, and there is nothing to ask again for.
    asks_again = not history or _asks_again(message, history)

    def compute_score(each: ScoredFact) -> float:
        novelty = 1.0 if asks_again else _compute_novelty(each.fact, message, history)
        return each.score * novelty * _FACTOR_PER_BAND_ABOVE ** _count_bands_above(each.fact, age_group)

    return [each.fact for each in sorted(suited, key=compute_score, reverse=True)[:MAX_FACTS]]


def _count_bands_above(fact: Fact, age_group: AgeGroup) -> int:
    return max(0, fact.level.rank - age_group.rank)


def _suits(fact: Fact, age_group: AgeGroup) -> bool:
    strict = _STRICT_TOPICS_FOR_PRESCHOOL if age_group is AgeGroup.PRESCHOOL else _STRICT_TOPICS
    return fact.topic not in strict or _count_bands_above(fact, age_group) == 0


def _asks_again(message: str, history: Sequence[Exchange]) -> bool:
    """True for "why?", "how many?" and a repeated question: the fact that was just told is the answer."""
    if detect_follow_up(message) in (FollowUp.WHY, FollowUp.REPEAT):
        return True
    if is_detail_question(" ".join(tokenize(message))):
        return True
    return any(tokenize(message) == tokenize(exchange.message) for exchange in history[-_RECENT_EXCHANGES:])


def _compute_novelty(fact: Fact, message: str, history: Sequence[Exchange]) -> float:
    """A factor of the score: 1 for a fact that was not told recently, less for others."""
    if fact.fact_id not in list_told_fact_ids(history[-_RECENT_EXCHANGES:]):
        return 1.0
    if _WANTS_MORE.search(" ".join(tokenize(message))):
        return _TOLD_BUT_MORE_WANTED
    return _TOLD_LAST if fact.fact_id in list_told_fact_ids(history[-1:]) else _TOLD_RECENTLY
