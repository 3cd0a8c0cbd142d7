"""Expressions in the syntax of RE2 itself, for people who are no developers: `\\pL`, `\\p{Greek}`, `\\Q..\\E`.

RE2 says which it knows, and how large they become; `\\w \\d \\s \\b` are ASCII only, and there is no look-around.
Only whether an expression matches is told, not where.
"""

from __future__ import annotations

from typing import Any

import re2

from openapi_server.linear_regex.parser import LinearRegexError

# There may be hundreds of them.
_MAX_MEMORY_BYTES = 1 << 19


class Re2Detector:
    """An expression that ignores case; `^` and `$` are the ends of lines. Raises `LinearRegexError`."""

    def __init__(self, source: str) -> None:
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        options.case_sensitive = False
        options.max_mem = _MAX_MEMORY_BYTES
        self._compiled = compile_re2(f"(?m){source}", options)
        self.program_size: int = self._compiled.programsize

    def search(self, text: str, /) -> bool:
        return self._compiled.search(_encode(text)) is not None

    def fullmatch(self, text: str, /) -> bool:
        return self._compiled.fullmatch(_encode(text)) is not None


def compile_re2(source: str | bytes, options: re2.Options) -> Any:
    """The compiled expression. Raises `LinearRegexError` with RE2's reason.

    Not by `re2.compile`, which keeps the last 128 of a process: after some edits of keepers' rules those were old ones
    only, and the joined expressions of all rules take megabytes.
    """
    try:
        return re2._Regexp(source, options)
    except re2.error as error:
        raise LinearRegexError(_describe_error(error)) from None


def escape_for_re2(text: str) -> str:
    """An expression that matches the text."""
    escaped: str = re2.escape(text)
    return escaped


def _describe_error(error: Exception) -> str:
    [reason] = error.args
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def _encode(text: str) -> bytes:
    # A model may send half of a surrogate pair, which UTF-8 cannot encode.
    return text.encode("utf-8", "replace")
