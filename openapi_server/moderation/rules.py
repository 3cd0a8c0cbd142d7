"""Rules as values: what is looked for, for whom, and what happens then. `files` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from openapi_server.models.animal import Animal
from openapi_server.models.document import Document
from openapi_server.models.turn import AgeGroup


class Strength(StrEnum):
    """How a rule binds. The first two leave nobody a choice; the others are for a mind to weigh."""

    ALWAYS = "ALWAYS"
    NEVER = "NEVER"
    ENCOURAGE = "ENCOURAGE"
    DISCOURAGE = "DISCOURAGE"

    @property
    def rank(self) -> int:
        """0 for the strongest."""
        return list(Strength).index(self)


class Action(StrEnum):
    """What a rule does when it matches.

    words: fixed words are said instead of an answer. flag: the answer is given, and the turn is marked. mask: what was
    found is replaced. guidance: the mind is told how to answer. withhold: the sentence is not sent (for replies only).
    """

    WORDS = "words"
    FLAG = "flag"
    MASK = "mask"
    GUIDANCE = "guidance"
    WITHHOLD = "withhold"


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom a rule is for: age bands from the youngest to the oldest, both included; no animals means all of them."""

    youngest: AgeGroup = AgeGroup.PRESCHOOL
    oldest: AgeGroup = AgeGroup.ADULT
    animals: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    def includes(self, animal: Animal, age_group: AgeGroup) -> bool:
        is_of_age = self.youngest.rank <= age_group.rank <= self.oldest.rank
        is_for_all = not self.animals and not self.groups
        return is_of_age and (is_for_all or animal.animal_id in self.animals or animal.group in self.groups)


@dataclass(frozen=True, slots=True)
class Wording:
    """Fixed words by age: each text holds from its band up to the next one that has its own."""

    texts: Mapping[AgeGroup, str]

    def get_text(self, age_group: AgeGroup, animal: Animal) -> str:
        """For a band below the first one, too, for there must be words."""
        fitting = [text for band, text in self.texts.items() if band.rank <= age_group.rank]
        return (fitting[-1] if fitting else next(iter(self.texts.values()))).format(animal=animal.name)


class SearchPattern(Protocol):
    """What finds something in a text: one of Python's expressions, or one that keepers wrote."""

    def search(self, text: str, /) -> object | None: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `pattern` None: it holds for every text. `replacement`: what a mask puts in place of what it found.

    `is_kept`: keepers wrote it. `is_own`: and in no packaged rule's place. So it may add to what those do, which were
    held against thousands of texts, and never keep one of them from doing it.
    """

    name: str
    strength: Strength
    category: str
    action: Action
    priority: int = 0
    pattern: SearchPattern | None = None
    audience: Audience = Audience()
    wording: Wording | None = None
    guidance: str = ""
    replacement: str = ""
    is_from_keepers: bool = False
    is_additional: bool = False

    def matches(self, readings: Sequence[str]) -> bool:
        return self.pattern is None or any(self.pattern.search(text) for text in readings)


@dataclass(frozen=True, slots=True)
class RuleCollection:
    """All rules of a file, the most urgent first, and the words that are worth a disguise.

    `documents` are the rules as they stand in the file; `terms` what their patterns share.
    """

    rules: tuple[Rule, ...]
    wordings: Mapping[str, Wording] = field(default_factory=dict)
    strong_words: tuple[str, ...] = ()
    small_words: tuple[str, ...] = ()
    terms: Mapping[str, str] = field(default_factory=dict)
    documents: tuple[Document, ...] = ()

    def select_rules(self, *actions: Action) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.action in actions)
