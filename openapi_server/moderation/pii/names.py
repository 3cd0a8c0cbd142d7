"""Surnames: the names that visitors give themselves or their people. The first name stays, what follows it is found."""

from __future__ import annotations

import re
from collections.abc import Iterator

from openapi_server.moderation.pii.patterns import EXPRESSIONS, WORDS

# An initial keeps its full stop; a longer word's full stop ends the sentence.
_WORD = re.compile(r"[^\W\d_]\.(?= )|st\.(?= )|[^\W\d_](?:[\w'’-]*\w)?", re.IGNORECASE)
_NOT_SURNAMES = WORDS["not_surnames"]
_NOT_FIRST_NAMES = WORDS["not_first_names"] | _NOT_SURNAMES
_MAX_WORDS = 4


def find_surnames(text: str) -> Iterator[tuple[int, int]]:
    """The (start, end) of each surname; middle names are part of it."""
    for told in EXPRESSIONS["name_told"].finditer(text):
        yield from _find_after_first_name(text, told.end(), is_surely_a_name=True)
    for name in ("name_introduced", "name_of_relative"):
        for found in EXPRESSIONS[name].finditer(text):
            yield from _find_after_first_name(text, found.end(), is_surely_a_name=False)
    for name in ("surname_after_title", "surname_told"):
        for found in EXPRESSIONS[name].finditer(text):
            yield from _find_name_words(text, found.end(), needs_capitals=False)


def _find_after_first_name(text: str, at: int, *, is_surely_a_name: bool) -> Iterator[tuple[int, int]]:
    first = _WORD.match(text, at)
    if first is None or first[0].casefold() in _NOT_FIRST_NAMES or first[0].endswith("."):
        return
    has_capital = first[0][0].isupper()
    if not is_surely_a_name and (not has_capital or first[0].isupper()):
        return
    if text[first.end() : first.end() + 1] == " ":
        yield from _find_name_words(text, first.end() + 1, needs_capitals=has_capital and not first[0].isupper())


def _find_name_words(text: str, at: int, *, needs_capitals: bool) -> Iterator[tuple[int, int]]:
    """The words from `at` that can be a surname. Without capitals to go by: one word, and particles before it."""
    start, end = at, at
    for _ in range(_MAX_WORDS):
        word = _WORD.match(text, at)
        if word is None or word[0].casefold() in _NOT_SURNAMES:
            break
        is_particle = EXPRESSIONS["name_particle"].fullmatch(word[0]) is not None
        if needs_capitals and not is_particle and not word[0][0].isupper():
            break
        end = end if is_particle else word.end()
        at = word.end() + 1
        is_last = not needs_capitals and not is_particle and not word[0].endswith(".")
        if is_last or text[word.end() : at] != " ":
            break
    if end > start:
        yield start, end
