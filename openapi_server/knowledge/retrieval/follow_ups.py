"""Follow-ups: messages that need the last reply to be understood, such as "why?", "tell me more" and "how many?".

The patterns are in `follow_ups.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from pathlib import Path

from openapi_server import linear_regex
from openapi_server.knowledge.retrieval.query import Query, tokenize
from openapi_server.linear_regex import PreparedText
from openapi_server.models.animal import Fact
from openapi_server.models.prompt import Exchange
from openapi_server.models.sentences import split_sentences
from openapi_server.yaml_files import load_patterns

_CONTEXT_WEIGHT = 0.4
_SURPRISING_TOPICS = ("record", "myth", "intelligence", "body", "defence")


class FollowUp(Enum):
    """What a message asks for that refers to the last reply."""

    WHY = auto()
    REPEAT = auto()
    MORE = auto()
    SURPRISE = auto()
    ACCEPT_OFFER = auto()


_PATTERNS = tuple(
    (FollowUp[kind.upper()], linear_regex.compile(rf"^(?:{pattern})$"))
    for kind, patterns in load_patterns(Path(__file__).with_name("follow_ups.yaml"))["follow_ups"].items()
    for pattern in patterns
)

_ANY = linear_regex.compile_detector((), [pattern.pattern for _, pattern in _PATTERNS])

# "How many?" asks for a detail of the fact in the last reply.
_DETAIL_QUESTION = linear_regex.compile(
    r"^(?:(?:and|but|so) )*(?:how (?:many|much|long|often|far|old|big|heavy|fast|deep|high)|when|where|who|which)"
    r"(?: (?:is|are|was|were|do|does) (?:it|that|they|this)(?: \w+)?)?$"
)
_CONTINUES = linear_regex.compile(r"(?:and|but|what about|how about|or|so|then)\b")
_REFERS_BACK = linear_regex.compile(r"\b(?:it|they|them|that|those|these|this|its|their|ones?)\b")


def detect_follow_up(message: str) -> FollowUp | None:
    """The kind of follow-up; None for a message that does not need the last reply to be understood."""
    text = " ".join(tokenize(message))
    if not _ANY.search(text):
        return None
    prepared = PreparedText(text)
    return next((kind for kind, pattern in _PATTERNS if pattern.search(prepared)), None)


def is_detail_question(text: str) -> bool:
    """True for a normalized text such as "how many" and "when was it": it asks for a detail of the fact told last."""
    return _DETAIL_QUESTION.search(text) is not None


def add_context(query: Query, previous: Query | None) -> Query:
    """The query with the terms of the previous one, if it refers to that; else the same object."""
    if previous is None or not previous.terms:
        return query
    refers_back = _CONTINUES.match(query.text) or _REFERS_BACK.search(query.text)
    if not query.is_self_contained and (refers_back or is_detail_question(query.text)):
        return replace(query, terms=(*previous.terms, *query.terms))
    if refers_back:
        context = (replace(term, weight=term.weight * _CONTEXT_WEIGHT) for term in previous.terms)
        return replace(query, terms=(*query.terms, *context))
    return query


_ASK_ME = linear_regex.compile(r"\b[Aa]sk me\b")


def find_offer(reply: str) -> str:
    """The last sentence of a reply if it offers something that "yes, please" can accept; else an empty text."""
    last = (split_sentences(reply) or [""])[-1]
    return last if last.endswith("?") or _ASK_ME.search(last) else ""


def list_told_fact_ids(history: Sequence[Exchange]) -> frozenset[str]:
    """The ids of all facts in the replies of these exchanges."""
    return frozenset(fact_id for exchange in history for fact_id in exchange.fact_ids)


def list_last_facts(facts: Sequence[Fact], history: Sequence[Exchange], *, for_why: bool) -> list[Fact]:
    """The facts of the last reply in its order; `for_why`: those with a reason (`why`) first."""
    by_id = {fact.fact_id: fact for fact in facts}
    last = history[-1].fact_ids if history else ()
    told = [by_id[fact_id] for fact_id in last if fact_id in by_id]
    return sorted(told, key=lambda fact: fact.why is None) if for_why else told


def list_untold_facts(
    facts: Sequence[Fact], history: Sequence[Exchange], related_topics: Mapping[str, Sequence[str]], *, surprise: bool
) -> list[Fact]:
    """Facts not told yet: of the last topic, then of related topics, then surprising ones, then all others.

    `surprise`: begin with the surprising ones.
    """
    topic_by_id = {fact.fact_id: fact.topic for fact in facts}
    last = next((exchange.fact_ids for exchange in reversed(history) if exchange.fact_ids), ())
    topics = () if surprise else tuple(topic_by_id[fact_id] for fact_id in last if fact_id in topic_by_id)
    related = (topic for each in topics for topic in related_topics.get(each, ()))
    order = tuple(dict.fromkeys((*topics, *related, *_SURPRISING_TOPICS)))
    untold = (fact for fact in facts if fact.fact_id not in list_told_fact_ids(history))
    return sorted(untold, key=lambda fact: order.index(fact.topic) if fact.topic in order else len(order))
