"""From a prompt to the whole reply: greeting first, then what the message asks for."""

from __future__ import annotations

from collections.abc import Callable

from openapi_server.models.animal import Prompt
from openapi_server.providers.offline import lines
from openapi_server.providers.offline.answers import answer, confirm, explain, is_from_last_reply, repeat
from openapi_server.providers.offline.being_called import is_called
from openapi_server.providers.offline.conversation import Talk, own_names
from openapi_server.providers.offline.intent_patterns import other_animal, recognise
from openapi_server.providers.offline.intents import Intent
from openapi_server.providers.offline.message import plain
from openapi_server.providers.offline.personal import PERSONAL
from openapi_server.providers.offline.phrasing import Reply, filled, fitted, joined, listed, maybe_offer, offer

# Said with facts at hand, these want the facts; without them, a line.
_FACTS_COME_FIRST = frozenset({Intent.YES, Intent.MORE, Intent.NONSENSE})


def compose(prompt: Prompt, seed: int) -> Reply:
    """The whole reply. Never empty, whatever the message is."""
    talk = Talk(prompt, seed)
    if not talk.heard.has_words:
        return Reply(talk.pick(lines.EMOJI if talk.heard.has_pictures else lines.QUIET))
    welcome = _welcome(talk)
    if welcome and _only_introduces(talk):
        return Reply(welcome)
    if is_called(plain(prompt.message), own_names(talk.animal)):
        return Reply(_greeting(talk))
    reply = _reply(talk)
    return Reply(joined(_short_welcome(talk), reply.text), reply.fact_ids)


def _only_introduces(talk: Talk) -> bool:
    """True for "hi", and for "I'm Tom and this is my daughter": nothing was asked."""
    heard = talk.heard
    return not heard.rest or (heard.name is not None and not heard.is_question and recognise(heard.rest) is None)


def _welcome(talk: Talk) -> str:
    """The answer to a message that only greets or introduces."""
    heard = talk.heard
    if heard.name:
        hello = filled(talk.pick(lines.NICE_TO_MEET), animal=talk.animal.name)
        return fitted(talk, joined(hello, _age(talk)), closer=offer(talk))
    if heard.age:
        return fitted(talk, _age(talk), closer=offer(talk))
    return _greeting(talk) if heard.greets or not heard.rest else ""


def _greeting(talk: Talk) -> str:
    """The animal's own; who has not met it yet in this session also hears its name."""
    greetings = talk.animal.voice.greetings
    if talk.has_introduced_itself:
        return talk.pick(greetings)
    with_name = [line for line in greetings if talk.animal.name in line]
    greeting = talk.pick(with_name if with_name and talk.is_with_preschooler else greetings)
    return greeting if talk.animal.name in greeting else joined(greeting, _introduction(talk))


def _introduction(talk: Talk) -> str:
    return filled(lines.INTRODUCTION, animal=talk.animal.name)


def _short_welcome(talk: Talk) -> str:
    """Before an answer: a greeting must not stand in the question's way."""
    heard = talk.heard
    introduction = _introduction(talk) if _should_introduce(talk) else ""
    if heard.name:
        return joined(f"Nice to meet you, {heard.name}!", introduction)
    if heard.age:
        return joined(_age(talk), introduction)
    return joined(talk.named("Hello{name}!") if heard.greets else "", introduction)


def _should_introduce(talk: Talk) -> bool:
    """At the first greeting, and before the answer to a first remark or errand.

    Who asks at once wants the answer, not a name; and a preschooler's three sentences are for the answer.
    """
    heard, intent = talk.heard, recognise(talk.heard.rest)
    if talk.has_introduced_itself or talk.is_with_preschooler:
        return False
    says_something = intent is Intent.ERRAND or (intent is None and not heard.is_question and not talk.prompt.facts)
    return heard.greets or heard.name is not None or (says_something and not talk.history)


def _age(talk: Talk) -> str:
    age = talk.heard.age
    return filled(talk.pick(lines.AGE), Age=age.capitalize()) if age else ""


def _reply(talk: Talk) -> Reply:
    intent = recognise(talk.heard.rest)
    if intent is Intent.MORE and (performance := _last_performance(talk)):
        intent = performance
    if intent is None or (intent in _FACTS_COME_FIRST and talk.prompt.facts):
        return answer(talk) if talk.prompt.facts else _without_facts(talk)
    return _BY_INTENT[intent](talk) if intent in _BY_INTENT else _plain(talk, intent)


def _last_performance(talk: Talk) -> Intent | None:
    """What "another one!" asks for once more."""
    if any(joke in talk.last_reply for joke in talk.animal.voice.jokes):
        return Intent.JOKE
    if any(story in talk.last_reply for story in talk.animal.individual.anecdotes):
        return Intent.STORY
    return None


def _plain(talk: Talk, intent: Intent) -> Reply:
    line = talk.pick(lines.PLAIN[intent])
    return Reply(line if intent in _NO_OFFER_AFTER else fitted(talk, line, closer=maybe_offer(talk, line)))


# To a child that is lost or sad, and after "what would you like to know?", an offer would be out of place.
_NO_OFFER_AFTER = frozenset({Intent.LOST, Intent.SAD, Intent.NO, Intent.YES, Intent.VISIT_INFO, Intent.TOILET})


def _without_facts(talk: Talk) -> Reply:
    """Nothing known: another animal's business, an honest "I don't know", or a friendly word to a remark."""
    neighbour = other_animal(talk.heard.rest, own_names(talk.animal))
    if neighbour and talk.heard.is_question:
        line = filled(talk.pick(lines.OTHER_ANIMAL), an_animal=listed(neighbour))
        return Reply(fitted(talk, line, closer=offer(talk)))
    known = talk.animal.voice.dont_know if talk.heard.is_question else lines.REMARK
    return Reply(fitted(talk, talk.pick(known), closer=offer(talk)))


def _why(talk: Talk) -> Reply:
    if _last_performance(talk) is Intent.JOKE:
        return Reply(talk.pick(lines.JOKE_EXPLAINED))
    return explain(talk)


def _really(talk: Talk) -> Reply:
    return confirm(talk) if talk.prompt.facts else Reply(talk.pick(lines.AS_FAR_AS_I_KNOW))


def _again(talk: Talk) -> Reply:
    facts = talk.prompt.facts
    if facts and is_from_last_reply(talk, facts[0]):
        return repeat(talk, facts[0])
    return Reply(joined(talk.pick(lines.AS_I_SAID), talk.last_reply) if talk.last_reply else talk.pick(lines.QUIET))


def _more(talk: Talk) -> Reply:
    return Reply(fitted(talk, talk.pick(lines.ALL_TOLD), closer=offer(talk)))


_BY_INTENT: dict[Intent, Callable[[Talk], Reply]] = {
    **PERSONAL,
    Intent.WHY: _why,
    Intent.REALLY: _really,
    Intent.AGAIN: _again,
    Intent.MORE: _more,
}
