"""Which of the facts found a child of this age is told now."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from openapi_server.knowledge.retrieval.followups import DETAIL_QUESTION, FollowUp, detect_follow_up, list_told_fact_ids
from openapi_server.knowledge.retrieval.query import tokenize
from openapi_server.models.animal import Fact
from openapi_server.models.prompt import Exchange
from openapi_server.models.turn import AgeGroup

MAX_FACTS = 3

_RECENT = 4
_TOLD_LAST, _TOLD_RECENTLY, _TOLD_BUT_MORE_WANTED = 0.5, 0.7, 0.1
_PER_BAND_ABOVE = 0.5

# The keepers set these levels for what is said, not for how hard the words are: they are never stretched.
_STRICT_TOPICS = frozenset({"mating", "death"})
_STRICT_TOPICS_OF_THE_YOUNGEST = _STRICT_TOPICS | {"threats"}

# When the right fact is not for this age, something loosely related is not the answer either.
_STANDS_IN = 0.9

_WANTS_MORE = re.compile(r"\b(?:more|else|another|other)\b")


@dataclass(frozen=True, slots=True)
class ScoredFact:
    """A fact and how well it matches; scores compare within one question only."""

    fact: Fact
    score: float


def select_facts(
    found: Sequence[ScoredFact], message: str, history: Sequence[Exchange], age_group: AgeGroup
) -> list[Fact]:
    """At most three facts: suited to the age, what was just told last, otherwise as they were found."""
    enough = _STANDS_IN * max((each.score for each in found if not _suits(each.fact, age_group)), default=0.0)
    suited = [each for each in found if _suits(each.fact, age_group) and each.score >= enough]
    asks_again = _asks_again(message, history)

    def worth(each: ScoredFact) -> float:
        fresh = 1.0 if asks_again else _freshness(each.fact, message, history)
        return each.score * fresh * _PER_BAND_ABOVE ** _bands_above(each.fact, age_group)

    return [each.fact for each in sorted(suited, key=worth, reverse=True)[:MAX_FACTS]]


def _bands_above(fact: Fact, age_group: AgeGroup) -> int:
    return max(0, fact.level.rank - age_group.rank)


def _suits(fact: Fact, age_group: AgeGroup) -> bool:
    strict = _STRICT_TOPICS_OF_THE_YOUNGEST if age_group is AgeGroup.PRESCHOOL else _STRICT_TOPICS
    return fact.topic not in strict or _bands_above(fact, age_group) == 0


def _asks_again(message: str, history: Sequence[Exchange]) -> bool:
    """True for "why?", "how many?" and for the same question put twice: then the same fact is the answer."""
    if detect_follow_up(message) in (FollowUp.WHY, FollowUp.REPEAT):
        return True
    if DETAIL_QUESTION.fullmatch(" ".join(tokenize(message))):
        return True
    return any(tokenize(message) == tokenize(exchange.message) for exchange in history[-_RECENT:])


def _freshness(fact: Fact, message: str, history: Sequence[Exchange]) -> float:
    if fact.fact_id not in list_told_fact_ids(history[-_RECENT:]):
        return 1.0
    if _WANTS_MORE.search(" ".join(tokenize(message))):
        return _TOLD_BUT_MORE_WANTED
    return _TOLD_LAST if fact.fact_id in list_told_fact_ids(history[-1:]) else _TOLD_RECENTLY
