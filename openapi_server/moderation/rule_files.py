"""Read rules from YAML, strictly. What is wrong stops the start, and names the rule and the field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import yaml

from openapi_server.models.turn import AgeGroup
from openapi_server.moderation.rule_fields import Fields, RuleFileError
from openapi_server.moderation.rules import (
    Action,
    Audience,
    Rule,
    RuleCollection,
    SearchPattern,
    Strength,
    Wording,
)

__all__ = [
    "Grammar",
    "RuleFileError",
    "in_order",
    "name_of",
    "packaged_pattern",
    "read_rule",
    "read_rules",
    "spelled_out",
]

_Choice = TypeVar("_Choice", bound=StrEnum)

# libyaml reads the rules in a tenth of the time.
_YAML_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TERM = re.compile(r"<(\w+)>")
_PLACEHOLDER = re.compile(r"{(?!animal})|}(?<!{animal})")
_NOBODY = "(the whole file)"


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a rule may refer to, and how what it looks for is read: `pattern` takes the keys that are about it.

    `longest`: the most characters that a text for people may have; None: as many as it likes.
    """

    terms: Mapping[str, str]
    wordings: Mapping[str, Wording]
    pattern: Callable[[Fields, Mapping[str, str]], SearchPattern | None]
    longest: int | None = None


def read_rules(file: Path) -> RuleCollection:
    """The rules of one file, highest priority first; of equals, the stronger, then the one that stands first."""
    top = Fields(file, _NOBODY, _parsed(file))
    terms = _texts_by_name(Fields(file, "terms", top.value("terms", {})))
    wordings = _wordings(file, top.value("wordings", {}))
    entries = top.value("rules")
    if not isinstance(entries, list) or not entries:
        raise top.error("rules", "must be a list that is not empty")
    grammar = Grammar(terms, wordings, _pattern)
    rules = [read_rule(Fields(file, name_of(entry, at), entry), grammar) for at, entry in enumerate(entries)]
    book = RuleCollection(
        rules=in_order(rules),
        wordings=wordings,
        terms=terms,
        documents=tuple(entries),
        strong_words=_words(top, "strong_words"),
        small_words=_words(top, "small_words"),
    )
    _check_names(top, rules)
    top.finish()
    return book


def in_order(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The most urgent first. Keepers' own come last, for the first that matches is the one that counts."""
    return tuple(sorted(rules, key=lambda rule: (rule.is_additional, -rule.priority, rule.strength.rank)))


def _parsed(file: Path) -> object:
    try:
        text = file.read_text(encoding="utf-8")
        return yaml.load(text, Loader=_YAML_LOADER)  # noqa: S506 - both loaders are the safe ones
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RuleFileError(file, _NOBODY, "(all of it)", f"cannot be read: {error}") from error


def name_of(entry: object, at: int) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    return f"rule {name!r}" if name else f"rule {at + 1}"


def _check_names(top: Fields, rules: list[Rule]) -> None:
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen:
            raise top.error("rules", f"two of them have the name {rule.name!r}")
        seen.add(rule.name)


def read_rule(fields: Fields, grammar: Grammar) -> Rule:
    """One rule, whoever wrote it. `RuleFileError` names the field that is wrong."""
    action = _choice(fields, "then", Action)
    rule = Rule(
        name=fields.text("name"),
        strength=_choice(fields, "strength", Strength),
        category=fields.text("category"),
        action=action,
        priority=fields.number("priority"),
        pattern=grammar.pattern(fields, grammar.terms),
        audience=_audience(fields),
        wording=_wording(fields, grammar) if action is Action.WORDS else None,
        guidance=_line(fields, "guidance", grammar.longest) if action is Action.GUIDANCE else "",
        replacement=_line(fields, "replacement") if action is Action.MASK else "",
    )
    if rule.pattern is None and action is not Action.GUIDANCE:
        raise fields.error("patterns", f"a rule without keywords and patterns would {action.value} everything")
    if rule.strength in (Strength.ENCOURAGE, Strength.DISCOURAGE) and action is not Action.GUIDANCE:
        raise fields.error("then", f"what is only {rule.strength.value}d is guidance for the mind")
    fields.finish()
    return rule


def _choice(fields: Fields, key: str, choices: type[_Choice]) -> _Choice:
    value = fields.value(key)
    if value not in list(choices):
        raise fields.error(key, f"{value!r} is not one of: {', '.join(choices)}")
    return choices(str(value))


def _pattern(fields: Fields, terms: Mapping[str, str]) -> re.Pattern[str] | None:
    """One expression of all keywords (texts) and patterns (expressions), on word borders unless `anywhere`."""
    whole = [re.escape(word.casefold()) for word in fields.texts("keywords")]
    whole += [spelled_out(fields, pattern, terms) for pattern in fields.texts("patterns")]
    inside = [spelled_out(fields, pattern, terms) for pattern in fields.texts("anywhere")]
    return packaged_pattern(fields, whole, inside) if whole or inside else None


def packaged_pattern(fields: Fields, whole: Sequence[str], inside: Sequence[str]) -> re.Pattern[str]:
    """One expression of several, each compiled alone first: a bracket that one leaves open, the next could close."""
    words = "|".join(f"(?:{fields.compiled('patterns', source).pattern})" for source in whole)
    either = [rf"(?<!\w)(?:{words})(?!\w)"] if whole else []
    either += [f"(?:{fields.compiled('anywhere', source).pattern})" for source in inside]
    return fields.compiled("patterns", "|".join(either))


def spelled_out(fields: Fields, pattern: str, terms: Mapping[str, str]) -> str:
    """The pattern with its terms, and theirs, put in."""

    def term(name: re.Match[str]) -> str:
        if name[1] not in terms:
            raise fields.error("patterns", f"there is no term <{name[1]}>")
        # Without it, terms that name each other would be put in for ever.
        rest = {key: value for key, value in terms.items() if key != name[1]}
        return f"(?:{spelled_out(fields, terms[name[1]], rest)})"

    return _TERM.sub(term, pattern)


def _audience(fields: Fields) -> Audience:
    youngest = _age(fields, "from_age", AgeGroup.PRESCHOOL)
    oldest = _age(fields, "to_age", AgeGroup.ADULT)
    if youngest.rank > oldest.rank:
        raise fields.error("from_age", f"{youngest.value} is older than to_age, {oldest.value}")
    return Audience(youngest, oldest, frozenset(fields.texts("animals")), frozenset(fields.texts("groups")))


def _age(fields: Fields, key: str, default: AgeGroup) -> AgeGroup:
    return _choice(fields, key, AgeGroup) if fields.has(key) else default


def _wording(fields: Fields, grammar: Grammar) -> Wording:
    """Texts by age, or the name of such as the file has."""
    if fields.is_mapping("words"):
        return _by_age(fields.section("words"), grammar.longest)
    name, wordings = fields.text("words"), grammar.wordings
    if name not in wordings:
        raise fields.error("words", f"there are no wordings {name!r}; there are: {', '.join(sorted(wordings))}")
    return wordings[name]


def _wordings(file: Path, entries: object) -> dict[str, Wording]:
    named = Fields(file, "wordings", entries)
    return {name: _by_age(Fields(file, f"wordings {name!r}", named.value(name))) for name in named.names()}


def _by_age(fields: Fields, longest: int | None = None) -> Wording:
    given = [age_group for age_group in AgeGroup if fields.has(age_group.value)]
    texts = {age_group: _line(fields, age_group.value, longest) for age_group in given}
    if AgeGroup.PRESCHOOL not in texts:
        raise fields.error("preschool", "is missing: the youngest need words, and they hold until others do")
    fields.finish()
    return Wording(texts)


def _line(fields: Fields, key: str, longest: int | None = None) -> str:
    """A text for people. {animal} in it is the animal's name; any other brace would be a gap."""
    text = fields.text(key)
    if _PLACEHOLDER.search(text):
        raise fields.error(key, "the only placeholder is {animal}")
    if longest is not None and len(text) > longest:
        raise fields.error(key, f"must be at most {longest} characters long")
    return text


def _words(top: Fields, key: str) -> tuple[str, ...]:
    """Lists of words are written as texts with blanks, which read better than two hundred dashes."""
    return tuple(word for line in top.texts(key) for word in line.split())


def _texts_by_name(fields: Fields) -> dict[str, str]:
    return {name: fields.text(name) for name in fields.names()}
