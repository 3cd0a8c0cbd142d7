"""Regular expressions for text from outside: matched in time linear in the text, whatever the text is.

Python's `re` backtracks: `(\\d\\d?)+x` takes it seconds for forty digits. RE2 does not, and knows neither look-arounds
nor word borders beyond ASCII. This package compiles expressions in the syntax of `re` for RE2.

>>> compile(r"(?<!\\w)\\d+(?! ?kg|\\w)").sub("?", "Room ٣4, 12 kg, x5")
'Room ?, 12 kg, x5'

Interface:

* `compile(source, flags=0)`: a `Pattern` with `search`, `match`, `fullmatch`, `finditer`, `findall`, `sub` and `split`,
  as those of `re`. Spans are in characters, groups have numbers and names. Flags: `IGNORECASE`, `MULTILINE`, `DOTALL`.
* `compile_all(sources)`: several patterns, by name, that share an alphabet: for expressions that are used together.
* `compile_detector(whole, inside=())`: a `Detector`, whose `search` says only whether one of the expressions is in a
  text: those of `whole` as whole words. The fastest, and look-behinds of more than one character are allowed.
* `Prefilter(expressions)`: which of many expressions can match in a text at all, in about the time of four searches.
* `PreparedText(text)`: a `str` for a text that many patterns are used on. Text beyond ASCII is then prepared once.
* `Re2Detector(source)`: a detector for an expression in RE2's own syntax, as keepers write them, and `escape_for_re2`.
* `escape(text)`, as that of `re`. `LinearRegexError`, a `ValueError`: the expression is wrong, or not for linear time.

`\\w \\d \\s \\b` and letters of either case mean what they mean in `re`. Allowed besides what RE2 knows are:

* negative look-ahead anywhere, if it lists what is forbidden: `(?!my\\b|colou?r )`;
* positive look-ahead at the end of the whole expression or of one of its alternatives;
* look-behind at the beginning, of one character: `(?<![\\w.])`;
* `\\b` and `\\B` beside what is either a word character or none, and `^ $ \\A \\Z`.

Not allowed: back-references, atomic groups, possessive repetition, conditions, comments, the verbose flag, more
than 124 different characters beyond ASCII in one expression.

Half of a surrogate pair is a character like others. Everything is thread-safe. A search releases the interpreter lock
while it runs, so one in a thread does not stop the event loop. Measured for 262,144 characters, the default limit of a
request's body: the packaged expressions take 4 ms at most where they find nothing (30 ms for the first text of a kind),
and 120 ms where one match with groups is the whole text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from re import escape

from openapi_server.linear_regex.alphabet import Alphabet, PreparedText, get_alphabet, list_names
from openapi_server.linear_regex.lookaround import Branch, list_branches
from openapi_server.linear_regex.parser import DOTALL, IGNORECASE, MULTILINE, LinearRegexError, Tree, parse
from openapi_server.linear_regex.pattern import Detector, Match, Pattern
from openapi_server.linear_regex.prefilter import Prefilter
from openapi_server.linear_regex.re2_syntax import Re2Detector, escape_for_re2

__all__ = [
    "DOTALL",
    "IGNORECASE",
    "MULTILINE",
    "Detector",
    "LinearRegexError",
    "Match",
    "Pattern",
    "Prefilter",
    "PreparedText",
    "Re2Detector",
    "compile",
    "compile_all",
    "compile_detector",
    "escape",
    "escape_for_re2",
]


def compile(source: str, flags: int = 0) -> Pattern:
    """Raises `LinearRegexError`."""
    return compile_all({"": (source, flags)})[""]


def compile_all(sources: Mapping[str, tuple[str, int]]) -> dict[str, Pattern]:
    """The patterns by name; given are expressions with their flags. Raises `LinearRegexError`."""
    alphabet = _make_alphabet(sources.values())
    return {name: _compile_pattern(source, flags, alphabet) for name, (source, flags) in sources.items()}


def compile_detector(whole: Iterable[str], inside: Iterable[str] = (), flags: int = 0) -> Detector:
    """A detector of any of the expressions; no word character stands before or behind a match of `whole`.

    Raises `LinearRegexError`.
    """
    whole, inside = tuple(whole), tuple(inside)
    alphabet = _make_alphabet((source, flags) for source in (*whole, *inside))
    branches: list[Branch] = []
    for sources, is_whole_word in ((whole, True), (inside, False)):
        for source in sources:
            body, word_mask = _parse(source, flags, alphabet).body, _get_word_mask(alphabet)
            branches += list_branches(body, word_mask, is_ordered=False, is_whole_word=is_whole_word)
    return Detector([(source, int(flags)) for source in (*whole, *inside)], alphabet, branches)


def _compile_pattern(source: str, flags: int, alphabet: Alphabet) -> Pattern:
    tree = _parse(source, flags, alphabet)
    try:
        return Pattern(source, int(flags), alphabet, tree, list_branches(tree.body, _get_word_mask(alphabet)))
    except LinearRegexError as error:
        raise LinearRegexError(f"{error}, in {source!r}") from None


def _make_alphabet(sources: Iterable[tuple[str, int]]) -> Alphabet:
    return get_alphabet(list_names((source, int(flags)) for source, flags in sources))


def _parse(source: str, flags: int, alphabet: Alphabet) -> Tree:
    return parse(source, int(flags), alphabet.get_symbols)


def _get_word_mask(alphabet: Alphabet) -> int:
    return alphabet.get_symbols(r"\w", 0).mask
