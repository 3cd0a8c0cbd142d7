"""Answers made of the facts in the prompt, in the wording for the visitor's age group."""

from __future__ import annotations

from openapi_server import linear_regex
from openapi_server.models.animal import Fact
from openapi_server.providers.offline.conversation import Conversation
from openapi_server.providers.offline.phrasing import (
    LINES,
    Reply,
    add_opener_and_closer,
    fill_placeholders,
    fit_to_age,
    join_parts,
    make_offer,
    shorten,
    take_sentences,
)
from openapi_server.providers.offline.text import simplify_text

_MAX_ANSWER_WORDS = 70
_SINGLE_FACT_CHANCE = 0.4
_ASKS_WHY = linear_regex.compile(r"^(?:(?:and|but|so|ok) )*(?:why|how come)\b")


def answer_from_facts(chat: Conversation) -> Reply:
    """The best fact; for visitors from 11 on sometimes a second one of the same topic."""
    fact = chat.prompt.facts[0]
    if fact.why and _ASKS_WHY.match(chat.message.rest):
        return Reply(add_opener_and_closer(chat, _format_reason(chat, fact)), (fact.fact_id,))
    if _was_just_told(chat, fact):
        return repeat_or_add_detail(chat, fact)
    second = _find_second_fact(chat, fact)
    if second is None:
        return Reply(add_opener_and_closer(chat, choose_wording(chat, fact)), (fact.fact_id,))
    return Reply(
        add_opener_and_closer(chat, join_parts(choose_wording(chat, fact), second.say)), (fact.fact_id, second.fact_id)
    )


def choose_wording(chat: Conversation, fact: Fact) -> str:
    """The fact in the wording for the visitor's age group."""
    if chat.is_with_preschooler:
        return fact.little or shorten(fact.say)
    return join_parts(fact.say, fact.detail or "") if chat.is_with_older else fact.say


def explain(chat: Conversation) -> Reply:
    """The answer to "why?" alone: the fact's reason, or that there is none or no other one."""
    fact = next((fact for fact in chat.prompt.facts if fact.why and not _was_told(chat, fact.why)), None)
    if fact is None or fact.why is None:
        line = chat.pick_line(chat.animal.voice.dont_know)
        opener = "" if chat.is_with_preschooler else chat.pick_line(LINES.unknown_reason)
        return Reply(fit_to_age(chat, line, opener=opener, closer=make_offer(chat)))
    reason = shorten(fact.why) if chat.is_with_preschooler else fact.why
    return Reply(reason, (fact.fact_id,))


def confirm(chat: Conversation) -> Reply:
    """The answer to "really?": yes, and for older visitors the fact's detail or its source."""
    fact = chat.prompt.facts[0]
    if not is_from_last_reply(chat, fact):
        return Reply(chat.pick_line(LINES.assurance))
    if chat.is_with_preschooler:
        more = choose_wording(chat, fact)
    elif chat.is_with_older and fact.detail and not _was_told(chat, fact.detail):
        more = fact.detail
    else:
        more = fill_placeholders(chat.pick_line(LINES.source_reference), title=fact.source.title)
    return Reply(join_parts(chat.pick_line(LINES.confirmation), more), (fact.fact_id,))


def repeat_or_add_detail(chat: Conversation, fact: Fact) -> Reply:
    """For older visitors the detail of the fact, if that is new; else the fact again, announced as a repetition."""
    if fact.detail and chat.is_with_older and not _was_told(chat, fact.detail) and not _is_repeated(chat):
        return Reply(add_opener_and_closer(chat, fact.detail), (fact.fact_id,))
    return repeat_fact(chat, fact)


def repeat_fact(chat: Conversation, fact: Fact) -> Reply:
    """The fact again, announced as a repetition."""
    return Reply(join_parts(chat.pick_line(LINES.repetition), choose_wording(chat, fact)), (fact.fact_id,))


def _format_reason(chat: Conversation, fact: Fact) -> str:
    """The fact, then its reason: "Because ..." refers to the fact, which need not be what the visitor asked about."""
    statement = (
        ""
        if _was_just_told(chat, fact)
        else (fact.little or shorten(fact.say) if chat.is_with_preschooler else fact.say)
    )
    why = fact.why or ""
    return join_parts(statement, take_sentences(why, 1) if chat.is_with_preschooler else why)


def _find_second_fact(chat: Conversation, first: Fact) -> Fact | None:
    """A second fact that answers the same question, for visitors from 11 on, while the answer stays short."""
    if not chat.is_with_older or chat.rng.random() < _SINGLE_FACT_CHANCE:
        return None
    room = _MAX_ANSWER_WORDS - len(choose_wording(chat, first).split())
    for fact in chat.prompt.facts[1:]:
        fits = fact.topic == first.topic and _is_asked_for(chat, fact) and fact.level.rank <= chat.prompt.age_group.rank
        if fits and len(fact.say.split()) <= room and not _was_told(chat, fact.say):
            return fact
    return None


def _is_asked_for(chat: Conversation, fact: Fact) -> bool:
    """True when the message contains one of the questions (`asks`) that the fact answers."""
    return any(f" {simplify_text(ask)} " in f" {chat.message.rest} " for ask in fact.asks)


def is_from_last_reply(chat: Conversation, fact: Fact) -> bool:
    """True when the last reply contains the fact, or only its reason."""
    return bool(chat.history) and fact.fact_id in chat.history[-1].fact_ids


def _was_just_told(chat: Conversation, fact: Fact) -> bool:
    """True when the last reply contains the fact itself, not only its reason."""
    return is_from_last_reply(chat, fact) and take_sentences(choose_wording(chat, fact), 1) in chat.last_reply


def _was_told(chat: Conversation, text: str) -> bool:
    """True when a reply in the history contains the first sentence of the text."""
    return any(take_sentences(text, 1) in exchange.reply for exchange in chat.history)


def _is_repeated(chat: Conversation) -> bool:
    return bool(chat.history) and simplify_text(chat.prompt.message) == simplify_text(chat.history[-1].message)
