"""First names that insult (insulting_names.yaml): visitors try them out, and no animal says them back.

A list, because names that only look like insults are many: Dick, Fanny, Randy, Cox, Ishita, Harshit and Poppy are
somebody's. What is doubtful counts as an insult: not to be called by name costs a visitor little.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from openapi_server import linear_regex
from openapi_server.lookalikes import LOOKALIKES
from openapi_server.yaml_files import load_yaml

_SEPARATORS = linear_regex.compile(r"[-_\s.,'’!?*+/]+")
_NO_LETTERS = linear_regex.compile(r"[\W\d_]+")
_DIGITS = str.maketrans("013457@$!|", "oieastasii")
# Cyrillic by sound, as it is usually written in Latin letters.
_CYRILLIC = (
    "аa бb вv гg дd еe ёe жzh зz иi йy кk лl мm нn оo пp рr сs тt уu фf хh цts чch шsh щsh ъ ыy ь эe юyu яya іi їyi єye"
)
_BY_SOUND = str.maketrans({pair[0]: pair[1:] for pair in _CYRILLIC.split()})
# Different spellings of one sound.
_SPELLINGS = (("ph", "f"), ("ck", "k"), ("qu", "k"), ("x", "ks"), ("c", "k"), ("q", "k"), ("z", "s"), ("y", "i"))
# Shorter words would be too much like others.
_MIN_SOUND_LETTERS = 4
_MIN_LONG_ENDING = 3
_MIN_INSIDE_LETTERS = 5
_VOWELS = "aeiou"
# Longer than any name: what comes later is not said back.
_MAX_LETTERS = 80
# The word before a name.
_INTRODUCTIONS = frozenset("is am im i'm i’m name's name’s called me name heiße heisse bin ist suis m'appelle".split())


def is_insulting_name(name: str) -> bool:
    """Whether the name is an insult, also with look-alike letters, letters drawn out, or a hyphen in it.

    >>> [is_insulting_name(name) for name in ("Fvckface", "F\\u0446ck-Face", "Scheißkopf", "Dickhead", "Dick")]
    [True, True, True, True, False]
    """
    return any(_WORDS.insults(variant) or _SOUNDS.insults(_spell_by_sound(variant)) for variant in _list_forms(name))


def has_insulting_word(text: str) -> bool:
    """Whether a word of the text insults: titles and summaries are not made of it.

    "What does a blue tit eat?" does not, "My name is Tit" does.
    """
    before = ""
    for word in text.split():
        if before in _INTRODUCTIONS:
            is_insult = is_insulting_name(word)
        else:
            is_insult = any(_SENTENCE_WORDS.insults(variant) for variant in _list_forms(word))
        if is_insult:
            return True
        before = word.casefold().strip(":,.")
    return False


def _list_forms(name: str) -> Iterator[str]:
    """The variants of the whole name and of its parts; none of a real name."""
    name = name[:_MAX_LETTERS]
    parts = [
        part for text in dict.fromkeys((name, name.translate(_DIGITS))) for part in _SEPARATORS.split(text) if part
    ]
    for whole in dict.fromkeys(("".join(_SEPARATORS.split(name)), *parts)):
        if _fold_accents(whole) not in _REAL_NAMES:
            yield from _list_variants(whole)


def _fold_accents(word: str) -> str:
    if word.isascii():
        return word.casefold()
    letters = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()


def _list_variants(word: str) -> set[str]:
    plain = _fold_accents(word)
    latin = plain.translate(LOOKALIKES)
    spelled = {word.casefold(), plain, latin, latin.replace("v", "u"), plain.translate(_DIGITS).translate(LOOKALIKES)}
    spelled |= {plain.translate(_BY_SOUND), plain.replace("ц", "u").translate(LOOKALIKES)}
    spelled |= {_shorten_runs(each, most) for each in spelled for most in (1, 2)}
    spelled |= {single for single in map(_use_single_vowels, spelled) if len(single) >= _MIN_SOUND_LETTERS}
    return set(map(_keep_letters, spelled)) - {""}


def _keep_letters(word: str) -> str:
    return word if word.isalpha() else _NO_LETTERS.sub("", word)


def _shorten_runs(word: str, most: int) -> str:
    """With letters that stand three times or more `most` times."""
    runs = ((letter, len(list(run))) for letter, run in groupby(word))
    return "".join(letter * (most if count > 2 else count) for letter, count in runs)


def _use_single_vowels(word: str) -> str:
    """With single vowels: only of what a visitor writes, not of the words in the list."""
    return "".join(letter * (1 if letter in _VOWELS else len(list(run))) for letter, run in groupby(word))


def _spell_by_sound(word: str) -> str:
    """One spelling for all that sound alike, with single consonants; empty for a short word.

    >>> _spell_by_sound("kunt") == _spell_by_sound("cunt"), _spell_by_sound("azzhole") == _spell_by_sound("asshole")
    (True, True)
    """
    for written, sound in _SPELLINGS:
        word = word.replace(written, sound)
    runs = ((letter, len(list(run))) for letter, run in groupby(word))
    sound = "".join(letter * (count if letter in _VOWELS else 1) for letter, count in runs)
    return sound if len(sound) >= _MIN_SOUND_LETTERS else ""


@dataclass(frozen=True)
class _WordList:
    """The insults in one spelling."""

    anywhere: tuple[str, ...]
    words: frozenset[str]
    with_ending: frozenset[str]
    endings: tuple[str, ...]

    def insults(self, word: str) -> bool:
        if word in self.words or any(part in word for part in self.anywhere):
            return True
        return any(word.endswith(ending) and self._insults_with(word, ending) for ending in self.endings)

    def _insults_with(self, word: str, ending: str) -> bool:
        stem = word[: -len(ending)]
        return stem in self.words or (len(ending) >= _MIN_LONG_ENDING and stem in self.with_ending)

    def spell_by_sound(self) -> _WordList:
        return _WordList(
            anywhere=tuple(word for word in _spell_all(self.anywhere) if len(word) >= _MIN_INSIDE_LETTERS),
            words=frozenset(_spell_all(self.words)),
            with_ending=frozenset(_spell_all(self.with_ending)),
            endings=tuple(_spell_all(ending for ending in self.endings if len(ending) >= _MIN_LONG_ENDING)),
        )


def _spell_all(words: Iterable[str]) -> list[str]:
    return [sound for sound in dict.fromkeys(map(_spell_by_sound, words)) if sound]


def _load_groups() -> dict[str, tuple[str, ...]]:
    groups: dict[str, str] = load_yaml(Path(__file__).with_name("insulting_names.yaml"))
    return {name: tuple(words.split()) for name, words in groups.items()}


_GROUPS = _load_groups()
_REAL_NAMES = frozenset(map(_fold_accents, _GROUPS["names"]))
_WORDS = _WordList(
    anywhere=_GROUPS["anywhere"],
    words=frozenset(map(_keep_letters, (*_GROUPS["words"], *map(_fold_accents, _GROUPS["words"])))),
    with_ending=frozenset(_GROUPS["with_ending"]),
    endings=_GROUPS["endings"],
)
_SOUNDS = _WORDS.spell_by_sound()
_SENTENCE_WORDS = _WordList(
    anywhere=tuple(word for word in _WORDS.anywhere if word not in _GROUPS["ordinary"]),
    words=_WORDS.words - frozenset(_GROUPS["ordinary"]),
    with_ending=frozenset(),
    endings=tuple(ending for ending in _WORDS.endings if len(ending) >= _MIN_LONG_ENDING),
)
