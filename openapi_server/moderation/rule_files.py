"""The format of rules and of the files that they stand in, and reading them into `Rule` values.

Packaged rules and keepers' rules have one format; `KeepersRule` adds the limits that hold for what keepers write, as
`GuardrailRule` in `openapi.yaml` says them (a test compares the two). What is wrong in a packaged file stops the start.
Every error names the file, the rule and the field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StrictBool,
    Tag,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from openapi_server import linear_regex
from openapi_server.linear_regex import Detector, LinearRegexError, Match, Pattern
from openapi_server.models.rule import Wording
from openapi_server.models.strict_model import (
    StrictModel,
    clean_text,
    explain_choice,
    explain_refusal,
    format_place,
    list_errors,
    make_error,
    quote_value,
    require_list,
    require_no_placeholder,
    require_readable,
)
from openapi_server.models.turn import AgeGroup
from openapi_server.models.versioned_document import Document
from openapi_server.moderation.rules import Action, Audience, Rule, RuleCollection, SearchPattern, Strength
from openapi_server.safe_words import load_safe_words
from openapi_server.yaml_files import UnreadableFileError, load_yaml

MAX_TEXT_CHARS, MAX_ITEM_CHARS, MAX_LIST_ITEMS, MAX_PRIORITY = 600, 1000, 100, 1000
_TERM = linear_regex.compile(r"(?<!P)<(\w+)>")
_NAME, _CATEGORY = r"[a-z][a-z0-9-]{0,63}", r"[a-z][a-z0-9_]{0,63}"
_WHOLE_FILE, _WHOLE_RULE = "(the whole file)", "(all of it)"
_TOO_LONG = "must be at most {} characters long"
# The context in which a stored rule is read.
_STORED = object()
_NO_TEXT = "must be a text that is not empty, is None"
# Members that belong to rules with one action alone.
_MEMBERS_OF_ACTIONS = {"words": Action.WORDS, "guidance": Action.GUIDANCE, "replacement": Action.MASK}

MASKS_ARE_PACKAGED = "masks come with the server: they are held against many formats of personal data"


class RuleFileError(ValueError):
    """A rules file is wrong. Names the file, the rule and the field, for whoever has to correct it."""

    def __init__(self, file: Path, rule: str, field: str, message: str) -> None:
        super().__init__(f"{file.name}: {rule}: {field}: {message}")
        self.rule = rule
        self.field = field
        self.message = message


def _require_texts(value: object) -> object:
    """A bare text in place of a list would be read letter by letter, and match everything."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        raise make_error(f"must be a list of texts that are not empty, is {quote_value(value)}")
    return value


def _check_placeholders(value: str, info: ValidationInfo) -> str:
    if info.context is not _STORED:
        require_no_placeholder(value, "{animal}")
    return value


def _require_integer(value: object) -> object:
    # Pydantic would read true and false, and texts of digits, as numbers.
    if isinstance(value, bool) or not isinstance(value, int):
        raise make_error(f"must be a whole number, is {quote_value(value)}")
    return value


def _refuse_mask(value: Action) -> Action:
    if value is Action.MASK:
        raise make_error(MASKS_ARE_PACKAGED)
    return value


def _escape_braces(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _get_words_kind(value: object) -> str:
    return "[texts]" if isinstance(value, dict) else "[name]"


Text = Annotated[str, BeforeValidator(clean_text)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_require_texts)]
ShortTexts = Annotated[
    tuple[
        Annotated[
            str, Field(pattern=r"\S", max_length=MAX_ITEM_CHARS), explain_refusal(_TOO_LONG.format(MAX_ITEM_CHARS))
        ],
        ...,
    ],
    Field(max_length=MAX_LIST_ITEMS),
    explain_refusal(f"must be at most {MAX_LIST_ITEMS}"),
    BeforeValidator(_require_texts),
]
# A text for people: {animal} in it is the animal's name; any other brace would be a gap.
Line = Annotated[str, AfterValidator(_check_placeholders), BeforeValidator(clean_text)]
OptionalLine = Annotated[Line | None, BeforeValidator(clean_text)]
ShortLine = Annotated[
    str,
    Field(pattern=r"\S", max_length=MAX_TEXT_CHARS),
    explain_refusal(_TOO_LONG.format(MAX_TEXT_CHARS)),
    AfterValidator(_check_placeholders),
    BeforeValidator(clean_text),
]
OptionalShortLine = Annotated[ShortLine | None, BeforeValidator(clean_text)]
Age = Annotated[AgeGroup, explain_choice(AgeGroup)]
RuleAction = Annotated[Action, explain_choice(Action)]


class WordsByAge(StrictModel):
    """A text by age band: each holds up to the next band that has its own."""

    preschool: Line
    elementary: OptionalLine = None
    middle: OptionalLine = None
    high: OptionalLine = None
    adult: OptionalLine = None

    @model_validator(mode="before")
    @classmethod
    def _require_youngest(cls, value: object) -> object:
        if isinstance(value, dict) and "preschool" not in value:
            message = "is missing: the youngest need words, and they hold until others do"
            raise make_error(message, field="preschool")
        return value

    def make_wording(self) -> Wording:
        texts = {age_group: getattr(self, age_group.value) for age_group in AgeGroup}
        return Wording({age_group: text for age_group, text in texts.items() if text is not None})


class ShortWordsByAge(WordsByAge):
    preschool: ShortLine
    elementary: OptionalShortLine = None
    middle: OptionalShortLine = None
    high: OptionalShortLine = None
    adult: OptionalShortLine = None


class PackagedRule(StrictModel):
    """A rule as it stands in a packaged file. Errors come in the order of the fields."""

    then: RuleAction
    name: Text
    strength: Annotated[Strength, explain_choice(Strength)]
    category: Text
    priority: Annotated[int, Field(strict=True), explain_refusal("must be a whole number, is {value!r}")] = 0
    keywords: Texts = ()
    patterns: Texts = ()
    anywhere: Texts = ()
    from_age: Age = AgeGroup.PRESCHOOL
    to_age: Age = AgeGroup.ADULT
    animals: Texts = ()
    groups: Texts = ()
    # The name of wordings of the file, or texts.
    words: Annotated[
        Annotated[Text, Tag("[name]")] | Annotated[WordsByAge, Tag("[texts]")], Discriminator(_get_words_kind)
    ] = ""
    guidance: OptionalLine = None
    replacement: OptionalLine = None


class KeepersRule(PackagedRule):
    """A rule that keepers write: names that can stand in addresses, nothing too long, no masks; can be switched off."""

    then: Annotated[RuleAction, AfterValidator(_refuse_mask)]
    name: Annotated[
        str, Field(pattern=f"^{_NAME}$", max_length=64), explain_refusal(f"must match {_escape_braces(_NAME)}")
    ]
    category: Annotated[
        str, Field(pattern=f"^{_CATEGORY}$", max_length=64), explain_refusal(f"must match {_escape_braces(_CATEGORY)}")
    ]
    priority: Annotated[
        int,
        Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY),
        explain_refusal(f"must be at most {MAX_PRIORITY}, above or below 0"),
        BeforeValidator(_require_integer),
    ] = 0
    keywords: ShortTexts = ()
    patterns: ShortTexts = ()
    anywhere: ShortTexts = ()
    animals: ShortTexts = ()
    groups: ShortTexts = ()
    words: Annotated[
        Annotated[Text, Tag("[name]")] | Annotated[ShortWordsByAge, Tag("[texts]")], Discriminator(_get_words_kind)
    ] = ""
    guidance: OptionalShortLine = None
    enabled: Annotated[StrictBool, explain_refusal("must be true or false, is {value!r}")] = True

    @model_validator(mode="before")
    @classmethod
    def _refuse_unreadable(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, dict) and info.context is not _STORED:
            for key, text in _iterate_texts(value):
                require_readable(text, field=key)
        return value


class RuleFile(StrictModel):
    """A packaged file. `terms` are parts that patterns share; words are listed as texts with blanks between them."""

    terms: dict[str, Text] = Field(default_factory=dict)
    wordings: dict[str, WordsByAge] = Field(default_factory=dict)
    rules: Annotated[tuple[PackagedRule, ...], require_list()]
    strong_words: Texts = ()
    small_words: Texts = ()


@dataclass(frozen=True, slots=True)
class RuleSource:
    """A rule's document, and where it stands."""

    file: Path
    title: str
    document: PackagedRule

    def make_error(self, field: str, message: str) -> RuleFileError:
        return RuleFileError(self.file, self.title, field, message)


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a rule may refer to; `parse_pattern` makes of its keywords and patterns what searches for them."""

    terms: Mapping[str, str]
    wordings: Mapping[str, Wording]
    parse_pattern: Callable[[RuleSource, Mapping[str, str]], SearchPattern | None]


def read_rules(file: Path) -> RuleCollection:
    """The rules of one packaged file, highest priority first; of equals, the stronger, then the one written first."""
    content = load_rule_yaml(file)
    try:
        document = RuleFile.model_validate(content)
    except ValidationError as error:
        raise _make_file_error(file, content, error) from None
    own_wordings = {name: words.make_wording() for name, words in document.wordings.items()}
    wordings = {**load_safe_words(), **own_wordings}
    grammar = Grammar(document.terms, wordings, _parse_pattern)
    rules = [make_rule(RuleSource(file, f"rule {rule.name!r}", rule), grammar) for rule in document.rules]
    _check_names(file, rules)
    return RuleCollection(
        rules=sort_rules(rules),
        wordings=wordings,
        terms=document.terms,
        documents=tuple(content["rules"]),
        strong_words=_split_words(document.strong_words),
        small_words=_split_words(document.small_words),
    )


def load_rule_yaml(file: Path) -> Any:
    try:
        return load_yaml(file)
    except UnreadableFileError as error:
        raise RuleFileError(file, _WHOLE_FILE, _WHOLE_RULE, str(error)) from error


def validate_keepers_rule(document: Document, file: Path, *, is_stored: bool = False) -> RuleSource:
    """`RuleFileError` names the field that is wrong in itself; `make_rule` finds what is wrong together.

    `is_stored`: demands on texts that came after it was written do not take a rule away.
    """
    title = f"rule {str(document.get('name'))[:64]!r}"
    try:
        return RuleSource(file, title, KeepersRule.model_validate(document, context=_STORED if is_stored else None))
    except ValidationError as error:
        place, message = list_errors(error)[0]
        raise RuleFileError(file, title, format_place(place) or _WHOLE_RULE, message) from None


def sort_rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The most urgent first. Keepers' additional rules come last, for the first rule that matches counts."""
    return tuple(sorted(rules, key=lambda rule: (rule.is_additional, -rule.priority, rule.strength.rank)))


def make_rule(source: RuleSource, grammar: Grammar) -> Rule:
    """The rule that a valid document describes. `RuleFileError` names the field that does not fit the others."""
    document = source.document
    rule = Rule(
        name=document.name,
        strength=document.strength,
        category=document.category,
        action=document.then,
        priority=document.priority,
        pattern=grammar.parse_pattern(source, grammar.terms),
        audience=_make_audience(source),
        wording=_find_wording(source, grammar) if document.then is Action.WORDS else None,
        guidance=_require_line(source, "guidance") if document.then is Action.GUIDANCE else "",
        replacement=_require_line(source, "replacement") if document.then is Action.MASK else "",
    )
    if rule.pattern is None and rule.action is not Action.GUIDANCE:
        raise source.make_error("patterns", f"a rule without keywords and patterns would {rule.action} everything")
    if rule.strength in (Strength.ENCOURAGE, Strength.DISCOURAGE) and rule.action is not Action.GUIDANCE:
        raise source.make_error("then", f"what is only {rule.strength}d is guidance for the mind")
    for member, action in _MEMBERS_OF_ACTIONS.items():
        if member in document.model_fields_set and document.then is not action:
            raise source.make_error(member, "is not a key of this format")
    return rule


def compile_packaged_pattern(source: RuleSource, whole: Sequence[str], inside: Sequence[str]) -> Detector:
    """Finds any of the expressions: `whole` on the borders of words, `inside` anywhere."""
    try:
        return linear_regex.compile_detector(whole, inside, linear_regex.MULTILINE)
    except LinearRegexError as error:
        raise source.make_error(_find_wrong_field(whole), f"is no regular expression: {error}") from None


def _find_wrong_field(whole: Sequence[str]) -> str:
    try:
        linear_regex.compile_detector(whole, (), linear_regex.MULTILINE)
    except LinearRegexError:
        return "patterns"
    return "anywhere"


def _compile_mask(source: RuleSource, whole: Sequence[str]) -> Pattern:
    """Finds where one of the expressions is: at one place, the first that matches counts."""
    words = "|".join(f"(?:{expression})" for expression in whole)
    try:
        return linear_regex.compile(rf"(?<!\w)(?:{words})(?!\w)", linear_regex.IGNORECASE | linear_regex.MULTILINE)
    except LinearRegexError as error:
        raise source.make_error("patterns", f"is no regular expression: {error}") from None


def expand_terms(source: RuleSource, pattern: str, terms: Mapping[str, str]) -> str:
    """The pattern with each `<term>` replaced by what it stands for, in which there may be other terms."""

    def expand(name: Match) -> str:
        if name[1] not in terms:
            raise source.make_error("patterns", f"there is no term <{name[1]}>")
        # Without itself, or terms that name each other would be expanded for ever.
        rest = {key: value for key, value in terms.items() if key != name[1]}
        return f"(?:{expand_terms(source, terms[name[1]], rest)})"

    return _TERM.sub(expand, pattern)


def _parse_pattern(source: RuleSource, terms: Mapping[str, str]) -> SearchPattern | None:
    """One expression of all keywords (texts) and patterns (expressions), on word borders unless `anywhere`."""
    document = source.document
    whole = [linear_regex.escape(word.casefold()) for word in document.keywords]
    whole += [expand_terms(source, pattern, terms) for pattern in document.patterns]
    inside = [expand_terms(source, pattern, terms) for pattern in document.anywhere]
    if document.then is Action.MASK and whole:
        return _compile_mask(source, whole)
    return compile_packaged_pattern(source, whole, inside) if whole or inside else None


def _make_audience(source: RuleSource) -> Audience:
    document = source.document
    if document.from_age.rank > document.to_age.rank:
        raise source.make_error("from_age", f"{document.from_age} is older than to_age, {document.to_age}")
    return Audience(document.from_age, document.to_age, frozenset(document.animals), frozenset(document.groups))


def _find_wording(source: RuleSource, grammar: Grammar) -> Wording:
    """Texts by age, or the name of such as the packaged file has."""
    words, wordings = source.document.words, grammar.wordings
    if isinstance(words, WordsByAge):
        return words.make_wording()
    if not words:
        raise source.make_error("words", _NO_TEXT)
    if words not in wordings:
        message = f"there are no wordings {words!r}; there are: {', '.join(sorted(wordings))}"
        raise source.make_error("words", message)
    return wordings[words]


def _require_line(source: RuleSource, field: str) -> str:
    line: str | None = getattr(source.document, field)
    if line is None:
        raise source.make_error(field, _NO_TEXT)
    return line


def _make_file_error(file: Path, content: Any, error: ValidationError) -> RuleFileError:
    """A rule without a name goes by its number, from 1; wordings and terms by what they are."""
    place, message = list_errors(error)[0]
    match place:
        case ("rules", int(at), *inside):
            entry = content["rules"][at]
            name = entry.get("name") if isinstance(entry, dict) else None
            title = f"rule {name!r}" if name else f"rule {at + 1}"
        case ("wordings", name, *inside):
            title = f"wordings {name!r}"
        case ("terms", *inside):
            title = "terms"
        case _:
            title, inside = _WHOLE_FILE, list(place)
    return RuleFileError(file, title, format_place(inside) or _WHOLE_RULE, message)


def _check_names(file: Path, rules: Sequence[Rule]) -> None:
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen:
            raise RuleFileError(file, _WHOLE_FILE, "rules", f"two of them have the name {rule.name!r}")
        seen.add(rule.name)


def _split_words(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for line in lines for word in line.split())


def _iterate_texts(document: Mapping[Any, object]) -> Iterator[tuple[str, str]]:
    """With their dotted places."""
    for key, value in document.items():
        if isinstance(value, str):
            yield str(key), value
        else:
            parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            yield from ((f"{key}.{name}", part) for name, part in parts if isinstance(part, str))
