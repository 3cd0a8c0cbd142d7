"""Summaries of a conversation by extraction: the most significant sentences of its replies, and its topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from openapi_server import linear_regex
from openapi_server.models.control_characters import remove_control_characters
from openapi_server.models.sentences import split_sentences
from openapi_server.models.turn import TurnRecord

_WORD = linear_regex.compile(r"[^\W\d_]{4,}")
_MIN_WORDS = 3

NOTHING_SAID = "Nothing has been said yet."


@dataclass(frozen=True, slots=True)
class Summary:
    """`topics`: those of the facts told, the most frequent first."""

    text: str
    topics: tuple[str, ...]
    message_count: int


def summarize(turns: Sequence[TurnRecord], max_length: int, *, can_quote: bool = True) -> Summary:
    """The replies' most significant sentences, in their order; at most `max_length` characters.

    `can_quote`: whether the first message may be quoted where no sentence of the replies fits.
    The weight of a sentence is the mean of its words' frequencies in the conversation (after Luhn, 1958).
    """
    replies = [turn.outcome.reply for turn in turns if turn.outcome and turn.outcome.reply]
    topics = Counter(source.topic for turn in turns if turn.outcome for source in turn.outcome.sources)
    return Summary(
        text=_extract(replies, max_length) or (_quote_first_message(turns, max_length) if can_quote else NOTHING_SAID),
        topics=tuple(topic for topic, _ in topics.most_common()),
        message_count=len(turns) + len(replies),
    )


def _extract(replies: Sequence[str], max_length: int) -> str:
    sentences = list(dict.fromkeys(sentence for reply in replies for sentence in _split(reply)))
    frequencies = Counter(word for reply in replies for word in _list_words(reply))
    by_weight = sorted(range(len(sentences)), key=lambda index: -_weigh(sentences[index], frequencies))
    chosen: list[int] = []
    remaining = max_length
    for index in by_weight:
        if len(_list_words(sentences[index])) >= _MIN_WORDS and len(sentences[index]) < remaining:
            chosen.append(index)
            remaining -= len(sentences[index]) + 1
    return " ".join(sentences[index] for index in sorted(chosen))


def _split(reply: str) -> list[str]:
    """The sentences of each line. At an ellipsis the speaker hesitates: what follows belongs to the sentence."""
    return [part for line in reply.split("\n") for part in split_sentences(line, ends_at_ellipsis=False)]


def _quote_first_message(turns: Sequence[TurnRecord], max_length: int) -> str:
    said = remove_control_characters(turns[0].message).strip() if turns else ""
    return _truncate(f"The visitor said: {said}", max_length) if said else NOTHING_SAID


def _truncate(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else text[: max_length - 1].rstrip() + "…"


def _weigh(sentence: str, frequencies: Counter[str]) -> float:
    words = _list_words(sentence)
    return sum(frequencies[word] for word in words) / (len(words) or 1)


def _list_words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]
