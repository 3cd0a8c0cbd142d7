"""The format of animal files: what an animal's document must be, and reading it into an `Animal`.

A document with any error is refused as a whole, so that no animal says anything that its keepers did not
mean. The models say what `AnimalDocument` in `openapi.yaml` says; a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    WrapValidator,
    model_validator,
)

from openapi_server.models.animal import Animal, Fact, Individual, ModelSettings, Voice
from openapi_server.models.strict_model import (
    StrictModel,
    clean_text,
    explain_choice,
    explain_refusal,
    format_place,
    list_errors,
    make_error,
    quote_value,
    require_few,
    require_list,
    require_no_placeholder,
    require_one_line,
    require_readable,
)
from openapi_server.models.turn import AgeGroup, Source
from openapi_server.models.versioned_document import Document
from openapi_server.yaml_files import UnreadableFileError, load_yaml

MAX_TEXT_CHARS, MAX_LINES, MAX_FACTS, MAX_TOKENS, MAX_TEMPERATURE = 2_000, 100, 1_000, 100_000, 2
# Favourites and sources.
MAX_NAMED = 100
# As JSON. The packaged animals have 30 kB; a document is validated, stored and compared as a whole.
MAX_DOCUMENT_BYTES = 1_048_576
_WHOLE_FILE, _VISITOR_NAME = "(the whole file)", "{name}"
# New stores are seeded with these.
PACKAGED_ANIMALS = Path(__file__).with_name("animals")


class AnimalFileError(ValueError):
    """An animal's file is invalid. Names the file and the field, for the keeper who has to correct it."""

    def __init__(self, file: Path, field: str, message: str) -> None:
        super().__init__(f"{file}: {field}: {message}")
        self.file = file
        self.field = field
        self.message = message


@dataclass(slots=True)
class _Context:
    """Shared by the validators of one document. `sources`: the names of its sources; None when those are invalid.

    `is_stored`: rules that came after it was written do not take an animal away.
    """

    animal_id: str
    is_stored: bool = False
    sources: Set[str] | None = None
    fact_ids: set[str] = field(default_factory=set)


def _get_context(info: ValidationInfo) -> _Context:
    assert isinstance(info.context, _Context)  # noqa: S101  # `_validate` passes one
    return info.context


def _clean_text(value: object, info: ValidationInfo) -> str:
    return _clean(value, info, is_filled_in=False)


def _clean_line(value: object, info: ValidationInfo) -> str:
    """A line in which the visitor's name is filled in."""
    return _clean(value, info, is_filled_in=True)


def _clean_address(value: object, info: ValidationInfo) -> str:
    """Without a look at placeholders: `%e4%` is one, and part of many addresses."""
    return _clean(value, info, is_filled_in=None)


def _clean(value: object, info: ValidationInfo, *, is_filled_in: bool | None) -> str:
    # `{name}` alone is blank as long as the visitor's name is not known.
    text = clean_text(value, ignoring=_VISITOR_NAME)
    if len(str(value)) > MAX_TEXT_CHARS:
        raise make_error(f"must be at most {MAX_TEXT_CHARS} characters long, is {len(str(value))}")
    if not _get_context(info).is_stored:
        # Documents are stored as they are written, with what is around the text.
        require_readable(str(value))
        # What is around the text is not said: YAML ends a folded text with a line break.
        require_one_line(text)
        if is_filled_in is not None:
            require_no_placeholder(text, _VISITOR_NAME if is_filled_in else "")
    return text


def _clean_key(value: object, info: ValidationInfo) -> str:
    key = _clean_text(value, info)
    if key != value:
        raise make_error("must not begin or end with white space")
    return key


def _require_number(value: object) -> object:
    # Pydantic would read true, false and texts as numbers.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return value


def _require_whole(value: float) -> float:
    if isinstance(value, float) and not value.is_integer():
        raise make_error(f"must be a whole number, is {quote_value(value)}")
    return value


def _check_animal_id(value: str, info: ValidationInfo) -> str:
    expected = _get_context(info).animal_id
    if value != expected:
        raise make_error(f"{quote_value(value)} is not one of: {expected}")
    return value


def _check_fact_id(value: str, info: ValidationInfo) -> str:
    context = _get_context(info)
    if value in context.fact_ids:
        raise make_error(f"{context.animal_id}/{value} is there twice")
    context.fact_ids.add(value)
    return value


def _check_source(value: str, info: ValidationInfo) -> str:
    sources = _get_context(info).sources
    if sources is not None and value not in sources:
        raise make_error(f"{quote_value(value)} is not one of: {', '.join(sorted(sources))}")
    return value


def _remember_sources(value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    _get_context(info).sources = value.keys()
    return value


def _refuse_empty(value: object) -> object:
    if value == {}:
        raise make_error("must be a mapping that is not empty")
    return value


Text = Annotated[str, Field(pattern=r"\S", max_length=MAX_TEXT_CHARS), BeforeValidator(_clean_text)]
OptionalText = Annotated[Text | None, BeforeValidator(_clean_text)]
Lines = Annotated[tuple[Text, ...], Field(min_length=1, max_length=MAX_LINES), require_list(MAX_LINES)]
Line = Annotated[str, Field(pattern=r"\S", max_length=MAX_TEXT_CHARS), BeforeValidator(_clean_line)]
SaidLines = Annotated[tuple[Line, ...], Field(min_length=1, max_length=MAX_LINES), require_list(MAX_LINES)]
# Used in URLs and on the wire.
Name = Annotated[
    str,
    Field(pattern=r"^[a-z][a-z0-9_]{0,63}$", max_length=64),
    explain_refusal("must be 1 to 64 of a-z, 0-9 and _, beginning with a letter"),
    BeforeValidator(_clean_text),
]
Key = Annotated[str, BeforeValidator(_clean_key)]
Day = Annotated[
    date,
    BeforeValidator(date.fromisoformat),
    explain_refusal("must be a day such as 2016-06-14, is {value!r}"),
    BeforeValidator(_clean_text),
]
OptionalUrl = Annotated[
    Annotated[str, Field(pattern=r"^https?://\S+$", max_length=MAX_TEXT_CHARS)] | None,
    explain_refusal("must be an address such as https://zoo.example, is {value!r}"),
    BeforeValidator(_clean_address),
]
OptionalModelName = Annotated[
    Annotated[str, Field(pattern=r"^[!-~]+$", max_length=200)] | None,
    explain_refusal("must be 1 to 200 characters without blanks, is {value!r}"),
    BeforeValidator(_clean_text),
]
OptionalTemperature = Annotated[
    Annotated[float, Field(ge=0, le=MAX_TEMPERATURE, allow_inf_nan=False)] | None,
    BeforeValidator(_require_number),
    explain_refusal(f"must be a number from 0 to {MAX_TEMPERATURE}, is {{value!r}}"),
]
OptionalTokens = Annotated[
    Annotated[int, Field(ge=1, le=MAX_TOKENS), BeforeValidator(_require_whole)] | None,
    BeforeValidator(_require_number),
    explain_refusal(f"must be a number from 1 to {MAX_TOKENS}, is {{value!r}}"),
]

TopicName = Literal[
    "diet", "hunting", "speed", "movement", "size", "weight", "lifespan", "habitat", "range", "conservation",
    "threats", "family", "babies", "mating", "sleep", "senses", "sound", "body", "skin", "teeth", "defence",
    "predators", "poo", "water", "weather", "intelligence", "play", "communication", "classification", "record",
    "myth", "zoo_life", "death", "people",
]  # fmt: skip
GroupName = Literal["mammal", "bird", "reptile", "amphibian", "fish", "invertebrate"]
StatusName = Literal["active", "retired"]
SourceTypeName = Literal["web", "document", "dataset"]


def _explain_literal(literal: object) -> WrapValidator:
    return explain_choice(sorted(get_args(literal)))


class AnimalConservation(StrictModel):
    status: Text
    code: Text


class AnimalSource(StrictModel):
    type: Annotated[SourceTypeName, _explain_literal(SourceTypeName), BeforeValidator(_clean_text)]
    title: Text
    url: OptionalUrl = None


class AnimalIndividual(StrictModel):
    sex: Text
    born: Day
    birthplace: Text
    home: Text
    character: Lines
    favourites: Annotated[dict[Key, Text], Field(max_length=MAX_NAMED), require_few(MAX_NAMED)]
    anecdotes: SaidLines


class AnimalVoice(StrictModel):
    sound: Text
    greetings: SaidLines
    goodbyes: SaidLines
    thanks: SaidLines
    how_are_you: SaidLines
    dont_know: SaidLines
    jokes: SaidLines
    openers: SaidLines
    closers: SaidLines


class AnimalModelSettings(StrictModel):
    """Overrides the server's settings of the language model for this animal."""

    model: OptionalModelName = None
    max_tokens: OptionalTokens = None
    temperature: OptionalTemperature = None


class AnimalFact(StrictModel):
    id: Annotated[Name, AfterValidator(_check_fact_id)]
    topic: Annotated[TopicName, _explain_literal(TopicName), BeforeValidator(_clean_text)]
    level: Annotated[AgeGroup, explain_choice(sorted(AgeGroup)), BeforeValidator(_clean_text)]
    text: Text
    say: Text
    asks: Lines
    source: Annotated[Text, AfterValidator(_check_source)]
    little: OptionalText = None
    detail: OptionalText = None
    why: OptionalText = None

    @model_validator(mode="after")
    def _check_little(self) -> Self:
        if (self.level is AgeGroup.PRESCHOOL) != (self.little is not None):
            raise make_error("belongs to every fact of level preschool and to no other", field="little")
        return self


class AnimalDocument(StrictModel):
    """An animal's document. Errors come in the order of the fields: sources before the facts that name them."""

    animal_id: Annotated[Name, AfterValidator(_check_animal_id)]
    sources: Annotated[
        dict[Key, AnimalSource],
        Field(min_length=1, max_length=MAX_NAMED),
        AfterValidator(_remember_sources),
        BeforeValidator(_refuse_empty),
        require_few(MAX_NAMED),
    ]
    conservation: AnimalConservation
    name: Text
    species: Text
    scientific_name: Text
    group: Annotated[GroupName, _explain_literal(GroupName), BeforeValidator(_clean_text)]
    status: Annotated[StatusName, _explain_literal(StatusName), BeforeValidator(_clean_text)]
    summary: Text
    individual: AnimalIndividual
    voice: AnimalVoice
    facts: Annotated[tuple[AnimalFact, ...], Field(min_length=1, max_length=MAX_FACTS), require_list(MAX_FACTS)]
    mind: AnimalModelSettings = AnimalModelSettings()
    prompt_additions: Lines = ()


@dataclass(frozen=True, slots=True)
class LintIssue:
    """An error in an animal's file. `fact`: the fact's id, or its number (from 1) when it has none."""

    file: Path
    field: str
    message: str
    fact: str | None = None

    def __str__(self) -> str:
        where = [str(self.file), f"fact {self.fact}" if self.fact else "", self.field, self.message]
        return ": ".join(part for part in where if part)


def read_folder(folder: Path) -> tuple[Animal, ...]:
    """Every animal of a folder, in the order of their ids."""
    return tuple(map(read_animal, list_animal_files(folder)))


def list_animal_files(folder: Path) -> list[Path]:
    """In the order of the animals' ids. An empty folder is an error: a zoo has animals."""
    files = sorted(folder.glob("*.yaml"), key=lambda file: file.stem)
    if not files:
        raise AnimalFileError(folder, "(the folder)", "holds no animal files")
    return files


def read_animal(file: Path) -> Animal:
    """One animal. The file is named after it, so no two files can claim the same id."""
    return parse_animal(load_document(file), file)


def read_document(file: Path) -> Document:
    """The validated document, as it was written."""
    document = load_document(file)
    parse_animal(document, file)
    return document  # type: ignore[return-value]  # validated above


def load_document(file: Path) -> object:
    """The content of the file, not validated. Raises `AnimalFileError` if it cannot be read or is not YAML."""
    try:
        return load_yaml(file)
    except UnreadableFileError as error:
        raise AnimalFileError(file, _WHOLE_FILE, str(error)) from error


def parse_animal(document: object, file: Path, version: int = 0) -> Animal:
    """The animal that a document describes. `file`: its path, whose stem is the animal's id. `version`: when stored.

    Raises `AnimalFileError` for the first error.
    """
    try:
        return _make_animal(_validate(document, file, is_stored=version > 0), version)
    except ValidationError as error:
        place, message = list_errors(error)[0]
        raise AnimalFileError(file, format_place(place) or _WHOLE_FILE, message) from None


def lint_file(file: Path) -> list[LintIssue]:
    """The first error of all that is no fact, and the first one of each fact."""
    try:
        document = load_document(file)
        _validate(document, file)
    except AnimalFileError as error:
        return [LintIssue(file, error.field, error.message)]
    except ValidationError as error:
        return _list_issues(file, document, error)
    return []


def _validate(document: object, file: Path, *, is_stored: bool = False) -> AnimalDocument:
    if not is_stored:
        # Days are texts in JSON; what else is no JSON is refused by its type.
        size = len(
            json.dumps(document, ensure_ascii=False, default=str, skipkeys=True).encode("utf-8", "surrogatepass")
        )
        if size > MAX_DOCUMENT_BYTES:
            raise AnimalFileError(file, _WHOLE_FILE, f"must have at most {MAX_DOCUMENT_BYTES} bytes, has {size}")
    return AnimalDocument.model_validate(document, context=_Context(file.stem, is_stored))


def _list_issues(file: Path, document: Any, error: ValidationError) -> list[LintIssue]:
    """Keeps the first issue of each fact, by its index, and of the rest of the document (-1)."""
    issues: dict[int, LintIssue] = {}
    for place, message in list_errors(error):
        match place:
            case ("facts", int(at), *inside):
                issue = LintIssue(file, format_place(inside), message, _name_fact(document["facts"][at], at))
                issues.setdefault(at, issue)
            case _:
                issues.setdefault(-1, LintIssue(file, format_place(place) or _WHOLE_FILE, message))
    return [issues[at] for at in sorted(issues)]


def _name_fact(fact: object, at: int) -> str:
    name = fact.get("id") if isinstance(fact, dict) else None
    return name if isinstance(name, str) else f"number {at + 1}"


def _make_animal(document: AnimalDocument, version: int) -> Animal:
    individual = dict(document.individual)
    individual["favourites"] = MappingProxyType(individual["favourites"])
    return Animal(
        animal_id=document.animal_id,
        name=document.name,
        species=document.species,
        scientific_name=document.scientific_name,
        group=document.group,
        status=document.status,
        conservation_status=document.conservation.status,
        conservation_code=document.conservation.code,
        summary=document.summary,
        individual=Individual(**individual),
        voice=Voice(**dict(document.voice)),
        facts=tuple(_make_fact(document, fact) for fact in document.facts),
        model_settings=ModelSettings(**dict(document.mind)),
        prompt_additions=document.prompt_additions,
        version=version,
    )


def _make_fact(document: AnimalDocument, fact: AnimalFact) -> Fact:
    fact_id, source = f"{document.animal_id}/{fact.id}", document.sources[fact.source]
    return Fact(
        fact_id=fact_id,
        animal_id=document.animal_id,
        topic=fact.topic,
        level=fact.level,
        text=fact.text,
        say=fact.say,
        asks=fact.asks,
        source=Source(fact_id, fact.topic, source.type, source.title, source.url),
        little=fact.little,
        detail=fact.detail,
        why=fact.why,
    )
