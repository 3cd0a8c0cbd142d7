"""Answers from the keepers' facts, in the wording that suits the visitor's age."""

from __future__ import annotations

import re

from openapi_server.models.animal import Fact
from openapi_server.providers.offline import lines
from openapi_server.providers.offline.conversation import Talk
from openapi_server.providers.offline.message import plain
from openapi_server.providers.offline.phrasing import (
    Reply,
    brief,
    filled,
    first_sentences,
    fitted,
    framed,
    joined,
    offer,
)

_LONGEST_ANSWER_WORDS = 70
_ASKS_WHY = re.compile(r"^(?:(?:and|but|so|ok) )*(?:why|how come)\b")


def answer(talk: Talk) -> Reply:
    """The best fact, and for older visitors sometimes a second that belongs to it."""
    fact = talk.prompt.facts[0]
    if fact.why and _ASKS_WHY.match(talk.heard.rest):
        return Reply(framed(talk, _reason(talk, fact)), (fact.fact_id,))
    if _was_just_told(talk, fact):
        return tell_again(talk, fact)
    second = _second_fact(talk, fact)
    if second is None:
        return Reply(framed(talk, wording(talk, fact)), (fact.fact_id,))
    return Reply(framed(talk, joined(wording(talk, fact), second.say)), (fact.fact_id, second.fact_id))


def wording(talk: Talk, fact: Fact) -> str:
    """The fact as it is told to this age group."""
    if talk.is_with_preschooler:
        return fact.little or brief(fact.say)
    return joined(fact.say, fact.detail or "") if talk.is_with_older else fact.say


def explain(talk: Talk) -> Reply:
    """The answer to a bare "why?": the keepers' reason, if they wrote one down and it was not given yet."""
    fact = next((fact for fact in talk.prompt.facts if fact.why and not _was_given(talk, fact.why)), None)
    if fact is None or fact.why is None:
        keeper = talk.pick(talk.animal.voice.dont_know)
        opener = "" if talk.is_with_preschooler else talk.pick(lines.NO_REASON)
        return Reply(fitted(talk, keeper, opener=opener, closer=offer(talk)))
    reason = brief(fact.why) if talk.is_with_preschooler else fact.why
    return Reply(reason, (fact.fact_id,))


def confirm(talk: Talk) -> Reply:
    """The answer to "really?": yes, and for older visitors what more there is, or where to check it."""
    fact = talk.prompt.facts[0]
    if not is_from_last_reply(talk, fact):
        return Reply(talk.pick(lines.AS_FAR_AS_I_KNOW))
    if talk.is_with_preschooler:
        more = wording(talk, fact)
    elif talk.is_with_older and fact.detail and not _was_given(talk, fact.detail):
        more = fact.detail
    else:
        more = filled(talk.pick(lines.LOOK_IT_UP), title=fact.source.title)
    return Reply(joined(talk.pick(lines.REALLY), more), (fact.fact_id,))


def tell_again(talk: Talk, fact: Fact) -> Reply:
    """The fact of the last reply once more, and openly so; for older visitors first what was left out."""
    if fact.detail and talk.is_with_older and not _was_given(talk, fact.detail) and not _is_repeated(talk):
        return Reply(framed(talk, fact.detail), (fact.fact_id,))
    return repeat(talk, fact)


def repeat(talk: Talk, fact: Fact) -> Reply:
    return Reply(joined(talk.pick(lines.AS_I_SAID), wording(talk, fact)), (fact.fact_id,))


def _reason(talk: Talk, fact: Fact) -> str:
    """The fact and then its reason: the keepers' "Because" answers to the fact, not to every "why" about it."""
    told = (
        "" if _was_just_told(talk, fact) else (fact.little or brief(fact.say) if talk.is_with_preschooler else fact.say)
    )
    why = fact.why or ""
    return joined(told, first_sentences(why, 1) if talk.is_with_preschooler else why)


def _second_fact(talk: Talk, first: Fact) -> Fact | None:
    """A second fact for older visitors, when it answers the same question and does not make a lecture of it."""
    if not talk.is_with_older or talk.chance.random() < 0.4:
        return None
    room = _LONGEST_ANSWER_WORDS - len(wording(talk, first).split())
    for fact in talk.prompt.facts[1:]:
        fits = fact.topic == first.topic and _is_asked_for(talk, fact) and fact.level.rank <= talk.prompt.age_group.rank
        if fits and len(fact.say.split()) <= room and not _was_given(talk, fact.say):
            return fact
    return None


def _is_asked_for(talk: Talk, fact: Fact) -> bool:
    """True when the keepers expect this very question for the fact: one of its `asks` stands in the message."""
    return any(f" {plain(ask)} " in f" {talk.heard.rest} " for ask in fact.asks)


def is_from_last_reply(talk: Talk, fact: Fact) -> bool:
    return bool(talk.history) and fact.fact_id in talk.history[-1].fact_ids


def _was_just_told(talk: Talk, fact: Fact) -> bool:
    """True when the last reply said the fact itself, not only its reason."""
    return is_from_last_reply(talk, fact) and first_sentences(wording(talk, fact), 1) in talk.last_reply


def _was_given(talk: Talk, text: str) -> bool:
    return any(first_sentences(text, 1) in exchange.reply for exchange in talk.history)


def _is_repeated(talk: Talk) -> bool:
    return bool(talk.history) and plain(talk.prompt.message) == plain(talk.history[-1].message)
