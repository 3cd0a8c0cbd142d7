"""The keepers' list of how children ask (`synonyms.yaml`), and reading a message by it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from openapi_server.knowledge.retrieval.query import LIGHT_WEIGHT, Query, Term, tokenize

_Phrase = tuple[str, ...]

_TERM_LIMIT = 12
_MEASURE_WEIGHT, _ANIMAL_WEIGHT = 0.6, 0.4

_YOU = frozenset("you your u ur yours yourself youre they their them".split())

# "My teacher says that you ..." is about what follows, and "faster than a car" is about speed, not about cars.
_ASIDE = re.compile(
    r"\b(?:my|our) (?:best )?(?:mum|mummy|mom|dad|daddy|sister|brother|teacher|friend|grandma|grandpa"
    r"|granny|nan|cousin)"
    r" (?:says|said|told me|thinks|thought|asks|asked|wants to know|read)\b"
)
_COMPARISON = re.compile(r"\b(?:than|compared to|compared with) (?:a |an |the |my )?\w+(?: \w+)?$")

# Named after the animal, but another animal.
_NAMESAKE = re.compile(r"\bsea lions?\b")


class Lexicon:
    def __init__(self, lists: Mapping[str, Any]) -> None:
        self._stop = frozenset(lists["stop"].split())
        self._light = frozenset(lists["light"].split())
        self._animals = frozenset(lists["animals"].split())
        self._spellings: Mapping[str, str] = lists["spellings"]
        self._same = _rings(lists["same"])
        self._topics = _topics_by_phrase(lists["topics"])
        self._measures = frozenset(map(tokenize, lists["measures"]))
        self._about_the_visitor = tuple(lists["about_the_visitor"])
        self._longest = max(map(len, self._topics))
        self.related_topics: Mapping[str, tuple[str, ...]] = {
            topic: tuple(near) for topic, near in lists["near"].items()
        }

    @classmethod
    def load(cls, file: Path | None = None) -> Lexicon:
        file = file or Path(__file__).with_name("synonyms.yaml")
        return cls(yaml.safe_load(file.read_text(encoding="utf-8")))

    @property
    def vocabulary(self) -> frozenset[str]:
        """Every word that is looked for: what a misspelt word may have meant."""
        in_phrases = {word for phrase in self._topics for word in phrase}
        return frozenset((in_phrases | self._same.keys() | self._animals) - self._stop)

    def parse_query(self, text: str, own_words: frozenset[str] = frozenset()) -> Query:
        """What the text asks for. `own_words` name the animal itself, so when it is asked they say nothing."""
        said = " ".join(self._spellings.get(word, word) for word in tokenize(text))
        asked = _COMPARISON.sub("", _ASIDE.sub("", said)).split()
        is_about_it = not (own_words | _YOU).isdisjoint(_NAMESAKE.sub("", said).split())
        if not is_about_it and self._is_about_the_visitor(asked):
            return Query(said)
        terms = (self._term(phrase, own_words, is_about_it) for phrase in self._phrases(asked))
        told = tuple(dict.fromkeys(term for term in terms if term.words or term.topics))[:_TERM_LIMIT]
        is_about_another = not is_about_it and len(told) > 1 and not self._animals.isdisjoint(asked)
        return Query(said, () if is_about_another else told, is_about_it)

    def _is_about_the_visitor(self, words: Sequence[str]) -> bool:
        said = f" {' '.join(words)} "
        return any(f" {phrase} " in said for phrase in self._about_the_visitor)

    def _phrases(self, words: Sequence[str]) -> Iterator[_Phrase]:
        """The words cut into the longest phrases that the lexicon knows, else one by one."""
        at = 0
        while at < len(words):
            ends = range(min(at + self._longest, len(words)), at + 1, -1)
            known = (end for end in ends if self._is_phrase(tuple(words[at:end])))
            end = next(known, at + 1)
            yield tuple(words[at:end])
            at = end

    def _is_phrase(self, phrase: _Phrase) -> bool:
        return phrase in self._topics or phrase in self._measures

    def _term(self, phrase: _Phrase, own_words: frozenset[str], is_about_it: bool) -> Term:
        silent = self._stop | own_words
        words = tuple(word for word in phrase if word not in silent and not word.isdigit())
        if not words and len(phrase) == 1:
            return Term(())
        same = tuple(dict.fromkeys(other for word in words for other in self._ring(word) if other not in words))
        topics = self._topics.get(phrase) or self._topics.get(tuple(map(_singular, words)), ())
        weight = self._weight(phrase, is_about_it)
        return Term(words, same, topics, weight, is_known=bool(same or topics) or weight < 1)

    def _ring(self, word: str) -> tuple[str, ...]:
        return self._same.get(word) or self._same.get(_singular(word), ())

    def _weight(self, phrase: _Phrase, is_about_it: bool) -> float:
        if phrase in self._measures:
            return _MEASURE_WEIGHT
        if len(phrase) > 1:
            return 1.0
        if is_about_it and phrase[0] in self._animals:
            return _ANIMAL_WEIGHT
        return LIGHT_WEIGHT if phrase[0] in self._light else 1.0


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") else word


def _rings(lists: Iterable[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    rings: dict[str, tuple[str, ...]] = {}
    for ring in lists:
        for word in ring:
            others = (other for other in ring if other != word)
            rings[word] = tuple(dict.fromkeys((*rings.get(word, ()), *others)))
    return rings


def _topics_by_phrase(phrases_by_topic: Mapping[str, Sequence[str]]) -> dict[_Phrase, tuple[str, ...]]:
    topics: dict[_Phrase, tuple[str, ...]] = {}
    for topic, phrases in phrases_by_topic.items():
        for phrase in map(tokenize, phrases):
            topics[phrase] = (*topics.get(phrase, ()), topic)
    return topics
