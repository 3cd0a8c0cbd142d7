"""Spelling correction for children's questions: which words are corrected, and into which words.

A word may have one letter wrong, missing, added or moved.

Not `rapidfuzz` or `symspellpy`: they do not find a letter that was moved ("allrigato"), and are 2 to 18 times slower.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence, Set

_MIN_LENGTH = 4
_MIN_SUBSTITUTION_LENGTH = 5
"""Too many words of four letters differ in one letter (game, gate, gaze); a missing letter is less ambiguous."""
# A key has the number of a word in its last bits, and the beginning of a hash in the others.
_NUMBER_BITS = 24
_HASH_BITS = 64 - _NUMBER_BITS


class Speller:
    """Suggests words of a vocabulary, and of a second speller's where one is given: many share a large vocabulary.

    A word matches when deleting at most one letter from each of the two makes them equal, so a look-up takes as many
    searches as the word has letters (the symmetric delete algorithm of SymSpell).
    """

    def __init__(self, vocabulary: Iterable[str], shared: Speller | None = None) -> None:
        self._shared = shared
        self._words = [word for word in frozenset(vocabulary) if len(word) >= _MIN_LENGTH]
        self._initials: set[str] = {word[0] for word in self._words}.union(
            shared._initials if shared is not None else ()
        )
        # Sorted, eight bytes for each deletion. A dictionary takes ten times the memory: there are tens of thousands.
        self._keys = array(
            "Q",
            sorted(_hash(part) | number for number, word in enumerate(self._words) for part in _list_deletions(word)),
        )

    def correct(self, words: Sequence[str], *, is_known: bool, is_found: bool) -> tuple[str, ...]:
        """What is looked up in place of a term; nothing when the lexicon knows it (`is_known`) or a fact has it."""
        return () if is_known or is_found else self.suggest(words[0])

    def suggest(self, word: str) -> tuple[str, ...]:
        """The matching words of the vocabulary, in alphabetical order. The first letter has to be right."""
        if len(word) < _MIN_LENGTH or word[0] not in self._initials:
            return ()
        deletions = _list_deletions(word)
        found = self._find(deletions)
        # Different deletions may have the same hash.
        return tuple(
            sorted(
                known
                for known in found
                if _is_plausible(word, known) and not deletions.isdisjoint(_list_deletions(known))
            )
        )

    def _find(self, deletions: Set[str]) -> set[str]:
        found = self._shared._find(deletions) if self._shared is not None else set()
        found.update(word for deletion in deletions for word in self._look_up(deletion))
        return found

    def _look_up(self, deletion: str) -> Iterator[str]:
        keys, first = self._keys, _hash(deletion)
        at = bisect_left(keys, first)
        while at < len(keys) and keys[at] >> _NUMBER_BITS == first >> _NUMBER_BITS:
            yield self._words[keys[at] - first]
            at += 1


def _hash(deletion: str) -> int:
    """The smallest key of the deletion."""
    return hash(deletion) % (1 << _HASH_BITS) << _NUMBER_BITS


def _list_deletions(word: str) -> set[str]:
    return {word, *(word[:at] + word[at + 1 :] for at in range(len(word)))}


def _is_plausible(word: str, known: str) -> bool:
    is_long_enough = len(word) != len(known) or len(word) >= _MIN_SUBSTITUTION_LENGTH
    return word != known and word[0] == known[0] and is_long_enough
