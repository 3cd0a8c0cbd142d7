"""The format of animal files: read strictly, every error named with its place, and the same as the contract says."""

from __future__ import annotations

from copy import deepcopy
from datetime import date
from pathlib import Path

import pytest
import yaml

from openapi_server.knowledge.animal_files import (
    MAX_DOCUMENT_BYTES,
    PACKAGED_ANIMALS,
    AnimalDocument,
    AnimalFileError,
    LintIssue,
    lint_file,
    list_animal_files,
    load_document,
    parse_animal,
    read_animal,
    read_document,
    read_folder,
)
from openapi_server.models.animal import ModelSettings
from openapi_server.models.turn import AgeGroup
from openapi_server.spec import load_spec
from openapi_server.yaml_files import dump_yaml
from tests.support.animal_documents import FACT, MOLE, change_member, write_animal
from tests.support.json_schemas import normalize_model, normalize_schema


def test_the_format_is_the_one_of_the_contract() -> None:
    """Files and requests have the same members, required or not, with the same limits and choices."""
    spec = load_spec()

    assert normalize_model(AnimalDocument) == normalize_schema(spec["components"]["schemas"]["AnimalDocument"], spec)


def test_settings_have_the_limits_of_the_document() -> None:
    """What can be set alone is what the document may have."""
    spec = load_spec()
    settings = normalize_schema(spec["components"]["schemas"]["AnimalSettings"], spec)["properties"]
    mind = normalize_model(AnimalDocument)["properties"]["mind"]["properties"]

    assert {name: settings[name] for name in mind} == mind


def test_a_file_becomes_an_animal(tmp_path: Path) -> None:
    """Every field is read; the id of a fact begins with the animal's; its source is complete."""
    animal = read_animal(write_animal(tmp_path, MOLE))

    [fact] = animal.facts
    assert (animal.name, animal.conservation_code, animal.individual.born) == ("Manny", "LC", date(2020, 4, 1))
    assert (fact.fact_id, fact.animal_id, fact.level) == ("mole_001/top_speed", "mole_001", AgeGroup.PRESCHOOL)
    assert (fact.source.fact_id, fact.source.topic, fact.source.title) == (
        "mole_001/top_speed",
        "speed",
        "Keepers' notebook",
    )
    assert fact.why is None


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("name", None, "name"),
        ("name", "  ", "name"),
        ("nickname", "Mo", "nickname"),
        ("animal_id", "mole_002", "animal_id"),
        ("group", "dragon", "group"),
        ("conservation", "LC", "conservation"),
        ("conservation.colour", "green", "conservation.colour"),
        ("individual.born", "last spring", "individual.born"),
        ("individual.home", None, "individual.home"),
        ("individual.favourites.food", 7, "individual.favourites.food"),
        ("voice.jokes", [], "voice.jokes"),
        ("voice.jokes", ["a \0 joke"], "voice.jokes[0]"),
        ("voice.jokes", [" {name} "], "voice.jokes[0]"),
        ("status", "asleep", "status"),
        ("animal_id", "Mole", "animal_id"),
        ("individual.favourites", {7: "worms"}, "individual.favourites.7"),
        ("mind", {"temperature": 2.5}, "mind.temperature"),
        ("mind", {"temperature": "hot"}, "mind.temperature"),
        ("mind", {"temperature": float("nan")}, "mind.temperature"),
        ("mind", {"max_tokens": 0}, "mind.max_tokens"),
        ("mind", {"max_tokens": 1.5}, "mind.max_tokens"),
        ("mind", {"max_tokens": True}, "mind.max_tokens"),
        ("mind", {"max_tokens": float("inf")}, "mind.max_tokens"),
        ("mind", {"max_tokens": 10**400}, "mind.max_tokens"),
        ("mind", {"max_tokens": "99"}, "mind.max_tokens"),
        ("individual.favourites", {" food ": "worms"}, "individual.favourites. food "),
        ("sources", {}, "sources"),
        ("mind", {"model": "small one"}, "mind.model"),
        ("mind", {"model": "x" * 201}, "mind.model"),
        ("mind", {"mood": "bad"}, "mind.mood"),
        ("prompt_additions", [], "prompt_additions"),
        ("sources.keepers.url", "javascript:alert(1)", "sources.keepers.url"),
        ("facts.0.id", "top/speed", "facts[0].id"),
        ("voice.jokes", [True], "voice.jokes[0]"),
        ("sources.keepers.type", "rumour", "sources.keepers.type"),
        ("sources.keepers.title", None, "sources.keepers.title"),
        ("facts", [], "facts"),
        ("facts", [FACT, FACT], "facts[1].id"),
        ("facts.0.topic", "gossip", "facts[0].topic"),
        ("facts.0.level", "toddler", "facts[0].level"),
        ("facts.0.little", None, "facts[0].little"),
        ("facts.0.level", "high", "facts[0].little"),
        ("facts.0.source", "nobody", "facts[0].source"),
        ("facts.0.asks", "how fast", "facts[0].asks"),
        ("facts.0.weight", 5, "facts[0].weight"),
        ("summary", "x" * 2001, "summary"),
        ("voice.jokes", ["Ha!"] * 101, "voice.jokes"),
        ("facts", [FACT] * 1001, "facts"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, path: str, value: object, field: str) -> None:
    """The error says which file and which field is missing, wrong or unknown."""
    file = write_animal(tmp_path, change_member(path, value))

    with pytest.raises(AnimalFileError) as caught:
        read_animal(file)

    assert (caught.value.file, caught.value.field) == (file, field)
    assert str(file) in str(caught.value)


def test_settings_of_its_own_are_read(tmp_path: Path) -> None:
    """Model, temperature, token limit and prompt additions; without them the server's settings hold."""
    mind = {"model": "small-1", "temperature": 0.3, "max_tokens": 99}

    animal = read_animal(write_animal(tmp_path, {**MOLE, "mind": mind, "prompt_additions": ["Never hurry."]}))

    assert animal.model_settings == ModelSettings("small-1", 0.3, 99)
    assert animal.prompt_additions == ("Never hurry.",)
    assert read_animal(write_animal(tmp_path, MOLE)).model_settings == ModelSettings()


@pytest.mark.parametrize("text", ["a: [", "- just\n- a list", "", "a: \x00"])
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    """Broken YAML is an `AnimalFileError` with the file's name, not the parser's exception."""
    file = tmp_path / "mole_001.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(AnimalFileError, match=r"mole_001\.yaml"):
        read_animal(file)


def test_a_key_that_comes_twice_is_an_error(tmp_path: Path) -> None:
    """The first value would be lost without a word. Lists as keys are refused, too."""
    for more in ("name: Mo\n", "? [a]\n: b\n? [a]\n: c\n"):
        file = write_animal(tmp_path, MOLE)
        file.write_text(file.read_text(encoding="utf-8") + more, encoding="utf-8")

        with pytest.raises(AnimalFileError, match=r"mole_001\.yaml"):
            read_animal(file)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    """It is more likely a wrong path than a zoo without animals."""
    with pytest.raises(AnimalFileError):
        read_folder(tmp_path)


def test_animals_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    """The list of animals is the same on every machine, whatever the file system says."""
    for animal_id in ("wasp_001", "ant_001", "mole_001"):
        write_animal(tmp_path, change_member("animal_id", animal_id), f"{animal_id}.yaml")

    assert [animal.animal_id for animal in read_folder(tmp_path)] == ["ant_001", "mole_001", "wasp_001"]


def test_the_packaged_animals_are_valid() -> None:
    """All of them can be read."""
    assert len(read_folder(PACKAGED_ANIMALS)) >= 14


@pytest.mark.parametrize("file", list_animal_files(PACKAGED_ANIMALS), ids=lambda file: file.stem)
def test_a_packaged_animal_comes_back_whole(file: Path, tmp_path: Path) -> None:
    """The document that is written is the one that was read, member by member in their order, and the same animal."""
    document = read_document(file)
    copy = tmp_path / file.name
    copy.write_text(dump_yaml(document), encoding="utf-8")

    again = read_document(copy)

    assert yaml.safe_dump(again, sort_keys=False) == yaml.safe_dump(document, sort_keys=False)
    assert read_animal(copy) == read_animal(file)
    assert dump_yaml(again) == dump_yaml(document)


def test_a_valid_file_has_no_issues(tmp_path: Path) -> None:
    """The list is empty."""
    assert lint_file(write_animal(tmp_path, MOLE)) == []


def test_every_wrong_fact_is_listed_by_its_id(tmp_path: Path) -> None:
    """All of them, in their order; a fact without an id by its number."""
    animal = deepcopy(MOLE)
    nameless = {name: value for name, value in FACT.items() if name != "id"}
    animal["facts"] = [
        {**FACT, "topic": "gossip"},
        {**FACT, "id": "right"},
        nameless,
        "no fact at all",
        {**FACT, "id": "without_little", "little": " "},
        {**FACT, "id": "right"},
    ]
    file = write_animal(tmp_path, animal)

    found = [(each.fact, each.field) for each in lint_file(file)]

    assert found == [
        ("top_speed", "topic"),
        ("number 3", "id"),
        ("number 4", ""),
        ("without_little", "little"),
        ("right", "id"),
    ]
    assert str(lint_file(file)[0]).startswith(f"{file}: fact top_speed: topic: 'gossip' is not one of:")


def test_a_file_with_only_wrong_facts_has_no_other_issue(tmp_path: Path) -> None:
    """That no valid fact is left is not an issue of its own."""
    file = write_animal(tmp_path, change_member("facts.0.topic", "gossip"))

    assert [each.fact for each in lint_file(file)] == ["top_speed"]


@pytest.mark.parametrize(
    ("animal", "field"),
    [
        (change_member("voice.jokes", []), "voice.jokes"),
        (change_member("facts", {}), "facts"),
        ("a text", "(the whole file)"),
    ],
)
def test_an_issue_outside_the_facts_is_named_by_its_field(tmp_path: Path, animal: object, field: str) -> None:
    """The issue names no fact."""
    [issue] = lint_file(write_animal(tmp_path, animal))

    assert (issue.field, issue.fact) == (field, None)


def test_a_file_that_cannot_be_read_is_an_issue(tmp_path: Path) -> None:
    """It is reported like any other error."""
    file = tmp_path / "mole_001.yaml"
    file.write_text("a: [", encoding="utf-8")

    [issue] = lint_file(file)

    assert isinstance(issue, LintIssue)
    assert "cannot be read" in issue.message
    assert load_document(write_animal(tmp_path, MOLE)) == MOLE


def test_a_document_has_a_bound_as_a_whole(tmp_path: Path) -> None:
    """A thousand facts with long texts would be 200 MB. What is stored already is read."""
    facts = [{**FACT, "id": f"fact_{number}", "why": "w" * 1_900} for number in range(600)]
    document = {**MOLE, "facts": facts}
    [issue] = lint_file(write_animal(tmp_path, document))

    assert issue.message.startswith(f"must have at most {MAX_DOCUMENT_BYTES} bytes, has ")
    with pytest.raises(AnimalFileError, match="must have at most"):
        parse_animal(document, Path("mole_001"))
    assert len(parse_animal(document, Path("mole_001"), version=3).facts) == 600
    assert parse_animal({**MOLE, "facts": facts[:400]}, Path("mole_001")).facts
