"""Detects replies that leak their prompt: its canary token in any encoding, or a quote of its instructions.

A canary token is a random word in the prompt that no reply contains unless the model repeats its prompt.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterable
from functools import lru_cache

from openapi_server import linear_regex
from openapi_server.models.ids import take_random_bytes

_WINDOW_CHARS = 8
"""This many consecutive characters of the canary are a leak: a model can be made to print it in two halves."""
_WINDOW_WORDS = 7
"""This many consecutive words of the instructions are a quote."""
_CANARY_LETTERS, _CANARY_CHARS = "bcdfghjklmnpqrtvwxz", 16
_WORD = linear_regex.compile(r"\w+")
_Quote = tuple[str, ...]


def generate_canary() -> str:
    """A random word (68 bits) to put into a prompt. Only consonants, so that no reply contains it by accident.

    >>> len(generate_canary()), generate_canary().isalpha()
    (16, True)
    """
    # Written as a number with these letters as digits: 128 bits make all words equally probable, but for 2^-60.
    number, letters = int.from_bytes(take_random_bytes(), "big"), []
    for _ in range(_CANARY_CHARS):
        number, digit = divmod(number, len(_CANARY_LETTERS))
        letters.append(_CANARY_LETTERS[digit])
    return "".join(letters)


class PromptLeakDetector:
    """Detects the `canary`, also reversed or encoded, and literal quotes of the `texts`.

    `name`: the animal's own, which is in the texts. It counts as one word, however long it is: the animal may say it.
    """

    def __init__(self, canary: str = "", texts: Iterable[str] = (), name: str = "") -> None:
        self._windows = {window for form in _encode_canary(canary) for window in _iterate_windows(form)}
        self._name = name.casefold() if len(_WORD.findall(name)) > 1 else ""
        self._quotes = frozenset[_Quote]().union(*(_list_prompt_quotes(self._shorten(text)) for text in texts))

    def is_leaked_in(self, text: str) -> bool:
        """True when the text contains a part of the canary, or a quote."""
        squeezed = "".join(filter(str.isalnum, text.casefold()))
        return any(window in self._windows for window in _iterate_windows(squeezed)) or not self._quotes.isdisjoint(
            _iterate_quotes(self._shorten(text))
        )

    def _shorten(self, text: str) -> str:
        return text.casefold().replace(self._name, " name ") if self._name else text


@lru_cache(maxsize=1024)
def _list_prompt_quotes(text: str) -> frozenset[_Quote]:
    """Cached, because most prompts have the same instructions."""
    return frozenset(_iterate_quotes(text))


def _encode_canary(canary: str) -> Iterable[str]:
    if not canary:
        return
    raw = canary.encode()
    yield canary.casefold()
    yield canary[::-1].casefold()
    yield codecs.encode(canary, "rot13").casefold()
    yield raw.hex()
    # Base64 differs with the offset of the word modulo 3; only the part that its neighbours do not change is used.
    for shift in range(3):
        code = base64.b64encode(b"\0" * shift + raw).decode()
        yield code[4 if shift else 0 : len(code) - 4].casefold()


def _iterate_windows(text: str) -> Iterable[str]:
    return (text[at : at + _WINDOW_CHARS] for at in range(len(text) - _WINDOW_CHARS + 1))


def _iterate_quotes(text: str) -> Iterable[_Quote]:
    words = _WORD.findall(text.casefold())
    return (tuple(words[at : at + _WINDOW_WORDS]) for at in range(len(words) - _WINDOW_WORDS + 1))
