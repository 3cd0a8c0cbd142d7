"""Patterns that keepers write: matched in time linear in the text, whatever the expression.

Every visitor's message is held against them, and keepers are no developers: expressions are in RE2's syntax, which has
neither look-around nor back-references, and whose engine tells how large an expression becomes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from string import ascii_lowercase, digits

from openapi_server import linear_regex
from openapi_server.linear_regex import LinearRegexError, Re2Detector, escape_for_re2
from openapi_server.moderation.normalize import normalize_text
from openapi_server.moderation.rule_files import RuleSource, compile_packaged_pattern, expand_terms
from openapi_server.moderation.rules import SearchPattern

MAX_KEYWORDS, MAX_PATTERNS, MAX_PATTERN_CHARS = 50, 20, 200

# Stands for a word border, and unlike one it consumes the character. Only whether there is a match counts, not where.
_NO_WORD = r"[^\p{L}\p{N}_]"
# Measured: the worst expressions of this size that we found take 10 ms for 4,000 characters, nearly all take 0.01 ms.
_MAX_PROGRAM_SIZE = 16_000
# A pattern that matches one of these matches nearly every message.
_TRIVIAL_TEXTS = ("", " ", *ascii_lowercase, *digits)
_TRIVIAL = "would find the empty text, or a single letter"


@dataclass(frozen=True, slots=True)
class AnyPattern:
    """Matches where one of its parts does."""

    parts: tuple[SearchPattern, ...]

    @property
    def size(self) -> int:
        """The instructions of the keepers' own expressions: what it takes to compile them, and at worst to search."""
        return sum(part.program_size for part in self.parts if isinstance(part, Re2Detector))

    def search(self, text: str, /) -> object:
        return any(part.search(text) for part in self.parts)


@dataclass(frozen=True, slots=True)
class KeepersPatternParser:
    """Reads the keys `keywords`, `patterns` and `anywhere` of a keepers' rule. `RuleFileError` names a wrong one.

    `trusted`: patterns of the packaged rule with that name. Keepers may leave them as they are, with look-around.
    `max_match_chars`: how many characters a match may have; None: any number.
    """

    trusted: Set[str] = frozenset()
    max_match_chars: int | None = None

    def __call__(self, rule: RuleSource, terms: Mapping[str, str]) -> SearchPattern | None:
        keywords = self._parse_keywords(rule)
        patterns, ours = self._parse_patterns(rule, "patterns", terms)
        inside, ours_inside = self._parse_patterns(rule, "anywhere", terms)
        parts: list[SearchPattern] = []
        if keywords or patterns or inside:
            parts.append(_compile(rule, "patterns", _join_alternatives([*keywords, *patterns], inside)))
        if ours or ours_inside:
            parts.append(compile_packaged_pattern(rule, ours, ours_inside))
        return AnyPattern(tuple(parts)) if parts else None

    def _parse_keywords(self, rule: RuleSource) -> list[str]:
        words = rule.document.keywords
        _require_few(rule, "keywords", words, MAX_KEYWORDS)
        return [self._escape_keyword(rule, f"keywords[{at}]", normalize_text(word)) for at, word in enumerate(words)]

    def _escape_keyword(self, rule: RuleSource, key: str, word: str) -> str:
        """Not compiled alone, as a pattern is: an escaped text is always an expression."""
        if word.casefold() in _TRIVIAL_TEXTS:
            raise rule.make_error(key, _TRIVIAL)
        source = escape_for_re2(word)
        self._require_narrow(rule, key, source)
        return source

    def _parse_patterns(self, rule: RuleSource, key: str, terms: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """The keepers' own patterns, validated, and the trusted ones."""
        given = rule.document.patterns if key == "patterns" else rule.document.anywhere
        own = {at: pattern for at, pattern in enumerate(given) if pattern not in self.trusted}
        _require_few(rule, key, tuple(own.values()), MAX_PATTERNS)
        checked = [
            self._validate_pattern(rule, f"{key}[{at}]", expand_terms(rule, pattern, terms), is_whole=key == "patterns")
            for at, pattern in own.items()
        ]
        return checked, [expand_terms(rule, pattern, terms) for pattern in given if pattern in self.trusted]

    def _validate_pattern(self, rule: RuleSource, key: str, source: str, *, is_whole: bool) -> str:
        """Compiles the source alone: a bracket that one pattern leaves open, the next could close.

        Without the borders of words, for they take longer to compile than most patterns. Of a text of one character,
        what stands between borders is the whole.
        """
        alone = _compile(rule, key, source)
        matches = alone.fullmatch if is_whole else alone.search
        if any(matches(text) for text in _TRIVIAL_TEXTS):
            raise rule.make_error(key, _TRIVIAL)
        self._require_narrow(rule, key, source)
        return source

    def _require_narrow(self, rule: RuleSource, key: str, source: str) -> None:
        if self.max_match_chars is not None and measure_match_width(source) > self.max_match_chars:
            raise rule.make_error(
                key, f"must not match more than {self.max_match_chars} characters: so much of a reply is held back"
            )


def _require_few(rule: RuleSource, key: str, texts: Sequence[str], most: int) -> None:
    if len(texts) > most:
        raise rule.make_error(key, f"must be at most {most}")
    for at, text in enumerate(texts):
        if len(text) > MAX_PATTERN_CHARS:
            raise rule.make_error(f"{key}[{at}]", f"must be at most {MAX_PATTERN_CHARS} characters long")


def _join_alternatives(whole: Sequence[str], inside: Sequence[str]) -> str:
    """One expression: `whole` between word borders, `inside` anywhere."""
    words = "|".join(f"(?:{source})" for source in whole)
    either = [rf"(?:^|{_NO_WORD})(?:{words})(?:$|{_NO_WORD})"] if whole else []
    return "|".join([*either, *(f"(?:{source})" for source in inside)])


def _compile(rule: RuleSource, key: str, source: str) -> Re2Detector:
    try:
        compiled = Re2Detector(source)
    except LinearRegexError as error:
        raise rule.make_error(key, f"is no regular expression that RE2 knows: {error}") from None
    if compiled.program_size > _MAX_PROGRAM_SIZE:
        raise rule.make_error(key, "is too large: fewer or shorter repetitions would do")
    return compiled


# --- The width of a match

_GROUP = linear_regex.compile(r"\(\?(?:P?<\w+>|[imsU-]*:)|\((?!\?)")
_FLAGS = linear_regex.compile(r"\(\?[imsU-]+\)")
_CLASS = linear_regex.compile(
    r"\[\^?\]?(?:\[:\^?\w+:\]|\\[pP]\{\^?\w+\}|\\x\{\w+\}|\\.|[^\]\\])*\]", linear_regex.DOTALL
)
_QUOTED = linear_regex.compile(r"\\Q(.*?)(?:\\E|\Z)", linear_regex.DOTALL)
_EDGE = linear_regex.compile(r"\\[AzbB]|[\^$]")
_ONE = linear_regex.compile(r"\\[pP](?:\{\^?\w+\}|\w)|\\x(?:\{\w+\}|\w\w)|\\[0-7]{1,3}|\\.|[^()|]", linear_regex.DOTALL)
_TIMES = linear_regex.compile(r"(?:([*+])|(\?)|\{(\d+)(,(\d*))?\})\??")


def measure_match_width(expression: str) -> float:
    r"""How many characters a match of an RE2 expression can have at most.

    RE2 does not tell, and the output buffer must know: it holds back no more than a margin of an unfinished sentence.
    The expression must be one that RE2 accepts. Infinity: there is no limit, or the syntax is not known here.

    >>> [measure_match_width(source) for source in (r"colou?r(ed|ing)?", r"\pL{2,9} (?:cage|den)", r"roar+")]
    [9.0, 14.0, inf]
    """
    width, end = _measure_alternatives(expression, 0)
    return width if end == len(expression) else math.inf


def _measure_alternatives(text: str, at: int) -> tuple[float, int]:
    """The width of the widest alternative, up to the end or the closing bracket, and the position there."""
    best, width = 0.0, 0.0
    while at < len(text) and text[at] != ")":
        if text[at] == "|":
            best, width, at = max(best, width), 0.0, at + 1
            continue
        part, at = _measure_part(text, at)
        times, at = _parse_repetition(text, at)
        width += part * times if part else 0.0
    return max(best, width), at


def _measure_part(text: str, at: int) -> tuple[float, int]:
    """The width of one group, class, anchor or character, and the position behind it."""
    if flags := _FLAGS.match(text, at):
        return 0.0, flags.end()
    if group := _GROUP.match(text, at):
        width, end = _measure_alternatives(text, group.end())
        return width, end + 1
    if quoted := _QUOTED.match(text, at):
        return float(len(quoted[1])), quoted.end()
    if edge := _EDGE.match(text, at):
        return 0.0, edge.end()
    one = _CLASS.match(text, at) or _ONE.match(text, at)
    return (1.0, one.end()) if one else (math.inf, at + 1)


def _parse_repetition(text: str, at: int) -> tuple[float, int]:
    """How often the part before may be repeated at most, and the position behind the quantifier."""
    found = _TIMES.match(text, at)
    if found is None:
        return 1.0, at
    if found[1] or found[5] == "":
        return math.inf, found.end()
    return (1.0 if found[2] else float(found[5] or found[3])), found.end()
