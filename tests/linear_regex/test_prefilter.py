"""The prefilter rules out expressions that cannot match, and never one that does."""

from __future__ import annotations

import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server import linear_regex
from openapi_server.linear_regex import IGNORECASE, MULTILINE, Prefilter, Re2Detector
from openapi_server.linear_regex.prefilter import find_required_texts
from tests.linear_regex.test_linear_regex import EXPRESSIONS, TEXTS

FLAGS = (0, IGNORECASE, MULTILINE)


def compile_or_none(source: str, flags: int) -> linear_regex.Pattern | None:
    """None: a look-ahead in the middle, or a long range of characters beside IGNORECASE."""
    try:
        return linear_regex.compile(source, flags)
    except linear_regex.LinearRegexError:
        return None


COMPILED = (compile_or_none(source, flags) for source in EXPRESSIONS for flags in FLAGS)
PATTERNS = [pattern for pattern in COMPILED if pattern is not None]
PREFILTER = Prefilter(PATTERNS)


def find_missed(text: str, prefilter: Prefilter, patterns: list[linear_regex.Pattern]) -> list[str]:
    """The expressions that match, and were ruled out."""
    candidates = prefilter.list_candidates(text)
    return [each.pattern for at, each in enumerate(patterns) if at not in candidates and each.search(text)]


@pytest.mark.parametrize("text", TEXTS)
def test_what_matches_is_a_candidate(text: str) -> None:
    """In every text, whatever the expression."""
    assert find_missed(text, PREFILTER, PATTERNS) == []


@given(st.text(st.sampled_from("abAB cdmytheig kxK\u212a\u017fıİéß٣²01,.-_!?\n\ud800中"), max_size=30))
def test_no_match_is_missed(text: str) -> None:
    """Of letters that the expressions are made of, with those that have case variants beyond ASCII."""
    assert find_missed(text, PREFILTER, PATTERNS) == []


PARTS = st.recursive(
    st.sampled_from(["a", "b", "K", "[ab]", "[^a]", ".", r"\d", r"\w", r"\s", "ab", "é", "\\u212a", "0", "[0-4]"]),
    lambda parts: st.one_of(
        st.lists(parts, min_size=1, max_size=4).map("".join),
        st.lists(parts, min_size=1, max_size=3).map(lambda each: f"(?:{'|'.join(each)})"),
        st.tuples(parts, st.sampled_from(["?", "*", "+", "{2}", "{1,3}", "{0}", "{2,}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
        parts.map(lambda part: f"{part}(?=a)"),
    ),
    max_leaves=8,
)


@given(source=PARTS, flags=st.sampled_from(FLAGS), text=st.text(st.sampled_from("abAkK0٣1é\u212a \n-"), max_size=12))
def test_no_match_of_a_made_up_expression_is_missed(source: str, flags: int, text: str) -> None:
    """Alternatives, repetitions and classes in every combination; `re` says what matches."""
    pattern = compile_or_none(source, flags)
    if pattern is None:
        return

    assert Prefilter([pattern]).list_candidates(text) or re.search(source, text, flags) is None


@pytest.mark.parametrize(
    ("source", "required"),
    [
        (r"(?:go(?:es)? to|attend) \w+ school", {b" school"}),
        (r"\b(?:mate|sex)\b", {b"mate", b"sex"}),
        (r"[0-9]{4}[ -]?[0-9]{4}", {b"0000 0000", b"0000-0000", b"00000000"}),
        (r"x\d", {b"x0", b"x\x80"}),
        (r"[A-Z]\w*", None),
        (r"a*", None),
        (r"(?:zebra)?", None),
        (r"zebra|\w+", None),
        (r"\w+(?=zebra)", {b"zebra"}),
        (r"\w+(?!zebra)", None),
        (r"(?:Zebra){2,}", {b"zebrazebra"}),
        (r"\w+ größe", {b" gr\x80\x80e"}),
    ],
)
def test_required_texts(source: str, required: set[bytes] | None) -> None:
    """What each match contains, in small letters; the rarest of it."""
    assert find_required_texts(linear_regex.compile(source)) == required


def test_of_many_expressions_few_are_left() -> None:
    """Those whose required text is there, and those that have none."""
    prefilter = Prefilter(map(linear_regex.compile, ("zebra", "gnu|lion", r"\w+", "x+y", "2024")))

    assert list(prefilter.list_candidates("A LION in 1999")) == [1, 2, 4]


def test_in_doubt_an_expression_is_a_candidate() -> None:
    """One in RE2's own syntax; in a long text; and while a thread is at work on what there is to know."""
    assert list(Prefilter([Re2Detector("zebra"), linear_regex.compile("zebra")]).list_candidates("lion")) == [0]
    assert list(PREFILTER.list_candidates("lion " * 2_000)) == [*range(len(PATTERNS))]
    prefilter = Prefilter([linear_regex.compile("zebra")])
    with prefilter._lock:
        assert list(prefilter.list_candidates("lion")) == [0]
    threads = [threading.Thread(target=prefilter.prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(prefilter.list_candidates("lion")) == []
