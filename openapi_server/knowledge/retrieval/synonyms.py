"""The lexicon of how children ask (`synonyms.yaml`): it parses a message into a query."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from openapi_server.knowledge.retrieval.query import LIGHT_WEIGHT, Query, Term, tokenize
from openapi_server.yaml_files import load_yaml

_Phrase = tuple[str, ...]

_MAX_TERMS = 12
_MEASURE_WEIGHT, _ANIMAL_WEIGHT = 0.6, 0.4

_YOU = frozenset("you your u ur yours yourself youre they their them".split())

# "My teacher says that you ..." is about what follows, and "faster than a car" is about speed, not about cars.
_REPORTED_SPEECH = re.compile(
    r"\b(?:my|our) (?:best )?(?:mum|mummy|mom|dad|daddy|sister|brother|teacher|friend|grandma|grandpa"
    r"|granny|nan|cousin)"
    r" (?:says|said|told me|thinks|thought|asks|asked|wants to know|read)\b"
)
_COMPARISON = re.compile(r"\b(?:than|compared to|compared with) (?:a |an |the |my )?\w+(?: \w+)?$")

# Another animal whose name contains an animal of the zoo.
_NAMESAKE = re.compile(r"\bsea lions?\b")


class Lexicon:
    """What the words in visitors' questions mean: stop words, synonyms, spellings, and the topics they belong to."""

    def __init__(self, lists: Mapping[str, Any]) -> None:
        """`lists`: the content of a file in the format of `synonyms.yaml`."""
        self._stop_words = frozenset(lists["stop_words"].split())
        self._light_words = frozenset(lists["light_words"].split())
        self._animals = frozenset(lists["animals"].split())
        self._spellings: Mapping[str, str] = lists["spellings"]
        self._synonyms = _build_synonyms(lists["synonyms"])
        self._topics = _build_topics(lists["topics"])
        self._measures = frozenset(map(tokenize, lists["measures"]))
        self._about_visitor = tuple(lists["about_the_visitor"])
        self._max_phrase_words = max(map(len, self._topics))
        self.related_topics: Mapping[str, tuple[str, ...]] = {
            topic: tuple(related) for topic, related in lists["related_topics"].items()
        }

    @classmethod
    def load(cls, file: Path | None = None) -> Lexicon:
        """Read a file, by default the packaged `synonyms.yaml`."""
        return cls(load_yaml(file or Path(__file__).with_name("synonyms.yaml")))

    @property
    def vocabulary(self) -> frozenset[str]:
        """Every word that can be looked up: the candidates for a misspelt one."""
        in_phrases = {word for phrase in self._topics for word in phrase}
        return frozenset((in_phrases | self._synonyms.keys() | self._animals) - self._stop_words)

    def parse_query(self, text: str, own_words: frozenset[str] = frozenset()) -> Query:
        """Parse a message. `own_words` name the animal that is asked, so they do not say what is asked."""
        normalized = " ".join(self._spellings.get(word, word) for word in tokenize(text))
        words = _COMPARISON.sub("", _REPORTED_SPEECH.sub("", normalized)).split()
        is_about_animal = not (own_words | _YOU).isdisjoint(_NAMESAKE.sub("", normalized).split())
        if not is_about_animal and self._is_about_visitor(words):
            return Query(normalized)
        all_terms = (self._make_term(phrase, own_words, is_about_animal) for phrase in self._split_into_phrases(words))
        terms = tuple(dict.fromkeys(term for term in all_terms if term.words or term.topics))[:_MAX_TERMS]
        is_about_other = not is_about_animal and len(terms) > 1 and not self._animals.isdisjoint(words)
        return Query(normalized, () if is_about_other else terms, is_about_animal)

    def _is_about_visitor(self, words: Sequence[str]) -> bool:
        text = f" {' '.join(words)} "
        return any(f" {phrase} " in text for phrase in self._about_visitor)

    def _split_into_phrases(self, words: Sequence[str]) -> Iterator[_Phrase]:
        """The longest phrases that the lexicon has; words in none of them come one by one."""
        at = 0
        while at < len(words):
            ends = range(min(at + self._max_phrase_words, len(words)), at + 1, -1)
            known = (end for end in ends if self._is_phrase(tuple(words[at:end])))
            end = next(known, at + 1)
            yield tuple(words[at:end])
            at = end

    def _is_phrase(self, phrase: _Phrase) -> bool:
        return phrase in self._topics or phrase in self._measures

    def _make_term(self, phrase: _Phrase, own_words: frozenset[str], is_about_animal: bool) -> Term:
        ignored = self._stop_words | own_words
        words = tuple(word for word in phrase if word not in ignored and not word.isdigit())
        if not words and len(phrase) == 1:
            return Term(())
        synonyms = dict.fromkeys(other for word in words for other in self._list_synonyms(word) if other not in words)
        topics = self._topics.get(phrase) or self._topics.get(tuple(map(_singularize, words)), ())
        weight = self._weigh(phrase, is_about_animal)
        is_known = bool(synonyms or topics) or weight < 1
        return Term(words, tuple(synonyms), topics, weight, is_known)

    def _list_synonyms(self, word: str) -> tuple[str, ...]:
        return self._synonyms.get(word) or self._synonyms.get(_singularize(word), ())

    def _weigh(self, phrase: _Phrase, is_about_animal: bool) -> float:
        if phrase in self._measures:
            return _MEASURE_WEIGHT
        if len(phrase) > 1:
            return 1.0
        if is_about_animal and phrase[0] in self._animals:
            return _ANIMAL_WEIGHT
        return LIGHT_WEIGHT if phrase[0] in self._light_words else 1.0


def _singularize(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") else word


def _build_synonyms(groups: Iterable[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """For each word the others of all its groups."""
    synonyms: dict[str, tuple[str, ...]] = {}
    for group in groups:
        for word in group:
            others = (other for other in group if other != word)
            synonyms[word] = tuple(dict.fromkeys((*synonyms.get(word, ()), *others)))
    return synonyms


def _build_topics(phrases_by_topic: Mapping[str, Sequence[str]]) -> dict[_Phrase, tuple[str, ...]]:
    """The topics of each phrase."""
    topics: dict[_Phrase, tuple[str, ...]] = {}
    for topic, phrases in phrases_by_topic.items():
        for phrase in map(tokenize, phrases):
            topics[phrase] = (*topics.get(phrase, ()), topic)
    return topics
