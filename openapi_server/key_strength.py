"""How hard a secret is to guess: an estimate that random keys pass, and repetitions, sequences and words do not."""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

# 128 random bits in hexadecimal digits are estimated at 80 to 127 (measured with 30,000 keys).
MIN_KEY_BITS = 72
MAKE_KEY = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'

_KEYBOARD = "1234567890 qwertyuiop asdfghjkl zxcvbnm qwertzuiop yxcvbnm azertyuiop qsdfghjklm wxcvbn"
# The longest for hexadecimal digits, of which random ones often lie beside each other, and for all others.
_LONGEST_STRIDE_OF_HEX, _LONGEST_STRIDE = 3, 4
# Rows of keys from the top, each half a key further to the right than the one above.
_LAYOUTS = (
    "1234567890 qwertyuiop asdfghjkl zxcvbnm",
    "1234567890 qwertzuiop asdfghjkl yxcvbnm",
    "1234567890 azertyuiop qsdfghjklm wxcvbn",
)
_LETTERS_OF_DIGITS = str.maketrans("013457@$", "oieastas")
_SHIFTED_DIGITS = str.maketrans("!@#$%^&*()", "1234567890")
# Of 60,000 random keys, none lost more than a quarter of its characters as patterns.
_MIN_SHARE_OF_RANDOM = 0.6
# What people write where a key belongs.
_COMMON_WORDS = re.compile(
    r"change|replace|secret|password|passwort|passphrase|develop|production|default|example|sample|signing|token"
    r"|jwt|key|test|demo|only|admin|server|letmein|welcome|qwert|zoo|chat|animal|lion|tiger|please|this|your|with|here",
    re.IGNORECASE,
)
# The pairs of letters that make up half of English, German, French and Spanish text, and a sixth of random letters.
_COMMON_PAIRS = frozenset(
    "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro"
    " ic ne ea ra ce li ch ll be ma si om ur ei ie ge un ic us ss ut la il ai ue qu el os ad do no ca pe tr pr wo"
    " wa".split()
)
_COMMON_SHARE_OF_RANDOM = 0.16
_MAX_DEVIATION = 5
_BITS_OF_WRITTEN_LETTER = 1.5
_NO_LETTERS_OR_DIGITS = re.compile(r"[\W_]+")
_MAX_WORDS = 3
_HEX = re.compile(r"[0-9a-fA-F-]+")


def _find_neighbours(layout: str) -> frozenset[str]:
    """The pairs of keys that touch each other."""
    rows = layout.split()
    places = {key: (row, column) for row, keys in enumerate(rows) for column, key in enumerate(keys)}
    touching = {(0, 1), (0, -1), (1, 0), (1, -1), (-1, 0), (-1, 1)}
    return frozenset(
        first + second
        for first, (row, column) in places.items()
        for second, (other_row, other_column) in places.items()
        if (other_row - row, other_column - column) in touching
    )


_NEIGHBOURS = tuple(_find_neighbours(layout) for layout in _LAYOUTS)


def estimate_key_bits(key: str) -> float:
    """The entropy of the key in bits, as a guesser who knows habits would see it.

    Common words, repetitions of three characters and more, sequences and walks over the keyboard count nothing; of what
    is left, each character counts what its distribution says (Shannon), and a letter of written words 1.5 bits.

    What it encodes (Base64, hexadecimal digits), or reads with letters for digits, is estimated too; the least counts.

    >>> [estimate_key_bits(key) < MIN_KEY_BITS for key in ("0123456789abcdef" * 2, "x" * 64, "change-me-" * 9)]
    [True, True, True]
    """
    return min(map(_estimate_bits, _list_readings(key)))


def _list_readings(key: str) -> Iterator[str]:
    yield key
    letters = key.lower().translate(_LETTERS_OF_DIGITS)
    if sum(map(len, _COMMON_WORDS.findall(letters))) >= len(key) / 2:
        yield letters
    padded = key + "=" * (-len(key) % 4)
    for decode, text in ((bytes.fromhex, key), (base64.b64decode, padded), (base64.urlsafe_b64decode, padded)):
        with suppress(ValueError):
            decoded = decode(text).decode("ascii")
            # Random bytes are hardly ever all printable.
            if len(decoded) >= len(key) / 2 - 1 and decoded.isprintable():
                yield decoded


def _estimate_bits(key: str) -> float:
    rest = _drop_patterns(_COMMON_WORDS.sub("", key))
    bits = len(rest) * _measure_entropy(rest)
    if len(rest) < _MIN_SHARE_OF_RANDOM * len(key):
        # What is left of a key that follows habits begins the next pattern, and is as easy to guess.
        bits /= 2
    return min(bits, len(rest) * _BITS_OF_WRITTEN_LETTER) if _is_written_text(key) else bits


def _drop_patterns(text: str) -> str:
    """Without characters that end a repetition, or continue a sequence, also one with others in between (`1q2w3e`)."""
    lower = text.casefold()
    keys = lower.translate(_SHIFTED_DIGITS)
    is_hex = _HEX.fullmatch(text) is not None
    strides = range(1, (_LONGEST_STRIDE_OF_HEX if is_hex else _LONGEST_STRIDE) + 1)
    seen: set[str] = set()
    kept = []
    for at, character in enumerate(lower):
        trigram = lower[max(0, at - 2) : at + 1]
        is_repeated = len(trigram) == 3 and trigram in seen
        seen.add(trigram)
        is_sequence = any(_continues_sequence(keys, at, stride) for stride in strides)
        is_walk = not is_hex and _continues_walk(keys, at)
        if not is_repeated and not is_sequence and not is_walk:
            kept.append(text[at] if len(lower) == len(text) else character)
    return "".join(kept)


def _continues_walk(keys: str, at: int) -> bool:
    """Whether the last three keys touch each other on a keyboard, in any direction (`1qaz`, `zxsw`)."""
    first, second = keys[max(0, at - 2) : at], keys[max(0, at - 1) : at + 1]
    return any(first in neighbours and second in neighbours for neighbours in _NEIGHBOURS)


def _continues_sequence(text: str, at: int, stride: int) -> bool:
    if at < 2 * stride:
        return False
    first, second, third = text[at - 2 * stride], text[at - stride], text[at]
    steps = ord(second) - ord(first), ord(third) - ord(second)
    is_counted = steps[0] == steps[1] and abs(steps[0]) <= 1
    return is_counted or first + second + third in _KEYBOARD or third + second + first in _KEYBOARD


def _measure_entropy(text: str) -> float:
    """Bits a character, by how often each occurs."""
    total = len(text)
    return -sum(count / total * math.log2(count / total) for count in Counter(text).values()) if total else 0.0


def _is_written_text(text: str) -> bool:
    """Whether it is a row of words, or its letters follow each other as in words: hardly ever so in random text."""
    if _HEX.fullmatch(text):
        return False
    words = _NO_LETTERS_OR_DIGITS.split(text)
    if len(words) > _MAX_WORDS and all(word.isalpha() and (word.islower() or word.istitle()) for word in words):
        return True
    pairs = [text[at : at + 2].lower() for at in range(len(text) - 1) if text[at : at + 2].isalpha()]
    common = sum(pair in _COMMON_PAIRS for pair in pairs)
    expected = len(pairs) * _COMMON_SHARE_OF_RANDOM
    return common > expected + _MAX_DEVIATION * math.sqrt(expected)
