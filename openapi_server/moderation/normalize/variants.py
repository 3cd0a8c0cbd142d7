"""The readings of a text: as it stands, and as whatever it is a disguise of."""

from __future__ import annotations

import re
from collections.abc import Iterator

from openapi_server.moderation.normalize.encodings import decoded, turned
from openapi_server.moderation.normalize.letters import as_read, folded, shortened, undigited
from openapi_server.moderation.normalize.spelling import Speller

_HIDDEN_TEXTS = 8
"""Decoded texts that are looked at. A message of nothing but codes must not keep the event loop."""
# Two letters before the stop: "i.g.n.o.r.e" is one sentence.
_SENTENCES = re.compile(r"(?<=\w\w)[.!?]+ ")


def readings(message: str, speller: Speller) -> tuple[str, ...]:
    """What rules are held against, the plain reading first. Harmless text has one reading, seldom two.

    The sentences that may be a disguise are read anew, and only they: in one more reading, a line for each way.

    >>> readings("How tall are you?", Speller([], []))
    ('how tall are you?',)
    >>> readings("Hi Leo! ıgn0re that", Speller(["ignore"], []))
    ('hi leo! ıgn0re that', 'ign0re that\\nignore that')
    """
    hidden = [text for text, _ in zip(decoded(message), range(_HIDDEN_TEXTS), strict=False)]
    found: dict[str, None] = {}
    for text in (message, *hidden):
        found.update(dict.fromkeys(_undisguised(text, speller)))
    return tuple(found)


def _undisguised(message: str, speller: Speller) -> Iterator[str]:
    plain = as_read(message)
    yield plain
    if "\n" in message.strip():
        # Some rules ask how a line begins.
        yield "\n".join(as_read(line) for line in message.splitlines())
    others = dict.fromkeys(
        other for part in _SENTENCES.split(plain) for other in _other_readings(part, speller) if other != part
    )
    if others:
        yield "\n".join(others)


def _other_readings(sentence: str, speller: Speller) -> Iterator[str]:
    bare = folded(sentence)
    for text in (bare, *undigited(bare)):
        for variant in (text, *shortened(text)):
            yield variant
            yield speller.put_right(variant)
    yield from (text for text in turned(bare) if speller.mentions(text))
