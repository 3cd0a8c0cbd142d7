"""The patterns of personal data, read from patterns.yaml; the file says in which format."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

PATTERNS_FILE = Path(__file__).with_name("patterns.yaml")

# libyaml is ten times as fast.
_YAML_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# (?P<it>...) is a group, not a term.
_TERM = re.compile(r"(?<!\?P)<(\w+)>")


def _load() -> tuple[dict[str, re.Pattern[str]], dict[str, frozenset[str]]]:
    content = yaml.load(PATTERNS_FILE.read_text(encoding="utf-8"), Loader=_YAML_LOADER)  # noqa: S506 - both are safe loaders
    expressions = {name: _compile(entry, content["terms"]) for name, entry in content["expressions"].items()}
    words = {name: frozenset(" ".join(lines).split()) for name, lines in content["words"].items()}
    return expressions, words


def _compile(entry: dict[str, Any], terms: dict[str, str]) -> re.Pattern[str]:
    """One expression of all patterns. A group's name may stand in it once, so each `it` gets the pattern's number."""
    sources = [_expand_terms(source, terms) for source in entry["patterns"]]
    numbered = [source.replace("(?P<it>", f"(?P<it{number}>") for number, source in enumerate(sources)]
    return re.compile("|".join(numbered), re.IGNORECASE if entry.get("ignore_case") else 0)


def _expand_terms(source: str, terms: dict[str, str]) -> str:
    return _TERM.sub(lambda term: f"(?:{_expand_terms(terms[term[1]], terms)})", source)


EXPRESSIONS, WORDS = _load()
