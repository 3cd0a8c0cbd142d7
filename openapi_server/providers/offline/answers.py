"""Answers from the keepers' facts, in the wording that suits the visitor's age."""

from __future__ import annotations

import re

from openapi_server.models.animal import Fact
from openapi_server.providers.offline import lines
from openapi_server.providers.offline.conversation import Conversation
from openapi_server.providers.offline.message import normalize_text
from openapi_server.providers.offline.phrasing import (
    Reply,
    add_opener_and_closer,
    fill_placeholders,
    fit_to_age,
    join_parts,
    make_offer,
    shorten,
    take_sentences,
)

_LONGEST_ANSWER_WORDS = 70
_ASKS_WHY = re.compile(r"^(?:(?:and|but|so|ok) )*(?:why|how come)\b")


def answer_from_facts(talk: Conversation) -> Reply:
    """The best fact, and for older visitors sometimes a second that belongs to it."""
    fact = talk.prompt.facts[0]
    if fact.why and _ASKS_WHY.match(talk.heard.rest):
        return Reply(add_opener_and_closer(talk, _reason(talk, fact)), (fact.fact_id,))
    if _was_just_told(talk, fact):
        return retell_fact(talk, fact)
    second = _second_fact(talk, fact)
    if second is None:
        return Reply(add_opener_and_closer(talk, choose_wording(talk, fact)), (fact.fact_id,))
    return Reply(
        add_opener_and_closer(talk, join_parts(choose_wording(talk, fact), second.say)), (fact.fact_id, second.fact_id)
    )


def choose_wording(talk: Conversation, fact: Fact) -> str:
    """The fact as it is told to this age group."""
    if talk.is_with_preschooler:
        return fact.little or shorten(fact.say)
    return join_parts(fact.say, fact.detail or "") if talk.is_with_older else fact.say


def explain(talk: Conversation) -> Reply:
    """The answer to a bare "why?": the keepers' reason, if they wrote one down and it was not given yet."""
    fact = next((fact for fact in talk.prompt.facts if fact.why and not _was_given(talk, fact.why)), None)
    if fact is None or fact.why is None:
        keeper = talk.pick_line(talk.animal.voice.dont_know)
        opener = "" if talk.is_with_preschooler else talk.pick_line(lines.NO_REASON)
        return Reply(fit_to_age(talk, keeper, opener=opener, closer=make_offer(talk)))
    reason = shorten(fact.why) if talk.is_with_preschooler else fact.why
    return Reply(reason, (fact.fact_id,))


def confirm(talk: Conversation) -> Reply:
    """The answer to "really?": yes, and for older visitors what more there is, or where to check it."""
    fact = talk.prompt.facts[0]
    if not is_from_last_reply(talk, fact):
        return Reply(talk.pick_line(lines.AS_FAR_AS_I_KNOW))
    if talk.is_with_preschooler:
        more = choose_wording(talk, fact)
    elif talk.is_with_older and fact.detail and not _was_given(talk, fact.detail):
        more = fact.detail
    else:
        more = fill_placeholders(talk.pick_line(lines.LOOK_IT_UP), title=fact.source.title)
    return Reply(join_parts(talk.pick_line(lines.REALLY), more), (fact.fact_id,))


def retell_fact(talk: Conversation, fact: Fact) -> Reply:
    """The fact of the last reply once more, and openly so; for older visitors first what was left out."""
    if fact.detail and talk.is_with_older and not _was_given(talk, fact.detail) and not _is_repeated(talk):
        return Reply(add_opener_and_closer(talk, fact.detail), (fact.fact_id,))
    return repeat_fact(talk, fact)


def repeat_fact(talk: Conversation, fact: Fact) -> Reply:
    return Reply(join_parts(talk.pick_line(lines.AS_I_SAID), choose_wording(talk, fact)), (fact.fact_id,))


def _reason(talk: Conversation, fact: Fact) -> str:
    """The fact and then its reason: the keepers' "Because" answers to the fact, not to every "why" about it."""
    told = (
        ""
        if _was_just_told(talk, fact)
        else (fact.little or shorten(fact.say) if talk.is_with_preschooler else fact.say)
    )
    why = fact.why or ""
    return join_parts(told, take_sentences(why, 1) if talk.is_with_preschooler else why)


def _second_fact(talk: Conversation, first: Fact) -> Fact | None:
    """A second fact for older visitors, when it answers the same question and does not make a lecture of it."""
    if not talk.is_with_older or talk.chance.random() < 0.4:
        return None
    room = _LONGEST_ANSWER_WORDS - len(choose_wording(talk, first).split())
    for fact in talk.prompt.facts[1:]:
        fits = fact.topic == first.topic and _is_asked_for(talk, fact) and fact.level.rank <= talk.prompt.age_group.rank
        if fits and len(fact.say.split()) <= room and not _was_given(talk, fact.say):
            return fact
    return None


def _is_asked_for(talk: Conversation, fact: Fact) -> bool:
    """True when the keepers expect this very question for the fact: one of its `asks` stands in the message."""
    return any(f" {normalize_text(ask)} " in f" {talk.heard.rest} " for ask in fact.asks)


def is_from_last_reply(talk: Conversation, fact: Fact) -> bool:
    return bool(talk.history) and fact.fact_id in talk.history[-1].fact_ids


def _was_just_told(talk: Conversation, fact: Fact) -> bool:
    """True when the last reply said the fact itself, not only its reason."""
    return is_from_last_reply(talk, fact) and take_sentences(choose_wording(talk, fact), 1) in talk.last_reply


def _was_given(talk: Conversation, text: str) -> bool:
    return any(take_sentences(text, 1) in exchange.reply for exchange in talk.history)


def _is_repeated(talk: Conversation) -> bool:
    return bool(talk.history) and normalize_text(talk.prompt.message) == normalize_text(talk.history[-1].message)
