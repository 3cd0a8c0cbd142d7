"""The keepers' files: read strictly, and a mistake is named."""

from __future__ import annotations

from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from openapi_server.knowledge.documents.schema import PACKAGED_ANIMALS, AnimalFileError, read_animal, read_folder
from openapi_server.models.animal import ModelSettings
from openapi_server.models.turn import AgeGroup

FACT: dict[str, Any] = {
    "id": "top_speed",
    "topic": "speed",
    "level": "preschool",
    "text": "Moles dig four metres an hour.",
    "say": "I dig four metres an hour!",
    "little": "I dig fast!",
    "asks": ["how fast", "dig"],
    "source": "keepers",
}
MOLE: dict[str, Any] = {
    "animal_id": "mole_001",
    "name": "Manny",
    "species": "European mole",
    "scientific_name": "Talpa europaea",
    "group": "mammal",
    "status": "active",
    "conservation": {"status": "Least Concern", "code": "LC"},
    "summary": "A mole.",
    "individual": {
        "sex": "male",
        "born": "2020-04-01",
        "birthplace": "a meadow",
        "home": "the Burrow",
        "character": ["busy"],
        "favourites": {"food": "worms"},
        "anecdotes": ["I once dug up a shoe."],
    },
    "voice": {
        "sound": "Sniff!",
        **{
            kind: ["A line."]
            for kind in "greetings goodbyes thanks how_are_you dont_know jokes openers closers".split()
        },
    },
    "sources": {"keepers": {"type": "document", "title": "Keepers' notebook"}},
    "facts": [FACT],
}


def written(folder: Path, animal: object, name: str = "mole_001.yaml") -> Path:
    file = folder / name
    file.write_text(yaml.safe_dump(animal), encoding="utf-8")
    return file


def spoilt(path: str, value: object) -> dict[str, Any]:
    """The mole with one field replaced, or taken away when the value is None."""
    animal = deepcopy(MOLE)
    at: Any = animal
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in parents:
        at = at[key]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return animal


def test_a_file_becomes_an_animal(tmp_path: Path) -> None:
    """Every field arrives, the fact's id carries the animal's, and its source is whole."""
    animal = read_animal(written(tmp_path, MOLE))

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
    """A missing, wrong or unknown field stops the start, and the error says which file and which field."""
    file = written(tmp_path, spoilt(path, value))

    with pytest.raises(AnimalFileError) as caught:
        read_animal(file)

    assert (caught.value.file, caught.value.field) == (file, field)
    assert str(file) in str(caught.value)


def test_settings_of_its_own_are_read(tmp_path: Path) -> None:
    """Which model speaks for it, how, and what it alone is told; without them the server's settings hold."""
    mind = {"model": "small-1", "temperature": 0.3, "max_tokens": 99}

    animal = read_animal(written(tmp_path, {**MOLE, "mind": mind, "prompt_additions": ["Never hurry."]}))

    assert animal.model_settings == ModelSettings("small-1", 0.3, 99)
    assert animal.prompt_additions == ("Never hurry.",)
    assert read_animal(written(tmp_path, MOLE)).model_settings == ModelSettings()


@pytest.mark.parametrize("text", ["a: [", "- just\n- a list", "", "a: \x00"])
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    """Broken YAML is an error of ours with the file's name, not a parser's traceback."""
    file = tmp_path / "mole_001.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(AnimalFileError, match=r"mole_001\.yaml"):
        read_animal(file)


def test_a_key_that_comes_twice_is_an_error(tmp_path: Path) -> None:
    """What the first one said would be lost without a word; lists in a key's place are an error of ours, too."""
    for more in ("name: Mo\n", "? [a]\n: b\n? [a]\n: c\n"):
        file = written(tmp_path, MOLE)
        file.write_text(file.read_text(encoding="utf-8") + more, encoding="utf-8")

        with pytest.raises(AnimalFileError, match=r"mole_001\.yaml"):
            read_animal(file)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    """A zoo without animals is a wrong path, not a zoo."""
    with pytest.raises(AnimalFileError):
        read_folder(tmp_path)


def test_animals_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    """The list of animals is the same on every machine, whatever the file system says."""
    for animal_id in ("wasp_001", "ant_001", "mole_001"):
        written(tmp_path, spoilt("animal_id", animal_id), f"{animal_id}.yaml")

    assert [animal.animal_id for animal in read_folder(tmp_path)] == ["ant_001", "mole_001", "wasp_001"]


def test_the_packaged_animals_are_all_right() -> None:
    """What is shipped can be read."""
    assert len(read_folder(PACKAGED_ANIMALS)) >= 14
