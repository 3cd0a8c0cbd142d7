"""Keepers' view of an animal as JSON: document, settings, facts, history and draft. Pure.

A document is an animal file with member names in camel case. What keepers name themselves, such as sources and
favourites, keeps its names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openapi_server.models.document import Change, Document, Draft
from openapi_server.wire.timestamps import format_timestamp

_WIRE_NAMES = {
    "animal_id": "animalId",
    "scientific_name": "scientificName",
    "how_are_you": "howAreYou",
    "dont_know": "dontKnow",
    "max_tokens": "maxTokens",
    "prompt_additions": "promptAdditions",
}
_OUR_NAMES = {wire: ours for ours, wire in _WIRE_NAMES.items()}

# The sections whose member names are renamed. All others have names that keepers chose, or names of one word.
_SECTIONS = ("voice", "mind")
_MODEL_SETTINGS = ("model", "temperature", "maxTokens")
_SETTINGS = ("status", "summary", "individual", "voice", "promptAdditions")


def encode_document(document: Document) -> dict[str, Any]:
    """
    >>> encode_document({"animal_id": "ant_001", "voice": {"dont_know": ["Hm."]}, "sources": {"dont_know": {}}})
    {'animalId': 'ant_001', 'voice': {'dontKnow': ['Hm.']}, 'sources': {'dont_know': {}}}
    """
    return _rename(document, _WIRE_NAMES)


def decode_document(body: Mapping[str, Any]) -> dict[str, Any]:
    """The document that a client sent.

    >>> decode_document({"animalId": "ant_001", "mind": {"maxTokens": 99}})
    {'animal_id': 'ant_001', 'mind': {'max_tokens': 99}}
    """
    return _rename(body, _OUR_NAMES)


def encode_settings(document: Document) -> dict[str, Any]:
    """What can be set without changing a fact. null: the server's own setting holds."""
    whole = encode_document(document)
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
    return decode_document(rest | ({"mind": mind} if mind else {}))


def encode_facts(document: Document) -> dict[str, Any]:
    return {"animalId": document["animal_id"], "facts": document["facts"], "sources": document["sources"]}


def encode_change(change: Change) -> dict[str, Any]:
    return {
        "version": change.version,
        "operation": change.operation,
        "by": change.by,
        "at": format_timestamp(change.at),
        "fields": [encode_field_name(field) for field in change.fields],
    }


def encode_draft(draft: Draft) -> dict[str, Any]:
    return {
        "animalId": draft.document_id,
        "document": encode_document(draft.document),
        "basedOn": draft.based_on,
        "by": draft.by,
        "at": format_timestamp(draft.at),
    }


def encode_field_name(path: str) -> str:
    """
    >>> encode_field_name("voice.how_are_you"), encode_field_name("individual.favourites.dont_know")
    ('voice.howAreYou', 'individual.favourites.dont_know')
    """
    first, *rest = path.split(".")
    renamed = rest[:1] if first in _SECTIONS else []
    return ".".join([*(_WIRE_NAMES.get(name, name) for name in (first, *renamed)), *rest[len(renamed) :]])


def _rename(value: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    inside = {name: _rename_members(value[name], names) for name in _SECTIONS if name in value}
    return _rename_members({**value, **inside}, names)


def _rename_members(value: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): part for name, part in value.items()}
