"""Guardrail rules as keepers see them: the packaged ones, and those that keepers wrote, which may replace them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from openapi_server.models.animal import Animal
from openapi_server.models.turn import AgeGroup
from openapi_server.models.versioned_document import Document, VersionedDocument

# How many rules of their own keepers may have: every message is checked against each of them.
MAX_RULES = 200


@dataclass(frozen=True, slots=True)
class ListedRule:
    """A rule in force, as its document, and where it comes from.

    `stored`: what keepers wrote; None for a packaged rule that nobody has changed. `is_packaged`: the server comes with
    a rule of this name.
    """

    name: str
    document: Document
    is_packaged: bool
    stored: VersionedDocument | None = None

    @property
    def version(self) -> int:
        """0 for a packaged rule that nobody has changed."""
        return self.stored.version if self.stored else 0

    @property
    def is_replacing(self) -> bool:
        return self.is_packaged and self.stored is not None


@dataclass(frozen=True, slots=True)
class Wording:
    """Fixed words by age group. Each text is for its age group and those above it, up to the next that has its own."""

    texts: Mapping[AgeGroup, str]

    def get_text(self, age_group: AgeGroup, animal: Animal) -> str:
        """The first text is also for the age groups below it."""
        fitting = [text for band, text in self.texts.items() if band.rank <= age_group.rank]
        return (fitting[-1] if fitting else next(iter(self.texts.values()))).format(animal=animal.name)
