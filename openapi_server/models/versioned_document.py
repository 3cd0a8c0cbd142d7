"""Versioned documents: what keepers write about animals and rules, with their history. Values and a comparison.

What the members of a document mean is the business of `knowledge/` (animals) and `moderation/` (rules). Here a document
is JSON with an id. Every change of one kind of document gets the next number, which is the document's version from then
on and its `ETag` on the wire: whoever changes a document says which version they have read (optimistic locking).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from openapi_server.models.errors import VersionMismatch, VersionRequired

# An animal or a rule as its YAML file has it: mappings, lists, texts, numbers and booleans.
Document = Mapping[str, Any]

# Who changes documents without an account. No username has brackets.
PACKAGE, COMMAND_LINE = "(package)", "(command line)"


@dataclass(frozen=True, slots=True)
class VersionedDocument:
    """A stored document. `version` is the number of the change that wrote it; `by` and `at` say who and when.

    No version is used twice for one kind of document, not even after a deletion.
    """

    document_id: str
    version: int
    document: Document
    by: str
    at: datetime


class ChangeKind(StrEnum):
    """What was done to a document. The values are stored and sent."""

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
    """One entry of a document's history.

    `fields`: dotted paths of what differs; empty when the whole document was created or deleted. `by`: a username,
    `PACKAGE` or `COMMAND_LINE`. `version`: given by the store, 0 before.
    """

    document_id: str
    operation: ChangeKind
    by: str
    at: datetime
    fields: tuple[str, ...] = ()
    version: int = 0


@dataclass(frozen=True, slots=True)
class Draft:
    """A changed document beside the live one, made from version `based_on` of it. Visitors never see it."""

    document_id: str
    document: Document
    based_on: int
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DocumentChanges:
    """The documents that changed since some version, by id and in that order; None for one that was deleted.

    `version`: that of the last change, with which to ask for the next ones.
    """

    version: int
    documents: Mapping[str, VersionedDocument | None]

    @property
    def existing(self) -> tuple[VersionedDocument, ...]:
        """Without those that were deleted."""
        return tuple(stored for stored in self.documents.values() if stored is not None)


@dataclass(frozen=True, slots=True)
class DocumentEdit:
    """Who wants to change which document, and on which condition.

    `expected_versions`: those that they have read (`If-Match`); None: any. `has_no_condition`: they name none, which is
    enough for a new document only. `must_be_new`: the document must not exist yet (`If-None-Match: *`).
    """

    document_id: str
    by: str
    expected_versions: frozenset[int] | None = None
    has_no_condition: bool = False
    must_be_new: bool = False

    def require_condition(self) -> None:
        """Raise `VersionRequired` where they do not say which version they have read."""
        if self.has_no_condition:
            raise VersionRequired("Send If-Match with the ETag that you read last.")

    def require_expected(self, version: int, noun: str) -> None:
        """Raise `VersionMismatch` when the document is at a version that they have not read. `noun`: what it is."""
        if self.expected_versions is not None and version not in self.expected_versions:
            raise VersionMismatch(f"Read the {noun} again, and make your change to what it is now.")

    def make_change(self, operation: ChangeKind, at: datetime, fields: tuple[str, ...] = ()) -> Change:
        return Change(self.document_id, operation, self.by, at, fields)


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did with a document. `operation`: `CREATE`, `REPLACE`, or None where nothing had to be changed.

    `fields`: dotted paths of what was changed, where that is compared.
    """

    document_id: str
    operation: ChangeKind | None
    fields: tuple[str, ...] = ()


def require_written(stored: VersionedDocument | None) -> VersionedDocument:
    """What the store has written. It writes nothing when the document has changed meanwhile: `VersionMismatch`."""
    if stored is None:
        raise VersionMismatch
    return stored


def find_changed_fields(before: Document, after: Document) -> tuple[str, ...]:
    """The dotted paths at which two animals' documents differ. Facts are compared by id, whatever their order.

    >>> find_changed_fields(
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
