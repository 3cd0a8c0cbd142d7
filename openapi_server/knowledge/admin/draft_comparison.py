"""Comparing: what a draft would say, beside what the animal says now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from openapi_server.knowledge.retrieval.synonyms import Lexicon
from openapi_server.knowledge.service import AnimalLibrary
from openapi_server.models.animal import Animal, Fact, Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.protocols import Provider


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the name of the fact that answers it, where somebody knows."""

    question: str
    fact: str | None = None


# What the lines of a voice answer, the last one with "I do not know": no fact would show that they were changed.
SMALL_TALK = tuple(
    map(
        Asked,
        (
            "Hello!",
            "How are you?",
            "Who are you?",
            "Tell me a joke!",
            "Thank you!",
            "Goodbye!",
            "Roar!",
            "What is the capital of France?",
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said, and the names of the facts that were chosen for it, best first."""

    reply: str
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recall:
    """How often the right fact came first, and how often it was among those chosen, which are three at most."""

    first: int
    among_three: int


async def answers(animal: Animal, questions: Sequence[Asked], age_group: AgeGroup, voice: Provider) -> list[Answer]:
    """Each question asked for itself, in a library where nobody else lives: no visitor waits for it, or hears of it.

    Facts are found by words alone: to learn what new ones mean takes too long to wait for.
    """
    library = await asyncio.to_thread(lambda: AnimalLibrary([animal], Lexicon.load()))
    try:
        return [await _answer(library, animal, asked.question, age_group, voice) for asked in questions]
    finally:
        library.close()


def recall(questions: Sequence[Asked], given: Sequence[Answer]) -> Recall:
    pairs = [(asked.fact, answer.facts) for asked, answer in zip(questions, given, strict=True) if asked.fact]
    return Recall(sum(fact in facts[:1] for fact, facts in pairs), sum(fact in facts for fact, facts in pairs))


def question_set(*animals: Animal) -> list[Asked]:
    """Small talk, and all that visitors ask, as the facts of the animals say; each once."""
    return list(dict.fromkeys([*SMALL_TALK, *(asked for animal in animals for asked in _asks(animal))]))


def changed_facts(before: Animal, after: Animal) -> list[str]:
    """The names of the facts that came, went, or say something else."""
    old, new = ({name_of(fact): fact for fact in animal.facts} for animal in (before, after))
    return [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]


def name_of(fact: Fact) -> str:
    """Its id without the animal's, as keepers write it."""
    return fact.fact_id.rpartition("/")[2]


async def _answer(
    library: AnimalLibrary, animal: Animal, question: str, age_group: AgeGroup, voice: Provider
) -> Answer:
    found = await library.retrieve(animal, question, ())
    facts = await library.rerank(found, question, (), age_group)
    prompt = Prompt(animal, age_group, question, facts=tuple(facts), is_read_whole=True)
    async with aclosing(voice.speak(prompt)) as pieces:
        reply = "".join([piece async for piece in pieces if isinstance(piece, str)])
    return Answer(reply, tuple(map(name_of, facts)))


def _asks(animal: Animal) -> Iterator[Asked]:
    for fact in animal.facts:
        yield from (Asked(ask, name_of(fact)) for ask in fact.asks)
