"""Rules for replies: what no animal says, whatever the model sends. Replies are checked sentence by sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from openapi_server.models.animal import Animal
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.moderation.normalize import WordSegmenter, list_variants
from openapi_server.moderation.output_buffer import TextCheck, split_into_releases
from openapi_server.moderation.pii import find_kinds
from openapi_server.moderation.prompt_leaks import PromptLeakDetector
from openapi_server.moderation.rule_files import read_rules
from openapi_server.moderation.rules import Action, Rule, RuleCollection, RuleList

OUTPUT_RULES_FILE = Path(__file__).with_name("output_rules.yaml")

_WITHHELD = "withheld"
_MAX_CACHED = 4096
_NOT_CHECKED = ""


class OutputRules:
    """Implements `ReplyModerator`. Finds violations of rules, personal data, and leaks of the prompt."""

    def __init__(self, rules: RuleCollection) -> None:
        if _WITHHELD not in rules.wordings:
            raise ValueError(
                f"the rules for replies need the wordings {_WITHHELD!r}: they are said when a reply is cut"
            )
        self._rules = rules.select_rules(Action.WITHHOLD)
        self._rule_list = RuleList(self._rules)
        self._wording = rules.wordings[_WITHHELD]
        self._segmenter = WordSegmenter(rules.strong_words, rules.small_words)
        # The offline provider repeats its sentences, and checking a long reply takes milliseconds. Keys are hashes, so
        # that no reply stays in memory.
        self._cache: dict[bytes, str | None] = {}

    @classmethod
    def load(cls, path: Path = OUTPUT_RULES_FILE) -> OutputRules:
        return cls(read_rules(path))

    def find_violation(
        self, text: str, leaks: PromptLeakDetector | None = None, prompt: Prompt | None = None
    ) -> str | None:
        """The category of the gravest violation in the text, or None. Without a prompt, all rules are checked."""
        rules = self._rules if prompt is None else self._select_rules(prompt)
        return self._find_violation(text, leaks or PromptLeakDetector(), rules, _join_names(rules))

    def build_check(self, prompt: Prompt) -> TextCheck:
        """The check of one reply, for its `OutputBuffer`: also against leaks of this prompt."""
        leaks = PromptLeakDetector(prompt.canary, prompt.rules, prompt.animal.name)
        rules = self._select_rules(prompt)
        names = _join_names(rules)
        return lambda text: self._find_violation(text, leaks, rules, names)

    def _find_violation(self, text: str, leaks: PromptLeakDetector, rules: Sequence[Rule], names: str) -> str | None:
        """`names` are those of the rules."""
        if leaks.is_leaked_in(text):
            return "prompt_injection"
        key = _hash_key(text, names)
        # Threads share the cache: what is there now may be gone at the next look.
        category = self._cache.get(key, _NOT_CHECKED)
        if category == _NOT_CHECKED:
            category = self._find_category(text, rules)
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            self._cache[key] = category
        return category

    def find_matching_rules(self, text: str, prompt: Prompt) -> tuple[str, ...]:
        """The names of all rules that match the text."""
        return tuple(rule.name for rule in self._find_matches(text, self._select_rules(prompt)))

    def _select_rules(self, prompt: Prompt) -> tuple[Rule, ...]:
        return self._rule_list.select(prompt.animal, prompt.age_group)

    def find_broken_rule(
        self, text: str, animal: Animal | None = None, *, may_name_contacts: bool = False
    ) -> str | None:
        """The name of the rule that keepers' words break, at whichever age; "personal-data" where they hold such data.

        Without an animal, rules for any animal count. `may_name_contacts`: the words may hold telephone numbers, as
        those of a helpline.
        """
        rules = [rule for rule in self._rules if animal is None or rule.audience.includes_animal(animal)]
        broken = next(self._find_matches(text, rules), None)
        if broken is not None:
            return broken.name
        return "personal-data" if not may_name_contacts and find_kinds(" ".join(text.split())) else None

    def get_safe_words(self, animal: Animal, age_group: AgeGroup) -> str:
        return self._wording.get_text(age_group, animal)

    def _find_category(self, text: str, rules: Sequence[Rule]) -> str | None:
        category = next((rule.category for rule in self._find_matches(text, rules)), None)
        # Line breaks as blanks, for so they look on a screen.
        return category or ("personal_data" if find_kinds(" ".join(text.split())) else None)

    def _find_matches(self, text: str, rules: Sequence[Rule]) -> Iterator[Rule]:
        """Keepers' rules are matched against single sentences: the first of two leaves before the second is there."""
        variants = list_variants(text, self._segmenter)
        yield from (rule for rule in rules if not rule.is_from_keepers and rule.matches(variants))
        from_keepers = [rule for rule in rules if rule.is_from_keepers]
        sentences = [list_variants(part, self._segmenter) for part in split_into_releases(text)] if from_keepers else []
        yield from (rule for rule in from_keepers if any(rule.matches(sentence) for sentence in sentences))


def _join_names(rules: Sequence[Rule]) -> str:
    return "\0".join([rule.name for rule in rules])


def _hash_key(text: str, names: str) -> bytes:
    return hashlib.sha256(f"{names}\0{text}".encode("utf-8", "surrogatepass")).digest()
