"""The pipeline: what happens to a turn, stage by stage, from the visitor's message to the animal's last word.

moderate ▸ recall ▸ retrieve ▸ rerank ▸ generate. Each stage says in the log when it begins and when it has ended.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from openapi_server.animals import Animal, Exchange, Fact, Prompt
from openapi_server.engine.writer import TurnWriter
from openapi_server.errors import IdleTimeout, ProviderFailed
from openapi_server.interfaces import Knowledge, Moderator, Provider, Spoken, Store, Verdict
from openapi_server.narration import Closing
from openapi_server.records import TurnRecord
from openapi_server.turn import AgeGroup, FinishReason, Stage, TurnStatus

RECALLED_TURNS = 50
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Question:
    """What a visitor asks: who is asked, what, and by whom. `session_id` None begins a new session."""

    animal: Animal
    message: str
    age_group: AgeGroup = AgeGroup.ELEMENTARY
    session_id: str | None = None
    owner: str | None = None
    context_summary: str | None = None
    metadata: str | None = None
    is_cancelled_on_disconnect: bool = False


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages, and what each of them asks. `idle_timeout_s`: how long the provider may be silent."""

    provider: Provider
    knowledge: Knowledge
    moderator: Moderator
    store: Store
    idle_timeout_s: float

    async def run(self, question: Question, turn: TurnWriter) -> Closing:
        """Speak one reply into the turn; returns what its last event says."""
        verdict = await self._moderate(question, turn)
        if verdict.safe_words is not None:
            await turn.say(verdict.safe_words)
            return Closing(FinishReason.BLOCKED, moderation=verdict.moderation)
        history = await self._recall(question)
        found = await self._retrieve(question, history, turn)
        facts = await self._rerank(question, history, found, turn)
        spoken = await self._generate(_prompt(question, history, facts), turn)
        used = facts if spoken.fact_ids is None else [fact for fact in facts if fact.fact_id in spoken.fact_ids]
        sources = tuple(fact.source for fact in used)
        return Closing(spoken.finish_reason, sources, spoken.usage, verdict.moderation)

    async def _moderate(self, question: Question, turn: TurnWriter) -> Verdict:
        await turn.stage_started(Stage.MODERATION, "Reading the message")
        verdict = await self.moderator.check(question.message, question.animal, question.age_group)
        turn.moderation = verdict.moderation
        detail = "Fixed words will answer" if verdict.safe_words else "The message may be answered"
        await turn.stage_complete(Stage.MODERATION, detail)
        return verdict

    async def _recall(self, question: Question) -> tuple[Exchange, ...]:
        if question.session_id is None:
            return ()
        earlier = await self.store.latest_turns(question.session_id, RECALLED_TURNS)
        return tuple(_exchange(record) for record in earlier if record.status is not TurnStatus.RUNNING)

    async def _retrieve(self, question: Question, history: Sequence[Exchange], turn: TurnWriter) -> Sequence[Fact]:
        await turn.stage_started(Stage.RETRIEVAL, "Looking into the keepers' notes")
        found = await self.knowledge.retrieve(question.animal, question.message, history)
        await turn.stage_complete(Stage.RETRIEVAL, f"{_counted(found)} found")
        return found

    async def _rerank(
        self, question: Question, history: Sequence[Exchange], found: Sequence[Fact], turn: TurnWriter
    ) -> Sequence[Fact]:
        await turn.stage_started(Stage.RERANKING, "Choosing what fits the question and the age")
        facts = await self.knowledge.rerank(found, question.message, history, question.age_group)
        await turn.stage_complete(Stage.RERANKING, f"{_counted(facts)} chosen")
        return facts

    async def _generate(self, prompt: Prompt, turn: TurnWriter) -> Spoken:
        await turn.stage_started(Stage.GENERATION, f"{prompt.animal.name} is thinking")
        spoken: Spoken | None = None
        now = asyncio.get_running_loop().time
        try:
            # One timeout, pushed back with every piece: it only runs while the provider keeps us waiting.
            async with asyncio.timeout(None) as patience, aclosing(self.provider.speak(prompt)) as pieces:
                patience.reschedule(now() + self.idle_timeout_s)
                async for piece in pieces:
                    patience.reschedule(None)
                    if isinstance(piece, Spoken):
                        spoken = piece
                    elif _SURROGATE.search(piece):
                        # Half a character: no stream and no store can carry it.
                        raise ProviderFailed
                    else:
                        await turn.say(piece)
                    patience.reschedule(now() + self.idle_timeout_s)
        except TimeoutError:
            raise IdleTimeout from None
        if spoken is None or not turn.reply.strip():
            raise ProviderFailed
        await turn.stage_complete(Stage.GENERATION, f"{prompt.animal.name} has spoken")
        return spoken


def _counted(facts: Sequence[Fact]) -> str:
    return "1 fact" if len(facts) == 1 else f"{len(facts)} facts"


def _exchange(record: TurnRecord) -> Exchange:
    outcome = record.outcome
    reply = (outcome.reply if outcome else None) or ""
    fact_ids = tuple(source.fact_id for source in outcome.sources) if outcome else ()
    return Exchange(record.message, reply, fact_ids)


def _prompt(question: Question, history: tuple[Exchange, ...], facts: Sequence[Fact]) -> Prompt:
    return Prompt(
        animal=question.animal,
        age_group=question.age_group,
        message=question.message,
        history=history,
        facts=tuple(facts),
        context_summary=question.context_summary,
    )
