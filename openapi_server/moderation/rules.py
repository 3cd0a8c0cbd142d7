"""Rules as values: what is looked for, for which visitors and animals, and what happens then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from openapi_server.linear_regex import Prefilter
from openapi_server.models.animal import Animal
from openapi_server.models.rule import Wording
from openapi_server.models.turn import AgeGroup
from openapi_server.models.versioned_document import Document

_MAX_AUDIENCES = 1_000


class Strength(StrEnum):
    """How strongly a rule binds. ALWAYS and NEVER are orders; ENCOURAGE and DISCOURAGE are preferences for a model."""

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

    words: the visitor gets fixed words in place of an answer. flag: the visitor gets an answer, and the turn is marked.
    mask: what was found is replaced. guidance: the model is told how to answer. withhold: the sentence is not sent
    (only in rules for replies).
    """

    WORDS = "words"
    FLAG = "flag"
    MASK = "mask"
    GUIDANCE = "guidance"
    WITHHOLD = "withhold"


@dataclass(frozen=True, slots=True)
class Audience:
    """The age groups (both ends included) and animals that a rule is for. Neither animals nor groups: all animals."""

    youngest: AgeGroup = AgeGroup.PRESCHOOL
    oldest: AgeGroup = AgeGroup.ADULT
    animals: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    def includes(self, animal: Animal, age_group: AgeGroup) -> bool:
        is_of_age = self.youngest.rank <= age_group.rank <= self.oldest.rank
        return is_of_age and self.includes_animal(animal)

    def includes_animal(self, animal: Animal) -> bool:
        is_for_all = not self.animals and not self.groups
        return is_for_all or animal.animal_id in self.animals or animal.group in self.groups


class SearchPattern(Protocol):
    """A pattern: of `linear_regex`, or one that keepers wrote (`keeper_patterns`). The result is truthy or not."""

    def search(self, text: str, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `pattern` None: it matches every text. `replacement`: what a mask puts in place of what it finds.

    `is_from_keepers`: keepers wrote it. `is_additional`: and it replaces no packaged rule. Such a rule comes after all
    packaged ones, which were tested with thousands of texts, so it can add to them and never overrule them.
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

    def matches(self, variants: Sequence[str]) -> bool:
        return self.pattern is None or any(self.pattern.search(text) for text in variants)


class RuleList:
    """Rules in their order: those for an animal and an age group, and those of them that match a text."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._prefilter = Prefilter(rule.pattern for rule in self.rules)
        self._selected: dict[tuple[AgeGroup, str, str], tuple[Rule, ...]] = {}

    def prepare(self) -> None:
        """What the first text would wait for."""
        self._prefilter.prepare()

    def select(self, animal: Animal, age_group: AgeGroup) -> tuple[Rule, ...]:
        """The rules for them. Listed once, not for each text."""
        key = (age_group, animal.animal_id, animal.group)
        selected = self._selected.get(key)
        if selected is None:
            selected = tuple(rule for rule in self.rules if rule.audience.includes(animal, age_group))
            if len(self._selected) >= _MAX_AUDIENCES:
                self._selected.clear()
            self._selected[key] = selected
        return selected

    def iterate_matches(self, variants: Sequence[str], animal: Animal, age_group: AgeGroup) -> Iterator[Rule]:
        """The rules for them that match a variant, or have no pattern."""
        numbers = {number for text in variants for number in self._prefilter.list_candidates(text)}
        for number in sorted(numbers):
            rule = self.rules[number]
            if rule.audience.includes(animal, age_group) and rule.matches(variants):
                yield rule


@dataclass(frozen=True, slots=True)
class RuleCollection:
    """The rules of a file, the most urgent first.

    `wordings`: fixed words by name. `strong_words` and `small_words`: see `WordSegmenter`. `terms`: alternatives that
    patterns share. `documents`: the rules as they are in the file.
    """

    rules: tuple[Rule, ...]
    wordings: Mapping[str, Wording] = field(default_factory=dict)
    strong_words: tuple[str, ...] = ()
    small_words: tuple[str, ...] = ()
    terms: Mapping[str, str] = field(default_factory=dict)
    documents: tuple[Document, ...] = ()

    def select_rules(self, *actions: Action) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.action in actions)
