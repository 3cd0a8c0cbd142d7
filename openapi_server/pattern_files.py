"""Pattern files: YAML with English phrasings as regular expressions, beside the code that uses them.

Patterns are in Python's syntax (`re`), with two additions:

* `terms` are named pieces that the patterns of a file share. `{term}` in a pattern, or in a later term, stands for the
  piece of that name. Quantifiers such as `{2,}` begin with a digit, so the two cannot be confused.
* A pattern may be written over several lines. It is read without the line breaks and the spaces next to them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from openapi_server.yaml_files import load_yaml

_LINE_BREAK = re.compile(r"\s*\n\s*")
_TERM = re.compile(r"\{([a-z_]+)\}")


def load_patterns(file: Path) -> dict[str, Any]:
    """The content of a pattern file without `terms`; each string in it is a pattern with its terms put in.

    Raises `UnreadableFileError`, and `ValueError` when a pattern names a term that is not defined above it.
    """
    content: dict[str, Any] = load_yaml(file)
    terms: dict[str, str] = {}
    for name, pattern in content.pop("terms", {}).items():
        terms[name] = _expand(pattern, terms)
    expanded: dict[str, Any] = _expand_all(content, terms)
    return expanded


def _expand_all(content: Any, terms: dict[str, str]) -> Any:
    if isinstance(content, dict):
        return {key: _expand_all(value, terms) for key, value in content.items()}
    if isinstance(content, list):
        return [_expand_all(each, terms) for each in content]
    return _expand(content, terms)


def _expand(pattern: str, terms: dict[str, str]) -> str:
    """Put terms into a pattern.

    >>> _expand("{greeting} (?:there|you){1,2}", {"greeting": "(?:hi|hello)"})
    '(?:hi|hello) (?:there|you){1,2}'
    """

    def get_term(name: re.Match[str]) -> str:
        if name[1] not in terms:
            raise ValueError(f"The pattern {pattern!r} names an unknown term: {name[1]}")
        return terms[name[1]]

    return _TERM.sub(get_term, _LINE_BREAK.sub("", pattern))
