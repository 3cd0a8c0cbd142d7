"""The full-text index over one animal's facts: SQLite FTS5 in memory, ranked by BM25 and by coverage of the query.

Each term of a query is looked up alone. So a term with many synonyms cannot outvote the others, and the index can tell
how much of the query a fact covers. A fact that covers too little is not returned; without any fact, the animal says
"I don't know".
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from openapi_server.knowledge.retrieval.query import Lexicon, Query, Term, tokenize
from openapi_server.knowledge.retrieval.spelling import Speller
from openapi_server.models.animal import Animal, Fact

_TABLE = """CREATE VIRTUAL TABLE facts USING fts5
            (topic, asks, name, text, say, more, tokenize = 'porter unicode61 remove_diacritics 2')"""
_ROW = "INSERT INTO facts (rowid, topic, asks, name, text, say, more) VALUES (?, ?, ?, ?, ?, ?, ?)"
_LOOK_UP = "SELECT rowid, -bm25(facts, 2.0, 5.0, 3.0, 1.0, 1.0, 0.5) FROM facts WHERE facts MATCH ?"

# Tuned on the questions in tests/knowledge/retrieval. A word in the questions that a fact answers (`asks`) counts for
# more than one in its text.
_TEXT_BOOST = 0.35
_TEXT_QUALITY = 0.6
_SYNONYM_BOOST = 0.7
_TOPIC_BOOST = 0.8
_CORRECTED_BOOST = 0.8
_EXACT_ASK_BOOST = 1.5
_COVERAGE_OFFSET = 0.3
_MAX_SCORE = 6.0
_MAX_IDF = 3.2
_MIN_COVERAGE, _MIN_COVERAGE_IF_ABOUT_ANIMAL = 0.6, 0.3
_MIN_SHARE_OF_BEST = 0.25

# Visitors ask with the same words: to look up the words of one question takes a millisecond.
_MAX_KEPT_TERMS = 200


@dataclass(frozen=True, slots=True)
class TermMatch:
    """How well one fact matches one term: a score to rank by, and how much of the term the fact covers, 0 to 1."""

    score: float = 0.0
    quality: float = 0.0


_Matches = Mapping[int, TermMatch]


@dataclass(frozen=True, slots=True)
class ScoredFact:
    """A fact and how well it matches. Scores can be compared within one query only."""

    fact: Fact
    score: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The facts found by full-text search, best first. `coverage`: how much of the query the best one covers, 0 to 1;
    also set when that is too little and `facts` is empty."""

    query: Query
    facts: list[ScoredFact]
    coverage: float = 0.0


class FactIndex:
    """The index of one animal's facts. Each animal has its own, so that a word's rarity is that among its facts.

    Not safe for use by two threads at a time.
    """

    def __init__(self, animal: Animal, lexicon: Lexicon) -> None:
        self._facts = animal.facts
        self._lexicon = lexicon
        self._own_words = frozenset(_list_own_words(animal))
        # Each between blanks, with the number of its words.
        self._asks = [
            [(f" {ask} ", len(ask.split())) for ask in {" ".join(tokenize(ask)) for ask in fact.asks}]
            for fact in animal.facts
        ]
        self._speller = Speller(set(_list_fact_words(animal)) - lexicon.vocabulary, lexicon.speller)
        # Built on one thread and used by the worker thread of `KnowledgeService`, never by two at a time.
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute(_TABLE)
        self._db.executemany(_ROW, map(_make_row, range(len(self._facts)), self._facts))
        self._kept_matches: dict[Term, _Matches] = {}

    def close(self) -> None:
        self._db.close()

    def parse_query(self, text: str) -> Query:
        """Parse a message to this animal."""
        return self._lexicon.parse_query(text, self._own_words)

    def search(self, query: Query) -> SearchResult:
        """The facts that answer the query; none when no fact covers enough of it."""
        return self._rank(query, [self._match(term) for term in query.terms])

    def search_kept(self, query: Query) -> SearchResult | None:
        """The same; None when a term has to be looked up. May be called on any thread."""
        matches = [matches for term in query.terms if (matches := self._kept_matches.get(term)) is not None]
        return self._rank(query, matches) if len(matches) == len(query.terms) else None

    def _rank(self, query: Query, matches: Sequence[_Matches]) -> SearchResult:
        weights = [self._weigh(*pair) for pair in zip(query.terms, matches, strict=True)]
        rows = set().union(*matches) if query.has_content else set()
        min_coverage = _MIN_COVERAGE_IF_ABOUT_ANIMAL if query.is_about_animal else _MIN_COVERAGE
        coverages = {row: _compute_coverage(row, matches, weights) for row in rows}
        coverage = max(coverages.values(), default=0.0)
        if coverage < min_coverage:
            return SearchResult(query, [], coverage)
        found = [
            ScoredFact(self._facts[row], self._score(row, query, matches) * (_COVERAGE_OFFSET + covered))
            for row, covered in coverages.items()
        ]
        found.sort(key=lambda each: (-each.score, each.fact.fact_id))
        best = [each for each in found if each.score >= _MIN_SHARE_OF_BEST * found[0].score]
        return SearchResult(query, best, coverage)

    def _score(self, row: int, query: Query, matches: Sequence[_Matches]) -> float:
        text = f" {query.text} "
        exact_words = sum([count for ask, count in self._asks[row] if ask in text])
        pairs = zip(query.terms, matches, strict=True)
        score = sum([term.weight * found[row].score for term, found in pairs if row in found])
        return score + _EXACT_ASK_BOOST * exact_words

    def _weigh(self, term: Term, matches: _Matches) -> float:
        """The term's weight times its inverse document frequency: lowest if all facts match, highest if none does."""
        count = len(matches)
        return term.weight * min(_MAX_IDF, math.log1p((len(self._facts) - count + 0.5) / (count + 0.5)))

    def _match(self, term: Term) -> _Matches:
        """The matches of the term, or of its corrected spellings."""
        kept = self._kept_matches.get(term)
        if kept is not None:
            return kept
        matches = self._match_exactly(term)
        if term.is_known or matches:
            # Words of the lexicon and of the facts only, so that nothing else of what visitors write stays in memory.
            if len(self._kept_matches) >= _MAX_KEPT_TERMS:
                self._kept_matches.clear()
            self._kept_matches[term] = matches
        corrections = self._speller.correct(term.words, is_known=term.is_known, is_found=bool(matches))
        if not corrections:
            return matches
        corrected_terms = (self.parse_query(word).terms for word in corrections)
        corrected = [self._match_exactly(each) for terms in corrected_terms for each in terms]
        return _merge((row, _boost(match, _CORRECTED_BOOST)) for found in corrected for row, match in found.items())

    def _match_exactly(self, term: Term) -> _Matches:
        topics = tuple(topic.replace("_", "") for topic in term.topics)
        lookups = (
            ("{asks name}", term.words, 1.0, 1.0),
            ("{asks name}", term.synonyms, _SYNONYM_BOOST, 1.0),
            ("{topic}", topics, _TOPIC_BOOST, 1.0),
            ("{text say more}", term.words, _TEXT_BOOST, _TEXT_QUALITY),
            ("{text say more}", term.synonyms, _TEXT_BOOST * _SYNONYM_BOOST, _TEXT_QUALITY),
        )
        return _merge(
            (row, TermMatch(min(score, _MAX_SCORE) * boost, quality))
            for columns, words, boost, quality in lookups
            for row, score in self._look_up(columns, words)
        )

    def _look_up(self, columns: str, words: Sequence[str]) -> Iterable[tuple[int, float]]:
        """The rows with any of the words in the columns, and their BM25 scores. For tokens, quoting is enough."""
        if not words:
            return ()
        any_of = " OR ".join(f'"{word}"' for word in words)
        return self._db.execute(_LOOK_UP, (f"{columns} : ({any_of})",))


class LookUpNeeded(Exception):
    """A query has a term that has to be looked up."""


class KeptTerms:
    """Of an index what any thread may use: it looks nothing up."""

    def __init__(self, index: FactIndex) -> None:
        self._index = index

    def parse_query(self, text: str) -> Query:
        return self._index.parse_query(text)

    def search(self, query: Query) -> SearchResult:
        """Raises `LookUpNeeded`."""
        result = self._index.search_kept(query)
        if result is None:
            raise LookUpNeeded
        return result


def _compute_coverage(row: int, matches: Sequence[_Matches], weights: Sequence[float]) -> float:
    """The share of the query's weight that the fact covers, 0 to 1."""
    covered = sum([weight * found[row].quality for weight, found in zip(weights, matches, strict=True) if row in found])
    return covered / (sum(weights) or 1.0)


def _merge(pairs: Iterable[tuple[int, TermMatch]]) -> _Matches:
    """For each row its best score and its best quality."""
    merged: dict[int, TermMatch] = {}
    for row, match in pairs:
        best = merged.get(row, TermMatch())
        merged[row] = TermMatch(max(best.score, match.score), max(best.quality, match.quality))
    return merged


def _boost(match: TermMatch, boost: float) -> TermMatch:
    return TermMatch(match.score * boost, match.quality * boost)


def _list_own_words(animal: Animal) -> Iterator[str]:
    for word in tokenize(f"{animal.name} {animal.species}"):
        yield from (word, f"{word}s")


def _list_fact_words(animal: Animal) -> Iterator[str]:
    for fact in animal.facts:
        yield from tokenize(f"{' '.join(fact.asks)} {fact.text} {fact.say}")


def _make_row(row: int, fact: Fact) -> tuple[int, str, str, str, str, str, str]:
    more = f"{fact.detail or ''} {fact.why or ''}"
    name = fact.fact_id.rpartition("/")[2].replace("_", " ")
    return row, fact.topic.replace("_", ""), "; ".join(fact.asks), name, fact.text, fact.say, more
