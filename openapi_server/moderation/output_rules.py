"""What an animal says, held against the rules for replies, sentence by sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from openapi_server.models.animal import Animal
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.moderation.normalize import list_variants
from openapi_server.moderation.output_buffer import split_sentences
from openapi_server.moderation.pii.mask import find_kinds
from openapi_server.moderation.prompt_leaks import PromptLeakDetector
from openapi_server.moderation.rule_files import read_rules
from openapi_server.moderation.rules import Action, Rule, RuleCollection
from openapi_server.moderation.segmentation import WordSegmenter

REPLIES_FILE = Path(__file__).with_name("output_rules.yaml")

_WITHHELD = "withheld"
# Verdicts are remembered by fingerprints: nothing that was said stays in memory for it.
_MAX_CACHED = 4096


class OutputRules:
    """Finds what must not be said: by rule, by personal data, by the prompt's secrets."""

    def __init__(self, book: RuleCollection) -> None:
        if _WITHHELD not in book.wordings:
            raise ValueError(
                f"the rules for replies need the wordings {_WITHHELD!r}: they are said when a reply is cut"
            )
        self._rules = book.select_rules(Action.WITHHOLD)
        self._wording = book.wordings[_WITHHELD]
        self._segmenter = WordSegmenter(book.strong_words, book.small_words)
        # The offline voice says the same again and again, and judging a long reply takes milliseconds.
        self._cache: dict[bytes, str | None] = {}

    @classmethod
    def load(cls, path: Path = REPLIES_FILE) -> OutputRules:
        return cls(read_rules(path))

    def find_violation(
        self, text: str, confidential: PromptLeakDetector | None = None, prompt: Prompt | None = None
    ) -> str | None:
        """The category of the gravest thing that is wrong with the text; None when it may be said.

        Without a prompt: to anybody, by any animal.
        """
        if confidential is not None and confidential.is_leaked_in(text):
            return "prompt_injection"
        rules = tuple(rule for rule in self._rules if prompt is None or _applies_to(rule, prompt))
        key = _hash_key(text, rules)
        if key not in self._cache:
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            self._cache[key] = self._find_category(text, rules)
        return self._cache[key]

    def build_check(self, prompt: Prompt) -> Callable[[str], str | None]:
        """The check of one reply, as `HoldBack` wants it: what the mind was told in confidence must not come out."""
        confidential = PromptLeakDetector(prompt.canary, prompt.rules)
        return lambda text: self.find_violation(text, confidential, prompt)

    def find_matching_rules(self, text: str, prompt: Prompt) -> tuple[str, ...]:
        """The names of all rules that find something in it."""
        return tuple(
            rule.name for rule in self._find_matches(text, [rule for rule in self._rules if _applies_to(rule, prompt)])
        )

    def get_safe_words(self, animal: Animal, age_group: AgeGroup) -> str:
        """What the animal says in place of what was withheld."""
        return self._wording.get_text(age_group, animal)

    def _find_category(self, text: str, rules: Sequence[Rule]) -> str | None:
        category = next((rule.category for rule in self._find_matches(text, rules)), None)
        # As on a screen, where the end of a line is a blank.
        return category or ("personal_data" if find_kinds(" ".join(text.split())) else None)

    def _find_matches(self, text: str, rules: Sequence[Rule]) -> Iterator[Rule]:
        """Keepers' rules are held against each sentence alone: the first of two would have left before the second."""
        whole = list_variants(text, self._segmenter)
        yield from (rule for rule in rules if not rule.is_from_keepers and rule.matches(whole))
        kept = [rule for rule in rules if rule.is_from_keepers]
        said = [list_variants(sentence, self._segmenter) for sentence in split_sentences(text)] if kept else []
        yield from (rule for rule in kept if any(rule.matches(texts) for texts in said))


def _hash_key(text: str, rules: Sequence[Rule]) -> bytes:
    return hashlib.sha256("\0".join((*(rule.name for rule in rules), text)).encode("utf-8", "surrogatepass")).digest()


def _applies_to(rule: Rule, prompt: Prompt) -> bool:
    return rule.audience.includes(prompt.animal, prompt.age_group)
