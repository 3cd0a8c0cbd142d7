"""Ruling: the rules that keepers wrote, as documents with versions, and who changed them. Values only.

What the members of a document mean is `safety/`'s business; here it is JSON with a `name`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

# A rule as a rules file has it: texts, numbers, truths, and lists and mappings of texts.
RuleDocument = Mapping[str, Any]

# How many rules of their own keepers may have: every one of them is held against every message.
MAX_RULES = 200


class RuleOperation(StrEnum):
    """What was done with a rule."""

    CREATE = "create"
    REPLACE = "replace"
    IMPORT = "import"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class RuleChange:
    """Who changes which rule, when. `by` is a username, or `keeping.COMMAND_LINE`."""

    name: str
    operation: RuleOperation
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class VersionedRule:
    """A keepers' rule. `version` is the number of the change that wrote it, and never comes twice in one store."""

    name: str
    version: int
    document: RuleDocument
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RuleChanges:
    """All rules of the keepers, by name, after the change with that number; 0: there never was one."""

    version: int
    rules: tuple[VersionedRule, ...]


@dataclass(frozen=True, slots=True)
class ListedRule:
    """A rule as keepers see it: the document that holds, and where it comes from.

    `kept` None: nobody here has changed it. `is_packaged`: the server comes with a rule of this name.
    """

    name: str
    document: RuleDocument
    is_packaged: bool
    stored: VersionedRule | None = None

    @property
    def version(self) -> int:
        """0 for a rule that is as it came."""
        return self.stored.version if self.stored else 0

    @property
    def is_replacing(self) -> bool:
        return self.is_packaged and self.stored is not None
