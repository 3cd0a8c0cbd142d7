"""The index over one animal's facts: SQLite FTS5 in memory, and the decision whether anything was found at all.

Each term of a question is looked up on its own, so that one word with many synonyms cannot outvote the rest, and
so that the index can tell how much of the question a fact covers. A fact that covers little is not an answer:
then the honest reply is "I don't know", and the animal can only give it when nothing comes back from here.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from openapi_server.knowledge.retrieval.query import Query, Term, tokenize
from openapi_server.knowledge.retrieval.ranking import ScoredFact
from openapi_server.knowledge.retrieval.spelling import Speller
from openapi_server.knowledge.retrieval.synonyms import Lexicon
from openapi_server.models.animal import Animal, Fact

_TABLE = """CREATE VIRTUAL TABLE facts USING fts5
            (topic, asks, name, text, say, more, tokenize = 'porter unicode61 remove_diacritics 2')"""
_ROW = "INSERT INTO facts (rowid, topic, asks, name, text, say, more) VALUES (?, ?, ?, ?, ?, ?, ?)"
_LOOK_UP = "SELECT rowid, -bm25(facts, 2.0, 5.0, 3.0, 1.0, 1.0, 0.5) FROM facts WHERE facts MATCH ?"

# Tuned on the questions in tests/knowledge: what the keepers put into `asks` is worth more than a chance word.
_TOLD_WORTH = 0.35
_TOLD_QUALITY = 0.6
_SAME_WORTH = 0.7
_TOPIC_WORTH = 0.8
_SLIP_WORTH = 0.8
_EXACT_ASK_WORTH = 1.5
_BEST_SCORE = 6.0
_RAREST = 3.2
_ENOUGH_COVERED, _ENOUGH_COVERED_IF_ABOUT_IT = 0.6, 0.3
_NEAR_THE_BEST = 0.25


@dataclass(frozen=True, slots=True)
class TermMatch:
    """How one fact meets one term: a score to rank by, and how much of the term counts as covered (0 to 1)."""

    score: float = 0.0
    quality: float = 0.0


_Matches = dict[int, TermMatch]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a question's words found. `coverage`: how much of it the best fact covers, 0 to 1, also if too little."""

    query: Query
    facts: list[ScoredFact]
    coverage: float = 0.0


class FactIndex:
    """One animal's facts. An index per animal, so that a word's rarity is its rarity among these facts."""

    def __init__(self, animal: Animal, lexicon: Lexicon) -> None:
        self._facts = animal.facts
        self._lexicon = lexicon
        self._own_words = frozenset(_own_words(animal))
        self._asks = [{" ".join(tokenize(ask)) for ask in fact.asks} for fact in animal.facts]
        self._speller = Speller(lexicon.vocabulary | set(_written_words(animal)))
        # Built on one thread, used by the library's worker thread, never by two at a time.
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute(_TABLE)
        self._db.executemany(_ROW, map(_row, range(len(self._facts)), self._facts))

    def close(self) -> None:
        self._db.close()

    def parse_query(self, text: str) -> Query:
        return self._lexicon.parse_query(text, self._own_words)

    def search(self, query: Query) -> SearchResult:
        """Facts that answer the question, best first; none when no fact covers enough of it."""
        matches = [self._matches(term) for term in query.terms]
        weights = [self._weight(*pair) for pair in zip(query.terms, matches, strict=True)]
        rows = set().union(*matches) if query.has_content else set()
        enough = _ENOUGH_COVERED_IF_ABOUT_IT if query.is_about_animal else _ENOUGH_COVERED
        coverage = max((_coverage(row, matches, weights) for row in rows), default=0.0)
        if coverage < enough:
            return SearchResult(query, [], coverage)
        found = [ScoredFact(self._facts[row], self._score(row, query, matches, weights)) for row in rows]
        found.sort(key=lambda each: (-each.score, each.fact.fact_id))
        near = [each for each in found if each.score >= _NEAR_THE_BEST * found[0].score]
        return SearchResult(query, near, coverage)

    def _score(self, row: int, question: Query, matches: Sequence[_Matches], weights: Sequence[float]) -> float:
        met = ((term, found.get(row, TermMatch())) for term, found in zip(question.terms, matches, strict=True))
        exact = sum(len(ask.split()) for ask in self._asks[row] if f" {ask} " in f" {question.text} ")
        scored = sum(term.weight * match.score for term, match in met) + _EXACT_ASK_WORTH * exact
        return scored * (0.3 + _coverage(row, matches, weights))

    def _weight(self, term: Term, matches: _Matches) -> float:
        """Inverse document frequency: a term that every fact has says nothing, one that none has weighs most."""
        held = len(matches)
        return term.weight * min(_RAREST, math.log1p((len(self._facts) - held + 0.5) / (held + 0.5)))

    def _matches(self, term: Term) -> _Matches:
        matches = self._direct_matches(term)
        if matches or term.is_known:
            return matches
        meant = (self.parse_query(word).terms for word in self._speller.suggest(term.words[0]))
        slips = [self._direct_matches(corrected) for terms in meant for corrected in terms]
        return _best_of((row, _scaled(match, _SLIP_WORTH)) for found in slips for row, match in found.items())

    def _direct_matches(self, term: Term) -> _Matches:
        topics = tuple(topic.replace("_", "") for topic in term.topics)
        wordings = (
            ("{asks name}", term.words, 1.0, 1.0),
            ("{asks name}", term.synonyms, _SAME_WORTH, 1.0),
            ("{topic}", topics, _TOPIC_WORTH, 1.0),
            ("{text say more}", term.words, _TOLD_WORTH, _TOLD_QUALITY),
            ("{text say more}", term.synonyms, _TOLD_WORTH * _SAME_WORTH, _TOLD_QUALITY),
        )
        return _best_of(
            (row, TermMatch(min(score, _BEST_SCORE) * worth, quality))
            for columns, words, worth, quality in wordings
            for row, score in self._look_up(columns, words)
        )

    def _look_up(self, columns: str, words: Sequence[str]) -> Iterable[tuple[int, float]]:
        """Rows that hold any of the words in the columns. Words are tokens, so quoting them is enough."""
        if not words:
            return ()
        any_of = " OR ".join(f'"{word}"' for word in words)
        return self._db.execute(_LOOK_UP, (f"{columns} : ({any_of})",))


def _coverage(row: int, matches: Sequence[_Matches], weights: Sequence[float]) -> float:
    """The part of the question's weight that this fact has something to say about, 0 to 1."""
    covered = sum(weight * found[row].quality for weight, found in zip(weights, matches, strict=True) if row in found)
    return covered / (sum(weights) or 1.0)


def _best_of(pairs: Iterable[tuple[int, TermMatch]]) -> _Matches:
    best: _Matches = {}
    for row, match in pairs:
        held = best.get(row, TermMatch())
        best[row] = TermMatch(max(held.score, match.score), max(held.quality, match.quality))
    return best


def _scaled(match: TermMatch, worth: float) -> TermMatch:
    return TermMatch(match.score * worth, match.quality * worth)


def _own_words(animal: Animal) -> Iterator[str]:
    for word in tokenize(f"{animal.name} {animal.species}"):
        yield from (word, f"{word}s")


def _written_words(animal: Animal) -> Iterator[str]:
    for fact in animal.facts:
        yield from tokenize(f"{' '.join(fact.asks)} {fact.text} {fact.say}")


def _row(row: int, fact: Fact) -> tuple[int, str, str, str, str, str, str]:
    more = f"{fact.detail or ''} {fact.why or ''}"
    name = fact.fact_id.rpartition("/")[2].replace("_", " ")
    return row, fact.topic.replace("_", ""), "; ".join(fact.asks), name, fact.text, fact.say, more
