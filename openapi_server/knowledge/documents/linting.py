"""Linting: everything that is wrong with a file of keepers, where reading it stops at the first thing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openapi_server.knowledge.documents.schema import AnimalFileError, animal_of, parsed

_IN_A_FACT = re.compile(r"facts\[(\d+)\]\.?(.*)")


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong, and where. `fact`: the fact's id, or its number, from 1, when it has none."""

    file: Path
    field: str
    complaint: str
    fact: str | None = None

    def __str__(self) -> str:
        where = [str(self.file), f"fact {self.fact}" if self.fact else "", self.field, self.complaint]
        return ": ".join(part for part in where if part)


def complaints(file: Path) -> list[Complaint]:
    """The first complaint of each fact, and the first one of all the rest."""
    try:
        document = parsed(file)
    except AnimalFileError as error:
        return [Complaint(file, error.field, error.complaint)]
    found = sorted(_complaints(file, document), key=lambda placed: placed[0])
    return [complaint for _, complaint in found]


def _complaints(file: Path, document: object) -> Iterator[tuple[int, Complaint]]:
    """With the fact's place, -1 for the rest. Reads it again without each fact that was wrong, until all is right."""
    places = list(range(len(_facts(document))))
    while True:
        try:
            animal_of(document, file)
            return
        except AnimalFileError as error:
            found = _IN_A_FACT.fullmatch(error.field)
            if found is None:
                yield -1, Complaint(file, error.field, error.complaint)
                return
            facts = _facts(document)
            fact, place = facts.pop(int(found[1])), places.pop(int(found[1]))
            yield place, Complaint(file, found[2], error.complaint, _name(fact, place))
            document = {**document, "facts": facts}  # type: ignore[dict-item]  # what has facts is a mapping
            if not facts:
                return


def _facts(document: object) -> list[object]:
    facts = document.get("facts") if isinstance(document, dict) else None
    return list(facts) if isinstance(facts, list) else []


def _name(fact: object, place: int) -> str:
    name = fact.get("id") if isinstance(fact, dict) else None
    return name if isinstance(name, str) else f"number {place + 1}"
