"""Recall of full-text and semantic search, on questions by people who did not read the synonyms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from openapi_server.knowledge.service import KnowledgeService
from openapi_server.models.turn import AgeGroup
from tests.support.report import Report

FOLDER = Path(__file__).parent

# Full-text search was tuned on the first, semantic search on the first two, and nothing on the third. The
# second and the third were written from fact ids and topics alone.
QUESTIONS = FOLDER / "questions.yaml"
PARAPHRASES = FOLDER / "paraphrases.yaml"
HELD_OUT = FOLDER / "more_paraphrases.yaml"

LION = "lion_001"


@dataclass(frozen=True)
class RecallQuestion:
    """A question to one animal. `answers`: ids, without the animal's, of the facts that would satisfy; maybe none."""

    animal_id: str
    message: str
    answers: frozenset[str] = frozenset()


@dataclass
class Tally:
    """How many questions were asked, and how many had a right fact first, or among the first three."""

    asked: int = 0
    first: int = 0
    in_three: int = 0

    def add(self, top: Sequence[str], answers: frozenset[str]) -> None:
        self.asked += 1
        self.first += not answers.isdisjoint(top[:1])
        self.in_three += not answers.isdisjoint(top)

    @property
    def share(self) -> float:
        return self.in_three / self.asked

    @property
    def first_share(self) -> float:
        return self.first / self.asked

    def __str__(self) -> str:
        return f"@1 {self.first_share:6.1%}  @3 {self.share:6.1%}  of {self.asked:4}"


def load_questions(file: Path) -> list[RecallQuestion]:
    listed = yaml.safe_load(file.read_text(encoding="utf-8"))
    return [
        RecallQuestion(animal_id, each["ask"], frozenset(each["facts"]))
        for animal_id, asked in listed.items()
        if animal_id != "unanswerable"
        for each in asked
    ]


def load_unanswerable(file: Path) -> list[RecallQuestion]:
    """A plain sentence is asked of the lion."""
    listed = yaml.safe_load(file.read_text(encoding="utf-8"))["unanswerable"]
    return [
        RecallQuestion(LION, each) if isinstance(each, str) else RecallQuestion(each["animal"], each["ask"])
        for each in listed
    ]


async def find_top_three(service: KnowledgeService, asked: RecallQuestion) -> list[str]:
    """Fact ids without the animal's; asked as an adult, so that no fact is above the visitor's age."""
    animal = service.get_animal(asked.animal_id)
    assert animal is not None
    facts = await service.retrieve(animal, asked.message, [])
    ranked = await service.rerank(facts, asked.message, [], AgeGroup.ADULT)
    return [fact.fact_id.rpartition("/")[2] for fact in ranked[:3]]


async def tally_questions(service: KnowledgeService, asked: Iterable[RecallQuestion]) -> tuple[Tally, dict[str, Tally]]:
    """Overall, and of each animal."""
    overall = Tally()
    tallies: dict[str, Tally] = {}
    for each in asked:
        top = await find_top_three(service, each)
        for tally in (tallies.setdefault(each.animal_id, Tally()), overall):
            tally.add(top, each.answers)
    return overall, tallies


async def list_false_positives(service: KnowledgeService, asked: Iterable[RecallQuestion]) -> dict[str, list[str]]:
    found = {each.message: await find_top_three(service, each) for each in asked}
    return {message: facts for message, facts in found.items() if facts}


@pytest.fixture(params=["full text", "semantic"])
def way(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def service(request: pytest.FixtureRequest, way: str) -> KnowledgeService:
    service: KnowledgeService = request.getfixturevalue(way.replace(" ", "_"))
    return service


@pytest.mark.parametrize(
    ("file", "least"),
    [
        (QUESTIONS, {"full text": 0.90, "semantic": 0.94}),
        (PARAPHRASES, {"full text": 0.60, "semantic": 0.88}),
        (HELD_OUT, {"full text": 0.50, "semantic": 0.75}),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)
async def test_questions_find_their_facts_among_the_first_three(
    service: KnowledgeService, way: str, report: Report, file: Path, least: dict[str, float]
) -> None:
    """Recall@3 over all animals is as good as it was measured to be; the report shows each animal's, and recall@1."""
    overall, by_animal = await tally_questions(service, load_questions(file))
    names = {animal_id.removesuffix("_001"): tally for animal_id, tally in by_animal.items()}
    in_three = ", ".join(f"{name} {tally.share:.0%}" for name, tally in names.items())
    first = ", ".join(f"{name} {tally.first_share:.0%}" for name, tally in names.items())
    report(f"recall {way:10} {file.stem:16} {overall}  @3 of each: {in_three}")
    report(f"recall {way:10} {file.stem:16} {'':28}  @1 of each: {first}")

    assert overall.asked >= 100
    assert overall.share >= least[way]


async def test_questions_outside_the_facts_find_nothing(service: KnowledgeService) -> None:
    """Nine in ten questions that the keepers' facts do not answer come back empty, so the lion can say so."""
    asked = load_unanswerable(QUESTIONS)

    false_positives = await list_false_positives(service, asked)

    assert len(false_positives) <= 0.10 * len(asked), false_positives


async def test_held_out_questions_outside_the_facts_find_nothing(
    service: KnowledgeService, way: str, report: Report
) -> None:
    """The same for questions that were written before semantic search was, to every animal."""
    asked = load_unanswerable(HELD_OUT)

    false_positives = await list_false_positives(service, asked)

    report(f"unanswerable {way:10} {HELD_OUT.stem}: {len(false_positives)} of {len(asked)} find something")
    assert len(false_positives) <= 0.20 * len(asked), false_positives
