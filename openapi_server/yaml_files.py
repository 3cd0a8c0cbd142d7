"""YAML files: loaded safely and strictly, dumped so that versions are easy to compare, and files of patterns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

_WIDTH = 120
# Longer texts are folded into lines: they are easier to read, and to compare from one version to the next.
_MAX_INLINE_CHARS = 90
_FOLDABLE = re.compile(r"[!-~](?: ?[!-~])+")
_MAX_INLINE_ITEMS = 12


class UnreadableFileError(ValueError):
    """The file is not there, not UTF-8, not YAML, or has a key twice."""


# libyaml reads the packaged animals in a quarter of a second; the pure Python loader takes three.
_Loader: type[Any] = type("_Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})


def load_yaml(file: Path) -> Any:
    """The content of the file. Raises `UnreadableFileError`."""
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  # made from a safe loader
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UnreadableFileError(f"cannot be read: {error}") from error


def find_item_lines(file: Path, key: str) -> list[int]:
    """The lines, from 1, on which the items of the top-level list `key` begin, in a file that was loaded already."""
    root: Any = yaml.compose(file.read_text(encoding="utf-8"), _Loader)
    items = next(value for name, value in root.value if name.value == key)
    return [item.start_mark.line + 1 for item in items.value]


def _construct_mapping(loader: Any, node: yaml.MappingNode) -> Iterator[dict[Any, object]]:
    """Refuses a mapping with a duplicate key; PyYAML would silently use the second value."""
    seen: set[str] = set()
    for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
        seen.add(key.value)
    yield from loader.construct_yaml_map(node)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def dump_yaml(document: Mapping[str, Any]) -> str:
    """YAML in the order of the document; loading it gives the same document. Comments are not part of a document.

    >>> print(dump_yaml({"animal_id": "ant_001", "conservation": {"code": "NE"}, "asks": ["eat", "leaf"]}), end="")
    animal_id: ant_001
    conservation: {code: NE}
    asks: [eat, leaf]
    """
    return yaml.dump(dict(document), Dumper=_Dumper, width=_WIDTH, allow_unicode=True, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """The style of the packaged files: long texts folded, short lists and mappings on one line, lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: _Dumper, value: str) -> yaml.Node:
    """Only plain sentences are folded. With unusual white space, such as U+0085, a text needs escapes to survive.

    `represent_scalar` is not used: once Connexion has served the spec as YAML, it ignores the style everywhere.
    """
    is_folded = len(value) > _MAX_INLINE_CHARS and _FOLDABLE.fullmatch(value)
    style = ">" if is_folded else None if value.isprintable() else '"'
    return yaml.ScalarNode("tag:yaml.org,2002:str", value, style=style)


def _represent_list(dumper: _Dumper, values: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=_fits_on_a_line(values))


def _represent_mapping(dumper: _Dumper, value: dict[str, Any]) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=_fits_on_a_line(list(value.values())))


def _fits_on_a_line(values: list[Any]) -> bool:
    """A few short values that are no sentences and no collections."""
    if any(isinstance(value, list | dict) or str(value).endswith((".", "!", "?")) for value in values):
        return False
    return len(values) <= _MAX_INLINE_ITEMS and sum(len(str(value)) for value in values) < _MAX_INLINE_CHARS


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(dict, _represent_mapping)


# --- Pattern files: English phrasings as regular expressions, beside the code that uses them
#
# Patterns are in Python's syntax (`re`), with two additions:
#
# * `terms` are named pieces that the patterns of a file share. `{term}` in a pattern, or in a later term, stands for
#   the piece of that name. Quantifiers such as `{2,}` begin with a digit, so the two cannot be confused.
# * A pattern may be written over several lines. It is read without the line breaks and the spaces next to them.

_LINE_BREAK = re.compile(r"\s*\n\s*")
_TERM = re.compile(r"\{([a-z_]+)\}")


def load_patterns(file: Path) -> dict[str, Any]:
    """The content of a pattern file without `terms`; each string in it is a pattern with its terms replaced.

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
    """Replace the terms in a pattern by their pieces.

    >>> _expand("{greeting} (?:there|you){1,2}", {"greeting": "(?:hi|hello)"})
    '(?:hi|hello) (?:there|you){1,2}'
    """

    def get_term(name: re.Match[str]) -> str:
        if name[1] not in terms:
            raise ValueError(f"The pattern {pattern!r} names an unknown term: {name[1]}")
        return terms[name[1]]

    return _TERM.sub(get_term, _LINE_BREAK.sub("", pattern))
