"""Shapes a reply: how long it may be for an age group, and what is said before and after the answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from openapi_server.models.sentences import split_sentences
from openapi_server.providers.offline.conversation import Conversation, list_told_topics
from openapi_server.providers.offline.lines import LINES

_SENTENCES = 9
_PRESCHOOL_SENTENCES = 3
_PRESCHOOL_WORDS = 22
_OPENER_CHANCE, _CLOSER_CHANCE, _NAME_CHANCE, _OFFER_CHANCE = 0.5, 0.6, 0.3, 0.6


@dataclass(frozen=True, slots=True)
class Reply:
    """A text, and the facts of the prompt that it tells."""

    text: str
    fact_ids: tuple[str, ...] = ()


def take_sentences(text: str, count: int) -> str:
    return " ".join(split_sentences(text)[:count])


def shorten(text: str) -> str:
    """As much of a text for school children as a preschooler can follow: one sentence, two if they are short."""
    two = take_sentences(text, 2)
    return two if len(two.split()) <= _PRESCHOOL_WORDS else take_sentences(text, 1)


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
    """The whole core; the opener and the closer only while the age group's limit of sentences allows them."""
    room = _PRESCHOOL_SENTENCES - len(split_sentences(core)) if chat.is_with_preschooler else _SENTENCES
    if opener and room >= len(split_sentences(opener)):
        room -= len(split_sentences(opener))
    else:
        opener = ""
    return join_parts(opener, core, closer if room >= len(split_sentences(closer)) else "")


def make_offer(chat: Conversation, about_other_than: str = "") -> str:
    """A line that invites the next question: the animal's own that were not said yet, then topics not told yet."""
    said = " ".join((about_other_than, *(exchange.reply for exchange in chat.history))).lower()
    own = [line for line in chat.animal.voice.closers if line.lower() not in said and not _repeats(line, said)]
    return chat.pick_line(own) if own else _make_topic_offer(chat, said)


def maybe_make_offer(chat: Conversation, line: str) -> str:
    """After small talk: an offer at random, but none after a line that asks something itself."""
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


def _repeats(closer: str, said: str) -> bool:
    """True when the closer has a word of the text, stop words aside: it would offer to tell what was told."""
    words = (word for word in re.findall(r"[a-z]{4,}", closer.lower()) if word not in _STOP_WORDS)
    return any(word in said for word in words)


def add_article(noun: str) -> str:
    """The noun with its indefinite article: "an owl", "a bear"."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def fill_placeholders(line: str, **values: str) -> str:
    """Put values in the place of `{key}`. Other braces stay: `str.format` would fail on those in what keepers write."""
    for key, value in values.items():
        line = line.replace(f"{{{key}}}", value)
    return line
