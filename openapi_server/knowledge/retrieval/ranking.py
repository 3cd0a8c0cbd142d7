"""Selects the facts to answer from: by score, the visitor's age, and what was told before."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from openapi_server.knowledge.retrieval.follow_ups import (
    DETAIL_QUESTION,
    FollowUp,
    detect_follow_up,
    list_told_fact_ids,
)
from openapi_server.knowledge.retrieval.query import tokenize
from openapi_server.models.animal import Fact
from openapi_server.models.prompt import Exchange
from openapi_server.models.turn import AgeGroup

MAX_FACTS = 3

_RECENT_EXCHANGES = 4
_TOLD_LAST, _TOLD_RECENTLY, _TOLD_BUT_MORE_WANTED = 0.5, 0.7, 0.1
_FACTOR_PER_BAND_ABOVE = 0.5

# The level of such a fact says whether its content suits the age, not how hard its words are: nobody younger gets it.
_STRICT_TOPICS = frozenset({"mating", "death"})
_STRICT_TOPICS_FOR_PRESCHOOL = _STRICT_TOPICS | {"threats"}

# When the best fact is not for this age, another is an answer only if its score is nearly as good.
_MIN_SHARE_OF_UNSUITABLE = 0.9

_WANTS_MORE = re.compile(r"\b(?:more|else|another|other)\b")


@dataclass(frozen=True, slots=True)
class ScoredFact:
    """A fact and how well it matches. Scores can be compared within one query only."""

    fact: Fact
    score: float


def select_facts(
    found: Sequence[ScoredFact], message: str, history: Sequence[Exchange], age_group: AgeGroup
) -> list[Fact]:
    """At most `MAX_FACTS` facts that suit the age, best first; those told recently come later."""
    min_score = _MIN_SHARE_OF_UNSUITABLE * max(
        (each.score for each in found if not _suits(each.fact, age_group)), default=0.0
    )
    suited = [each for each in found if _suits(each.fact, age_group) and each.score >= min_score]
    asks_again = _asks_again(message, history)

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
    if DETAIL_QUESTION.fullmatch(" ".join(tokenize(message))):
        return True
    return any(tokenize(message) == tokenize(exchange.message) for exchange in history[-_RECENT_EXCHANGES:])


def _compute_novelty(fact: Fact, message: str, history: Sequence[Exchange]) -> float:
    """A factor of the score: 1 for a fact that was not told recently, less for others."""
    if fact.fact_id not in list_told_fact_ids(history[-_RECENT_EXCHANGES:]):
        return 1.0
    if _WANTS_MORE.search(" ".join(tokenize(message))):
        return _TOLD_BUT_MORE_WANTED
    return _TOLD_LAST if fact.fact_id in list_told_fact_ids(history[-1:]) else _TOLD_RECENTLY
