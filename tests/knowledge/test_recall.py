"""How often the right fact is found: questions by somebody who did not read the synonyms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from openapi_server.knowledge.library import AnimalLibrary
from openapi_server.turn import AgeGroup
from tests.report import Report

QUESTIONS = Path(__file__).with_name("questions.yaml")

# Written from fact ids and topics alone, by somebody who saw neither the facts nor the search. Nobody tunes on them.
HELD_OUT = Path(__file__).with_name("paraphrases.yaml")
LION = "lion_001"


@dataclass
class Tally:
    asked: int = 0
    found: int = 0

    @property
    def share(self) -> float:
        return self.found / self.asked if self.asked else 1.0

    def __str__(self) -> str:
        return f"{self.found:4} of {self.asked:4}  {self.share:6.1%}"


@pytest.fixture(scope="module")
def library() -> Iterator[AnimalLibrary]:
    library = AnimalLibrary.load()
    yield library
    library.close()


def questions(file: Path) -> dict[str, list[dict[str, object]]]:
    asked: dict[str, list[dict[str, object]]] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {animal_id: each for animal_id, each in asked.items() if animal_id != "unanswerable"}


def unanswerable() -> list[str]:
    listed: list[str] = yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))["unanswerable"]
    return listed


async def top_three(library: AnimalLibrary, animal_id: str, message: str) -> list[str]:
    """Fact ids without the animal's; asked as an adult, so that no fact is above the visitor's age."""
    animal = library.animal(animal_id)
    assert animal is not None
    facts = await library.retrieve(animal, message, [])
    ranked = await library.rerank(facts, message, [], AgeGroup.ADULT)
    return [fact.fact_id.rpartition("/")[2] for fact in ranked[:3]]


async def tallied(library: AnimalLibrary, file: Path) -> dict[str, Tally]:
    """Recall@3 of each animal, and over all."""
    tallies: dict[str, Tally] = {}
    for animal_id, asked in questions(file).items():
        tally = tallies.setdefault(animal_id, Tally())
        for question in asked:
            tally.asked += 1
            answers = question["facts"]
            assert isinstance(answers, list)
            tally.found += not set(answers).isdisjoint(await top_three(library, animal_id, str(question["ask"])))
    overall = Tally(sum(t.asked for t in tallies.values()), sum(t.found for t in tallies.values()))
    return {**tallies, "overall": overall}


async def test_nine_questions_in_ten_find_their_fact_among_the_first_three(
    library: AnimalLibrary, report: Report
) -> None:
    """Recall@3 over all animals is 0.90 or better; the report shows each animal's."""
    tallies = await tallied(library, QUESTIONS)
    for name, tally in tallies.items():
        report(f"recall@3  {name:16}{tally}")

    assert tallies["overall"].share >= 0.90


async def test_questions_that_nobody_tuned_on_are_measured_too(library: AnimalLibrary, report: Report) -> None:
    """The honest figure for paraphrases: most are found, and the report says how many."""
    tallies = await tallied(library, HELD_OUT)
    report(f"recall@3  {'held out':16}{tallies['overall']}")

    assert tallies["overall"].asked >= 100
    assert tallies["overall"].share >= 0.5


async def test_questions_outside_the_facts_find_nothing(library: AnimalLibrary) -> None:
    """Nine in ten questions that the keepers' facts do not answer come back empty, so the lion can say so."""
    found = {question: await top_three(library, LION, question) for question in unanswerable()}
    wrongly = {question: facts for question, facts in found.items() if facts}

    assert len(wrongly) <= 0.10 * len(found), wrongly
