"""From a prompt to the whole reply: greeting first, then what the message asks for."""

from __future__ import annotations

from collections.abc import Callable

from openapi_server.models.prompt import Prompt
from openapi_server.providers.offline import lines
from openapi_server.providers.offline.answers import (
    answer_from_facts,
    confirm,
    explain,
    is_from_last_reply,
    repeat_fact,
)
from openapi_server.providers.offline.being_called import is_switch_request
from openapi_server.providers.offline.conversation import Conversation, list_own_names
from openapi_server.providers.offline.intent_patterns import detect_intent, find_other_animal
from openapi_server.providers.offline.intents import Intent
from openapi_server.providers.offline.message import normalize_text
from openapi_server.providers.offline.personal import PERSONAL
from openapi_server.providers.offline.phrasing import (
    Reply,
    add_article,
    fill_placeholders,
    fit_to_age,
    join_parts,
    make_offer,
    maybe_make_offer,
)

# Said with facts at hand, these want the facts; without them, a line.
_FACTS_COME_FIRST = frozenset({Intent.YES, Intent.MORE, Intent.NONSENSE})


def compose_reply(prompt: Prompt, seed: int) -> Reply:
    """The whole reply. Never empty, whatever the message is."""
    talk = Conversation(prompt, seed)
    if not talk.heard.has_words:
        return Reply(talk.pick_line(lines.EMOJI if talk.heard.has_emoji else lines.QUIET))
    welcome = _welcome(talk)
    if welcome and _only_introduces(talk):
        return Reply(welcome)
    if is_switch_request(normalize_text(prompt.message), list_own_names(talk.animal)):
        return Reply(_greeting(talk))
    reply = _reply(talk)
    return Reply(join_parts(_short_welcome(talk), reply.text), reply.fact_ids)


def _only_introduces(talk: Conversation) -> bool:
    """True for "hi", and for "I'm Tom and this is my daughter": nothing was asked."""
    heard = talk.heard
    return not heard.rest or (heard.name is not None and not heard.is_question and detect_intent(heard.rest) is None)


def _welcome(talk: Conversation) -> str:
    """The answer to a message that only greets or introduces."""
    heard = talk.heard
    if heard.name:
        hello = fill_placeholders(talk.pick_line(lines.NICE_TO_MEET), animal=talk.animal.name)
        return fit_to_age(talk, join_parts(hello, _age(talk)), closer=make_offer(talk))
    if heard.age:
        return fit_to_age(talk, _age(talk), closer=make_offer(talk))
    return _greeting(talk) if heard.has_greeting or not heard.rest else ""


def _greeting(talk: Conversation) -> str:
    """The animal's own; who has not met it yet in this session also hears its name."""
    greetings = talk.animal.voice.greetings
    if talk.has_introduced_itself:
        return talk.pick_line(greetings)
    with_name = [line for line in greetings if talk.animal.name in line]
    greeting = talk.pick_line(with_name if with_name and talk.is_with_preschooler else greetings)
    return greeting if talk.animal.name in greeting else join_parts(greeting, _introduction(talk))


def _introduction(talk: Conversation) -> str:
    return fill_placeholders(lines.INTRODUCTION, animal=talk.animal.name)


def _short_welcome(talk: Conversation) -> str:
    """Before an answer: a greeting must not stand in the question's way."""
    heard = talk.heard
    introduction = _introduction(talk) if _should_introduce(talk) else ""
    if heard.name:
        return join_parts(f"Nice to meet you, {heard.name}!", introduction)
    if heard.age:
        return join_parts(_age(talk), introduction)
    return join_parts(talk.insert_name("Hello{name}!") if heard.has_greeting else "", introduction)


def _should_introduce(talk: Conversation) -> bool:
    """At the first greeting, and before the answer to a first remark or errand.

    Who asks at once wants the answer, not a name; and a preschooler's three sentences are for the answer.
    """
    heard, intent = talk.heard, detect_intent(talk.heard.rest)
    if talk.has_introduced_itself or talk.is_with_preschooler:
        return False
    says_something = intent is Intent.ERRAND or (intent is None and not heard.is_question and not talk.prompt.facts)
    return heard.has_greeting or heard.name is not None or (says_something and not talk.history)


def _age(talk: Conversation) -> str:
    age = talk.heard.age
    return fill_placeholders(talk.pick_line(lines.AGE), Age=age.capitalize()) if age else ""


def _reply(talk: Conversation) -> Reply:
    intent = detect_intent(talk.heard.rest)
    if intent is Intent.MORE and (performance := _last_performance(talk)):
        intent = performance
    if intent is None or (intent in _FACTS_COME_FIRST and talk.prompt.facts):
        return answer_from_facts(talk) if talk.prompt.facts else _without_facts(talk)
    return _BY_INTENT[intent](talk) if intent in _BY_INTENT else _plain(talk, intent)


def _last_performance(talk: Conversation) -> Intent | None:
    """What "another one!" asks for once more."""
    if any(joke in talk.last_reply for joke in talk.animal.voice.jokes):
        return Intent.JOKE
    if any(story in talk.last_reply for story in talk.animal.individual.anecdotes):
        return Intent.STORY
    return None


def _plain(talk: Conversation, intent: Intent) -> Reply:
    line = talk.pick_line(lines.PLAIN[intent])
    return Reply(line if intent in _NO_OFFER_AFTER else fit_to_age(talk, line, closer=maybe_make_offer(talk, line)))


# To a child that is lost or sad, and after "what would you like to know?", an offer would be out of place.
_NO_OFFER_AFTER = frozenset({Intent.LOST, Intent.SAD, Intent.NO, Intent.YES, Intent.VISIT_INFO, Intent.TOILET})


def _without_facts(talk: Conversation) -> Reply:
    """Nothing known: another animal's business, an honest "I don't know", or a friendly word to a remark."""
    neighbour = find_other_animal(talk.heard.rest, list_own_names(talk.animal))
    if neighbour and talk.heard.is_question:
        line = fill_placeholders(talk.pick_line(lines.OTHER_ANIMAL), an_animal=add_article(neighbour))
        return Reply(fit_to_age(talk, line, closer=make_offer(talk)))
    known = talk.animal.voice.dont_know if talk.heard.is_question else lines.REMARK
    return Reply(fit_to_age(talk, talk.pick_line(known), closer=make_offer(talk)))


def _why(talk: Conversation) -> Reply:
    if _last_performance(talk) is Intent.JOKE:
        return Reply(talk.pick_line(lines.JOKE_EXPLAINED))
    return explain(talk)


def _really(talk: Conversation) -> Reply:
    return confirm(talk) if talk.prompt.facts else Reply(talk.pick_line(lines.AS_FAR_AS_I_KNOW))


def _again(talk: Conversation) -> Reply:
    facts = talk.prompt.facts
    if facts and is_from_last_reply(talk, facts[0]):
        return repeat_fact(talk, facts[0])
    return Reply(
        join_parts(talk.pick_line(lines.AS_I_SAID), talk.last_reply) if talk.last_reply else talk.pick_line(lines.QUIET)
    )


def _more(talk: Conversation) -> Reply:
    return Reply(fit_to_age(talk, talk.pick_line(lines.ALL_TOLD), closer=make_offer(talk)))


_BY_INTENT: dict[Intent, Callable[[Conversation], Reply]] = {
    **PERSONAL,
    Intent.WHY: _why,
    Intent.REALLY: _really,
    Intent.AGAIN: _again,
    Intent.MORE: _more,
}
