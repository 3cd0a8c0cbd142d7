"""What a visitor's message asks for: its words, weighed, with what means the same.

Values and tokens only. Any input is legal; a token is made of a-z and 0-9, so that whatever is built from tokens
is safe inside an FTS5 expression.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

LIGHT_WEIGHT = 0.35
"""The weight of a word that says little."""

_LETTER_LIMIT = 1_000
_TOKEN_LIMIT = 64
"""A child's question has ten words. Longer ones are read to here: 4,000 letters must not cost 4,000 look-ups."""


def tokenize(text: str) -> tuple[str, ...]:
    """Words in lower case, without accents and apostrophes, with drawn-out letters cut to two.

    >>> tokens("What's your FAVOURITE café? Pleeeease! 🦁")
    ('whats', 'your', 'favourite', 'cafe', 'pleease')
    """
    plain = unicodedata.normalize("NFKD", text[:_LETTER_LIMIT]).lower()
    plain = "".join(letter for letter in plain if letter not in "'’`" and not unicodedata.combining(letter))
    plain = re.sub(r"([a-z])\1{2,}", r"\1\1", plain)
    return tuple(re.findall(r"[a-z0-9]+", plain)[:_TOKEN_LIMIT])


@dataclass(frozen=True, slots=True)
class Term:
    """One thing asked for.

    `words` are the visitor's own, `same` mean the same, `topics` are where it belongs. `weight` is 1 for a word
    that says what is asked and less for one that says little. `is_known`: the lexicon has heard of it.
    """

    words: tuple[str, ...]
    synonyms: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    weight: float = 1.0
    is_known: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A message, read. Without terms it asks for nothing that facts could answer.

    `is_about_it`: the animal is spoken to or named, so that even a loose match is likely to be what was meant.
    """

    text: str = ""
    terms: tuple[Term, ...] = ()
    is_about_animal: bool = False

    @property
    def is_self_contained(self) -> bool:
        """True when it says itself what it is about; "how many?" and "are they big?" do not."""
        return any(term.weight >= 1 or (self.is_about_animal and term.topics) for term in self.terms)

    @property
    def has_content(self) -> bool:
        """False when nothing but light words is left ("7 times 8") and nobody was addressed."""
        return self.is_about_animal or any(term.weight > LIGHT_WEIGHT for term in self.terms)
