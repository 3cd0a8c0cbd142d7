"""Read what the keepers wrote, as files or as documents, into `Animal` values, strictly.

What is wrong in any way is refused as a whole: the alternative is an animal that tells children something its keepers
did not mean. The format's rules live here; search and ranking do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from openapi_server.knowledge.documents.fields import AnimalFileError, Fields
from openapi_server.models.animal import Animal, Fact, Individual, ModelSettings, Voice
from openapi_server.models.document import Document
from openapi_server.models.turn import AgeGroup, Source

__all__ = [
    "AnimalFileError",
    "list_animal_files",
    "load_document",
    "parse_animal",
    "read_animal",
    "read_document",
    "read_folder",
]

TOPICS = frozenset(
    """diet hunting speed movement size weight lifespan habitat range conservation threats family babies mating
    sleep senses sound body skin teeth defence predators poo water weather intelligence play communication
    classification record myth zoo_life death people""".split()
)
# Every new store is filled with these.
PACKAGED_ANIMALS = Path(__file__).parent.with_name("animals")
GROUPS = ("mammal", "bird", "reptile", "amphibian", "fish", "invertebrate")
SOURCE_TYPES = ("web", "document", "dataset")
STATUSES = ("active", "retired")
HOTTEST, LONGEST_TOKENS, MOST_FACTS = 2.0, 100_000, 1_000
# As in the settings: whatever stands in it, the models' servers read.
MODEL = re.compile(r"[!-~]{1,200}")

# libyaml reads the fourteen files in a quarter of a second; the pure Python loader takes three.
_YAML_LOADER: type[Any] = type("_Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})


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
    """The same as it was written, once it is known to be right."""
    document = load_document(file)
    parse_animal(document, file)
    return document  # type: ignore[return-value]  # or it would not be right


def parse_animal(document: object, file: Path, version: int = 0) -> Animal:
    """The animal that a document describes. `file` is where it stands, named after the animal's id."""
    top = Fields(file, "", document)
    animal_id = top.name("animal_id")
    if animal_id != file.stem:
        raise top.error("animal_id", f"{animal_id!r} is not one of: {file.stem}")
    sources = _sources(top.section("sources"))
    status, code = _conservation(top.section("conservation"))
    animal = Animal(
        animal_id=animal_id,
        name=top.text("name"),
        species=top.text("species"),
        scientific_name=top.text("scientific_name"),
        group=top.text("group", allowed=GROUPS),
        status=top.text("status", allowed=STATUSES),
        conservation_status=status,
        conservation_code=code,
        summary=top.text("summary"),
        individual=_individual(top.section("individual")),
        voice=_voice(top.section("voice")),
        facts=_facts(top.sections("facts", MOST_FACTS), animal_id, sources),
        model_settings=_mind(top.maybe_section("mind")),
        prompt_additions=top.maybe_texts("prompt_additions"),
        version=version,
    )
    top.finish()
    return animal


def load_document(file: Path) -> object:
    """What stands in the file, right or not. Raises `AnimalFileError` for what is not even YAML."""
    try:
        text = file.read_text(encoding="utf-8")
        return yaml.load(text, Loader=_YAML_LOADER)  # noqa: S506 - both loaders are the safe ones
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AnimalFileError(file, "(the whole file)", f"cannot be read: {error}") from error


def _mapping(loader: Any, node: yaml.MappingNode) -> Iterator[dict[Any, object]]:
    """A key that comes twice is refused: YAML's own rule would drop the first one, and all that stands in it."""
    seen: set[str] = set()
    for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
        seen.add(key.value)
    yield from loader.construct_yaml_map(node)


_YAML_LOADER.add_constructor("tag:yaml.org,2002:map", _mapping)


def _conservation(fields: Fields) -> tuple[str, str]:
    status, code = fields.text("status"), fields.text("code")
    fields.finish()
    return status, code


def _individual(fields: Fields) -> Individual:
    favourites = fields.section("favourites")
    individual = Individual(
        sex=fields.text("sex"),
        born=fields.day("born"),
        birthplace=fields.text("birthplace"),
        home=fields.text("home"),
        character=fields.texts("character"),
        favourites=MappingProxyType({kind: favourites.text(kind) for kind in favourites.names()}),
        anecdotes=fields.texts("anecdotes"),
    )
    fields.finish()
    return individual


def _voice(fields: Fields) -> Voice:
    voice = Voice(
        sound=fields.text("sound"),
        greetings=fields.texts("greetings"),
        goodbyes=fields.texts("goodbyes"),
        thanks=fields.texts("thanks"),
        how_are_you=fields.texts("how_are_you"),
        dont_know=fields.texts("dont_know"),
        jokes=fields.texts("jokes"),
        openers=fields.texts("openers"),
        closers=fields.texts("closers"),
    )
    fields.finish()
    return voice


def _mind(fields: Fields) -> ModelSettings:
    model = fields.maybe_text("model")
    if model is not None and not MODEL.fullmatch(model):
        raise fields.error("model", f"must be 1 to 200 characters without blanks, is {model!r}")
    max_tokens = fields.maybe_number("max_tokens", 1, LONGEST_TOKENS)
    if max_tokens is not None and max_tokens != int(max_tokens):
        raise fields.error("max_tokens", f"must be a whole number, is {max_tokens!r}")
    mind = ModelSettings(
        model=model,
        temperature=fields.maybe_number("temperature", 0, HOTTEST),
        max_tokens=None if max_tokens is None else int(max_tokens),
    )
    fields.finish()
    return mind


def _sources(fields: Fields) -> Mapping[str, Source]:
    """Sources by key. Each becomes whole when a fact that names it adds its id and topic."""
    return {key: _source(fields.section(key)) for key in fields.names()}


def _source(fields: Fields) -> Source:
    kind = fields.text("type", allowed=SOURCE_TYPES)
    source = Source("", "", kind, fields.text("title"), fields.maybe_text("url"))
    if source.url is not None and not re.fullmatch(r"https?://\S+", source.url):
        raise fields.error("url", f"must be an address such as https://zoo.example, is {source.url!r}")
    fields.finish()
    return source


def _facts(all_fields: list[Fields], animal_id: str, sources: Mapping[str, Source]) -> tuple[Fact, ...]:
    facts: dict[str, Fact] = {}
    for fields in all_fields:
        fact = _fact(fields, animal_id, sources)
        if fact.fact_id in facts:
            raise fields.error("id", f"{fact.fact_id} is there twice")
        facts[fact.fact_id] = fact
    return tuple(facts.values())


def _fact(fields: Fields, animal_id: str, sources: Mapping[str, Source]) -> Fact:
    fact_id = f"{animal_id}/{fields.name('id')}"
    topic = fields.text("topic", allowed=TOPICS)
    fact = Fact(
        fact_id=fact_id,
        animal_id=animal_id,
        topic=topic,
        level=AgeGroup(fields.text("level", allowed=list(AgeGroup))),
        text=fields.text("text"),
        say=fields.text("say"),
        asks=fields.texts("asks"),
        source=replace(sources[fields.text("source", allowed=sources)], fact_id=fact_id, topic=topic),
        little=fields.maybe_text("little"),
        detail=fields.maybe_text("detail"),
        why=fields.maybe_text("why"),
    )
    if (fact.level is AgeGroup.PRESCHOOL) != (fact.little is not None):
        raise fields.error("little", "belongs to every fact of level preschool and to no other")
    fields.finish()
    return fact
