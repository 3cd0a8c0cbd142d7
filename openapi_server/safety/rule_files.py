"""Read rules from YAML, strictly. What is wrong stops the start, and names the rule and the field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import yaml

from openapi_server.safety.rule_fields import Fields, RuleFileError
from openapi_server.safety.rules import Action, Audience, Rule, RuleBook, Strength, Wording
from openapi_server.turn import AgeGroup

__all__ = ["RuleFileError", "read_rules"]

_Choice = TypeVar("_Choice", bound=StrEnum)

# libyaml reads the rules in a tenth of the time.
_YAML_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TERM = re.compile(r"<(\w+)>")
_PLACEHOLDER = re.compile(r"{(?!animal})|}(?<!{animal})")
_NOBODY = "(the whole file)"


def read_rules(file: Path) -> RuleBook:
    """The rules of one file, highest priority first; of equals, the stronger, then the one that stands first."""
    top = Fields(file, _NOBODY, _parsed(file))
    terms = _texts_by_name(Fields(file, "terms", top.value("terms", {})))
    wordings = _wordings(file, top.value("wordings", {}))
    entries = top.value("rules")
    if not isinstance(entries, list) or not entries:
        raise top.error("rules", "must be a list that is not empty")
    rules = [_rule(Fields(file, _name_of(entry, at), entry), terms, wordings) for at, entry in enumerate(entries)]
    book = RuleBook(
        rules=tuple(sorted(rules, key=lambda rule: (-rule.priority, rule.strength.rank))),
        wordings=wordings,
        strong_words=_words(top, "strong_words"),
        small_words=_words(top, "small_words"),
    )
    _check_names(top, rules)
    top.finish()
    return book


def _parsed(file: Path) -> object:
    try:
        text = file.read_text(encoding="utf-8")
        return yaml.load(text, Loader=_YAML_LOADER)  # noqa: S506 - both loaders are the safe ones
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RuleFileError(file, _NOBODY, "(all of it)", f"cannot be read: {error}") from error


def _name_of(entry: object, at: int) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    return f"rule {name!r}" if name else f"rule {at + 1}"


def _check_names(top: Fields, rules: list[Rule]) -> None:
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen:
            raise top.error("rules", f"two of them have the name {rule.name!r}")
        seen.add(rule.name)


def _rule(fields: Fields, terms: Mapping[str, str], wordings: Mapping[str, Wording]) -> Rule:
    action = _choice(fields, "then", Action)
    rule = Rule(
        name=fields.text("name"),
        strength=_choice(fields, "strength", Strength),
        category=fields.text("category"),
        action=action,
        priority=fields.number("priority"),
        pattern=_pattern(fields, terms),
        audience=_audience(fields),
        wording=_wording(fields, wordings) if action is Action.WORDS else None,
        guidance=_line(fields, "guidance") if action is Action.GUIDANCE else "",
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
    whole += _expressions(fields, "patterns", terms)
    either = [rf"(?<!\w)(?:{'|'.join(whole)})(?!\w)"] if whole else []
    either += _expressions(fields, "anywhere", terms)
    return fields.compiled("patterns", "|".join(either)) if either else None


def _expressions(fields: Fields, key: str, terms: Mapping[str, str]) -> list[str]:
    """Each is compiled alone first: a bracket that one leaves open, the next could close."""
    sources = [_spelled_out(fields, pattern, terms) for pattern in fields.texts(key)]
    return [f"(?:{fields.compiled(key, source).pattern})" for source in sources]


def _spelled_out(fields: Fields, pattern: str, terms: Mapping[str, str]) -> str:
    """The pattern with its terms, and theirs, put in."""

    def term(name: re.Match[str]) -> str:
        if name[1] not in terms:
            raise fields.error("patterns", f"there is no term <{name[1]}>")
        # Without it, terms that name each other would be put in for ever.
        rest = {key: value for key, value in terms.items() if key != name[1]}
        return f"(?:{_spelled_out(fields, terms[name[1]], rest)})"

    return _TERM.sub(term, pattern)


def _audience(fields: Fields) -> Audience:
    youngest = _age(fields, "from_age", AgeGroup.PRESCHOOL)
    oldest = _age(fields, "to_age", AgeGroup.ADULT)
    if youngest.rank > oldest.rank:
        raise fields.error("from_age", f"{youngest.value} is older than to_age, {oldest.value}")
    return Audience(youngest, oldest, frozenset(fields.texts("animals")), frozenset(fields.texts("groups")))


def _age(fields: Fields, key: str, default: AgeGroup) -> AgeGroup:
    return _choice(fields, key, AgeGroup) if fields.has(key) else default


def _wording(fields: Fields, wordings: Mapping[str, Wording]) -> Wording:
    name = fields.text("words")
    if name not in wordings:
        raise fields.error("words", f"there are no wordings {name!r}; there are: {', '.join(sorted(wordings))}")
    return wordings[name]


def _wordings(file: Path, entries: object) -> dict[str, Wording]:
    named = Fields(file, "wordings", entries)
    return {name: _by_age(Fields(file, f"wordings {name!r}", named.value(name))) for name in named.names()}


def _by_age(fields: Fields) -> Wording:
    texts = {age_group: _line(fields, age_group.value) for age_group in AgeGroup if fields.has(age_group.value)}
    if AgeGroup.PRESCHOOL not in texts:
        raise fields.error("preschool", "is missing: the youngest need words, and they hold until others do")
    fields.finish()
    return Wording(texts)


def _line(fields: Fields, key: str) -> str:
    """A text for people. {animal} in it is the animal's name; any other brace would be a gap."""
    text = fields.text(key)
    if _PLACEHOLDER.search(text):
        raise fields.error(key, "the only placeholder is {animal}")
    return text


def _words(top: Fields, key: str) -> tuple[str, ...]:
    """Lists of words are written as texts with blanks, which read better than two hundred dashes."""
    return tuple(word for line in top.texts(key) for word in line.split())


def _texts_by_name(fields: Fields) -> dict[str, str]:
    return {name: fields.text(name) for name in fields.names()}
