"""YAML files: loaded safely and strictly, dumped so that versions are easy to compare, and files of patterns."""

from __future__ import annotations

import stat
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from openapi_server import linear_regex
from openapi_server.linear_regex import Match

_WIDTH = 120
# Longer texts are folded into lines: they are easier to read, and to compare from one version to the next.
_MAX_INLINE_CHARS = 90
_FOLDABLE = linear_regex.compile(r"^[!-~](?: ?[!-~])+\Z")
_MAX_INLINE_ITEMS = 12


# More than the largest documents that keepers could have here; reading so much takes about two seconds and 100 MB.
MAX_FILE_BYTES, MAX_VALUES, MAX_DEPTH = 8 * 1024 * 1024, 100_000, 32
# Python reads no more than 4,300 digits.
_MAX_DIGITS = 4_000
_TEXT_TAG, _MERGE_TAG = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_UNUSED_TAGS = {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value", _MERGE_TAG}
# What YAML 1.1 does not allow in a stream, and the byte order mark inside a text.
_FORBIDDEN = linear_regex.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


class UnreadableFileError(ValueError):
    """The file is not there, no regular file, too large, not UTF-8, not YAML, or holds what is not supported here.

    Its message is one sentence, with the line where there is one.
    """


# libyaml reads the packaged animals in a tenth of a second; the pure Python loader takes three seconds.
_PackagedLoader: type[Any] = type("_PackagedLoader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
_Loader: type[Any] = type("_Loader", (_PackagedLoader,), {})
# Days and times stay texts, and `<<` and `=` are keys like any other.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _UNUSED_TAGS]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def parse_packaged_yaml(text: str) -> Any:
    """The content of a file that comes with the server, such as `openapi.yaml`: it may use aliases and merge keys."""
    return yaml.load(text, Loader=_PackagedLoader)  # noqa: S506  # made from a safe loader


def load_yaml(file: Path) -> Any:
    """The content of the file: mappings, lists, texts, numbers, booleans and None. Raises `UnreadableFileError`.

    Tags and merge keys are refused, and so is more than `MAX_FILE_BYTES`, `MAX_VALUES` and `MAX_DEPTH`.
    """
    try:
        text = _read_text(file)
        _check_events(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506  # made from a safe loader
    except OSError as error:
        raise UnreadableFileError(f"cannot be read: {error.strerror or error}") from None
    except yaml.YAMLError as error:
        raise UnreadableFileError(f"cannot be read: {_describe_yaml_error(error)}") from None


def find_item_lines(file: Path, key: str) -> list[int]:
    """The lines, from 1, on which the items of the top-level list `key` begin, in a file that was loaded already."""
    root: Any = yaml.compose(_read_text(file), _Loader)
    items = next(value for name, value in root.value if name.value == key)
    return [item.start_mark.line + 1 for item in items.value]


def _read_text(file: Path) -> str:
    # Opening a pipe would wait until somebody writes to it.
    if not stat.S_ISREG(file.stat().st_mode):
        raise UnreadableFileError("cannot be read: is not a regular file")
    with file.open("rb") as stream:
        content = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableFileError(f"cannot be read: is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableFileError(f"cannot be read: line {line}: is not UTF-8") from None
    if found := _FORBIDDEN.search(text):
        line = text.count("\n", 0, found.start()) + 1
        message = f"line {line}: YAML does not allow the character U+{ord(found[0]):04X}"
        raise UnreadableFileError(f"cannot be read: {message}")
    return text


@dataclass(slots=True)
class _Node:
    """A node while its events are read. All counts have the aliases in it written out."""

    anchor: str | None = None
    values: int = 1
    chars: int = 0
    levels: int = 1

    def add(self, child: _Node) -> None:
        self.values += child.values
        self.chars += child.chars
        self.levels = max(self.levels, child.levels + 1)


def _check_events(text: str) -> None:
    """Refuse what would be costly to load, before anything is built of it.

    libyaml crashes at a depth of 100,000. A few lines of aliases stand for gigabytes, so they count as what they name.
    Tags name types of Python, or change what a value is.
    """
    anchors: dict[str, _Node] = {}
    open_nodes = [_Node()]
    for event in yaml.parse(text, _Loader):
        if getattr(event, "tag", None) not in (None, "!", _TEXT_TAG):
            raise _make_error(event, "tags (words that begin with !) are not supported")
        match event:
            case yaml.CollectionStartEvent():
                open_nodes.append(_Node(event.anchor))
                _require_depth(event, len(open_nodes) - 1)
                continue
            case yaml.CollectionEndEvent():
                node = open_nodes.pop()
            case yaml.ScalarEvent():
                node = _Node(event.anchor, chars=len(event.value))
            case yaml.AliasEvent():
                # Within what it names, or unknown: the anchor is not there (yet).
                if event.anchor not in anchors:
                    raise _make_error(event, f"the alias *{str(event.anchor)[:60]} names nothing above it")
                node = anchors[event.anchor]
                _require_depth(event, len(open_nodes) - 1 + node.levels)
            case _:
                continue
        if node.anchor is not None:
            anchors[node.anchor] = node
        open_nodes[-1].add(node)
        _require_size(event, open_nodes[-1])


def _require_depth(place: yaml.Event, levels: int) -> None:
    if levels > MAX_DEPTH:
        raise _make_error(place, f"is nested deeper than {MAX_DEPTH} levels")


def _require_size(place: yaml.Event, node: _Node) -> None:
    if node.values > MAX_VALUES:
        raise _make_error(place, f"is more than the {MAX_VALUES} values that a file may hold")
    if node.chars > MAX_FILE_BYTES:
        raise _make_error(place, "has more aliases than a file may hold")


def _make_error(place: Any, problem: str) -> yaml.YAMLError:
    """`place`: the event or node that is wrong."""
    return yaml.MarkedYAMLError(None, None, problem, place.start_mark)


def _describe_yaml_error(error: yaml.YAMLError) -> str:
    """One sentence, where the library has up to eight lines."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "context", None) or "is not YAML"
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)


def _construct_mapping(loader: Any, node: yaml.MappingNode) -> Iterator[dict[Any, object]]:
    """Refuses a mapping with a duplicate key; PyYAML would silently use the second value."""
    seen: set[object] = set()
    for key, _ in node.value:
        if key.tag == _MERGE_TAG:
            continue
        value = loader.construct_object(key, deep=True)
        if not isinstance(value, Hashable):
            raise _make_error(key, "a list or a mapping cannot be a key")
        if value in seen:
            raise _make_error(key, f"{str(value)[:60]!r} is there twice")
        seen.add(value)
    yield from loader.construct_yaml_map(node)


def _construct_number(loader: Any, node: yaml.ScalarNode) -> object:
    """A time such as 12:30 stays a text: YAML 1.1 would read a number to the base of 60."""
    text = str(node.value)
    if ":" in text:
        return text
    if len(text) > _MAX_DIGITS:
        raise _make_error(node, f"a number must have at most {_MAX_DIGITS} digits")
    is_float = node.tag == "tag:yaml.org,2002:float"
    return loader.construct_yaml_float(node) if is_float else loader.construct_yaml_int(node)


_PackagedLoader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_number)


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
    is_folded = len(value) > _MAX_INLINE_CHARS and _FOLDABLE.match(value)
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

_LINE_BREAK = linear_regex.compile(r"\s*\n\s*")
_TERM = linear_regex.compile(r"\{([a-z_]+)\}")


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

    def get_term(name: Match) -> str:
        if name[1] not in terms:
            raise ValueError(f"The pattern {pattern!r} names an unknown term: {name[1]}")
        return terms[name[1]]

    return _TERM.sub(get_term, _LINE_BREAK.sub("", pattern))
