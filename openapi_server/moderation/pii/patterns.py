"""The patterns of personal data in patterns.yaml, compiled; the file says what they mean."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from openapi_server.pattern_files import load_patterns


def _compile(patterns: list[str], flags: int) -> re.Pattern[str]:
    """One expression of all. It may have each group name only once, so each `it` gets the number of its pattern."""
    numbered = [pattern.replace("(?P<it>", f"(?P<it{number}>") for number, pattern in enumerate(patterns)]
    return re.compile("|".join(numbered), flags)


def _load() -> tuple[dict[str, re.Pattern[str]], dict[str, frozenset[str]]]:
    content: dict[str, Any] = load_patterns(Path(__file__).with_name("patterns.yaml"))
    expressions = {name: _compile(patterns, re.IGNORECASE) for name, patterns in content["ignoring_case"].items()}
    expressions |= {name: _compile(patterns, 0) for name, patterns in content["case_sensitive"].items()}
    return expressions, {name: frozenset(" ".join(lines).split()) for name, lines in content["words"].items()}


EXPRESSIONS, WORDS = _load()
