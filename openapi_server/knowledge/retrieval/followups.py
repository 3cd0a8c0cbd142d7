"""Messages that only make sense after what was said before: "why?", "tell me more", "how many?", "really?"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto

from openapi_server.knowledge.retrieval.query import Query, tokenize
from openapi_server.models.animal import Fact
from openapi_server.models.prompt import Exchange

_CONTEXT_WEIGHT = 0.4
_SURPRISING = ("record", "myth", "intelligence", "body", "defence")


class FollowUp(Enum):
    """What a message asks of the last reply."""

    WHY = auto()
    REPEAT = auto()
    MORE = auto()
    SURPRISE = auto()
    ACCEPT_OFFER = auto()


_ABOUT_THAT = r"(?: (?:about (?:that|it|this|them|you|yourself)|please|pls|plz|now|then))*"
_POLITELY = r"(?:(?:ok|yes|yeah|cool|wow|nice|great|please|and|so|can you|could you|will you|i want you to) )*"
_FOLLOW_UPS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        (
            FollowUp.WHY,
            r"(?:(?:but|and|ok|oh|so|um) )*(?:why|y)(?: (?:why|is (?:that|it|this)|do you|so"
            r"|though|not))*",
        ),
        (FollowUp.WHY, r"(?:but )?(?:how come|what for|for what reason|(?:can you )?tell me why|whys that)"),
        (
            FollowUp.REPEAT,
            r"(?:(?:oh|wow|no|ok) )*(?:really|rly|is (?:that|this|it) (?:really )?(?:true|real|right)"
            r"|are you (?:sure|serious)"
            r"|no way|prove it|seriously|for real|huh|what|pardon|come again|again|say (?:that|it) again"
            r"|(?:please )?repeat(?: that)?"
            r"|(?:you are|youre|are you) (?:joking|kidding|lying)|how do you know(?: that)?"
            r"|what do(?:es)? (?:you|that) mean"
            r"|i d(?:o n|on)t (?:get|understand|believe)(?: it| that| you)?)(?: please)?",
        ),
        (
            FollowUp.SURPRISE,
            _POLITELY
            + r"(?:surprise me|(?:tell (?:me|us) |give (?:me|us) )?(?:an?|some|one|your best|the best|another)?"
            r" ?(?:fun|cool|random|interesting|amazing|crazy|weird|surprising) (?:facts?|things?)"
            r"|tell (?:me|us) (?:something|a secret|a fact|some facts|anything)"
            r"(?: (?:cool|new|interesting|amazing|fun|weird|surprising|special|crazy))?)" + _ABOUT_THAT,
        ),
        (
            FollowUp.MORE,
            _POLITELY + r"(?:(?:tell|show|give) (?:me|us) (?:(?:some|a bit|a little|even) )?(?:more"
            r"|another(?: one| fact)?|something else)"
            r"|(?:some )?more(?: facts?)?|(?:what|anything|something) else|go on|keep going|continue"
            r"|and(?: then)?|then what"
            r"|another fact|next(?: one)?|i want (?:to (?:know|hear) )?more|what else (?:can"
            r"|do) you (?:do|know|tell me))" + _ABOUT_THAT,
        ),
        (
            FollowUp.ACCEPT_OFFER,
            r"(?:(?:oh|ooh|um) )*(?:yes|yeah|yep|yup|ya|yea|ye|yay|ok|okay|k|sure|please|go ahead"
            r"|of course|alright|why not|definitely"
            r"|i would|id (?:love|like) (?:to|that)|sounds good|tell me|i want to know)"
            r"(?: (?:yes|please|pls|plz|tell me|do|thanks|thank you|go on|ok|i (?:would|do)|sure))*",
        ),
    )
)

# "How many?": about what was just told.
DETAIL_QUESTION = re.compile(
    r"(?:(?:and|but|so) )*(?:how (?:many|much|long|often|far|old|big|heavy|fast|deep|high)|when|where|who|which)"
    r"(?: (?:is|are|was|were|do|does) (?:it|that|they|this)(?: \w+)?)?"
)
_LEADS_ON = re.compile(r"(?:and|but|what about|how about|or|so|then)\b")
_POINTS_BACK = re.compile(r"\b(?:it|they|them|that|those|these|this|its|their|ones?)\b")


def detect_follow_up(message: str) -> FollowUp | None:
    """What the message asks of the last reply; None when it asks something, or nothing, of its own."""
    said = " ".join(tokenize(message))
    return next((kind for kind, pattern in _FOLLOW_UPS if pattern.fullmatch(said)), None)


def add_context(question: Query, before: Query | None) -> Query:
    """The question, completed by the one before it where it leaves something unsaid."""
    if before is None or not before.terms:
        return question
    points_back = _LEADS_ON.match(question.text) or _POINTS_BACK.search(question.text)
    if not question.is_self_contained and (points_back or DETAIL_QUESTION.fullmatch(question.text)):
        return replace(question, terms=(*before.terms, *question.terms))
    if points_back:
        context = (replace(term, weight=term.weight * _CONTEXT_WEIGHT) for term in before.terms)
        return replace(question, terms=(*question.terms, *context))
    return question


def find_offer(reply: str) -> str:
    """The last sentence of a reply: what "yes, please" says yes to. Empty when it invites to nothing."""
    last = re.split(r"(?<=[.!?…])\s+", reply.strip())[-1]
    return last if last.endswith("?") or re.search(r"\b[Aa]sk me\b", last) else ""


def list_told_fact_ids(history: Sequence[Exchange]) -> frozenset[str]:
    return frozenset(fact_id for exchange in history for fact_id in exchange.fact_ids)


def list_last_facts(facts: Sequence[Fact], history: Sequence[Exchange], *, for_why: bool) -> list[Fact]:
    """The facts of the last reply, in its order; for a "why?" those first whose reason the keepers wrote down."""
    by_id = {fact.fact_id: fact for fact in facts}
    last = history[-1].fact_ids if history else ()
    said = [by_id[fact_id] for fact_id in last if fact_id in by_id]
    return sorted(said, key=lambda fact: fact.why is None) if for_why else said


def list_untold_facts(
    facts: Sequence[Fact], history: Sequence[Exchange], near: Mapping[str, tuple[str, ...]], *, surprise: bool
) -> list[Fact]:
    """Facts not told yet: of the last topic, then of topics near to it, then surprising ones, then any."""
    topic_by_id = {fact.fact_id: fact.topic for fact in facts}
    last = next((e.fact_ids for e in reversed(history) if e.fact_ids), ())
    topics = () if surprise else tuple(topic_by_id[fact_id] for fact_id in last if fact_id in topic_by_id)
    order = tuple(dict.fromkeys((*topics, *_neighbours(topics, near), *_SURPRISING)))
    new = (fact for fact in facts if fact.fact_id not in list_told_fact_ids(history))
    return sorted(new, key=lambda fact: order.index(fact.topic) if fact.topic in order else len(order))


def _neighbours(topics: Iterable[str], near: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    for topic in topics:
        yield from near.get(topic, ())
