"""Write a document as the file that keepers read: what `loading` reads from it is the same document.

Comments are lost on the way: a document has none.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from openapi_server.models.document import Document

_WIDTH = 120
# What is longer is easier to read, and to compare from one version to the next, when it is folded into lines.
_LONGEST_ON_A_LINE = 90
_FOLDS_WELL = re.compile(r"[!-~](?: ?[!-~])+")
_MOST_IN_A_ROW = 12


def dump_yaml(document: Document) -> str:
    """YAML in the order of the document.

    >>> print(text_of({"animal_id": "ant_001", "conservation": {"code": "NE"}, "asks": ["eat", "leaf"]}), end="")
    animal_id: ant_001
    conservation: {code: NE}
    asks: [eat, leaf]
    """
    return yaml.dump(dict(document), Dumper=_Writer, width=_WIDTH, allow_unicode=True, sort_keys=False)


class _Writer(yaml.SafeDumper):
    """The style of the packaged files: long texts folded, short things in one line, lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(writer: _Writer, value: str) -> yaml.Node:
    """Folding is for plain sentences. With odd blanks, such as U+0085, a text comes back whole only from escapes.

    No use of `represent_scalar`: once Connexion has served the spec as YAML, every one of them ignores its style.
    """
    is_folded = len(value) > _LONGEST_ON_A_LINE and _FOLDS_WELL.fullmatch(value)
    style = ">" if is_folded else None if value.isprintable() else '"'
    return yaml.ScalarNode("tag:yaml.org,2002:str", value, style=style)


def _list(writer: _Writer, values: list[Any]) -> yaml.Node:
    return writer.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=_is_short(values))


def _mapping(writer: _Writer, value: dict[str, Any]) -> yaml.Node:
    return writer.represent_mapping("tag:yaml.org,2002:map", value, flow_style=_is_short(list(value.values())))


def _is_short(values: list[Any]) -> bool:
    """A few words, and no sentences, that fit into a line."""
    if any(isinstance(value, list | dict) or str(value).endswith((".", "!", "?")) for value in values):
        return False
    return len(values) <= _MOST_IN_A_ROW and sum(len(str(value)) for value in values) < _LONGEST_ON_A_LINE


_Writer.add_representer(str, _text)
_Writer.add_representer(list, _list)
_Writer.add_representer(dict, _mapping)
