"""Rules on the wire: a document is a rule of the rules files as JSON, named in this contract's style. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openapi_server.models.document import Document
from openapi_server.models.rule import ListedRule
from openapi_server.wire.timestamps import format_timestamp

_WIRE_NAMES = {"from_age": "fromAge", "to_age": "toAge"}
_OUR_NAMES = {wire: ours for ours, wire in _WIRE_NAMES.items()}


def encode_rule(document: Document) -> dict[str, Any]:
    """
    >>> rule_object({"name": "tickets", "from_age": "middle"})
    {'name': 'tickets', 'fromAge': 'middle'}
    """
    return {_WIRE_NAMES.get(name, name): value for name, value in document.items()}


def decode_rule(body: Mapping[str, Any]) -> dict[str, Any]:
    """The document that a client sent.

    >>> rule_of({"name": "tickets", "fromAge": "middle"})
    {'name': 'tickets', 'from_age': 'middle'}
    """
    return {_OUR_NAMES.get(name, name): value for name, value in body.items()}


def encode_listed_rule(rule: ListedRule) -> dict[str, Any]:
    kept = rule.stored
    return {
        "rule": encode_rule(rule.document),
        "origin": "keepers" if kept else "packaged",
        "replaces": rule.is_replacing,
        "version": rule.version,
        "changedBy": kept.by if kept else None,
        "changedAt": format_timestamp(kept.at) if kept else None,
    }


def encode_field_name(path: str) -> str:
    """
    >>> rule_field("from_age"), rule_field("patterns[2]")
    ('fromAge', 'patterns[2]')
    """
    return _WIRE_NAMES.get(path, path)
