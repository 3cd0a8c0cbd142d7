"""Splits English text into sentences."""

from __future__ import annotations

from openapi_server import linear_regex

_ENDS = ".!?…"
_SENTENCE_END = linear_regex.compile(r"(?<=[.!?…])\s+")
_SENTENCE_END_WITHOUT_ELLIPSIS = linear_regex.compile(r"(?<=[.!?])\s+")


def split_sentences(text: str, *, ends_at_ellipsis: bool = True) -> list[str]:
    """The sentences of a text without the white space between them.

    A full stop ends a sentence only before white space: "0.5 metres" and "zoo.example" stay whole.

    >>> split_sentences("I weigh 0.5 kg. Do you? Yes!")
    ['I weigh 0.5 kg.', 'Do you?', 'Yes!']
    """
    end = _SENTENCE_END if ends_at_ellipsis else _SENTENCE_END_WITHOUT_ELLIPSIS
    return [part for part in end.split(text.strip()) if part]


def count_sentences(text: str) -> int:
    """How many sentences `split_sentences` makes of a text.

    >>> count_sentences("I weigh 0.5 kg. Do you? Yes!")
    3
    """
    words = text.split()
    return sum([word[-1] in _ENDS for word in words[:-1]], start=1) if words else 0
