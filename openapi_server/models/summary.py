"""Summaries by extraction: sentences that were really said, and the topics that were really told about. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from openapi_server.models.turn import TurnRecord

# A full stop ends a sentence only before a blank: "0.5 metres" and "zoo.example" stay whole.
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"[^\W\d_]{4,}")
NOTHING_SAID = "Nothing has been said yet."


@dataclass(frozen=True, slots=True)
class Summary:
    """`topics` are those of the facts told, most told first."""

    text: str
    topics: tuple[str, ...]
    message_count: int


def summarize(turns: Sequence[TurnRecord], max_length: int) -> Summary:
    """At most `max_length` characters: the weightiest sentences of the animal, in the order in which they were said.

    A sentence weighs what its words weigh, a word how often the talk used it (after Luhn, 1958).
    """
    replies = [turn.outcome.reply for turn in turns if turn.outcome and turn.outcome.reply]
    topics = Counter(source.topic for turn in turns if turn.outcome for source in turn.outcome.sources)
    return Summary(
        text=_extract(replies, max_length) or _opening(turns, max_length),
        topics=tuple(topic for topic, _ in topics.most_common()),
        message_count=len(turns) + len(replies),
    )


def _extract(replies: Sequence[str], max_length: int) -> str:
    sentences = list(dict.fromkeys(part.strip() for reply in replies for part in _BETWEEN_SENTENCES.split(reply)))
    weights = Counter(word for reply in replies for word in _words(reply))
    by_weight = sorted(range(len(sentences)), key=lambda place: -_weight(sentences[place], weights))
    chosen: list[int] = []
    left = max_length
    for place in by_weight:
        if len(_words(sentences[place])) > 2 and len(sentences[place]) < left:
            chosen.append(place)
            left -= len(sentences[place]) + 1
    return " ".join(sentences[place] for place in sorted(chosen))


def _opening(turns: Sequence[TurnRecord], max_length: int) -> str:
    """Where no sentence of the animal fits: what the visitor began with."""
    return _cut(f"The visitor said: {turns[0].message.strip()}", max_length) if turns else NOTHING_SAID


def _cut(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else text[: max_length - 1].rstrip() + "…"


def _weight(sentence: str, weights: Counter[str]) -> float:
    words = _words(sentence)
    return sum(weights[word] for word in words) / (len(words) or 1)


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]
