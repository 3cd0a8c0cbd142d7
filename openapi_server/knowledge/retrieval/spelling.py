"""Children's spelling: find the word that was meant when one letter is wrong, missing, doubled or swapped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

_SHORTEST = 4
_SUBSTITUTION_FROM = 5
"""Four-letter words are too dense for "one letter differs" (game, gate, gaze), not for "one is missing"."""


class Speller:
    """Corrects towards a vocabulary.

    Two words are one slip apart when deleting at most one letter from each makes them equal, so looking up a
    word costs as many dictionary reads as it has letters (the idea of SymSpell).
    """

    def __init__(self, vocabulary: Iterable[str]) -> None:
        self._words_by_cut: defaultdict[str, set[str]] = defaultdict(set)
        for word in vocabulary:
            if len(word) >= _SHORTEST:
                for cut in _cuts(word):
                    self._words_by_cut[cut].add(word)

    def suggest(self, word: str) -> tuple[str, ...]:
        """Known words one slip away, in alphabetical order. The first letter must be right."""
        if len(word) < _SHORTEST:
            return ()
        near = {known for cut in _cuts(word) for known in self._words_by_cut.get(cut, ())}
        return tuple(sorted(known for known in near if _is_plausible(word, known)))


def _cuts(word: str) -> set[str]:
    return {word, *(word[:at] + word[at + 1 :] for at in range(len(word)))}


def _is_plausible(word: str, known: str) -> bool:
    long_enough = len(word) != len(known) or len(word) >= _SUBSTITUTION_FROM
    return word != known and word[0] == known[0] and long_enough
