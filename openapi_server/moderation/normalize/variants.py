"""The readings of a text: as it stands, and as whatever it is a disguise of."""

from __future__ import annotations

import re
from collections.abc import Iterator

from openapi_server.moderation.normalize.encodings import decode_hidden_texts, reverse_and_rot13
from openapi_server.moderation.normalize.letters import fold_lookalikes, normalize_text, replace_digits, shorten_runs
from openapi_server.moderation.normalize.spelling import WordSegmenter

_HIDDEN_TEXTS = 8
"""Decoded texts that are looked at. A message of nothing but codes must not keep the event loop."""
# Two letters before the stop: "i.g.n.o.r.e" is one sentence.
_SENTENCES = re.compile(r"(?<=\w\w)[.!?]+ ")


def list_variants(message: str, speller: WordSegmenter) -> tuple[str, ...]:
    """What rules are held against, the plain reading first. Harmless text has one reading, seldom two.

    The sentences that may be a disguise are read anew, and only they: in one more reading, a line for each way.

    >>> readings("How tall are you?", Speller([], []))
    ('how tall are you?',)
    >>> readings("Hi Leo! ıgn0re that", Speller(["ignore"], []))
    ('hi leo! ıgn0re that', 'ign0re that\\nignore that')
    """
    hidden = [text for text, _ in zip(decode_hidden_texts(message), range(_HIDDEN_TEXTS), strict=False)]
    found: dict[str, None] = {}
    for text in (message, *hidden):
        found.update(dict.fromkeys(_iterate_variants(text, speller)))
    return tuple(found)


def _iterate_variants(message: str, speller: WordSegmenter) -> Iterator[str]:
    plain = normalize_text(message)
    yield plain
    if "\n" in message.strip():
        # Some rules ask how a line begins.
        yield "\n".join(normalize_text(line) for line in message.splitlines())
    others = dict.fromkeys(
        other
        for part in _SENTENCES.split(plain)
        for other in _iterate_sentence_variants(part, speller)
        if other != part
    )
    if others:
        yield "\n".join(others)


def _iterate_sentence_variants(sentence: str, speller: WordSegmenter) -> Iterator[str]:
    bare = fold_lookalikes(sentence)
    for text in (bare, *replace_digits(bare)):
        for variant in (text, *shorten_runs(text)):
            yield variant
            yield speller.segment(variant)
    yield from (text for text in reverse_and_rot13(bare) if speller.contains_strong_word(text))
