"""No expression that can backtrack reads text from outside: a walk over every expression of the package.

An expression is compiled by `linear_regex`, or its form is so simple that `re` matches it in linear time (`is_linear`),
or it is among the few in `EXEMPT`, which read no text from outside, or only a few characters.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from openapi_server import linear_regex
from openapi_server.http.validation import compile_pattern
from openapi_server.spec import load_spec
from openapi_server.yaml_files import load_patterns

PACKAGE = Path(__file__).parent.parent / "openapi_server"
METHODS = frozenset("compile search match fullmatch split findall finditer sub subn".split())
MAX_WIDTH = 300
"""The most characters that an expression of a simple form looks at from one place, before its repetition."""
MAX_OPTIONAL = 3

# Whole folders and modules that read no text from outside.
EXEMPT_MODULES = {
    "config.py": "reads the operator's settings",
    "devtools/": "runs on a developer's own machine",
    "key_strength.py": "reads the operator's key",
    "linear_regex/": "reads expressions, which are ours or were checked by RE2",
    "web/pages.py": "reads our own pages",
}
# Single expressions, by the module and the expression.
EXEMPT: dict[tuple[str, str], str] = {}


@dataclass(frozen=True, slots=True)
class Use:
    """An expression given to `re`. `source` is None when it is not a constant."""

    module: str
    line: int
    source: str | None

    @property
    def place(self) -> str:
        return f"{self.module}:{self.line}: {self.source}"


def find_uses(module: str, code: str) -> Iterator[Use]:
    """Every use of the module `re`, under whichever name, and of the package `regex`."""
    tree = ast.parse(code)
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name in ("re", "regex")
    }
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="re" | "regex"):
                # `escape` only writes expressions.
                yield from (Use(module, node.lineno, None) for alias in node.names if alias.name != "escape")
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if name in names:
                if method in METHODS:
                    yield Use(module, node.lineno, _read_constant(node.args[0]) if node.args else None)


def _read_constant(node: ast.expr) -> str | None:
    """The text of a literal, which may be joined of several by `+`."""
    try:
        value = ast.literal_eval(node)
    except ValueError:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = _read_constant(node.left), _read_constant(node.right)
            return left + right if left is not None and right is not None else None
        return None
    return value if isinstance(value, str) else None


def is_linear(source: str) -> bool:
    r"""Whether `re` takes time linear in the text for the expression, by its form.

    The form is: characters, classes and conditions on single places, one after the other and each once or a fixed
    number of times, a few at most once; then no more than one class that is repeated, and nothing behind it. Or
    alternatives of that form. There is nothing to come back to: a repetition never has to give back what it took.

    >>> [is_linear(source) for source in (r"\w+", r"[a-z][a-z0-9_]{0,63}", r"\r\n|\r|\n", r"a+b", r"(a+)+b", r"\s*$")]
    [True, True, True, False, False, False]
    """
    return _is_simple(list(_parser.parse(source)))


def _is_simple(items: list[Any]) -> bool:
    if len(items) == 1 and items[0][0] is codes.BRANCH:
        return all(_is_simple(list(branch)) for branch in items[0][1][1])
    if len(items) == 1 and items[0][0] is codes.SUBPATTERN:
        return _is_simple(list(items[0][1][3]))
    if not items:
        return True
    *before, last = items
    if sum(map(_is_optional, before)) > MAX_OPTIONAL:
        return False
    if sum(map(_measure, before)) > MAX_WIDTH or not all(_measure(item) >= 0 for item in before):
        return False
    if last[0] in (codes.MAX_REPEAT, codes.MIN_REPEAT):
        least, _, repeated = last[1]
        return len(repeated) == 1 and _measure(repeated[0]) == 1 and least <= MAX_WIDTH
    if last[0] is codes.SUBPATTERN:
        return _is_simple(list(last[1][3]))
    return _measure(last) >= 0


def _measure(item: Any) -> int:
    """The width of what always has the same; -1000 for anything else."""
    kind, value = item
    match kind:
        case codes.LITERAL | codes.NOT_LITERAL | codes.ANY | codes.IN:
            return 1
        case codes.AT:
            # What has to be behind a repetition would make it give back.
            return 0 if value in (codes.AT_BEGINNING, codes.AT_BEGINNING_STRING, codes.AT_BOUNDARY) else -1000
        case codes.ASSERT | codes.ASSERT_NOT:
            return 0 if sum(map(_measure, value[1])) >= 0 else -1000
        case codes.SUBPATTERN:
            return sum(map(_measure, value[3]))
        case codes.MAX_REPEAT:
            least, most, repeated = value
            is_fixed = least == most or _is_optional(item)
            return int(most) * sum(map(_measure, repeated)) if is_fixed else -1000
        case codes.BRANCH:
            widths = {sum(map(_measure, branch)) for branch in value[1]}
            return widths.pop() if len(widths) == 1 else -1000
    return -1000


def _is_optional(item: Any) -> bool:
    return bool(item[0] is codes.MAX_REPEAT and item[1][:2] == (0, 1))


def is_exempt(use: Use) -> bool:
    return any(use.module.startswith(name) for name in EXEMPT_MODULES) or (use.module, use.source) in EXEMPT


def list_package_uses() -> list[Use]:
    files = sorted(PACKAGE.rglob("*.py"))
    return [use for file in files for use in find_uses(file.relative_to(PACKAGE).as_posix(), file.read_text("utf-8"))]


def iterate_texts(content: Any) -> Iterator[str]:
    match content:
        case str():
            yield content
        case list():
            for each in content:
                yield from iterate_texts(each)
        case dict():
            for each in content.values():
                yield from iterate_texts(each)


def iterate_spec_patterns(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("pattern"), str):
            yield part["pattern"]
        for each in part.values():
            yield from iterate_spec_patterns(each)
    elif isinstance(part, list):
        for each in part:
            yield from iterate_spec_patterns(each)


def test_every_expression_for_text_from_outside_is_matched_in_linear_time() -> None:
    """Whoever adds another one compiles it with `linear_regex`, or writes code."""
    uses = list_package_uses()
    wrong = [use for use in uses if not is_exempt(use) and (use.source is None or not is_linear(use.source))]

    assert len(uses) > 20
    assert [use.place for use in wrong] == []


def test_every_exemption_is_needed() -> None:
    """No old one stays behind, under which a new expression could hide."""
    uses = list_package_uses()

    assert {name for name in EXEMPT_MODULES if not any(use.module.startswith(name) for use in uses)} == set()
    assert EXEMPT.keys() - {(use.module, use.source) for use in uses} == set()


@pytest.mark.parametrize(
    "file", ["providers/offline/intents.yaml", "knowledge/animal_switch.yaml", "knowledge/retrieval/follow_ups.yaml"]
)
def test_every_pattern_file_compiles_for_linear_time(file: str) -> None:
    """Back-references and the like are refused when the server starts, and here with a name."""
    patterns = list(iterate_texts(load_patterns(PACKAGE / file)))

    assert patterns
    for pattern in patterns:
        linear_regex.compile(pattern)


def test_every_pattern_of_the_spec_is_matched_in_linear_time() -> None:
    """What is between blanks is counted; everything else is matched by `linear_regex`."""
    patterns = sorted(set(iterate_spec_patterns(load_spec())))

    assert len(patterns) > 5
    for pattern in patterns:
        is_counted = "3998" in pattern or "4998" in pattern
        matcher = getattr(compile_pattern(pattern), "__self__", None)
        assert isinstance(matcher, linear_regex.Pattern) or is_counted


@pytest.mark.parametrize(
    "code",
    [
        'import re\nX = re.compile(r"(a+)+b")',
        'import re\ndef f(text):\n    return re.search("a*" + "b", text)',
        'import re as regular\nX = regular.compile("(a|aa)*c")',
        'from re import compile\nX = compile("(a|aa)*c")',
        "import re\nX = re.compile(SOME_TEXT)",
        'import re\nX = re.compile(rf"{name}+")',
        'import regex\nX = regex.compile("(a+)+b")',
    ],
)
def test_a_new_expression_that_can_backtrack_is_found(code: str) -> None:
    """In any module, under any name, also where it is not a constant."""
    uses = list(find_uses("impl/convo.py", code))

    assert uses
    assert [use for use in uses if not is_exempt(use) and (use.source is None or not is_linear(use.source))]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r"[^\W\d_]{4,}", True),
        (r"(?<=[.!?])\s+", True),
        (r"[0-9]{1,18}", True),
        (r"0|[1-9][0-9]{0,8}", True),
        (r"(?:ab|cd)[x]{3}", True),
        (r"[!|+]+$", False),
        (r"\s+\S", False),
        (r"(\w)\1+", False),
        (r"(?:a|ab)*", False),
        (r"(?:ab)+", False),
        (r"x*y*", False),
        (r".*?x", False),
        (r"(?=a+b)c", False),
    ],
)
def test_the_simple_form(source: str, expected: bool) -> None:
    """One repetition of one class, at the end; all else needs `linear_regex`."""
    assert is_linear(source) == expected
