"""Queries: the weighted terms of a visitor's message, and the tokenizer.

Any text is legal. A token consists of a-z and 0-9, so expressions built from tokens are safe inside FTS5 queries.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

LIGHT_WEIGHT = 0.35
"""The weight of a word that carries little meaning."""

_MAX_CHARS = 1_000
_MAX_TOKENS = 64
"""A child's question has ten words. The limit keeps a message of 4,000 characters from costing 4,000 look-ups."""


def tokenize(text: str) -> tuple[str, ...]:
    """The words in lower case, without accents and apostrophes; a letter repeated more than twice is cut to two.

    >>> tokenize("What's your FAVOURITE café? Pleeeease! 🦁")
    ('whats', 'your', 'favourite', 'cafe', 'pleease')
    """
    plain = unicodedata.normalize("NFKD", text[:_MAX_CHARS]).lower()
    plain = "".join(letter for letter in plain if letter not in "'’`" and not unicodedata.combining(letter))
    plain = re.sub(r"([a-z])\1{2,}", r"\1\1", plain)
    return tuple(re.findall(r"[a-z0-9]+", plain)[:_MAX_TOKENS])


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that a query asks for.

    `words` are the visitor's own, `synonyms` mean the same, and facts with one of the `topics` are about it. `weight`
    is 1 for a word that says what is asked, and less for others. `is_known`: in the lexicon, so not misspelt.
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
