"""Rules of keepers as a file: a list `rules`, as in the files of the package, read strictly, with the lines."""

from __future__ import annotations

from pathlib import Path

import yaml

from openapi_server.models.document import Document
from openapi_server.moderation.rule_fields import Fields, RuleFileError
from openapi_server.moderation.rule_set import PackagedRules, parse_keepers_rule

_WHOLE = "(the whole file)"


def read_rule_list(file: Path, packaged: PackagedRules) -> list[Document]:
    """Every rule of the file. `RuleFileError` names file, line, rule and field of what is wrong first."""
    try:
        text = file.read_text(encoding="utf-8")
        value, root = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise RuleFileError(file, _WHOLE, "(all of it)", f"cannot be read: {error}") from None
    top = Fields(file, _WHOLE, value)
    documents = top.value("rules")
    if not isinstance(documents, list) or not documents:
        raise top.error("rules", "must be a list that is not empty")
    top.finish()
    seen: set[str] = set()
    for document, line in zip(documents, _lines(root), strict=True):
        _check(document, Path(f"{file.name}:{line}"), packaged, seen)
    return documents


def _check(document: object, place: Path, packaged: PackagedRules, seen: set[str]) -> None:
    if not isinstance(document, dict):
        raise RuleFileError(place, "rule", "(all of it)", "must be a mapping")
    rule = parse_keepers_rule(document, packaged, place)
    if rule.name in seen:
        raise RuleFileError(place, f"rule {rule.name!r}", "name", "is there twice")
    seen.add(rule.name)


def _lines(root: yaml.Node | None) -> list[int]:
    """Where each entry of `rules` begins, from 1."""
    assert isinstance(root, yaml.MappingNode)  # noqa: S101  # `Fields` has refused all else
    entries = next(value for key, value in root.value if key.value == "rules")
    return [entry.start_mark.line + 1 for entry in entries.value]
