"""The phrasing of replies: the lines of `lines.yaml`, openers and offers around an answer, limits by age group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from openapi_server import linear_regex
from openapi_server.models.sentences import count_sentences, split_sentences
from openapi_server.providers.offline.conversation import Conversation, list_told_topics
from openapi_server.providers.offline.intents import Intent
from openapi_server.yaml_files import load_yaml

Choices: TypeAlias = tuple[str, ...]
"""Alternative lines; a reply contains one of them."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines that every animal can say, by purpose. `favourite` and `boy_or_girl` are by what was asked about; `topics`
    has a phrase for each topic."""

    by_intent: Mapping[Intent, Choices]
    emoji_only: Choices
    no_words: Choices
    are_you_real: Choices
    who_are_you: Choices
    nice_to_meet: Choices
    known_visitor_name: Choices
    unknown_visitor_name: Choices
    introduction: str
    short_greeting: str
    short_nice_to_meet: str
    visitor_age: Choices
    birthday: Choices
    favourite: Mapping[str, Choices]
    favourite_unknown: Choices
    boy_or_girl: Mapping[str, Choices]
    where_is_home: Choices
    come_to_my_house: Choices
    sound: Choices
    play: Choices
    bored: Choices
    what_can_i_ask: Choices
    joke_explanation: Choices
    other_animal: Choices
    remark: Choices
    confirmation: Choices
    source_reference: Choices
    assurance: Choices
    unknown_reason: Choices
    repetition: Choices
    nothing_more: Choices
    topic_offer: Choices
    topics: Mapping[str, str]

    @classmethod
    def load(cls) -> Lines:
        """Read the file. Raises `TypeError` for a name that is missing or unknown, `KeyError` for an unknown intent."""
        content: dict[str, Any] = load_yaml(Path(__file__).with_name("lines.yaml"))
        by_intent = {Intent[name.upper()]: tuple(lines) for name, lines in content.pop("by_intent").items()}
        return cls(by_intent=by_intent, **{name: _freeze(lines) for name, lines in content.items()})


def _freeze(lines: Any) -> Any:
    """The same content with tuples in place of lists."""
    if isinstance(lines, dict):
        return {key: _freeze(each) for key, each in lines.items()}
    return tuple(lines) if isinstance(lines, list) else lines


LINES = Lines.load()


_MAX_SENTENCES = 9
_MAX_PRESCHOOL_SENTENCES = 3
_MAX_PRESCHOOL_WORDS = 22
_OPENER_CHANCE, _CLOSER_CHANCE, _NAME_CHANCE, _OFFER_CHANCE = 0.5, 0.6, 0.3, 0.6


@dataclass(frozen=True, slots=True)
class Reply:
    """The text of a reply, and the ids of the facts in it. `is_unknown`: it says "I don't know"."""

    text: str
    fact_ids: tuple[str, ...] = ()
    is_unknown: bool = False


def take_sentences(text: str, count: int) -> str:
    return " ".join(split_sentences(text)[:count])


def shorten(text: str) -> str:
    """The beginning of a text, for preschoolers: one sentence, or two if they are short."""
    two = take_sentences(text, 2)
    return two if len(two.split()) <= _MAX_PRESCHOOL_WORDS else take_sentences(text, 1)


def join_parts(*parts: str) -> str:
    return " ".join(part.strip() for part in parts if part.strip())


def add_opener_and_closer(chat: Conversation, answer: str) -> str:
    """The answer, sometimes with an opener before and an offer after it.

    A preschooler gets three short sentences at most; the opener and the offer are left out first.
    """
    opener = _make_opener(chat) if chat.rng.random() < _OPENER_CHANCE else ""
    wants_closer = chat.rng.random() < _CLOSER_CHANCE
    closer = make_offer(chat, about_other_than=answer) if wants_closer else ""
    return fit_to_age(chat, answer, opener=opener, closer=closer)


def fit_to_age(chat: Conversation, core: str, *, opener: str = "", closer: str = "") -> str:
    """The whole core, with the opener and the closer as far as the age group's limit of sentences allows."""
    room = _MAX_PRESCHOOL_SENTENCES - count_sentences(core) if chat.is_with_preschooler else _MAX_SENTENCES
    if opener and room >= count_sentences(opener):
        room -= count_sentences(opener)
    else:
        opener = ""
    return join_parts(opener, core, closer if room >= count_sentences(closer) else "")


def make_offer(chat: Conversation, about_other_than: str = "") -> str:
    """A line that invites the next question: a closer of the animal that was not said yet, else a topic not told yet.

    Empty when nothing is left to offer. `about_other_than`: the answer; the offer must not repeat it.
    """
    said = " ".join((about_other_than, *(exchange.reply for exchange in chat.history))).lower()
    own = [line for line in chat.animal.voice.closers if line.lower() not in said and not _repeats(line, said)]
    return chat.pick_line(own) if own else _make_topic_offer(chat, said)


def maybe_make_offer(chat: Conversation, line: str) -> str:
    """After small talk: an offer, or by chance none; never one after a line that is a question itself."""
    is_omitted = line.endswith("?") or chat.rng.random() > _OFFER_CHANCE
    return "" if is_omitted else make_offer(chat, line)


def _make_topic_offer(chat: Conversation, said: str) -> str:
    known = dict.fromkeys(fact.topic for fact in chat.animal.facts if fact.topic in LINES.topics)
    left = [topic for topic in known if topic not in list_told_topics(chat) and LINES.topics[topic].lower() not in said]
    if not left:
        return ""
    return fill_placeholders(chat.pick_line(LINES.topic_offer), topic=LINES.topics[chat.rng.choice(left)])


def _make_opener(chat: Conversation) -> str:
    opener = chat.pick_line(chat.animal.voice.openers)
    if chat.visitor_name and opener[-1] in ".!" and chat.rng.random() < _NAME_CHANCE:
        return f"{opener[:-1]}, {chat.visitor_name}{opener[-1]}"
    return opener


_STOP_WORDS = frozenset(
    "shall tell about would like know with have that what this hear want your they there could really".split()
)


_LONG_WORD = linear_regex.compile(r"[a-z]{4,}")


def _repeats(closer: str, said: str) -> bool:
    """True when the text has a word of the closer (stop words aside): the offer would repeat what was said."""
    return any(word in said for word in _list_topic_words(closer))


@lru_cache(maxsize=1024)
def _list_topic_words(closer: str) -> tuple[str, ...]:
    """Cached: closers are lines of the keepers."""
    return tuple(word for word in _LONG_WORD.findall(closer.lower()) if word not in _STOP_WORDS)


def add_article(noun: str) -> str:
    """The noun with its indefinite article: "an owl", "a bear"."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def fill_placeholders(line: str, **values: str) -> str:
    """Replace each `{key}` by its value. Other braces stay; `str.format` would fail on those in keepers' texts."""
    for key, value in values.items():
        line = line.replace(f"{{{key}}}", value)
    return line
