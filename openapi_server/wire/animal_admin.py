"""What keepers read and write of an animal, on the wire. Pure.

A document is the keepers' file as JSON, with names in the style of this contract. What keepers name themselves, such
as sources and favourites, stays as it is.
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

# The sections whose names are the format's. All others hold names of the keepers' own, or names that are one word.
_SECTIONS = ("voice", "mind")
_MIND = ("model", "temperature", "maxTokens")
_CONFIG = ("status", "summary", "individual", "voice", "promptAdditions")


def encode_document(document: Document) -> dict[str, Any]:
    """
    >>> document_object({"animal_id": "ant_001", "voice": {"dont_know": ["Hm."]}, "sources": {"dont_know": {}}})
    {'animalId': 'ant_001', 'voice': {'dontKnow': ['Hm.']}, 'sources': {'dont_know': {}}}
    """
    return _renamed(document, _WIRE_NAMES)


def decode_document(body: Mapping[str, Any]) -> dict[str, Any]:
    """The document that a client sent.

    >>> document_of({"animalId": "ant_001", "mind": {"maxTokens": 99}})
    {'animal_id': 'ant_001', 'mind': {'max_tokens': 99}}
    """
    return _renamed(body, _OUR_NAMES)


def encode_settings(document: Document) -> dict[str, Any]:
    """What can be set without touching a fact. What stands nowhere is null: the server's own settings hold."""
    whole = encode_document(document)
    mind = whole.get("mind", {})
    told = {name: whole.get(name) for name in _CONFIG}
    return {"animalId": whole["animalId"], **told, **{name: mind.get(name) for name in _MIND}}


def decode_settings(patch: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a document that a change of the configuration is about.

    >>> settings_of({"status": "retired", "maxTokens": None})
    {'status': 'retired', 'mind': {'max_tokens': None}}
    """
    mind = {name: patch[name] for name in _MIND if name in patch}
    rest = {name: value for name, value in patch.items() if name not in _MIND}
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
    >>> field_name("voice.how_are_you"), field_name("individual.favourites.dont_know")
    ('voice.howAreYou', 'individual.favourites.dont_know')
    """
    first, dot, rest = path.partition(".")
    return _WIRE_NAMES.get(first, first) + dot + (_WIRE_NAMES.get(rest, rest) if first in _SECTIONS else rest)


def _renamed(value: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    inside = {name: _names(value[name], names) for name in _SECTIONS if name in value}
    return _names({**value, **inside}, names)


def _names(value: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): part for name, part in value.items()}
