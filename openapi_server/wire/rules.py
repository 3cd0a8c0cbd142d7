"""Guardrail rules as JSON: a rule of a rules file with member names in camel case. Pure."""

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
    >>> encode_rule({"name": "tickets", "from_age": "middle"})
    {'name': 'tickets', 'fromAge': 'middle'}
    """
    return {_WIRE_NAMES.get(name, name): value for name, value in document.items()}


def decode_rule(body: Mapping[str, Any]) -> dict[str, Any]:
    """The document that a client sent.

    >>> decode_rule({"name": "tickets", "fromAge": "middle"})
    {'name': 'tickets', 'from_age': 'middle'}
    """
    return {_OUR_NAMES.get(name, name): value for name, value in body.items()}


def encode_listed_rule(rule: ListedRule) -> dict[str, Any]:
    stored = rule.stored
    return {
        "rule": encode_rule(rule.document),
        "origin": "keepers" if stored else "packaged",
        "replaces": rule.is_replacing,
        "version": rule.version,
        "changedBy": stored.by if stored else None,
        "changedAt": format_timestamp(stored.at) if stored else None,
    }


def encode_field_name(path: str) -> str:
    """
    >>> encode_field_name("from_age"), encode_field_name("patterns[2]")
    ('fromAge', 'patterns[2]')
    """
    return _WIRE_NAMES.get(path, path)
