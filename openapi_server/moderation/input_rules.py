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
from openapi_server.moderation.normalize import list_variants, normalize_text
from openapi_server.moderation.pii.mask import MaskedText, MaskPattern, mask_text
from openapi_server.moderation.rule_files import read_rules
from openapi_server.moderation.rules import Action, Rule, RuleCollection
from openapi_server.moderation.segmentation import WordSegmenter
from openapi_server.protocols import Verdict

_T = TypeVar("_T")

__all__ = ["GUIDANCE_FILE", "RULES_FILE", "InputRules", "normalize_text"]

RULES_FILE = Path(__file__).with_name("input_rules.yaml")
GUIDANCE_FILE = Path(__file__).with_name("guidance.yaml")
# 4,000 letters take up to fifty milliseconds, too long for the event loop: fifty earlier messages may come at once.
_MAX_INLINE_CHARS = 500


class InputRules:
    """The first matching rule wins; a rule book has the most urgent first."""

    def __init__(self, book: RuleCollection, guidance: RuleCollection | None = None) -> None:
        self._blocking_rules = book.select_rules(Action.WORDS, Action.FLAG)
        self._segmenter = WordSegmenter(book.strong_words, book.small_words)
        self._guidance_rules = (guidance or book).select_rules(Action.GUIDANCE)
        # What keepers write may take milliseconds, in which RE2 lets other threads run.
        self._is_slow = any(rule.is_from_keepers for rule in (*self._blocking_rules, *self._guidance_rules))
        self._mask_patterns = tuple(
            MaskPattern(rule.category, re.compile(rule.pattern.pattern, re.IGNORECASE | re.MULTILINE), rule.replacement)
            for rule in book.select_rules(Action.MASK)
            if isinstance(rule.pattern, re.Pattern)
        )

    @classmethod
    def load(cls, rules: Path = RULES_FILE, guidance: Path = GUIDANCE_FILE) -> InputRules:
        return cls(read_rules(rules), read_rules(guidance))

    async def check_message(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        rule = await self._run_on_or_off_loop(message, partial(self._find_first_match, message, animal, age_group))
        if rule is None:
            return Verdict()
        words = rule.wording.get_text(age_group, animal) if rule.wording else None
        return Verdict(Moderation(flagged=True, categories=(rule.category,)), words)

    async def check_earlier_message(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        return await self.check_message(message, animal, age_group)

    async def list_guidance(self, animal: Animal, age_group: AgeGroup, message: str = "") -> tuple[str, ...]:
        """What the mind is to be told for this animal, this visitor's age and this message, most urgent first."""
        rules = await self._run_on_or_off_loop(message, partial(self._find_guidance, message, animal, age_group))
        return tuple(f"{rule.strength.value}: {rule.guidance.format(animal=animal.name)}" for rule in rules)

    def find_matching_rules(self, message: str, animal: Animal, age_group: AgeGroup) -> tuple[str, ...]:
        """The names of all rules that find something in it: those that stop or mark a turn, then those that guide."""
        texts = list_variants(message, self._segmenter)
        rules = (rule for rule in (*self._blocking_rules, *self._guidance_rules) if rule.pattern is not None)
        fitting = (rule for rule in rules if rule.audience.includes(animal, age_group))
        return tuple(rule.name for rule in fitting if rule.matches(texts))

    def mask_text(self, text: str) -> MaskedText:
        """The text as it may be stored, logged and told to a mind: without personal data."""
        return mask_text(text, others=self._mask_patterns)

    def mask_pii(self, text: str) -> str:
        return self.mask_text(text).text

    def find_safe_words(self, category: str, animal: Animal, age_group: AgeGroup) -> str | None:
        """The fixed words of a category's most urgent rule; None when no rule has it."""
        rule = next((rule for rule in self._blocking_rules if rule.category == category and rule.wording), None)
        return rule.wording.get_text(age_group, animal) if rule and rule.wording else None

    async def _run_on_or_off_loop(self, message: str, judgement: Callable[[], _T]) -> _T:
        """The judgement of a message, in a thread where the event loop would have to wait for it."""
        is_quick = len(message) <= _MAX_INLINE_CHARS and not self._is_slow
        return judgement() if is_quick else await asyncio.to_thread(judgement)

    def _find_guidance(self, message: str, animal: Animal, age_group: AgeGroup) -> list[Rule]:
        texts = list_variants(message, self._segmenter)
        rules = (rule for rule in self._guidance_rules if rule.audience.includes(animal, age_group))
        return [rule for rule in rules if rule.matches(texts)]

    def _find_first_match(self, message: str, animal: Animal, age_group: AgeGroup) -> Rule | None:
        texts = list_variants(message, self._segmenter)
        for rule in self._blocking_rules:
            if rule.audience.includes(animal, age_group) and rule.matches(texts):
                return rule
        return None
