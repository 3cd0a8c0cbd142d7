"""Keeping: what the keepers wrote, as documents with versions, and who changed what. Values and a comparison.

What the members of a document mean is `knowledge/`'s business; here it is JSON with an `animal_id`, and with `facts`,
each of which has an `id`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

# An animal as its file has it: mappings, lists, texts and numbers, nothing else.
Document = Mapping[str, Any]

# Who makes changes without an account. No username has brackets.
PACKAGE, COMMAND_LINE = "(package)", "(command line)"


@dataclass(frozen=True, slots=True)
class VersionedDocument:
    """An animal's document. `version` is the number of the change that wrote it, and never comes twice in one store."""

    document_id: str
    version: int
    document: Document


class Operation(StrEnum):
    """What was done with an animal."""

    SEED = "seed"
    CREATE = "create"
    REPLACE = "replace"
    CONFIGURE = "configure"
    PUT_FACT = "put_fact"
    REMOVE_FACT = "remove_fact"
    PROMOTE = "promote"
    IMPORT = "import"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of an animal's history. `fields` are dotted paths, none where all of the animal came or went.

    `by` is a username, or `PACKAGE`, or `COMMAND_LINE`. The store gives the `version`.
    """

    document_id: str
    operation: Operation
    by: str
    at: datetime
    fields: tuple[str, ...] = ()
    version: int = 0


@dataclass(frozen=True, slots=True)
class Draft:
    """A changed document beside the live one, of which `based_on` is the version. No visitor ever sees it."""

    document_id: str
    document: Document
    based_on: int
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DocumentChanges:
    """What changed: the animals as they are now, None for one that is gone. `version` is that of the last change."""

    version: int
    documents: Mapping[str, VersionedDocument | None]


def find_changed_fields(before: Document, after: Document) -> tuple[str, ...]:
    """Where two documents differ. Facts are told apart by their ids, whatever their order.

    >>> changed_fields(
    ...     {"name": "Leo", "voice": {"sound": "Roar!"}, "facts": [{"id": "mane", "say": "Soft!"}]},
    ...     {"name": "Leo", "voice": {"sound": "Purr!"}, "facts": [{"id": "tail"}, {"id": "mane", "say": "Golden!"}]},
    ... )
    ('voice.sound', 'facts.mane.say', 'facts.tail')
    """
    found = tuple(_find_differences(_key_facts_by_id(before), _key_facts_by_id(after), ""))
    is_only_order = not found and before["facts"] != after["facts"]
    return ("facts",) if is_only_order else found


def _key_facts_by_id(document: Document) -> dict[str, Any]:
    return {**document, "facts": {fact["id"]: fact for fact in document["facts"]}}


def _find_differences(before: object, after: object, path: str) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys([*before, *after]):
            yield from _find_differences(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
    elif before != after:
        yield path
