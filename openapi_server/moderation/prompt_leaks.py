"""Detects replies that leak their prompt: its canary token in any encoding, or a quote of its instructions.

A canary token is a random word in the prompt that no reply contains unless the model repeats its prompt.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase

from openapi_server import linear_regex
from openapi_server.models.ids import take_random_bytes

_WINDOW_CHARS = 8
"""This many consecutive characters of the canary are a leak: a model can be made to print it in two halves."""
_WINDOW_WORDS = 7
"""This many consecutive words of the instructions are a quote."""
_SAMPLE_CHARS = 4
_SAMPLE_STEP = _WINDOW_CHARS - _SAMPLE_CHARS + 1
_CANARY_LETTERS, _CANARY_CHARS = "bcdfghjklmnpqrtvwxz", 16
_WORD = linear_regex.compile(r"\w+")
# The same for bytes of ASCII: what ends a word is a blank, and what is neither letter nor digit is left out.
_ALPHANUMERIC = bytes(code for code in range(128) if chr(code).isalnum())
_WORD_BYTES = bytes(code if code in _ALPHANUMERIC or code == ord("_") else ord(" ") for code in range(256))
_OTHER_BYTES = bytes(set(range(128)).difference(_ALPHANUMERIC))
_ROT13 = str.maketrans(
    ascii_uppercase + ascii_lowercase,
    ascii_uppercase[13:] + ascii_uppercase[:13] + ascii_lowercase[13:] + ascii_lowercase[:13],
)
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
        self._forms = _encode_canary(canary)
        # Each window of a form has one of these in it, and hardly any text has: so a text is not compared window by
        # window.
        self._samples = [
            form[at : at + _SAMPLE_CHARS]
            for form in self._forms
            for at in range(0, len(form) - _SAMPLE_CHARS + 1, _SAMPLE_STEP)
        ]
        self._name = name.casefold() if len(_list_words(name)) > 1 else ""
        self._quotes = _list_quotes_of_prompt(tuple(texts), self._name)

    def is_leaked_in(self, text: str) -> bool:
        """True when the text contains a part of the canary, or a quote."""
        folded = text.casefold()
        return self._has_window(_squeeze(folded)) or self._has_quote(folded)

    def _has_window(self, squeezed: str) -> bool:
        if not any(sample in squeezed for sample in self._samples):
            return False
        return any(window in squeezed for form in self._forms for window in _iterate_windows(form))

    def _has_quote(self, folded: str) -> bool:
        # A set hashes each quote once, whatever the number of texts.
        quotes = set(_iterate_quotes(_replace_name(folded, self._name))) if self._quotes else set()
        return not all(known.isdisjoint(quotes) for known in self._quotes)


@lru_cache(maxsize=256)
def _list_quotes_of_prompt(texts: tuple[str, ...], name: str) -> tuple[frozenset[_Quote], ...]:
    """Cached, because most prompts have the same instructions."""
    return tuple(_list_quotes(_replace_name(text.casefold(), name)) for text in texts)


@lru_cache(maxsize=1024)
def _list_quotes(text: str) -> frozenset[_Quote]:
    """Cached, because most instructions are those of other prompts, too."""
    return frozenset(_iterate_quotes(text))


def _replace_name(folded: str, name: str) -> str:
    return folded.replace(name, " name ") if name else folded


def _encode_canary(canary: str) -> tuple[str, ...]:
    if not canary:
        return ()
    raw = canary.encode()
    # Base64 differs with the offset of the word modulo 3; only the part that its neighbours do not change is used.
    codes = [base64.b64encode(b"\0" * shift + raw).decode() for shift in range(3)]
    in_base64 = [code[4 if shift else 0 : len(code) - 4] for shift, code in enumerate(codes)]
    forms = (canary, canary[::-1], canary.translate(_ROT13), raw.hex(), *in_base64)
    return tuple([form.casefold() for form in forms])


def _iterate_windows(text: str) -> Iterable[str]:
    return (text[at : at + _WINDOW_CHARS] for at in range(len(text) - _WINDOW_CHARS + 1))


def _squeeze(text: str) -> str:
    """Its letters and digits."""
    if text.isascii():
        return text.encode("ascii").translate(None, _OTHER_BYTES).decode("ascii")
    return "".join(filter(str.isalnum, text))


def _list_words(text: str) -> Sequence[str]:
    if text.isascii():
        return text.encode("ascii").translate(_WORD_BYTES).decode("ascii").split()
    return _WORD.findall(text)


def _iterate_quotes(text: str) -> Iterable[_Quote]:
    words = _list_words(text)
    return zip(*(words[at:] for at in range(_WINDOW_WORDS)), strict=False)
