"""Replies about the individual and the visitor: name, birthday, favourites, jokes and stories."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from openapi_server.models.animal import Fact
from openapi_server.providers.offline import lines
from openapi_server.providers.offline.answers import choose_wording
from openapi_server.providers.offline.conversation import Conversation
from openapi_server.providers.offline.intents import Intent
from openapi_server.providers.offline.message import normalize_text
from openapi_server.providers.offline.phrasing import (
    Reply,
    add_article,
    fill_placeholders,
    fit_to_age,
    join_parts,
    make_offer,
    maybe_make_offer,
)

_FAVOURITE_WORDS: Mapping[str, str] = {
    "food": "food foods snack meal lunch dinner breakfast treat fruit meat drink eat dish",
    "game": "game games toy toys hobby sport activity play",
    "colour": "colour color colours colors colr",
    "place": "place spot room home country tree",
    "friend": "friend friends frend freind buddy keeper person human",
    "time": "time day season month hour weather",
}
_FAVOURITE = re.compile(r"\b(?:favou?rites?|fav|fave|favrit|favourit|best) (\w+)")


def _line(talk: Conversation, line: str) -> Reply:
    return Reply(fit_to_age(talk, line, closer=maybe_make_offer(talk, line)))


def _voiced(kind: str) -> Callable[[Conversation], Reply]:
    """A line of the animal's own, such as its goodbyes."""
    return lambda talk: Reply(talk.pick_line(getattr(talk.animal.voice, kind)))


def _who(talk: Conversation) -> Reply:
    individual = talk.animal.individual
    character = f"{', '.join(individual.character[:-1])} and {individual.character[-1]}"
    species = add_article(talk.animal.species)
    line = fill_placeholders(
        talk.pick_line(lines.WHO),
        animal=talk.animal.name,
        a_species=species,
        home=individual.home,
        character=character,
    )
    return _line(talk, line)


def _real(talk: Conversation) -> Reply:
    line = talk.pick_line(lines.REAL)
    return Reply(fill_placeholders(line, disclosure=talk.animal.disclosure, animal=talk.animal.species))


def _my_name(talk: Conversation) -> Reply:
    if talk.visitor_name is None:
        return Reply(talk.pick_line(lines.UNKNOWN_NAME))
    return _line(talk, fill_placeholders(talk.pick_line(lines.KNOWN_NAME), visitor=talk.visitor_name))


def _birthday(talk: Conversation) -> Reply:
    """The keepers' own fact about the birthday where it was found, else the date from the animal's papers."""
    fact = next((fact for fact in talk.prompt.facts if _is_about(fact, "birthday")), None)
    if fact is not None:
        return Reply(fit_to_age(talk, choose_wording(talk, fact), closer=make_offer(talk, fact.say)), (fact.fact_id,))
    individual = talk.animal.individual
    born = individual.born
    line = fill_placeholders(
        talk.pick_line(lines.BORN),
        born=f"{born.day} {born:%B %Y}",
        birthday=f"{born.day} {born:%B}",
        year=str(born.year),
        birthplace=individual.birthplace,
    )
    return _line(talk, line)


def _is_about(fact: Fact, word: str) -> bool:
    return fact.topic == "zoo_life" and word in {normalize_text(ask) for ask in fact.asks}


def _favourite(talk: Conversation) -> Reply:
    favourites = talk.animal.individual.favourites
    asked = _FAVOURITE.search(talk.heard.rest)
    word = asked.group(1) if asked else "thing"
    kind = next((kind for kind, words in _FAVOURITE_WORDS.items() if word in words.split()), None)
    if kind is not None and kind in favourites:
        return _line(talk, fill_placeholders(talk.pick_line(lines.FAVOURITE[kind]), it=favourites[kind]))
    other = talk.chance.choice(sorted(favourites.keys() & lines.FAVOURITE.keys()))
    line = fill_placeholders(talk.pick_line(lines.FAVOURITE_UNKNOWN), what=word, kind=other, it=favourites[other])
    return _line(talk, line)


def _joke(talk: Conversation) -> Reply:
    return Reply(talk.pick_line(talk.animal.voice.jokes, never_twice=True))


def _story(talk: Conversation) -> Reply:
    return Reply(talk.pick_line(talk.animal.individual.anecdotes, never_twice=True))


def _bored(talk: Conversation) -> Reply:
    return Reply(fill_placeholders(talk.pick_line(lines.BORED), joke=_joke(talk).text))


def _what_can_i_ask(talk: Conversation) -> Reply:
    """Three topics that this animal's keepers really wrote about."""
    known = dict.fromkeys(fact.topic for fact in talk.animal.facts if fact.topic in lines.TOPIC_OFFERS)
    topics = talk.chance.sample(list(known), k=min(3, len(known)))
    if len(topics) < 3:
        return Reply(make_offer(talk) or talk.pick_line(lines.PLAIN[Intent.YES]))
    first, second, third = (lines.TOPIC_OFFERS[topic] for topic in topics)
    line = talk.pick_line(lines.WHAT_CAN_I_ASK)
    return Reply(fill_placeholders(line, first=first, second=second, third=third, animal=f"{talk.animal.species}s"))


def _boy_or_girl(talk: Conversation) -> Reply:
    choices = lines.BOY_OR_GIRL.get(talk.animal.individual.sex)
    if choices is None:
        return Reply(talk.pick_line(talk.animal.voice.dont_know))
    return _line(talk, fill_placeholders(talk.pick_line(choices), species=talk.animal.species))


def _home(choices: tuple[str, ...]) -> Callable[[Conversation], Reply]:
    return lambda talk: _line(talk, fill_placeholders(talk.pick_line(choices), home=talk.animal.individual.home))


def _sound(talk: Conversation) -> Reply:
    line = fill_placeholders(talk.pick_line(lines.SOUND), sound=talk.animal.voice.sound)
    fact = next((fact for fact in talk.prompt.facts if fact.topic in ("sound", "communication", "myth")), None)
    if fact is None:
        return _line(talk, line)
    told = choose_wording(talk, fact)
    return Reply(told if talk.animal.voice.sound in told else join_parts(line, told), (fact.fact_id,))


def _play(talk: Conversation) -> Reply:
    return _line(talk, talk.pick_line(lines.PLAY))


PERSONAL: dict[Intent, Callable[[Conversation], Reply]] = {
    Intent.GOODBYE: _voiced("goodbyes"),
    Intent.THANKS: _voiced("thanks"),
    Intent.HOW_ARE_YOU: _voiced("how_are_you"),
    Intent.WHO_ARE_YOU: _who,
    Intent.REAL: _real,
    Intent.MY_NAME: _my_name,
    Intent.BIRTHDAY: _birthday,
    Intent.FAVOURITE: _favourite,
    Intent.JOKE: _joke,
    Intent.STORY: _story,
    Intent.BORED: _bored,
    Intent.WHAT_CAN_I_ASK: _what_can_i_ask,
    Intent.BOY_OR_GIRL: _boy_or_girl,
    Intent.WHERE_HERE: _home(lines.HOME),
    Intent.COME_HOME: _home(lines.COME_HOME),
    Intent.SOUND: _sound,
    Intent.PLAY: _play,
}
