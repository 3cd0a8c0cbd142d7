"""Small talk: replies about the animal itself and the visitor (names, birthday, favourites, jokes, stories)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from openapi_server import linear_regex
from openapi_server.insulting_names import is_insulting_name
from openapi_server.models.animal import Fact
from openapi_server.providers.offline.answers import choose_wording
from openapi_server.providers.offline.conversation import Conversation
from openapi_server.providers.offline.intents import Intent
from openapi_server.providers.offline.phrasing import (
    LINES,
    Reply,
    add_article,
    fill_placeholders,
    fit_to_age,
    join_parts,
    make_offer,
    maybe_make_offer,
)
from openapi_server.providers.offline.text import simplify_text

_FAVOURITE_WORDS: Mapping[str, str] = {
    "food": "food foods snack meal lunch dinner breakfast treat fruit meat drink eat dish",
    "game": "game games toy toys hobby sport activity play",
    "colour": "colour color colours colors colr",
    "place": "place spot room home country tree",
    "friend": "friend friends frend freind buddy keeper person human",
    "time": "time day season month hour weather",
}
_FAVOURITE = linear_regex.compile(r"\b(?:favou?rites?|fav|fave|favrit|favourit|best) (\w+)")


def _reply_with(chat: Conversation, line: str) -> Reply:
    return Reply(fit_to_age(chat, line, closer=maybe_make_offer(chat, line)))


def _make_voice_handler(kind: str) -> Callable[[Conversation], Reply]:
    """A handler that says one of the animal's own lines. `kind`: the field of `Voice` that has them."""
    return lambda chat: Reply(chat.pick_line(getattr(chat.animal.voice, kind)))


def _tell_who(chat: Conversation) -> Reply:
    individual = chat.animal.individual
    character = f"{', '.join(individual.character[:-1])} and {individual.character[-1]}"
    species = add_article(chat.animal.species)
    line = fill_placeholders(
        chat.pick_line(LINES.who_are_you),
        animal=chat.animal.name,
        a_species=species,
        home=individual.home,
        character=character,
    )
    return _reply_with(chat, line)


def _tell_if_real(chat: Conversation) -> Reply:
    line = chat.pick_line(LINES.are_you_real)
    return Reply(fill_placeholders(line, disclosure=chat.animal.disclosure, animal=chat.animal.species))


def _tell_visitor_name(chat: Conversation) -> Reply:
    if chat.visitor_name is None:
        return Reply(chat.pick_line(LINES.unknown_visitor_name))
    return _reply_with(chat, fill_placeholders(chat.pick_line(LINES.known_visitor_name), visitor=chat.visitor_name))


def _tell_birthday(chat: Conversation) -> Reply:
    """The fact about the birthday, if it was found; else the date of birth from the animal's document."""
    fact = next((fact for fact in chat.prompt.facts if _is_about(fact, "birthday")), None)
    if fact is not None:
        return Reply(fit_to_age(chat, choose_wording(chat, fact), closer=make_offer(chat, fact.say)), (fact.fact_id,))
    individual = chat.animal.individual
    born = individual.born
    line = fill_placeholders(
        chat.pick_line(LINES.birthday),
        born=f"{born.day} {born:%B %Y}",
        birthday=f"{born.day} {born:%B}",
        year=str(born.year),
        birthplace=individual.birthplace,
    )
    return _reply_with(chat, line)


def _is_about(fact: Fact, word: str) -> bool:
    return fact.topic == "zoo_life" and word in {simplify_text(ask) for ask in fact.asks}


def _tell_favourite(chat: Conversation) -> Reply:
    favourites = chat.animal.individual.favourites
    asked = _FAVOURITE.search(chat.message.rest)
    word = asked.group(1) if asked and not is_insulting_name(asked.group(1)) else "thing"
    kind = next((kind for kind, words in _FAVOURITE_WORDS.items() if word in words.split()), None)
    if kind is not None and kind in favourites:
        return _reply_with(chat, fill_placeholders(chat.pick_line(LINES.favourite[kind]), it=favourites[kind]))
    other = chat.rng.choice(sorted(favourites.keys() & LINES.favourite.keys()))
    line = fill_placeholders(chat.pick_line(LINES.favourite_unknown), what=word, kind=other, it=favourites[other])
    return _reply_with(chat, line)


def _tell_joke(chat: Conversation) -> Reply:
    return Reply(chat.pick_line(chat.animal.voice.jokes, never_twice=True))


def _tell_story(chat: Conversation) -> Reply:
    return Reply(chat.pick_line(chat.animal.individual.anecdotes, never_twice=True))


def _cheer_up(chat: Conversation) -> Reply:
    return Reply(fill_placeholders(chat.pick_line(LINES.bored), joke=_tell_joke(chat).text))


def _suggest_topics(chat: Conversation) -> Reply:
    """Three topics of this animal's facts, drawn at random."""
    known = dict.fromkeys(fact.topic for fact in chat.animal.facts if fact.topic in LINES.topics)
    topics = chat.rng.sample(list(known), k=min(3, len(known)))
    if len(topics) < 3:
        return Reply(make_offer(chat) or chat.pick_line(LINES.by_intent[Intent.YES]))
    first, second, third = (LINES.topics[topic] for topic in topics)
    line = chat.pick_line(LINES.what_can_i_ask)
    return Reply(fill_placeholders(line, first=first, second=second, third=third, animal=f"{chat.animal.species}s"))


def _tell_sex(chat: Conversation) -> Reply:
    choices = LINES.boy_or_girl.get(chat.animal.individual.sex)
    if choices is None:
        return Reply(chat.pick_line(chat.animal.voice.dont_know))
    return _reply_with(chat, fill_placeholders(chat.pick_line(choices), species=chat.animal.species))


def _make_home_handler(choices: tuple[str, ...]) -> Callable[[Conversation], Reply]:
    return lambda chat: _reply_with(chat, fill_placeholders(chat.pick_line(choices), home=chat.animal.individual.home))


def _make_sound(chat: Conversation) -> Reply:
    line = fill_placeholders(chat.pick_line(LINES.sound), sound=chat.animal.voice.sound)
    fact = next((fact for fact in chat.prompt.facts if fact.topic in ("sound", "communication", "myth")), None)
    if fact is None:
        return _reply_with(chat, line)
    answer = choose_wording(chat, fact)
    return Reply(answer if chat.animal.voice.sound in answer else join_parts(line, answer), (fact.fact_id,))


def _offer_to_play(chat: Conversation) -> Reply:
    return _reply_with(chat, chat.pick_line(LINES.play))


SMALL_TALK_HANDLERS: dict[Intent, Callable[[Conversation], Reply]] = {
    Intent.GOODBYE: _make_voice_handler("goodbyes"),
    Intent.THANKS: _make_voice_handler("thanks"),
    Intent.HOW_ARE_YOU: _make_voice_handler("how_are_you"),
    Intent.WHO_ARE_YOU: _tell_who,
    Intent.REAL: _tell_if_real,
    Intent.MY_NAME: _tell_visitor_name,
    Intent.BIRTHDAY: _tell_birthday,
    Intent.FAVOURITE: _tell_favourite,
    Intent.JOKE: _tell_joke,
    Intent.STORY: _tell_story,
    Intent.BORED: _cheer_up,
    Intent.WHAT_CAN_I_ASK: _suggest_topics,
    Intent.BOY_OR_GIRL: _tell_sex,
    Intent.WHERE_HERE: _make_home_handler(LINES.where_is_home),
    Intent.COME_HOME: _make_home_handler(LINES.come_to_my_house),
    Intent.SOUND: _make_sound,
    Intent.PLAY: _offer_to_play,
}
