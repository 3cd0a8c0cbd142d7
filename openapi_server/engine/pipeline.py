"""The pipeline: what happens to a turn, stage by stage, from the visitor's message to the animal's last word.

moderate ▸ recall ▸ retrieve ▸ rerank ▸ generate. Each stage says in the log when it begins and when it has ended.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from openapi_server.engine.turn_request import TurnRequest
from openapi_server.engine.turn_writer import TurnWriter
from openapi_server.models.animal import Animal, Fact
from openapi_server.models.errors import ProviderFailed, StoreUnavailable
from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.turn import FinishReason, Moderation, Stage, TurnRecord, TurnStatus, shorten_id
from openapi_server.models.turn_events import TurnResult
from openapi_server.moderation.output_buffer import Blocked, OutputBuffer
from openapi_server.moderation.output_stream import stream_checked
from openapi_server.moderation.pii.mask import remove_placeholders
from openapi_server.moderation.prompt_leaks import generate_canary
from openapi_server.protocols import Knowledge, Moderator, Provider, ReplyModerator, Store, Verdict

MAX_HISTORY_TURNS = 50
_SURROGATE = re.compile("[\ud800-\udfff]")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages, and what each of them asks. `idle_timeout_s`: how long the provider may be silent."""

    provider: Provider
    knowledge: Knowledge
    moderator: Moderator
    reply_moderator: ReplyModerator
    store: Store
    idle_timeout_s: float

    async def run(self, question: TurnRequest, turn: TurnWriter) -> TurnResult:
        """Speak one reply into the turn; returns what its last event says."""
        verdict = await self._moderate(question, turn)
        if verdict.safe_words is not None:
            await turn.write_text(verdict.safe_words)
            return TurnResult(FinishReason.BLOCKED, moderation=verdict.moderation)
        history = await self._recall(question)
        found = await self._retrieve(question, history, turn)
        facts = await self._rerank(question, history, found, turn)
        rules = await self.moderator.list_guidance(question.animal, question.age_group, question.message)
        closing = await self._generate(question, question.build_prompt(history, facts, rules, generate_canary()), turn)
        used = [fact.source for fact in facts if closing.fact_ids is None or fact.fact_id in closing.fact_ids]
        return replace(closing, sources=tuple(used), moderation=turn.moderation)

    async def _moderate(self, question: TurnRequest, turn: TurnWriter) -> Verdict:
        await turn.start_stage(Stage.MODERATION, "Reading the message")
        verdict = await self.moderator.check_message(question.message, question.animal, question.age_group)
        turn.moderation = verdict.moderation
        detail = "Fixed words will answer" if verdict.safe_words else "The message may be answered"
        await turn.complete_stage(Stage.MODERATION, detail)
        return verdict

    async def _recall(self, question: TurnRequest) -> tuple[Exchange, ...]:
        """What was said before: as the client tells it, where it does, else as the store has it."""
        opening = (Exchange(question.opening, ""),) if question.opening else ()
        told = await self._filter_client_history(
            question, opening + (question.client_history or ())[-MAX_HISTORY_TURNS:]
        )
        if question.client_history is not None or question.recalled_session_id is None:
            return told
        return told + await self._load_history(question, question.recalled_session_id)

    async def _load_history(self, question: TurnRequest, session_id: str) -> tuple[Exchange, ...]:
        try:
            earlier = await self.store.list_latest_turns(session_id, MAX_HISTORY_TURNS)
        except StoreUnavailable:
            if not question.is_storage_optional:
                raise
            log.warning("The store is away: answering without memory")
            return ()
        animal = question.animal
        return tuple(_make_exchange(record, animal) for record in earlier if record.status is not TurnStatus.RUNNING)

    async def _filter_client_history(self, question: TurnRequest, told: Sequence[Exchange]) -> tuple[Exchange, ...]:
        """Nobody has checked what a client says was said before: what the rules would stop is left out."""
        return tuple([exchange for exchange in told if await self._is_allowed(question, exchange)])

    async def _is_allowed(self, question: TurnRequest, exchange: Exchange) -> bool:
        verdict = await self.moderator.check_earlier_message(exchange.message, question.animal, question.age_group)
        return verdict.safe_words is None

    async def _retrieve(self, question: TurnRequest, history: Sequence[Exchange], turn: TurnWriter) -> Sequence[Fact]:
        await turn.start_stage(Stage.RETRIEVAL, "Looking into the keepers' notes")
        found: Sequence[Fact] = ()
        if question.may_retrieve_facts:
            found = await self.knowledge.retrieve(question.animal, remove_placeholders(question.message), history)
        await turn.complete_stage(Stage.RETRIEVAL, f"{_format_fact_count(found)} found", len(found))
        return found

    async def _rerank(
        self, question: TurnRequest, history: Sequence[Exchange], found: Sequence[Fact], turn: TurnWriter
    ) -> Sequence[Fact]:
        await turn.start_stage(Stage.RERANKING, "Choosing what fits the question and the age")
        facts = await self.knowledge.rerank(found, remove_placeholders(question.message), history, question.age_group)
        await turn.complete_stage(Stage.RERANKING, f"{_format_fact_count(facts)} chosen", len(facts))
        return facts

    async def _generate(self, question: TurnRequest, prompt: Prompt, turn: TurnWriter) -> TurnResult:
        """What the mind says, once it was checked; what must not be said ends it with the animal's safe words."""
        await turn.start_stage(Stage.GENERATION, f"{prompt.animal.name} is thinking")
        gate = OutputBuffer(self.reply_moderator.build_check(prompt))

        async def say(words: str) -> None:
            if _SURROGATE.search(words):
                # Half a character: no stream and no store can carry it.
                raise ProviderFailed
            turn.held_back_ms = round(gate.held_back_ms)
            await turn.write_text(words)

        last = await stream_checked(self.provider.stream_reply(prompt), gate, self.idle_timeout_s, say)
        if isinstance(last, Blocked):
            closing = await self._withhold(question, last, turn)
        else:
            closing = TurnResult(last.finish_reason, (), last.usage, model=last.model, fact_ids=last.fact_ids)
        if not turn.reply.strip():
            raise ProviderFailed
        await turn.complete_stage(Stage.GENERATION, f"{prompt.animal.name} has spoken")
        return replace(closing, held_back_ms=round(gate.held_back_ms))

    async def _withhold(self, question: TurnRequest, blocked: Blocked, turn: TurnWriter) -> TurnResult:
        """The rest of a reply that must not be said is never said; the animal's own words end it."""
        log.warning("reply_withheld", turn=shorten_id(turn.turn_id), category=blocked.category)
        words = self.reply_moderator.get_safe_words(question.animal, question.age_group)
        await turn.write_text(f" {words}" if turn.reply.strip() else words)
        turn.moderation = Moderation(flagged=True, categories=(blocked.category,))
        return TurnResult(FinishReason.BLOCKED, usage=turn.usage_so_far, fact_ids=())


def _format_fact_count(facts: Sequence[Fact]) -> str:
    return "1 fact" if len(facts) == 1 else f"{len(facts)} facts"


def _make_exchange(record: TurnRecord, animal: Animal) -> Exchange:
    """Facts are only this animal's to refer to: another one that the session was with told its own."""
    outcome = record.outcome
    reply = (outcome.reply if outcome else None) or ""
    is_same = record.animal_id == animal.animal_id
    fact_ids = tuple(source.fact_id for source in outcome.sources) if outcome and is_same else ()
    return Exchange(record.message, reply, fact_ids)
