"""The rules that a visitor's message is held against, before the animal thinks about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from openapi_server.animals import Animal
from openapi_server.interfaces import Verdict
from openapi_server.turn import AgeGroup, Moderation

RULES_FILE = Path(__file__).with_name("rules.yaml")

# Phones write curly quotes, and children hide words between invisible characters.
_STRAIGHTEN = str.maketrans(
    {"’": "'", "‘": "'", "´": "'", "`": "'"} | dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad")
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing to look for, and what the animal says instead of an answer when it is found."""

    category: str
    is_blocking: bool
    pattern: re.Pattern[str]
    words: str


class RuleModerator:
    """First matching rule wins; the file lists the gravest first."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._rules = rules

    @classmethod
    def load(cls, path: Path = RULES_FILE) -> RuleModerator:
        return cls(tuple(_rule(entry) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))))

    async def check(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        text = " ".join(message.translate(_STRAIGHTEN).casefold().split())
        for rule in self._rules:
            if rule.pattern.search(text):
                words = rule.words.format(animal=animal.name) if rule.is_blocking else None
                return Verdict(Moderation(flagged=True, categories=(rule.category,)), words)
        return Verdict()


def _rule(entry: dict[str, object]) -> Rule:
    patterns = entry["patterns"]
    if not isinstance(patterns, list) or entry["action"] not in ("block", "flag"):
        raise ValueError(f"rule {entry.get('category')!r}: `patterns` is a list, `action` is block or flag")
    either = "|".join(f"(?:{pattern})" for pattern in patterns)
    return Rule(
        category=str(entry["category"]),
        is_blocking=entry["action"] == "block",
        pattern=re.compile(rf"(?<!\w)(?:{either})(?!\w)"),
        words=str(entry.get("words", "")),
    )
