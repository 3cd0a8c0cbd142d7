"""The rules that a visitor's message is held against, before the animal thinks about it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from openapi_server.animals import Animal
from openapi_server.interfaces import Verdict
from openapi_server.turn import AgeGroup, Moderation

RULES_FILE = Path(__file__).with_name("rules.yaml")

# Phones write curly quotes.
_STRAIGHTEN = str.maketrans(dict.fromkeys("’‘´`", "'"))
_TERM = re.compile(r"<(\w+)>")


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
        file = yaml.safe_load(path.read_text(encoding="utf-8"))
        terms = file.get("terms", {})
        return cls(tuple(_rule(entry, terms) for entry in file["rules"]))

    async def check(self, message: str, animal: Animal, age_group: AgeGroup) -> Verdict:
        text = as_read(message)
        for rule in self._rules:
            if rule.pattern.search(text):
                words = rule.words.format(animal=animal.name) if rule.is_blocking else None
                return Verdict(Moderation(flagged=True, categories=(rule.category,)), words)
        return Verdict()


def as_read(message: str) -> str:
    """The message as a person reads it: lower case, plain letters, single blanks, nothing invisible.

    >>> as_read("I’m \\u200blost,  ＬＥＯ")
    "i'm lost, leo"
    """
    plain = unicodedata.normalize("NFKC", message.translate(_STRAIGHTEN))
    # Cf: zero width, soft hyphens, marks of direction. Children hide words between them.
    visible = "".join(letter for letter in plain if unicodedata.category(letter) != "Cf")
    return " ".join(visible.casefold().split())


def _rule(entry: Mapping[str, object], terms: Mapping[str, str]) -> Rule:
    patterns = entry["patterns"]
    if not isinstance(patterns, list) or entry["action"] not in ("block", "flag"):
        raise ValueError(f"rule {entry.get('category')!r}: `patterns` is a list, `action` is block or flag")
    either = "|".join(f"(?:{_spelled_out(pattern, terms)})" for pattern in patterns)
    return Rule(
        category=str(entry["category"]),
        is_blocking=entry["action"] == "block",
        pattern=re.compile(rf"(?<!\w)(?:{either})(?!\w)"),
        words=str(entry.get("words", "")),
    )


def _spelled_out(pattern: str, terms: Mapping[str, str]) -> str:
    """The pattern with its terms, and theirs, put in."""
    return _TERM.sub(lambda name: f"(?:{_spelled_out(terms[name[1]], terms)})", pattern)
