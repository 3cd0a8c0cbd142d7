"""Keepers' documents as JSON: animals with their settings, facts, history and drafts, and guardrail rules. Pure.

A document is what its YAML file has, with member names in camel case. What keepers name themselves, such as sources and
favourites, keeps its names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openapi_server.models.rule import ListedRule
from openapi_server.models.versioned_document import Change, Document, Draft
from openapi_server.wire.timestamps import format_timestamp


@dataclass(frozen=True, slots=True)
class DocumentFormat:
    """How the members of one kind of document are named in JSON.

    `wire_names`: by the names in files, where they differ. `sections`: the members inside which members are renamed,
    too. All others have names that keepers chose, or names of one word.
    """

    wire_names: Mapping[str, str]
    sections: tuple[str, ...] = ()

    def encode(self, document: Document) -> dict[str, Any]:
        """
        >>> ANIMAL.encode({"animal_id": "ant_001", "voice": {"dont_know": ["Hm."]}, "sources": {"dont_know": {}}})
        {'animalId': 'ant_001', 'voice': {'dontKnow': ['Hm.']}, 'sources': {'dont_know': {}}}
        """
        return self._rename(document, self.wire_names)

    def decode(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The document that a client sent.

        >>> ANIMAL.decode({"animalId": "ant_001", "mind": {"maxTokens": 99}})
        {'animal_id': 'ant_001', 'mind': {'max_tokens': 99}}
        """
        return self._rename(body, {wire: ours for ours, wire in self.wire_names.items()})

    def encode_field(self, path: str) -> str:
        """
        >>> ANIMAL.encode_field("voice.how_are_you"), ANIMAL.encode_field("individual.favourites.dont_know")
        ('voice.howAreYou', 'individual.favourites.dont_know')
        >>> RULE.encode_field("from_age"), RULE.encode_field("patterns[2]")
        ('fromAge', 'patterns[2]')
        """
        first, *rest = path.split(".")
        renamed = rest[:1] if first in self.sections else []
        return ".".join([*(self.wire_names.get(name, name) for name in (first, *renamed)), *rest[len(renamed) :]])

    def _rename(self, value: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
        inside = {name: _rename_members(value[name], names) for name in self.sections if name in value}
        return _rename_members({**value, **inside}, names)


ANIMAL = DocumentFormat(
    {
        "animal_id": "animalId",
        "scientific_name": "scientificName",
        "how_are_you": "howAreYou",
        "dont_know": "dontKnow",
        "max_tokens": "maxTokens",
        "prompt_additions": "promptAdditions",
    },
    sections=("voice", "mind"),
)
RULE = DocumentFormat({"from_age": "fromAge", "to_age": "toAge"})
_MODEL_SETTINGS = ("model", "temperature", "maxTokens")
_SETTINGS = ("status", "summary", "individual", "voice", "promptAdditions")


def encode_settings(document: Document) -> dict[str, Any]:
    """What can be set without changing a fact. null: the server's own setting holds."""
    whole = ANIMAL.encode(document)
    mind = whole.get("mind", {})
    settings = {name: whole.get(name) for name in _SETTINGS}
    return {"animalId": whole["animalId"], **settings, **{name: mind.get(name) for name in _MODEL_SETTINGS}}


def decode_settings(patch: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a document that a settings patch changes.

    >>> decode_settings({"status": "retired", "maxTokens": None})
    {'status': 'retired', 'mind': {'max_tokens': None}}
    """
    mind = {name: patch[name] for name in _MODEL_SETTINGS if name in patch}
    rest = {name: value for name, value in patch.items() if name not in _MODEL_SETTINGS}
    return ANIMAL.decode(rest | ({"mind": mind} if mind else {}))


def encode_facts(document: Document) -> dict[str, Any]:
    return {"animalId": document["animal_id"], "facts": document["facts"], "sources": document["sources"]}


def encode_change(change: Change) -> dict[str, Any]:
    return {
        "version": change.version,
        "operation": change.operation,
        "by": change.by,
        "at": format_timestamp(change.at),
        "fields": [ANIMAL.encode_field(field) for field in change.fields],
    }


def encode_draft(draft: Draft) -> dict[str, Any]:
    return {
        "animalId": draft.document_id,
        "document": ANIMAL.encode(draft.document),
        "basedOn": draft.based_on,
        "by": draft.by,
        "at": format_timestamp(draft.at),
    }


def encode_listed_rule(rule: ListedRule) -> dict[str, Any]:
    stored = rule.stored
    return {
        "rule": RULE.encode(rule.document),
        "origin": "keepers" if stored else "packaged",
        "replaces": rule.is_replacing,
        "version": rule.version,
        "changedBy": stored.by if stored else None,
        "changedAt": format_timestamp(stored.at) if stored else None,
    }


def _rename_members(value: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): part for name, part in value.items()}
