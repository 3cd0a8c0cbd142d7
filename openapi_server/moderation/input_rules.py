"""Rules for visitors' messages: which are not answered, which are marked, and what the model is told about the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

from openapi_server.linear_regex import Pattern
from openapi_server.models.animal import Animal
from openapi_server.models.turn import AgeGroup, Moderation
from openapi_server.moderation.normalize import WordSegmenter, list_variants
from openapi_server.moderation.pii import MaskedText, MaskPattern, mask_text, prepare_patterns
from openapi_server.moderation.rule_files import read_rules
from openapi_server.moderation.rules import Action, Rule, RuleCollection, RuleList, Strength
from openapi_server.protocols import Verdict
from openapi_server.worker_threads import run_inline

_T = TypeVar("_T")

INPUT_RULES_FILE = Path(__file__).with_name("input_rules.yaml")
GUIDANCE_FILE = Path(__file__).with_name("guidance.yaml")
# 4,000 characters take up to 50 ms, too long for the event loop: fifty earlier messages may come with one request.
_MAX_INLINE_CHARS = 500


class InputRules:
    """Implements `Moderator`. The first matching rule wins; `rules` have the most urgent first.

    `guidance`: where the guidance rules are, when not among the `rules`.
    """

    def __init__(self, rules: RuleCollection, guidance: RuleCollection | None = None) -> None:
        blocking_rules = rules.select_rules(Action.WORDS, Action.FLAG)
        guidance_rules = (guidance or rules).select_rules(Action.GUIDANCE)
        self._rules = RuleList((*blocking_rules, *guidance_rules))
        self._segmenter = WordSegmenter(rules.strong_words, rules.small_words)
        # A pattern of keepers may take milliseconds; RE2 releases the interpreter lock, so a thread helps.
        self._is_slow = any(rule.is_from_keepers for rule in self._rules.rules)
        self._mask_patterns = tuple(
            MaskPattern(rule.category, rule.pattern, rule.replacement)
            for rule in rules.select_rules(Action.MASK)
            if isinstance(rule.pattern, Pattern)
        )

    @classmethod
    def load(cls, rules: Path = INPUT_RULES_FILE, guidance: Path = GUIDANCE_FILE) -> InputRules:
        return cls(read_rules(rules), read_rules(guidance))

    def prepare(self) -> None:
        """What the first message would wait for. A thread may do it: until it is done, messages are read without it."""
        prepare_patterns()
        self._rules.prepare()

    async def check_message(self, message: str, animal: Animal, age_group: AgeGroup, original: str = "") -> Verdict:
        texts = _list_texts(message, original)
        return await self._run(texts, partial(self._check, texts, animal, age_group))

    async def check_earlier_message(
        self, message: str, animal: Animal, age_group: AgeGroup, original: str = ""
    ) -> Verdict:
        return await self.check_message(message, animal, age_group, original)

    async def list_guidance(
        self, animal: Animal, age_group: AgeGroup, message: str = "", original: str = ""
    ) -> tuple[str, ...]:
        texts = _list_texts(message, original)
        return await self._run(texts, partial(self._list_guidance, texts, animal, age_group))

    def find_matching_rules(
        self, message: str, animal: Animal, age_group: AgeGroup, original: str = ""
    ) -> tuple[str, ...]:
        """The names of all rules whose pattern matches: those that block or flag, then those with guidance."""
        matching = self._iterate_matches(_list_texts(message, original), animal, age_group)
        return tuple(rule.name for rule in matching if rule.pattern is not None)

    def mask_text(self, text: str) -> MaskedText:
        """Masks personal data, and what the rules with the action `mask` find."""
        return mask_text(text, others=self._mask_patterns)

    def mask_pii(self, text: str) -> str:
        return self.mask_text(text).text

    def find_safe_words(self, category: str, animal: Animal, age_group: AgeGroup) -> str | None:
        """The fixed words of a category's most urgent rule; None when no rule has any."""
        rule = next((rule for rule in self._rules.rules if rule.category == category and rule.wording), None)
        return rule.wording.get_text(age_group, animal) if rule and rule.wording else None

    async def _run(self, texts: Sequence[str], find: Callable[[], _T]) -> _T:
        """The result of `find`, which takes long for long texts and runs in a thread then."""
        is_fast = sum(map(len, texts)) <= _MAX_INLINE_CHARS and not self._is_slow
        return await (run_inline(find) if is_fast else asyncio.to_thread(find))

    def _iterate_matches(self, texts: Sequence[str], animal: Animal, age_group: AgeGroup) -> Iterator[Rule]:
        variants = [variant for text in texts for variant in list_variants(text, self._segmenter)]
        return self._rules.iterate_matches(variants, animal, age_group)

    def _check(self, texts: Sequence[str], animal: Animal, age_group: AgeGroup) -> Verdict:
        """What blocks or flags comes before all guidance."""
        first: Rule | None = None
        guidance: list[str] = []
        for rule in self._iterate_matches(texts, animal, age_group):
            if rule.action is Action.GUIDANCE:
                guidance.append(_format_guidance(rule.strength, rule.guidance, animal.name))
            elif first is None:
                first = rule
                if rule.wording is not None:
                    break
        if first is None:
            return Verdict(guidance=tuple(guidance))
        words = first.wording.get_text(age_group, animal) if first.wording else None
        return Verdict(Moderation(flagged=True, categories=(first.category,)), words, tuple(guidance))

    def _list_guidance(self, texts: Sequence[str], animal: Animal, age_group: AgeGroup) -> tuple[str, ...]:
        matching = self._iterate_matches(texts, animal, age_group)
        rules = (rule for rule in matching if rule.action is Action.GUIDANCE)
        return tuple(_format_guidance(rule.strength, rule.guidance, animal.name) for rule in rules)


def _list_texts(message: str, original: str) -> tuple[str, ...]:
    """What the rules judge: the masked message and the original, where masks changed it. They may take a cry for help
    for a part of an address or a name."""
    return (message,) if original in ("", message) else (message, original)


@lru_cache(maxsize=1_000)
def _format_guidance(strength: Strength, guidance: str, name: str) -> str:
    return f"{strength.value}: {guidance.format(animal=name)}"
