"""Drafts of animals: made, promoted, and compared with the live animal, where both answer the same questions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from openapi_server.knowledge.animal_admin import AnimalAdmin
from openapi_server.knowledge.retrieval.query import Lexicon
from openapi_server.knowledge.service import KnowledgeService
from openapi_server.models.animal import Animal, Fact
from openapi_server.models.errors import DraftExists, DraftNotFound, VersionMismatch
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.models.versioned_document import (
    ChangeKind,
    Document,
    DocumentEdit,
    Draft,
    VersionedDocument,
    find_changed_fields,
)
from openapi_server.protocols import Provider


class DraftAdmin:
    """Drafts of animals: at most one for each animal, until it is promoted. Turns never use drafts."""

    def __init__(self, animals: AnimalAdmin) -> None:
        self._animals = animals
        self._store = animals.store

    async def get_draft(self, animal_id: str) -> Draft:
        draft = await self._store.get_draft(animal_id)
        if draft is None:
            await self._animals.get_document(animal_id)
            raise DraftNotFound("POST /animal/{animalId}/draft makes one.")
        return draft

    async def put_draft(self, edit: DocumentEdit, document: Document) -> Draft:
        """A draft of the version that the keeper has read, which must be the current one.

        `DraftExists` when another keeper has one: one of the two drafts would be lost.
        """
        live = await self._animals.get_expected_version(edit)
        await self._animals.validate(edit.document_id, document, live.document)
        draft = Draft(edit.document_id, document, live.version, edit.by, self._animals.clock.now())
        if not await self._store.put_draft(draft):
            other = await self.get_draft(edit.document_id)
            raise DraftExists(f"{other.by} made one: promote or delete it first. GET /animal/{edit.document_id}/draft")
        return draft

    async def delete_draft(self, animal_id: str) -> None:
        if not await self._store.delete_draft(animal_id):
            await self.get_draft(animal_id)

    async def promote_draft(self, edit: DocumentEdit) -> VersionedDocument:
        """`VersionMismatch` when the animal is not what the draft was made from: later changes would be undone."""
        draft = await self.get_draft(edit.document_id)
        live = await self._animals.get_expected_version(edit)
        if live.version != draft.based_on:
            raise VersionMismatch("The animal was changed after the draft was made: make the draft anew.")
        # Rules may have been added since the draft was made.
        await self._animals.validate(edit.document_id, draft.document, live.document)
        self._animals.require_default_stays_active(edit.document_id, draft.document)
        fields = find_changed_fields(live.document, draft.document)
        change = self._animals.make_change(edit, ChangeKind.PROMOTE, *fields)
        promoted = await self._store.promote_draft(change, live.version, draft)
        if promoted is None:
            raise VersionMismatch
        return promoted


# --- Comparing a draft with the live animal


@dataclass(frozen=True, slots=True)
class SampleQuestion:
    """A question, and the name of the fact that answers it, if that is known."""

    question: str
    fact_name: str | None = None


# Answered from the lines of the animal's `voice`, the last one with "I do not know". Questions that are answered from
# facts would not show changes of these lines.
SMALL_TALK = tuple(
    map(
        SampleQuestion,
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
class SampleAnswer:
    """A reply, and the names of the facts that were chosen for it, best first."""

    reply: str
    fact_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecallCounts:
    """How often the expected fact was chosen first, and how often at all. At most three are chosen."""

    first: int
    among_three: int


async def answer_questions(
    animal: Animal, questions: Sequence[SampleQuestion], age_group: AgeGroup, provider: Provider
) -> list[SampleAnswer]:
    """Answer each question as the first of a session, with indexes of its own.

    Facts are found by full-text search alone: computing sentence vectors of new facts would take too long.
    """
    knowledge = await asyncio.to_thread(lambda: KnowledgeService([animal], Lexicon.load()))
    try:
        answers = []
        for asked in questions:
            answers.append(await _answer(knowledge, animal, asked.question, age_group, provider))
            # Each takes milliseconds, and the offline provider waits for nothing in between.
            await asyncio.sleep(0)
        return answers
    finally:
        knowledge.close()


def count_recall(questions: Sequence[SampleQuestion], answers: Sequence[SampleAnswer]) -> RecallCounts:
    pairs = [
        (asked.fact_name, answer.fact_names)
        for asked, answer in zip(questions, answers, strict=True)
        if asked.fact_name
    ]
    return RecallCounts(sum(fact in facts[:1] for fact, facts in pairs), sum(fact in facts for fact, facts in pairs))


def list_questions(*animals: Animal) -> list[SampleQuestion]:
    """Small talk, and the questions (`asks`) of all facts of the animals, without duplicates."""
    return list(dict.fromkeys([*SMALL_TALK, *(asked for animal in animals for asked in _list_asks(animal))]))


def list_changed_facts(before: Animal, after: Animal) -> list[str]:
    """The names of the facts that were added, removed or changed."""
    old, new = ({get_fact_name(fact): fact for fact in animal.facts} for animal in (before, after))
    return [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]


def get_fact_name(fact: Fact) -> str:
    """The fact's id without the animal's, as in documents."""
    return fact.fact_id.rpartition("/")[2]


async def _answer(
    knowledge: KnowledgeService, animal: Animal, question: str, age_group: AgeGroup, provider: Provider
) -> SampleAnswer:
    found = await knowledge.retrieve(animal, question, ())
    facts = await knowledge.rerank(found, question, (), age_group)
    prompt = Prompt(animal, age_group, question, facts=tuple(facts), is_delivered_whole=True)
    async with aclosing(provider.stream_reply(prompt)) as pieces:
        reply = "".join([piece async for piece in pieces if isinstance(piece, str)])
    return SampleAnswer(reply, tuple(map(get_fact_name, facts)))


def _list_asks(animal: Animal) -> Iterator[SampleQuestion]:
    for fact in animal.facts:
        yield from (SampleQuestion(ask, get_fact_name(fact)) for ask in fact.asks)
