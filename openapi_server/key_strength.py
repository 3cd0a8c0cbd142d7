"""How hard a secret is to guess: an estimate that random keys pass, and repetitions, sequences and words do not.

Neither do keys that are printed somewhere: digits of pi, the MD5 of nothing, examples of RFCs and frameworks.
"""

from __future__ import annotations

import base64
import functools
import hashlib
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
# Keys of RFCs, documentation and widely copied tutorials.
_PUBLISHED_KEYS = (
    # RFC 7515 A.1, RFC 7520 3.5 and 3.6, RFC 7517 A.3, RFC 8037 A.1, RFC 9562 (name spaces)
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
    "AAPapAv4LbFbiVawEjagUBluYqN5rhna-8nuldDvOx8",
    "GawgguFyGrWKav7AX4VKUg",
    "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    # JWT.io, FastAPI, Flask, Spring Boot tutorials, Hasura, Supabase, Nacos
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
    "404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970",
    "5367566B59703373367639792F423F4528482B4D6251655468576D5A71347437",
    "3cfa76ef14937c1c0ea519f8fc057a80fcd04a7420f8e8bcd0a7567c272e007b",
    "3EK6FD+o0+c7tzBNVfjpMkNDi2yARAAKzQlk8O2IKoxQu4nF7EdAh8s3TwpHwrdWT6R",
    "super-secret-jwt-token-with-at-least-32-characters-long",
    "SecretKey012345678901234567890123456789012345678901234567890123456789",
    # AES-128 and AES-256 of NIST, secp256k1, the first block of Bitcoin, the first account of Hardhat
    "2b7e151628aed2a6abf7158809cf4f3c",
    "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
    "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
    "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
)
# Django begins its generated keys with it until somebody sets one.
_MARK_OF_UNSAFE = "django-insecure"
_PRINTED_WORDS = (
    "", "0", "1", "12345", "123456", "1234567890", "a", "abc", "foo", "bar", "hello", "hello world", "hello, world",
    "hello, world!", "helloworld", "root", "user", "guest", "leo", "jwt_secret", "jwt-secret", "secret_key",
    "secret-key", "secretkey", "signing_key", "signing-key", "password1", "password123", "p@ssw0rd", "zoochat",
    "correct horse battery staple", "the quick brown fox jumps over the lazy dog", "lion_001", "changeme", "change-me",
    "change_me", "changeit", "mysecret", "my-secret", "topsecret", "supersecret", "keyboard cat", "iloveyou", "monkey",
)  # fmt: skip
_HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3_256", "sha3_512", "blake2b", "blake2s")
_SHORTEST_DIGEST_BYTES = 16
_HEX_RUN = re.compile(r"[0-9a-fA-F]{32,}")
# So many characters of a constant in a row are no chance: one of 10 million random keys of digits has them.
_RUN_CHARS = 12
_CONSTANT_DIGITS = 2_000


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

    Digits of constants, hashes of nothing and of common words, and published keys count nothing either.

    >>> [estimate_key_bits(key) < MIN_KEY_BITS for key in ("0123456789abcdef" * 2, "x" * 64, "change-me-" * 9)]
    [True, True, True]
    >>> estimate_key_bits("3.14159265358979323846264338327950288419716939937510")
    0.0
    """
    if _MARK_OF_UNSAFE in key.lower():
        return 0.0
    unprinted = _drop_printed(key)
    if len(unprinted) < _MIN_SHARE_OF_RANDOM * len(key):
        # What is left belongs to it: the beginning of a constant, a check digit, a name in front.
        return min(_estimate_bits(unprinted) / 2, MIN_KEY_BITS / 2)
    return min(map(_estimate_bits, _list_readings(key)))


def _drop_printed(key: str) -> str:
    """Without what is printed somewhere: runs of constants and published keys, however they are separated; hashes."""
    if _is_digest(key):
        return ""
    rest = _HEX_RUN.sub(lambda run: "" if _is_digest(run[0]) else run[0], key)
    places = [at for at, character in enumerate(rest) if character.isascii() and character.isalnum()]
    compact = "".join(rest[at].lower() for at in places)
    printed: set[int] = set()
    for at in range(len(compact) - _RUN_CHARS + 1):
        if compact[at : at + _RUN_CHARS] in _list_printed_runs():
            printed.update(places[at : at + _RUN_CHARS])
    kept = [character for at, character in enumerate(rest) if at not in printed]
    # Nothing but separators is left of a constant with points or blanks in it.
    return "".join(kept) if any(character.isalnum() for character in kept) or not printed else ""


def _is_digest(text: str) -> bool:
    """Whether the text is a known hash, or begins with half of one, in hexadecimal digits, Base64 or as a UUID."""
    padded = text + "=" * (-len(text) % 4)
    for decode, written in (
        (bytes.fromhex, text.replace("-", "").replace(":", "")),
        (base64.b64decode, padded),
        (base64.urlsafe_b64decode, padded),
    ):
        with suppress(ValueError):
            if decode(written)[:_SHORTEST_DIGEST_BYTES] in _list_digests():
                return True
    return False


@functools.cache
def _list_digests() -> frozenset[bytes]:
    """The beginnings of the hashes of common words, also with the line end of `echo`."""
    words = {*_PRINTED_WORDS, *_COMMON_WORDS.pattern.split("|")}
    spellings = {spelt for word in words for spelt in (word, word.upper(), word.capitalize(), word.title())}
    texts = [f"{spelt}{end}".encode() for spelt in spellings for end in ("", "\n")]
    once = [hashlib.new(name, text, usedforsecurity=False).digest() for name in _HASHES for text in texts]
    return frozenset(digest[:_SHORTEST_DIGEST_BYTES] for digest in once)


@functools.cache
def _list_printed_runs() -> frozenset[str]:
    """All runs of `_RUN_CHARS` letters and digits in constants and published keys, forwards and backwards."""
    published = ["".join(filter(str.isalnum, key)) for key in _PUBLISHED_KEYS]
    encoded = [base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)).hex() for key in _PUBLISHED_KEYS[:5]]
    texts = [text.lower() for text in (*published, *encoded, *_list_constants())]
    return frozenset(
        text[at : at + _RUN_CHARS]
        for line in texts
        for text in (line, line[::-1])
        for at in range(len(text) - _RUN_CHARS + 1)
    )


def _list_constants() -> Iterator[str]:
    """Pi, e, the golden ratio, ln 2 and roots, in decimal and hexadecimal digits; constants of MD5 and SHA."""
    for base, to_text in ((10, str), (16, lambda number: f"{number:x}")):
        one = int(base**_CONSTANT_DIGITS)
        yield to_text(4 * (4 * _compute_arctan_of_inverse(5, one) - _compute_arctan_of_inverse(239, one)))
        yield to_text(_compute_e(one))
        yield to_text(2 * _compute_artanh_of_inverse(3, one))
        yield to_text((one + math.isqrt(5 * one * one)) // 2)
        for radicand in (2, 3, 5, 7, 10):
            yield to_text(math.isqrt(radicand * one * one))
    primes = [number for number in range(2, 410) if all(number % divisor for divisor in range(2, number))]
    for bits in (32, 64):
        yield "".join(f"{math.isqrt(prime << 2 * bits) % 2**bits:0{bits // 4}x}" for prime in primes[:8])
        yield "".join(f"{_compute_cube_root(prime << 3 * bits) % 2**bits:0{bits // 4}x}" for prime in primes)
    yield "".join(f"{int(abs(math.sin(step)) * 2**32):08x}" for step in range(1, 65))
    yield "67452301efcdab8998badcfe10325476c3d2e1f0"


def _compute_arctan_of_inverse(number: int, one: int) -> int:
    """The arc tangent of 1 / number, as a multiple of 1 / one; the last digits are not exact."""
    return _sum_odd_powers(number, one, -1)


def _compute_artanh_of_inverse(number: int, one: int) -> int:
    return _sum_odd_powers(number, one, 1)


def _sum_odd_powers(number: int, one: int, sign: int) -> int:
    power, total, exponent = one // number, 0, 1
    while power:
        total += sign ** (exponent // 2) * (power // exponent)
        power //= number * number
        exponent += 2
    return total


def _compute_e(one: int) -> int:
    term, total, step = one, one, 1
    while term:
        term //= step
        total += term
        step += 1
    return total


def _compute_cube_root(number: int) -> int:
    """Rounded down."""
    low, high = 0, 1 << (number.bit_length() // 3 + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= number else (low, middle - 1)
    return low


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
