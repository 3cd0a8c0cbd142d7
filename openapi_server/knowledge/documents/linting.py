"""Linting: everything that is wrong with a file of keepers, where reading it stops at the first thing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openapi_server.knowledge.documents.schema import AnimalFileError, load_document, parse_animal

_IN_A_FACT = re.compile(r"facts\[(\d+)\]\.?(.*)")


@dataclass(frozen=True, slots=True)
class LintIssue:
    """What is wrong, and where. `fact`: the fact's id, or its number, from 1, when it has none."""

    file: Path
    field: str
    message: str
    fact: str | None = None

    def __str__(self) -> str:
        where = [str(self.file), f"fact {self.fact}" if self.fact else "", self.field, self.message]
        return ": ".join(part for part in where if part)


def lint_file(file: Path) -> list[LintIssue]:
    """The first complaint of each fact, and the first one of all the rest."""
    try:
        document = load_document(file)
    except AnimalFileError as error:
        return [LintIssue(file, error.field, error.message)]
    found = sorted(_complaints(file, document), key=lambda placed: placed[0])
    return [complaint for _, complaint in found]


def _complaints(file: Path, document: object) -> Iterator[tuple[int, LintIssue]]:
    """With the fact's place, -1 for the rest. Reads it again without each fact that was wrong, until all is right."""
    places = list(range(len(_facts(document))))
    while True:
        try:
            parse_animal(document, file)
            return
        except AnimalFileError as error:
            found = _IN_A_FACT.fullmatch(error.field)
            if found is None:
                yield -1, LintIssue(file, error.field, error.message)
                return
            facts = _facts(document)
            fact, place = facts.pop(int(found[1])), places.pop(int(found[1]))
            yield place, LintIssue(file, found[2], error.message, _name(fact, place))
            document = {**document, "facts": facts}  # type: ignore[dict-item]  # what has facts is a mapping
            if not facts:
                return


def _facts(document: object) -> list[object]:
    facts = document.get("facts") if isinstance(document, dict) else None
    return list(facts) if isinstance(facts, list) else []


def _name(fact: object, place: int) -> str:
    name = fact.get("id") if isinstance(fact, dict) else None
    return name if isinstance(name, str) else f"number {place + 1}"
