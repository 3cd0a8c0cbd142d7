"""What keepers' rules look for, in time that is linear in the text, whatever they wrote.

Every visitor's message is held against it on the event loop. Python's own expressions can take longer than the world
lasts, `(a+)+$` for one; RE2 cannot, and therefore knows neither look-around nor back-references.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from string import ascii_lowercase, digits
from typing import Any

import re2

from openapi_server.moderation.normalize.letters import normalize_text
from openapi_server.moderation.rules.fields import Fields
from openapi_server.moderation.rules.files import packaged_pattern, spelled_out
from openapi_server.moderation.rules.match_width import measure_match_width
from openapi_server.moderation.rules.rules import SearchPattern

MAX_KEYWORDS, MAX_PATTERNS, MAX_PATTERN_CHARS = 50, 20, 200

# A border of a word takes the character that is none. Nothing is lost by that: only whether there is a match counts.
_NO_WORD = r"[^\p{L}\p{N}_]"
# Measured: at that size the worst expressions that we found take 10 ms for 4,000 characters, nearly all take 0.01.
_MAX_PROGRAM_SIZE = 16_000
_MAX_MEMORY_BYTES = 1 << 19
# Whatever finds one of these finds something in every message.
_TRIVIAL_TEXTS = ("", " ", *ascii_lowercase, *digits)


@dataclass(frozen=True, slots=True)
class LinearPattern:
    """An expression of keepers. `compiled` is RE2's, which has no types."""

    compiled: Any

    def search(self, text: str, /) -> object | None:
        # A mind may say half a surrogate pair, which is no text in UTF-8. The pipeline refuses it a moment later.
        found: object | None = self.compiled.search(text.encode("utf-8", "replace"))
        return found


@dataclass(frozen=True, slots=True)
class AnyPattern:
    """Finds what one of several finds."""

    parts: tuple[SearchPattern, ...]

    def search(self, text: str, /) -> object | None:
        return next((found for part in self.parts if (found := part.search(text)) is not None), None)


@dataclass(frozen=True, slots=True)
class KeepersPatternParser:
    """Reads the keys of a keepers' rule that say what it looks for; `RuleFileError` names what cannot be.

    `trusted`: patterns of the package's rule with that name, which keepers may keep as they are, look-around and all.
    `widest`: how many characters a match may have at most, where that matters.
    """

    trusted: Set[str] = frozenset()
    max_match_chars: int | None = None

    def __call__(self, fields: Fields, terms: Mapping[str, str]) -> SearchPattern | None:
        keywords = self._parse_keywords(fields)
        patterns, ours = self._parse_patterns(fields, "patterns", terms)
        inside, ours_inside = self._parse_patterns(fields, "anywhere", terms)
        parts: list[SearchPattern] = []
        if keywords or patterns or inside:
            parts.append(_compile(fields, "patterns", _join_alternatives([*keywords, *patterns], inside)))
        if ours or ours_inside:
            parts.append(packaged_pattern(fields, ours, ours_inside))
        return AnyPattern(tuple(parts)) if parts else None

    def _parse_keywords(self, fields: Fields) -> list[str]:
        words = fields.texts("keywords")
        _require_few(fields, "keywords", words, MAX_KEYWORDS)
        return [
            self._validate_source(fields, f"keywords[{at}]", re2.escape(normalize_text(word)))
            for at, word in enumerate(words)
        ]

    def _parse_patterns(self, fields: Fields, key: str, terms: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """The keepers' own, checked; and those that are the package's."""
        given = fields.texts(key)
        own = {at: pattern for at, pattern in enumerate(given) if pattern not in self.trusted}
        _require_few(fields, key, tuple(own.values()), MAX_PATTERNS)
        checked = [
            self._validate_source(
                fields, f"{key}[{at}]", spelled_out(fields, pattern, terms), is_whole=key == "patterns"
            )
            for at, pattern in own.items()
        ]
        return checked, [spelled_out(fields, pattern, terms) for pattern in given if pattern in self.trusted]

    def _validate_source(self, fields: Fields, key: str, source: str, *, is_whole: bool = True) -> str:
        """Compiled alone first: a bracket that one leaves open, the next could close."""
        _compile(fields, key, source)
        alone = _compile(fields, key, _join_alternatives([source], []) if is_whole else source)
        if any(alone.search(text) for text in _TRIVIAL_TEXTS):
            raise fields.error(key, "would find the empty text, or a single letter")
        if self.max_match_chars is not None and measure_match_width(source) > self.max_match_chars:
            raise fields.error(
                key, f"must not match more than {self.max_match_chars} characters: so much of a reply is held back"
            )
        return source


def _require_few(fields: Fields, key: str, texts: Sequence[str], most: int) -> None:
    if len(texts) > most:
        raise fields.error(key, f"must be at most {most}")
    for at, text in enumerate(texts):
        if len(text) > MAX_PATTERN_CHARS:
            raise fields.error(f"{key}[{at}]", f"must be at most {MAX_PATTERN_CHARS} characters long")


def _join_alternatives(whole: Sequence[str], inside: Sequence[str]) -> str:
    """One expression: `whole` on the borders of words, `inside` anywhere."""
    words = "|".join(f"(?:{source})" for source in whole)
    either = [rf"(?:^|{_NO_WORD})(?:{words})(?:$|{_NO_WORD})"] if whole else []
    return "|".join([*either, *(f"(?:{source})" for source in inside)])


def _compile(fields: Fields, key: str, source: str) -> LinearPattern:
    try:
        compiled = re2.compile(f"(?m){source}", _build_options())
    except re2.error as error:
        raise fields.error(key, f"is no regular expression that RE2 knows: {_describe_error(error)}") from None
    if compiled.programsize > _MAX_PROGRAM_SIZE:
        raise fields.error(key, "is too large: fewer or shorter repetitions would do")
    return LinearPattern(compiled)


def _build_options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.case_sensitive = False
    options.max_mem = _MAX_MEMORY_BYTES
    return options


def _describe_error(error: Exception) -> str:
    [reason] = error.args
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
