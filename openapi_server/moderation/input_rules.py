"""The moderator: holds a visitor's message against the rules before the animal thinks about it, and guides the mind."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from openapi_server.models.animal import Animal
from openapi_server.models.turn import AgeGroup, Moderation
from openapi_server.moderation.normalize.letters import as_read
from openapi_server.moderation.normalize.spelling import Speller
from openapi_server.moderation.normalize.variants import readings
from openapi_server.moderation.pii.mask import Masked, Pattern, mask
from openapi_server.moderation.rules.files import read_rules
from openapi_server.moderation.rules.rules import Action, Rule, RuleBook
from openapi_server.protocols import Verdict

_T = TypeVar("_T")

__all__ = ["GUIDANCE_FILE", "RULES_FILE", "RuleModerator", "as_read"]

RULES_FILE = Path(__file__).with_name("rules") / "rules.yaml"
GUIDANCE_FILE = Path(__file__).with_name("rules") / "guidance.yaml"
# 4,000 letters take up to fifty milliseconds, too long for the event loop: fifty earlier messages may come at once.
_LONG_LETTERS = 500


class RuleModerator:
    """The first matching rule wins; a rule book has the most urgent first."""

    def __init__(self, book: RuleBook, guidance: RuleBook | None = None) -> None:
        self._stops = book.of(Action.WORDS, Action.FLAG)
        self._speller = Speller(book.strong_words, book.small_words)
        self._guidance = (guidance or book).of(Action.GUIDANCE)
        # What keepers write may take milliseconds, in which RE2 lets other threads run.
        self._is_slow = any(rule.is_kept for rule in (*self._stops, *self._guidance))
        self._masks = tuple(
            Pattern(rule.category, re.compile(rule.pattern.pattern, re.IGNORECASE | re.MULTILINE), rule.replacement)
            for rule in book.of(Action.MASK)
            if isinstance(rule.pattern, re.Pattern)
        )

    @classmethod
    def load(cls, rules: Path = RULES_FILE, guidance: Path = GUIDANCE_FILE) -> RuleModerator:
        return cls(read_rules(rules), read_rules(guidance))

    async def check(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        rule = await self._of(message, partial(self._matching, message, animal, age_group))
        if rule is None:
            return Verdict()
        words = rule.wording.text(age_group, animal) if rule.wording else None
        return Verdict(Moderation(flagged=True, categories=(rule.category,)), words)

    async def check_earlier(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        return await self.check(message, animal, age_group)

    async def guidance(self, animal: Animal, age_group: AgeGroup, message: str = "") -> tuple[str, ...]:
        """What the mind is to be told for this animal, this visitor's age and this message, most urgent first."""
        rules = await self._of(message, partial(self._fitting, message, animal, age_group))
        return tuple(f"{rule.strength.value}: {rule.guidance.format(animal=animal.name)}" for rule in rules)

    def matching(self, message: str, animal: Animal, age_group: AgeGroup) -> tuple[str, ...]:
        """The names of all rules that find something in it: those that stop or mark a turn, then those that guide."""
        texts = readings(message, self._speller)
        rules = (rule for rule in (*self._stops, *self._guidance) if rule.pattern is not None)
        fitting = (rule for rule in rules if rule.audience.includes(animal, age_group))
        return tuple(rule.name for rule in fitting if rule.matches(texts))

    def mask(self, text: str) -> Masked:
        """The text as it may be stored, logged and told to a mind: without personal data."""
        return mask(text, others=self._masks)

    def masked(self, text: str) -> str:
        return self.mask(text).text

    def words(self, category: str, animal: Animal, age_group: AgeGroup) -> str | None:
        """The fixed words of a category's most urgent rule; None when no rule has it."""
        rule = next((rule for rule in self._stops if rule.category == category and rule.wording), None)
        return rule.wording.text(age_group, animal) if rule and rule.wording else None

    async def _of(self, message: str, judgement: Callable[[], _T]) -> _T:
        """The judgement of a message, in a thread where the event loop would have to wait for it."""
        is_quick = len(message) <= _LONG_LETTERS and not self._is_slow
        return judgement() if is_quick else await asyncio.to_thread(judgement)

    def _fitting(self, message: str, animal: Animal, age_group: AgeGroup) -> list[Rule]:
        texts = readings(message, self._speller)
        rules = (rule for rule in self._guidance if rule.audience.includes(animal, age_group))
        return [rule for rule in rules if rule.matches(texts)]

    def _matching(self, message: str, animal: Animal, age_group: AgeGroup) -> Rule | None:
        texts = readings(message, self._speller)
        for rule in self._stops:
            if rule.audience.includes(animal, age_group) and rule.matches(texts):
                return rule
        return None
