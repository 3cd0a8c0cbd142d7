"""Summaries of a conversation by extraction: what the visitor asked, and the sentences that answered it.

What an animal says around its answers (greetings, offers, small talk) is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from openapi_server import linear_regex
from openapi_server.models.control_characters import remove_control_characters
from openapi_server.models.sentences import split_sentences
from openapi_server.models.turn import TurnRecord

_WORD = linear_regex.compile(r"[^\W\d_]{3,}|\d+")
_QUESTION_MARKS = ("?", "？", "؟", ";")
_QUESTION_WORDS = frozenset(
    "what what's who who's whose where where's when why how how's which do does did can could are is was were will "
    "would may have has tell".split()
)
# They do not show that a sentence is about the question.
_FUNCTION_WORDS = _QUESTION_WORDS | frozenset(
    "you your yours and the for not like about much many with this that".split()
)
# Words of a reply's sentence that are in the facts that it tells: so many make it an answer.
_MIN_SHARE_OF_FACT = 0.5
_MIN_ANSWER_WORDS = 3
_MAX_QUESTION_LENGTH = 120
_MAX_ANSWER_LENGTH = 240

NOTHING_SAID = "Nothing has been said yet."
NOTHING_TO_TELL = "Nothing was asked that can be told here."


@dataclass(frozen=True, slots=True)
class Summary:
    """`topics`: those of the facts told, the most frequent first."""

    text: str
    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Question:
    """A message that asks, and the sentence of the reply that answers. `has_facts`: the reply told facts."""

    place: int
    asked: str
    answer: str
    has_facts: bool

    @property
    def words(self) -> list[str]:
        return _list_words(f"{self.asked} {self.answer}")

    def list_texts(self) -> Iterable[str]:
        """What a summary can say of it, the longest first."""
        asked = f"Asked: {_truncate(self.asked, _MAX_QUESTION_LENGTH)}"
        return ([f"{asked} Answered: {_truncate(self.answer, _MAX_ANSWER_LENGTH)}"] if self.answer else []) + [asked]


def summarize(
    turns: Sequence[TurnRecord],
    max_length: int,
    facts: Mapping[str, str] | None = None,
    may_quote: Callable[[str], bool] = bool,
) -> Summary:
    """What was asked and answered, in its order; at most `max_length` characters.

    `facts`: the texts of facts by id, in which an answer is recognized. `may_quote`: whether a message of the visitor
    may be repeated. Where there is not room for everything, questions that were answered with facts come first, then
    those whose words are frequent in the conversation (after Luhn, 1958). Where nothing was asked, it is what the
    visitor said. Turns that moderation has flagged are left out.
    """
    topics = Counter(source.topic for turn in turns if turn.outcome for source in turn.outcome.sources)
    shown = [turn for turn in turns if not (turn.outcome and turn.outcome.moderation.flagged)]
    questions = _list_questions(shown, facts or {})
    text = _tell_questions(questions, max_length, may_quote) or _tell_statements(shown, max_length, may_quote)
    return Summary(
        text=text or (NOTHING_TO_TELL if turns else NOTHING_SAID),
        topics=tuple(topic for topic, _ in topics.most_common()),
    )


def _list_questions(turns: Sequence[TurnRecord], facts: Mapping[str, str]) -> list[_Question]:
    """Each question once: as it was asked first, unless only a later one was answered."""
    found: dict[str, _Question] = {}
    for place, turn in enumerate(turns):
        asked = _clean(turn.message)
        told = [facts.get(source.fact_id, "") for source in turn.outcome.sources] if turn.outcome else []
        if asked and (told or _is_question(asked)):
            reply = (turn.outcome.reply if turn.outcome else None) or ""
            question = _Question(place, asked, _find_answer(asked, reply, " ".join(told)), bool(told))
            earlier = found.get(asked.casefold())
            if earlier is None or (question.answer and not earlier.answer):
                found[asked.casefold()] = question
    return list(found.values())


def _tell_questions(questions: Sequence[_Question], max_length: int, may_quote: Callable[[str], bool]) -> str:
    frequencies = Counter(word for question in questions for word in question.words)
    by_weight = sorted(questions, key=lambda question: (not question.has_facts, -_weigh(question.words, frequencies)))
    chosen: dict[int, str] = {}
    remaining = max_length
    for question in by_weight:
        text = next((text for text in question.list_texts() if len(text) <= remaining), "")
        if text and may_quote(question.asked):
            chosen[question.place] = text
            remaining -= len(text) + 1
    if chosen:
        return " ".join(chosen[place] for place in sorted(chosen))
    quotable = next((question for question in by_weight if may_quote(question.asked)), None)
    return _truncate(f"Asked: {quotable.asked}", max_length) if quotable else ""


def _tell_statements(turns: Sequence[TurnRecord], max_length: int, may_quote: Callable[[str], bool]) -> str:
    said = [text for text in dict.fromkeys(_clean(turn.message) for turn in turns) if text and not _is_question(text)]
    text = "The visitor said:"
    for statement in said:
        if len(text) >= max_length:
            break
        if may_quote(statement):
            text += f" {statement}"
    return _truncate(text, max_length) if not text.endswith("said:") else ""


def _find_answer(asked: str, reply: str, fact: str) -> str:
    """The sentence of the reply that answers; "" where it has none.

    That is one that tells the fact; among several, and where there is no fact, one with words of the question, else
    the first that is neither a question nor an exclamation of a word or two.
    """
    sentences = [_clean(part) for line in reply.split("\n") for part in split_sentences(line, ends_at_ellipsis=False)]
    candidates = [sentence for sentence in sentences if len(sentence.split()) >= _MIN_ANSWER_WORDS]
    statements = [sentence for sentence in candidates if not sentence.endswith(_QUESTION_MARKS)]
    fact_words, question_words = set(_list_words(fact)), set(_list_words(asked)) - _FUNCTION_WORDS
    of_fact = [sentence for sentence in statements if _share(sentence, fact_words) >= _MIN_SHARE_OF_FACT]
    if fact_words and not of_fact:
        return max(statements, key=lambda sentence: _share(sentence, fact_words), default="")
    return max(
        of_fact or statements, key=lambda sentence: len(question_words.intersection(_list_words(sentence))), default=""
    )


def _share(sentence: str, words: set[str]) -> float:
    """The share of the sentence's words that are among these."""
    own = _list_words(sentence)
    return sum(word in words for word in own) / (len(own) or 1)


def _is_question(text: str) -> bool:
    return any(mark in text for mark in _QUESTION_MARKS) or text.split(maxsplit=1)[0].casefold() in _QUESTION_WORDS


def _clean(text: str) -> str:
    return " ".join(remove_control_characters(text).split())


def _truncate(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else text[: max_length - 1].rstrip() + "…"


def _weigh(words: Sequence[str], frequencies: Counter[str]) -> float:
    return sum(frequencies[word] for word in words) / (len(words) or 1)


def _list_words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]
