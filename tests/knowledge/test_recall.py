"""How often the right fact is found: questions by somebody who did not read the synonyms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from openapi_server.knowledge.library import AnimalLibrary
from openapi_server.turn import AgeGroup

QUESTIONS = Path(__file__).with_name("questions.yaml")
LION = "lion_001"

pytestmark = pytest.mark.skipif(not QUESTIONS.exists(), reason="the questions are not written yet")


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


def questions() -> dict[str, list[dict[str, object]]]:
    asked: dict[str, list[dict[str, object]]] = yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))
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


async def test_nine_questions_in_ten_find_their_fact_among_the_first_three(
    library: AnimalLibrary, capsys: pytest.CaptureFixture[str]
) -> None:
    """Recall@3 over all animals is 0.90 or better; the table shows each animal's."""
    tallies: dict[str, Tally] = {}
    for animal_id, asked in questions().items():
        tally = tallies.setdefault(animal_id, Tally())
        for question in asked:
            tally.asked += 1
            answers = question["facts"]
            assert isinstance(answers, list)
            tally.found += not set(answers).isdisjoint(await top_three(library, animal_id, str(question["ask"])))
    overall = Tally(sum(t.asked for t in tallies.values()), sum(t.found for t in tallies.values()))
    with capsys.disabled():
        print("\n\nrecall@3")  # noqa: T201 - the table is the point of this test
        for name, tally in {**tallies, "overall": overall}.items():
            print(f"  {name:16}{tally}")  # noqa: T201

    assert overall.share >= 0.90


async def test_questions_outside_the_facts_find_nothing(library: AnimalLibrary) -> None:
    """Nine in ten questions that the keepers' facts do not answer come back empty, so the lion can say so."""
    found = {question: await top_three(library, LION, question) for question in unanswerable()}
    wrongly = {question: facts for question, facts in found.items() if facts}

    assert len(wrongly) <= 0.10 * len(found), wrongly
