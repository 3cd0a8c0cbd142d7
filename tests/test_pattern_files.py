"""Pattern files: shared terms, patterns over several lines, and mistakes in both."""

from __future__ import annotations

from pathlib import Path

import pytest

from openapi_server.pattern_files import load_patterns
from openapi_server.yaml_files import UnreadableFileError


def write(folder: Path, text: str) -> Path:
    file = folder / "patterns.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_terms_are_put_into_patterns_and_later_terms(tmp_path: Path) -> None:
    """Quantifiers stay as they are."""
    file = write(
        tmp_path,
        """
terms:
  greeting: (?:hi|hello)
  opening: '(?:{greeting} ){0,2}'
patterns:
  greet: ['^{opening}you$', '{greeting}{2,}']
""",
    )

    patterns = load_patterns(file)

    assert patterns == {"patterns": {"greet": ["^(?:(?:hi|hello) ){0,2}you$", "(?:hi|hello){2,}"]}}


def test_a_pattern_over_several_lines_is_one_pattern(tmp_path: Path) -> None:
    """The line breaks do not count, the spaces within a line do."""
    file = write(tmp_path, "patterns:\n  - |-\n    (?:how are\n    |where are) you\n")

    assert load_patterns(file) == {"patterns": ["(?:how are|where are) you"]}


@pytest.mark.parametrize("text", ["patterns: ['{nobody} there']", "terms: {a: '{b}', b: x}\npatterns: ['{a}']"])
def test_an_unknown_term_is_named(tmp_path: Path, text: str) -> None:
    """So is one that is defined below the pattern: terms cannot refer to each other in a circle."""
    with pytest.raises(ValueError, match=r"unknown term: (?:nobody|b)"):
        load_patterns(write(tmp_path, text))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError):
        load_patterns(tmp_path / "missing.yaml")
