"""Spelling correction for children's questions: words with one letter wrong, missing, added or moved.

Not `rapidfuzz` or `symspellpy`: they do not find a letter that was moved ("allrigato"), and are 2 to 18 times slower.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

_MIN_LENGTH = 4
_MIN_SUBSTITUTION_LENGTH = 5
"""Too many words of four letters differ in one letter (game, gate, gaze); a missing letter is less ambiguous."""


class Speller:
    """Suggests words of a vocabulary, and of a second speller's where one is given: many share a large vocabulary.

    A word matches when deleting at most one letter from each of the two makes them equal, so a look-up takes as many
    dictionary reads as the word has letters (the symmetric delete algorithm of SymSpell).
    """

    def __init__(self, vocabulary: Iterable[str], shared: Speller | None = None) -> None:
        self._shared = shared
        # Tuples: nearly all have one word, and a set of one takes four times the memory.
        self._words_by_deletion: dict[str, tuple[str, ...]] = {}
        self._initials: set[str] = set(shared._initials) if shared is not None else set()
        for word in frozenset(vocabulary):
            if len(word) >= _MIN_LENGTH:
                self._initials.add(word[0])
                for deletion in _list_deletions(word):
                    self._words_by_deletion[deletion] = (*self._words_by_deletion.get(deletion, ()), word)

    def suggest(self, word: str) -> tuple[str, ...]:
        """The matching words of the vocabulary, in alphabetical order. The first letter has to be right."""
        if len(word) < _MIN_LENGTH or word[0] not in self._initials:
            return ()
        found = self._find(_list_deletions(word))
        return tuple(sorted(known for known in found if _is_plausible(word, known)))

    def _find(self, deletions: Set[str]) -> set[str]:
        shared = self._shared._find(deletions) if self._shared is not None else set()
        return shared.union(*(self._words_by_deletion.get(deletion, ()) for deletion in deletions))


def _list_deletions(word: str) -> set[str]:
    return {word, *(word[:at] + word[at + 1 :] for at in range(len(word)))}


def _is_plausible(word: str, known: str) -> bool:
    is_long_enough = len(word) != len(known) or len(word) >= _MIN_SUBSTITUTION_LENGTH
    return word != known and word[0] == known[0] and is_long_enough
