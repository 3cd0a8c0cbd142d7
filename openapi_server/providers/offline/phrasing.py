"""Shaping a reply: sentences, lengths for an age, and the small words before and after an answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from openapi_server.providers.offline import lines
from openapi_server.providers.offline.conversation import Conversation, list_told_topics

_PRESCHOOL_SENTENCES = 3
_PRESCHOOL_WORDS = 22
_OPENER_CHANCE, _CLOSER_CHANCE, _NAME_CHANCE, _OFFER_CHANCE = 0.5, 0.6, 0.3, 0.6


@dataclass(frozen=True, slots=True)
class Reply:
    """What is said, and from which of the prompt's facts."""

    text: str
    fact_ids: tuple[str, ...] = ()


def split_sentences(text: str) -> list[str]:
    """Cut after sentence ends.

    >>> sentences("I sleep. Do you? Yes!")
    ['I sleep.', 'Do you?', 'Yes!']
    """
    return [part for part in re.split(r"(?<=[.!?…])\s+", text.strip()) if part]


def take_sentences(text: str, count: int) -> str:
    return " ".join(split_sentences(text)[:count])


def shorten(text: str) -> str:
    """As much of a text for school children as a preschooler can follow: one sentence, two if they are short."""
    two = take_sentences(text, 2)
    return two if len(two.split()) <= _PRESCHOOL_WORDS else take_sentences(text, 1)


def join_parts(*parts: str) -> str:
    return " ".join(part.strip() for part in parts if part.strip())


def add_opener_and_closer(talk: Conversation, answer: str) -> str:
    """The answer, sometimes with an opener before and an invitation after it.

    A preschooler hears three short sentences at most, so there the frame gives way first.
    """
    opener = _opener(talk) if talk.chance.random() < _OPENER_CHANCE else ""
    wants_closer = talk.chance.random() < _CLOSER_CHANCE
    closer = make_offer(talk, about_other_than=answer) if wants_closer else ""
    return fit_to_age(talk, answer, opener=opener, closer=closer)


def fit_to_age(talk: Conversation, core: str, *, opener: str = "", closer: str = "") -> str:
    """Core first; the opener and the closer only as far as the age group's patience reaches."""
    room = _PRESCHOOL_SENTENCES - len(split_sentences(core)) if talk.is_with_preschooler else 9
    if opener and room >= len(split_sentences(opener)):
        room -= len(split_sentences(opener))
    else:
        opener = ""
    return join_parts(opener, core, closer if room >= len(split_sentences(closer)) else "")


def make_offer(talk: Conversation, about_other_than: str = "") -> str:
    """A line that invites the next question: the animal's own while they are fresh, then topics not told yet."""
    said = " ".join((about_other_than, *(exchange.reply for exchange in talk.history))).lower()
    own = [line for line in talk.animal.voice.closers if line.lower() not in said and not _echoes(line, said)]
    return talk.pick_line(own) if own else _topic_offer(talk, said)


def maybe_make_offer(talk: Conversation, line: str) -> str:
    """After small talk an offer comes now and then; after a question of the animal's own, never."""
    quiet = line.endswith("?") or talk.chance.random() > _OFFER_CHANCE
    return "" if quiet else make_offer(talk, line)


def _topic_offer(talk: Conversation, said: str) -> str:
    known = dict.fromkeys(fact.topic for fact in talk.animal.facts if fact.topic in lines.TOPIC_OFFERS)
    left = [
        topic
        for topic in known
        if topic not in list_told_topics(talk) and lines.TOPIC_OFFERS[topic].lower() not in said
    ]
    if not left:
        return ""
    return fill_placeholders(talk.pick_line(lines.TOPIC_OFFER), topic=lines.TOPIC_OFFERS[talk.chance.choice(left)])


def _opener(talk: Conversation) -> str:
    opener = talk.pick_line(talk.animal.voice.openers)
    if talk.visitor_name and opener[-1] in ".!" and talk.chance.random() < _NAME_CHANCE:
        return f"{opener[:-1]}, {talk.visitor_name}{opener[-1]}"
    return opener


_PLAIN_WORDS = frozenset(
    "shall tell about would like know with have that what this hear want your they there could really".split()
)


def _echoes(closer: str, said: str) -> bool:
    """True when the closer offers to tell what has just been said."""
    words = (word for word in re.findall(r"[a-z]{4,}", closer.lower()) if word not in _PLAIN_WORDS)
    return any(word in said for word in words)


def add_article(animal_word: str) -> str:
    """With its article: "an owl", "a bear"."""
    return f"{'an' if animal_word[0].lower() in 'aeiou' else 'a'} {animal_word}"


def fill_placeholders(line: str, **values: str) -> str:
    """Put values into a line. Only known places are filled: braces in a value, or elsewhere, stay as they are."""
    for key, value in values.items():
        line = line.replace(f"{{{key}}}", value)
    return line
