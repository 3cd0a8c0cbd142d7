"""What several packages have to know about English text: where sentences end, and what else animals are called."""

from __future__ import annotations

import re
from collections.abc import Mapping

NICKNAMES: Mapping[str, tuple[str, ...]] = {
    "alligator": ("gator",),
    "chimpanzee": ("chimp",),
    "cougar": ("puma", "mountain lion", "catamount"),
    "crocodile": ("croc",),
    "hippopotamus": ("hippo", "hippopotami"),
    "mouse": ("mice",),
    "octopus": ("octopi",),
    "orangutan": ("orang utan",),
    "rhinoceros": ("rhino",),
    "seahorse": ("sea horse",),
    "tortoise": ("turtle",),
    "wolf": ("wolves",),
}
"""Common names that no animal's file holds, by the last word of the species. Also plurals that follow no rule."""

_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+")
_SENTENCE_END_WITHOUT_ELLIPSIS = re.compile(r"(?<=[.!?])\s+")


def split_sentences(text: str, *, ends_at_ellipsis: bool = True) -> list[str]:
    """The sentences of a text without the white space between them.

    A full stop ends a sentence only before white space: "0.5 metres" and "zoo.example" stay whole.

    >>> split_sentences("I weigh 0.5 kg. Do you? Yes!")
    ['I weigh 0.5 kg.', 'Do you?', 'Yes!']
    """
    end = _SENTENCE_END if ends_at_ellipsis else _SENTENCE_END_WITHOUT_ELLIPSIS
    return [part for part in end.split(text.strip()) if part]
