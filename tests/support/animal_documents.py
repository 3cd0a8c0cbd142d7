"""A complete animal document, to change and to write into files."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

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


def write_animal(folder: Path, animal: object, name: str = "mole_001.yaml") -> Path:
    file = folder / name
    file.write_text(yaml.safe_dump(animal), encoding="utf-8")
    return file


def change_member(path: str, value: object) -> dict[str, Any]:
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
