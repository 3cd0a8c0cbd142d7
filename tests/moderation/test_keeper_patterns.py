"""Keepers' patterns are matched in time linear in the text, and the width of a match is known."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from openapi_server.moderation.keeper_patterns import measure_match_width
from openapi_server.moderation.rule_set import (
    load_packaged_rules,
    parse_keepers_rule,
)
from tests.support.report import Report

PACKAGED = load_packaged_rules()
PARTY: dict[str, Any] = {
    "name": "party",
    "strength": "NEVER",
    "category": "events",
    "then": "words",
    "words": {"preschool": "No."},
}


EVIL = [
    "aa(a+)+$",
    "aa(a|aa)+$",
    "aa(a|a?)+$",
    "(.*a){20}",
    "([ab]{0,30}a){0,30}bc",
    "(a|b)*a(a|b){200}c",
    "((a?){100}){9}bb",
    r"(.*\pL ){3}c",
]


@pytest.mark.parametrize("pattern", EVIL)
def test_no_pattern_takes_long(pattern: str, report: Report) -> None:
    """Twice the text is twice the time, and 4,000 characters take an evil rule some milliseconds."""
    compiled = parse_keepers_rule({**PARTY, "patterns": [pattern]}, PACKAGED).pattern
    assert compiled is not None
    hard = "".join(random.Random(1).choices("ab", k=4_000)) + "!"  # noqa: S311 - a text, not a secret
    worst_ms = max(_search_ms(compiled, text) for text in ("a" * 4_000 + "!", hard, "ab " * 1_333, "ä" * 4_000))
    report(f"keepers' pattern {pattern}: {worst_ms:.1f} ms for 4,000 characters")

    assert worst_ms < 250


def _search_ms(compiled: Any, text: str) -> float:
    # The processor's time: other tests run, too.
    started_s = time.thread_time()
    compiled.search(text)
    return (time.thread_time() - started_s) * 1_000


@pytest.mark.parametrize(
    ("expression", "width"),
    [
        ("", 0),
        ("a|bcd|", 3),
        ("(?i:ab)(?P<x>c)?", 3),
        ("(?s)a.", 2),
        (r"^\bab\b$", 2),
        (r"[^]a-z\]]{2}[[:alpha:]][\pL\]]", 4),
        (r"\p{Greek}\PL\x{1F600}\x41\077\.", 6),
        (r"\Qa(b*\Ec", 5),
        ("a{3}b{1,4}?c{2,}", float("inf")),
        ("a{x}", 4),
        ("()*", 0),
        ("(a?){3}{2}", 6),
    ],
)
def test_how_wide_a_match_can_be(expression: str, width: float) -> None:
    """In characters, at most."""
    assert measure_match_width(expression) == width


atoms = st.sampled_from(["a", "b", ".", r"\pL", "[ab]", "[^a]", r"\.", "^", "$", r"\b", r"\Qab\E", "(?i)", r"\x{61}"])
times = st.sampled_from(["", "", "?", "{2}", "{0,3}", "{1,2}?", "*", "+?"])
expressions = st.recursive(
    st.builds(lambda atom, count: atom + ("" if atom in ("(?i)", "^", "$", r"\b") else count), atoms, times),
    lambda inner: (
        st.builds(lambda parts, count: f"(?:{'|'.join(parts)}){count}", st.lists(inner, max_size=3), times)
        | st.lists(inner, max_size=3).map("".join)
    ),
    max_leaves=8,
)


@given(expressions, st.text("ab. \n", max_size=40))
@settings(max_examples=300, deadline=None)
def test_no_match_is_wider_than_its_expression(expression: str, text: str) -> None:
    """Whatever RE2 finds, and in whichever way the expression is written."""
    try:
        compiled = re2.compile(expression)
    except re2.error:
        return
    for match in compiled.finditer(text):
        assert match.end() - match.start() <= measure_match_width(expression)
