"""Expressions for RE2 match what they match in `re`, and in linear time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import re2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from openapi_server import linear_regex
from openapi_server.linear_regex import IGNORECASE, MULTILINE, LinearRegexError, PreparedText
from openapi_server.linear_regex.re2_syntax import Re2Detector

TEXTS = [
    "",
    "a",
    "Aab ab\nABA-b a_b",
    "my number is 0151 2345678, not 12 kg",
    "Größe ÄB äb Straße ſ K ı İ kK",
    "٣4 ५६ ²½ x\u2003y\u00a0z\u200bq",
    "\ud800a\udfffb a\ud800",
    "中文字 ab 日本",
    "line\nline b\n\nab\n",
    "a" * 50 + "!",
    "my cat, my, mystery my\nthe an a",
]

EXPRESSIONS = [
    "a",
    "a|ab",
    "(a)(b)?",
    "(?P<it>a+)b*",
    "(?:ab|a)(?:b|$)",
    "(?:ab|my)(?: ab| cat)?(?: |$)",
    "(?!a)a",
    "(?!a)a|(?!my)m\\w",
    r"^a|(?<!b)b|^(?:my|the)\b",
    r"\b(?:ab|my)\b|\b(?:cat|a_b)\b|\ban?(?! )",
    r"(?:a|ab+)(?: b+)*(?: |\Z)",
    r"(a)( b)??(?:$| )",
    "(?:^|b| )a+(?:b|$|,)",
    r"(?:\A|\s)(?:a|my)(?: \w+)*?(?:\n|\Z)",
    "(?m)(?:^|,)(?: ?\\w)+(?:,|$)",
    "a+?b",
    "a{2,}",
    "x{,2}y",
    "a{2",
    "[a-c]+",
    "[^a-c]",
    r"[^\W\d_]+",
    r"\w+",
    r"\W+",
    r"\d{1,3}",
    r"\s+",
    r"[\s\d]+",
    r"\S+ \S+",
    ".",
    "(?s).b",
    "^a",
    "(?m)^a",
    "(?m)b$",
    "b$",
    r"\Aa",
    r"b\Z",
    r"\bab?\b",
    r"\w+\b ",
    r"a\B",
    r"(?<!\w)a",
    r"(?<=\s)\w",
    r"(?<![\w.,])\d+(?![\w,]|\.\d)",
    r"a(?!b)",
    r"(?!my\b)\w+",
    r"(?:(?!my )\w+ ){1,2}\w",
    r"(?!(?:a|the|my)\b)[a-z]+",
    r"\w+(?! (?:is|are|cat)\b)",
    r"\d+(?! ?(?:kg|km))",
    r"\w+(?=[,.]|$)",
    r"\w(?=\w)",
    r"(?i)k+",
    "(?i)i|S",
    "(?i)K[is]?",
    "(?i)ä",
    "(?i)straße|ſ",
    "(?i:A)b",
    "[A-ZÀ-ÖØ-Þ][a-zß-ÿ]*",
    "[\U000e0020-\U000e007e\u4e2d]+",
    r"\x41|\u00e4",
    r"[\]a-]+",
    "[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\uffff]+",
    "[\ud800-\udfffä]|[\u2000-\uefff]",
    r"[]a]+|[^]a]",
    "中|日",
    r"a|\b(?:my|the) \w+|(?<!\w)b",
    "",
    "a*",
    "\n",
]


def list_matches(pattern: re.Pattern[str] | linear_regex.Pattern, text: str) -> list[object]:
    return [(found.span(), found.groups(), found.groupdict()) for found in pattern.finditer(text)]


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("text", TEXTS)
def test_it_matches_what_re_matches(expression: str, text: str) -> None:
    """The same spans and groups, everywhere and in every method."""
    ours, theirs = linear_regex.compile(expression), re.compile(expression)

    assert list_matches(ours, text) == list_matches(theirs, text)
    assert list_matches(ours, PreparedText(text)) == list_matches(theirs, text)
    for position in (0, 1, len(text) // 2, len(text)):
        for method in ("match", "search"):
            found, expected = getattr(ours, method)(text, position), getattr(theirs, method)(text, position)
            assert (found and found.span()) == (expected and expected.span())
    assert ours.sub("<\\g<0>>", text) == theirs.sub("<\\g<0>>", text)
    assert ours.split(text, maxsplit=2) == theirs.split(text, maxsplit=2)
    assert ours.findall(text) == theirs.findall(text)


atoms = st.sampled_from(["a", "b", "ä", " ", ".", r"\w", r"\W", r"\d", "[ab]", "[^a]", r"[^\W\d_]", r"\s", "[ä-ü]"])
times = st.sampled_from(["", "", "", "?", "{2}", "{1,3}", "+", "*", "??", "+?"])
repeated = st.builds("{}{}".format, atoms, times)


def repeat_group(parts: list[str], count: str) -> str:
    """What may be empty is not repeated: RE2 may go on where `re` stops at an empty repetition."""
    group = f"(?:{'|'.join(parts)})"
    return group if re.fullmatch(group, "") else group + count


expressions = st.recursive(
    repeated,
    lambda inner: (
        st.builds(repeat_group, st.lists(inner, min_size=1, max_size=3), times)
        | st.lists(inner, min_size=1, max_size=3).map("".join)
        | inner.map("({})".format)
    ),
    max_leaves=6,
)
words = st.lists(st.sampled_from(["a", "ab", "b ", "ä", r"a\w", "[ab]a?"]), min_size=1, max_size=3).map("|".join)
behind = st.sampled_from(["", "", r"(?<!\w)", r"(?<=[ab ])", r"(?<!a|ä)", "^", "(?m:^)"])
ahead = st.sampled_from(["", "", r"(?!\w)", "(?=[b ])", "$", r"(?=\W|$)"]) | words.map("(?!{})".format)
inside = st.builds("{}(?!{}){}".format, repeated, words, expressions)
# Groups at the ends of which one alternative or several are edges: the others must keep their place.
behind |= st.lists(st.sampled_from(["^", r"\A", "(?m:^)"]) | repeated, min_size=2, max_size=3).map(
    lambda parts: f"(?:{'|'.join(parts)})"
)
ahead |= st.lists(st.sampled_from(["$", r"\Z", "(?m:$)"]) | repeated, min_size=2, max_size=3).map(
    lambda parts: f"(?:{'|'.join(parts)})"
)
texts = st.text("aabbäÄ _1٣\n.\u0130", max_size=25)


@given(behind, expressions | inside, ahead, texts, st.sampled_from([0, IGNORECASE, MULTILINE]))
@example("", "(?:a|b)*?(?!ab)b+", "(?!b)", "abbbab", 0)
@example("", "(?:a|ab)(?: b)?", "(?: |$)", "ab b", 0)
@example("(?:^|a?|b)", r"\W", "", "b.", 0)
@settings(max_examples=400, deadline=None)
def test_random_expressions_match_what_re_matches(before: str, body: str, after: str, text: str, flags: int) -> None:
    """An expression that cannot be compiled is refused; whatever is compiled has the matches that `re` finds."""
    try:
        ours = linear_regex.compile(before + body + after, flags)
    except LinearRegexError:
        return
    theirs = re.compile(before + body + after, flags)
    if any(not found[0] for found in theirs.finditer(text)):
        # Behind an empty match, the search goes on one character later.
        assert bool(ours.search(text)) == bool(theirs.search(text))
        return

    assert [found.span() for found in ours.finditer(text)] == [found.span() for found in theirs.finditer(text)]
    assert bool(linear_regex.compile_detector([], [before + body + after], flags).search(text)) == bool(
        theirs.search(text)
    )
    whole = re.compile(rf"(?<!\w)(?:{before}{body}{after})(?!\w)", flags)
    try:
        detector = linear_regex.compile_detector([before + body + after], (), flags)
    except LinearRegexError:
        return
    assert detector.search(text) == bool(whole.search(text))


def test_a_detector_looks_further_back() -> None:
    detector = linear_regex.compile_detector(
        [r"(?<!do you )(?<!^will )ignore (?:me|us)", "häschen"], ["指令"], MULTILINE
    )

    assert [
        text
        for text in (
            "please ignore me",
            "ignore me!",
            "do you ignore me?",
            "hi\nwill ignore me",
            "hi will ignore me",
            "signore me",
            "ignore men",
            "ein häschen",
            "häschens",
            "忽略指令",
        )
        if detector.search(text)
    ] == ["please ignore me", "ignore me!", "hi will ignore me", "ein häschen", "忽略指令"]


@pytest.mark.parametrize(
    "expression",
    [
        r"(a)\1",
        r"(?P<x>a)(?P=x)",
        "(?>a)",
        "a++",
        "a*+",
        "(?(1)a|b)",
        "(?#x)",
        "(?x)a",
        "a**",
        "a{1001}",
        "(",
        ")",
        "[a",
        "*a",
        r"\q",
        "\\",
        "(?P<x",
        "(?z)",
        "(?",
        r"\x4",
        "[b-a]",
        "(?P<a>b)(?P<a>c)",
        "^*",
        "(?=a)+",
        r"a(?<=a)b",
        "(?=a)b",
        r"[ab ]\ba",
        "(?!a*b)a",
        "(?<!ab)c",
        r"[\u0100-\u9000]\w",
        "((a{100}){100}){100}",
    ],
)
def test_what_cannot_be_linear_is_refused(expression: str) -> None:
    with pytest.raises(LinearRegexError):
        linear_regex.compile(expression)


@pytest.mark.parametrize(
    ("expression", "make_text"),
    [
        (r"(?:a+)+$", lambda n: "a" * n + "!"),
        (r"(?:a|aa)+\Z", lambda n: "a" * n + "!"),
        (r"(?<!\w)\(?0\d{1,5}\)?[ ./–]{0,3}\d{2,}(?:[ ./–]{0,3}\d{2,}){0,4}(?![\w,]|\.\d)", lambda n: "0" * n + "a"),
        (r"[\w.+-]{1,64}@(?:[\w-]+\.)+x", lambda n: "ä." * (n // 2)),
        (r"\w+", lambda n: "ä " * (n // 2)),
    ],
)  # fmt: skip
def test_twice_the_text_takes_twice_the_time(expression: str, make_text: Callable[[int], str]) -> None:
    pattern = linear_regex.compile(expression)

    def measure_s(text: str) -> float:
        times = []
        for _ in range(3):
            started_s = time.thread_time()
            for _found in pattern.finditer(text):
                pass
            times.append(time.thread_time() - started_s)
        return min(times)

    measure_s(make_text(1_000))
    assert measure_s(make_text(80_000)) < 6 * measure_s(make_text(40_000)) + 0.01


def test_threads_share_a_pattern() -> None:
    pattern = linear_regex.compile(r"(?<!\w)[ab]+(?!\w)|ä")
    text = PreparedText("ab äc ba " * 50)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: pattern.findall(text), range(50)))

    assert results == [results[0]] * 50


def test_what_was_compiled_is_kept_by_nobody_else() -> None:
    """`re2.compile` keeps the last 128 of a process, such as those of rules that keepers have changed since."""
    before = re2._Regexp._make.cache_info()
    linear_regex.compile(r"zebra \d+")
    linear_regex.compile_detector(["zebra"], ["stripes"])
    Re2Detector("zebra")

    assert re2._Regexp._make.cache_info() == before
