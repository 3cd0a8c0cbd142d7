"""Spelling correction for children's questions: words with one letter wrong, missing, added or moved.

Not `rapidfuzz` or `symspellpy`: they do not find a letter that was moved ("allrigato"), and are 2 to 18 times slower.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

_MIN_LENGTH = 4
_MIN_SUBSTITUTION_LENGTH = 5
"""Too many words of four letters differ in one letter (game, gate, gaze); a missing letter is less ambiguous."""


class Speller:
    """Suggests words of a vocabulary.

    A word matches when deleting at most one letter from each of the two makes them equal, so a look-up takes as many
    dictionary reads as the word has letters (the symmetric delete algorithm of SymSpell).
    """

    def __init__(self, vocabulary: Iterable[str]) -> None:
        self._words_by_deletion: defaultdict[str, set[str]] = defaultdict(set)
        for word in vocabulary:
            if len(word) >= _MIN_LENGTH:
                for deletion in _list_deletions(word):
                    self._words_by_deletion[deletion].add(word)

    def suggest(self, word: str) -> tuple[str, ...]:
        """The matching words of the vocabulary, in alphabetical order. The first letter has to be right."""
        if len(word) < _MIN_LENGTH:
            return ()
        matching = {known for deletion in _list_deletions(word) for known in self._words_by_deletion.get(deletion, ())}
        return tuple(sorted(known for known in matching if _is_plausible(word, known)))


def _list_deletions(word: str) -> set[str]:
    return {word, *(word[:at] + word[at + 1 :] for at in range(len(word)))}


def _is_plausible(word: str, known: str) -> bool:
    is_long_enough = len(word) != len(known) or len(word) >= _MIN_SUBSTITUTION_LENGTH
    return word != known and word[0] == known[0] and is_long_enough
