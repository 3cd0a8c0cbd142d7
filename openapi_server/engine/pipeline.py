"""The pipeline: what happens to a turn, stage by stage, from the visitor's message to the animal's last word.

moderate ▸ recall ▸ retrieve ▸ rerank ▸ generate. Each stage says in the log when it begins and when it has ended.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from openapi_server.animals import Animal, Exchange, Fact, Prompt
from openapi_server.engine.question import Question
from openapi_server.engine.writer import TurnWriter
from openapi_server.errors import IdleTimeout, ProviderFailed, StoreUnavailable
from openapi_server.interfaces import Knowledge, Moderator, Provider, Spoken, Store, Verdict
from openapi_server.narration import Closing
from openapi_server.records import TurnRecord
from openapi_server.turn import FinishReason, Stage, TurnStatus

RECALLED_TURNS = 50
_SURROGATE = re.compile("[\ud800-\udfff]")

log = structlog.get_logger(__name__)


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
        spoken = await self._generate(question.prompt(history, facts), turn)
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
        """What was said before: as the client tells it, where it does, else as the store has it."""
        opening = (Exchange(question.opening, ""),) if question.opening else ()
        told = await self._harmless(question, opening + (question.told or ())[-RECALLED_TURNS:])
        if question.told is not None or question.recalled_session_id is None:
            return told
        return told + await self._remembered(question, question.recalled_session_id)

    async def _remembered(self, question: Question, session_id: str) -> tuple[Exchange, ...]:
        try:
            earlier = await self.store.latest_turns(session_id, RECALLED_TURNS)
        except StoreUnavailable:
            if not question.may_go_unstored:
                raise
            log.warning("The store is away: answering without memory")
            return ()
        animal = question.animal
        return tuple(_exchange(record, animal) for record in earlier if record.status is not TurnStatus.RUNNING)

    async def _harmless(self, question: Question, told: Sequence[Exchange]) -> tuple[Exchange, ...]:
        """Nobody has checked what a client says was said before: what the rules would stop is left out."""
        return tuple([exchange for exchange in told if await self._is_harmless(question, exchange)])

    async def _is_harmless(self, question: Question, exchange: Exchange) -> bool:
        verdict = await self.moderator.check(exchange.message, question.animal, question.age_group)
        return verdict.safe_words is None

    async def _retrieve(self, question: Question, history: Sequence[Exchange], turn: TurnWriter) -> Sequence[Fact]:
        await turn.stage_started(Stage.RETRIEVAL, "Looking into the keepers' notes")
        found: Sequence[Fact] = ()
        if question.may_look_up:
            found = await self.knowledge.retrieve(question.animal, question.message, history)
        await turn.stage_complete(Stage.RETRIEVAL, f"{_counted(found)} found", len(found))
        return found

    async def _rerank(
        self, question: Question, history: Sequence[Exchange], found: Sequence[Fact], turn: TurnWriter
    ) -> Sequence[Fact]:
        await turn.stage_started(Stage.RERANKING, "Choosing what fits the question and the age")
        facts = await self.knowledge.rerank(found, question.message, history, question.age_group)
        await turn.stage_complete(Stage.RERANKING, f"{_counted(facts)} chosen", len(facts))
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


def _exchange(record: TurnRecord, animal: Animal) -> Exchange:
    """Facts are only this animal's to refer to: another one that the session was with told its own."""
    outcome = record.outcome
    reply = (outcome.reply if outcome else None) or ""
    is_same = record.animal_id == animal.animal_id
    fact_ids = tuple(source.fact_id for source in outcome.sources) if outcome and is_same else ()
    return Exchange(record.message, reply, fact_ids)
