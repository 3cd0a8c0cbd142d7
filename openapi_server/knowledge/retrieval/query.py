"""Queries: a visitor's message as weighted terms, parsed with the lexicon of `synonyms.yaml`.

Any text is legal. A token consists of a-z and 0-9, so expressions built from tokens are safe inside FTS5 queries.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import ascii_lowercase, digits
from typing import Any

from openapi_server import linear_regex
from openapi_server.knowledge.retrieval.spelling import Speller
from openapi_server.yaml_files import load_yaml

LIGHT_WEIGHT = 0.35
"""The weight of a word that carries little meaning."""

_MAX_CHARS = 1_000
_MAX_TOKENS = 64
"""A child's question has ten words. The limit keeps a message of 4,000 characters from costing 4,000 look-ups."""


# Each byte of ASCII that is no letter and no digit ends a word.
_WORD_BYTES = bytes(code if chr(code) in ascii_lowercase + digits else ord(" ") for code in range(256))


def tokenize(text: str) -> tuple[str, ...]:
    """The words in lower case, without accents and apostrophes; a letter repeated more than twice is cut to two.

    >>> tokenize("What's your FAVOURITE café? Pleeeease! 🦁")
    ('whats', 'your', 'favourite', 'cafe', 'pleease')
    """
    plain = text[:_MAX_CHARS]
    if not plain.isascii():
        plain = unicodedata.normalize("NFKD", plain).lower()
        plain = "".join(letter for letter in plain if letter != "’" and not unicodedata.combining(letter))
    letters = plain.lower().encode("ascii", "replace").translate(_WORD_BYTES, b"'`")
    return tuple(_shorten_runs(letters.decode("ascii")).split()[:_MAX_TOKENS])


def _shorten_runs(text: str) -> str:
    for letter in ascii_lowercase:
        while 3 * letter in text:
            text = text.replace(3 * letter, 2 * letter)
    return text


@dataclass(frozen=True, slots=True)
class Term:
    """A word or phrase of a query.

    `words` are the visitor's own, `synonyms` mean the same, and facts with one of the `topics` are about it. `weight`
    is 1 for a word that says what is asked, and less for others. `is_known`: it is in the lexicon, so not misspelt.
    """

    words: tuple[str, ...]
    synonyms: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    weight: float = 1.0
    is_known: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed message. Without terms it asks for nothing that facts could answer.

    `text` is the normalized message. `is_about_animal`: the animal is addressed or named, so even a loose match is
    likely to be what was meant.
    """

    text: str = ""
    terms: tuple[Term, ...] = ()
    is_about_animal: bool = False

    @property
    def is_self_contained(self) -> bool:
        """True when it says what it is about; "how many?" and "are they big?" do not."""
        return any(term.weight >= 1 or (self.is_about_animal and term.topics) for term in self.terms)

    @property
    def has_content(self) -> bool:
        """False when it has only words of little meaning ("7 times 8") and does not address the animal."""
        return self.is_about_animal or any(term.weight > LIGHT_WEIGHT for term in self.terms)


# --- The lexicon: parses a message into a query

_Phrase = tuple[str, ...]

_MAX_TERMS = 12
_MEASURE_WEIGHT, _ANIMAL_WEIGHT = 0.6, 0.4

_YOU = frozenset("you your u ur yours yourself youre they their them".split())

# "My teacher says that you ..." is about what follows, and "faster than a car" is about speed, not about cars.
_REPORTED_SPEECH = linear_regex.compile(
    r"\b(?:my|our) (?:best )?(?:mum|mummy|mom|dad|daddy|sister|brother|teacher|friend|grandma|grandpa"
    r"|granny|nan|cousin)"
    r" (?:says|said|told me|thinks|thought|asks|asked|wants to know|read)\b"
)
_COMPARISON = linear_regex.compile(r"\b(?:than|compared to|compared with) (?:a |an |the |my )?\w+(?: \w+)?$")

# Another animal whose name contains an animal of the zoo.
_NAMESAKE = linear_regex.compile(r"\bsea lions?\b")
# Most messages have none of these.
_HAS_ASIDE = linear_regex.compile_detector(
    (), [pattern.pattern for pattern in (_REPORTED_SPEECH, _COMPARISON, _NAMESAKE)]
)


class Lexicon:
    """Stop words, synonyms, spellings and topics of the words in visitors' questions."""

    def __init__(self, lists: Mapping[str, Any]) -> None:
        """`lists`: the content of a file in the format of `synonyms.yaml`."""
        self._stop_words = frozenset(lists["stop_words"].split())
        self._light_words = frozenset(lists["light_words"].split())
        self._animals = frozenset(lists["animals"].split())
        self._spellings: Mapping[str, str] = lists["spellings"]
        self._synonyms = _build_synonyms(lists["synonyms"])
        self._topics = _build_topics(lists["topics"])
        self._measures = frozenset(map(tokenize, lists["measures"]))
        self._about_visitor = tuple(f" {phrase} " for phrase in lists["about_the_visitor"])
        self._max_phrase_words = max(map(len, self._topics))
        self.related_topics: Mapping[str, tuple[str, ...]] = {
            topic: tuple(related) for topic, related in lists["related_topics"].items()
        }

    @classmethod
    def load(cls, file: Path | None = None) -> Lexicon:
        """Read a file, by default the packaged `synonyms.yaml`."""
        return cls(load_yaml(file or Path(__file__).with_name("synonyms.yaml")))

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Every word that can be looked up: the candidates for a misspelt one."""
        in_phrases = {word for phrase in self._topics for word in phrase}
        return frozenset((in_phrases | self._synonyms.keys() | self._animals) - self._stop_words)

    @cached_property
    def speller(self) -> Speller:
        """Of the vocabulary; the index of each animal adds the words of its facts."""
        return Speller(self.vocabulary)

    def parse_query(self, text: str, own_words: frozenset[str] = frozenset()) -> Query:
        """Parse a message. `own_words` name the animal that is asked, so they do not say what is asked."""
        normalized = " ".join(self._spellings.get(word, word) for word in tokenize(text))
        words = about = normalized.split()
        if _HAS_ASIDE.search(normalized):
            words = _COMPARISON.sub("", _REPORTED_SPEECH.sub("", normalized)).split()
            about = _NAMESAKE.sub("", normalized).split()
        is_about_animal = not (own_words.isdisjoint(about) and _YOU.isdisjoint(about))
        if not is_about_animal and self._is_about_visitor(words):
            return Query(normalized)
        all_terms = (self._make_term(phrase, own_words, is_about_animal) for phrase in self._split_into_phrases(words))
        terms = tuple(dict.fromkeys(term for term in all_terms if term.words or term.topics))[:_MAX_TERMS]
        is_about_other = not is_about_animal and len(terms) > 1 and not self._animals.isdisjoint(words)
        return Query(normalized, () if is_about_other else terms, is_about_animal)

    def _is_about_visitor(self, words: Sequence[str]) -> bool:
        text = f" {' '.join(words)} "
        return any(phrase in text for phrase in self._about_visitor)

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
