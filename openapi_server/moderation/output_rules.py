"""What an animal says, held against the rules for replies, sentence by sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from openapi_server.models.animal import Animal, Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.moderation.normalize.spelling import Speller
from openapi_server.moderation.normalize.variants import readings
from openapi_server.moderation.output.output_buffer import sentences
from openapi_server.moderation.output.prompt_leaks import Confidential
from openapi_server.moderation.pii.mask import found_kinds
from openapi_server.moderation.rules.files import read_rules
from openapi_server.moderation.rules.rules import Action, Rule, RuleBook

REPLIES_FILE = Path(__file__).with_name("rules") / "replies.yaml"

_WITHHELD = "withheld"
# Verdicts are remembered by fingerprints: nothing that was said stays in memory for it.
_MOST_KNOWN = 4096


class ReplyRules:
    """Finds what must not be said: by rule, by personal data, by the prompt's secrets."""

    def __init__(self, book: RuleBook) -> None:
        if _WITHHELD not in book.wordings:
            raise ValueError(
                f"the rules for replies need the wordings {_WITHHELD!r}: they are said when a reply is cut"
            )
        self._rules = book.of(Action.WITHHOLD)
        self._wording = book.wordings[_WITHHELD]
        self._speller = Speller(book.strong_words, book.small_words)
        # The offline voice says the same again and again, and judging a long reply takes milliseconds.
        self._known: dict[bytes, str | None] = {}

    @classmethod
    def load(cls, path: Path = REPLIES_FILE) -> ReplyRules:
        return cls(read_rules(path))

    def check(self, text: str, confidential: Confidential | None = None, prompt: Prompt | None = None) -> str | None:
        """The category of the gravest thing that is wrong with the text; None when it may be said.

        Without a prompt: to anybody, by any animal.
        """
        if confidential is not None and confidential.leaks(text):
            return "prompt_injection"
        rules = tuple(rule for rule in self._rules if prompt is None or _is_for(rule, prompt))
        key = _fingerprint(text, rules)
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = self._judged(text, rules)
        return self._known[key]

    def checking(self, prompt: Prompt) -> Callable[[str], str | None]:
        """The check of one reply, as `HoldBack` wants it: what the mind was told in confidence must not come out."""
        confidential = Confidential(prompt.canary, prompt.rules)
        return lambda text: self.check(text, confidential, prompt)

    def matching(self, text: str, prompt: Prompt) -> tuple[str, ...]:
        """The names of all rules that find something in it."""
        return tuple(
            rule.name for rule in self._matching(text, [rule for rule in self._rules if _is_for(rule, prompt)])
        )

    def words(self, animal: Animal, age_group: AgeGroup) -> str:
        """What the animal says in place of what was withheld."""
        return self._wording.text(age_group, animal)

    def _judged(self, text: str, rules: Sequence[Rule]) -> str | None:
        category = next((rule.category for rule in self._matching(text, rules)), None)
        # As on a screen, where the end of a line is a blank.
        return category or ("personal_data" if found_kinds(" ".join(text.split())) else None)

    def _matching(self, text: str, rules: Sequence[Rule]) -> Iterator[Rule]:
        """Keepers' rules are held against each sentence alone: the first of two would have left before the second."""
        whole = readings(text, self._speller)
        yield from (rule for rule in rules if not rule.is_kept and rule.matches(whole))
        kept = [rule for rule in rules if rule.is_kept]
        said = [readings(sentence, self._speller) for sentence in sentences(text)] if kept else []
        yield from (rule for rule in kept if any(rule.matches(texts) for texts in said))


def _fingerprint(text: str, rules: Sequence[Rule]) -> bytes:
    return hashlib.sha256("\0".join((*(rule.name for rule in rules), text)).encode("utf-8", "surrogatepass")).digest()


def _is_for(rule: Rule, prompt: Prompt) -> bool:
    return rule.audience.includes(prompt.animal, prompt.age_group)
