"""The pipeline: the stages from the visitor's message to the animal's reply.

moderate ▸ recall ▸ retrieve ▸ rerank ▸ generate. All but `recall` write an event when they begin and when they end.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from openapi_server.engine.turn_request import TurnRequest
from openapi_server.engine.turn_writer import TurnWriter
from openapi_server.instruments import CheckedText, Instruments
from openapi_server.models.animal import Animal, Fact
from openapi_server.models.errors import ProviderFailed, StoreUnavailable
from openapi_server.models.ids import shorten_id
from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.turn import FinishReason, Moderation, Stage, TurnRecord, Usage
from openapi_server.models.turn_event_order import TurnResult
from openapi_server.moderation.output_buffer import Blocked, OutputBuffer
from openapi_server.moderation.output_stream import stream_checked
from openapi_server.moderation.pii import remove_placeholders
from openapi_server.moderation.prompt_leaks import generate_canary
from openapi_server.protocols import Knowledge, Moderator, Provider, ReplyModerator, Store, Verdict

# How much of a conversation a turn knows: for facts and for all providers. `providers/prompt_history` cuts it further,
# for what a model is sent.
MAX_HISTORY_TURNS = 50
_SURROGATE = re.compile("[\ud800-\udfff]")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages, and what they depend on. `idle_timeout_s`: the longest time between two pieces from the provider."""

    provider: Provider
    knowledge: Knowledge
    moderator: Moderator
    reply_moderator: ReplyModerator
    store: Store
    idle_timeout_s: float
    instruments: Instruments = field(default_factory=Instruments)

    async def run(self, request: TurnRequest, writer: TurnWriter) -> TurnResult:
        """Write one reply to the turn's log, up to its terminal event, which the result describes."""
        verdict = await self._moderate(request, writer)
        if verdict.safe_words is not None:
            await writer.write_text(verdict.safe_words)
            return TurnResult(FinishReason.BLOCKED, moderation=verdict.moderation)
        history = await self._recall(request, writer.turn_id)
        found = await self._retrieve(request, history, writer)
        if request.simulated_error is not None:
            raise request.simulated_error
        facts = await self._rerank(request, history, found, writer)
        prompt = request.build_prompt(history, facts, verdict.guidance, generate_canary())
        result = await self._generate(request, prompt, writer)
        used = [fact.source for fact in facts if result.fact_ids is None or fact.fact_id in result.fact_ids]
        return replace(result, sources=tuple(used), moderation=writer.moderation)

    async def _moderate(self, request: TurnRequest, writer: TurnWriter) -> Verdict:
        await writer.start_stage(Stage.MODERATION, "Reading the message")
        verdict = await self.moderator.check_message(
            request.message, request.animal, request.age_group, (request.unmasked or request).message.strip()
        )
        writer.moderation = verdict.moderation
        self.instruments.metrics.count_rule_hits(CheckedText.MESSAGE, verdict.moderation.categories)
        detail = "Fixed words will answer" if verdict.safe_words else "The message may be answered"
        await writer.complete_stage(Stage.MODERATION, detail)
        return verdict

    async def _recall(self, request: TurnRequest, turn_id: str) -> tuple[Exchange, ...]:
        """The conversation before the turn: as the client sends it, else as it is stored."""
        allowed = await self._filter_client_history(request)
        if request.client_history is not None or request.recalled_session_id is None:
            return allowed
        return allowed + await self._load_history(request, request.recalled_session_id, turn_id)

    async def _load_history(self, request: TurnRequest, session_id: str, turn_id: str) -> tuple[Exchange, ...]:
        try:
            earlier = await self.store.list_latest_turns(session_id, MAX_HISTORY_TURNS)
        except StoreUnavailable:
            if not request.is_storage_optional:
                raise
            log.warning("The store is unavailable: answering without memory")
            return ()
        # Behind the turn are those that wait for it, or were stopped while they waited.
        before = itertools.takewhile(lambda record: record.turn_id != turn_id, earlier)
        return tuple(_make_exchange(record, request.animal) for record in before if record.status.is_final)

    async def _filter_client_history(self, request: TurnRequest) -> tuple[Exchange, ...]:
        """A client may send anything as history, so exchanges that the rules would block are left out."""
        sent = zip(_list_sent(request), _list_sent(request.unmasked or request), strict=True)
        return tuple([each for each, original in sent if await self._is_allowed(request, each, original.message)])

    async def _is_allowed(self, request: TurnRequest, exchange: Exchange, original: str) -> bool:
        # Fifty short messages are checked on the event loop, one after the other: others have their turn between them.
        await asyncio.sleep(0)
        verdict = await self.moderator.check_earlier_message(
            exchange.message, request.animal, request.age_group, original
        )
        return verdict.safe_words is None

    async def _retrieve(self, request: TurnRequest, history: Sequence[Exchange], writer: TurnWriter) -> Sequence[Fact]:
        await writer.start_stage(Stage.RETRIEVAL, "Looking into the keepers' notes")
        found: Sequence[Fact] = ()
        if request.may_retrieve_facts:
            found = await self.knowledge.retrieve(request.animal, remove_placeholders(request.message), history)
        await writer.complete_stage(Stage.RETRIEVAL, f"{_format_fact_count(found)} found", len(found))
        return found

    async def _rerank(
        self, request: TurnRequest, history: Sequence[Exchange], found: Sequence[Fact], writer: TurnWriter
    ) -> Sequence[Fact]:
        await writer.start_stage(Stage.RERANKING, "Choosing what fits the question and the age")
        facts = await self.knowledge.rerank(found, remove_placeholders(request.message), history, request.age_group)
        await writer.complete_stage(Stage.RERANKING, f"{_format_fact_count(facts)} chosen", len(facts))
        return facts

    async def _generate(self, request: TurnRequest, prompt: Prompt, writer: TurnWriter) -> TurnResult:
        """Stream the provider's reply through the output check. A blocked reply ends with the animal's safe words."""
        await writer.start_stage(Stage.GENERATION, f"{prompt.animal.name} is thinking")
        buffer = OutputBuffer(self.reply_moderator.build_check(prompt))

        async def write_checked(texts: Sequence[str]) -> None:
            writer.held_back_ms = round(buffer.held_back_ms)
            whole = list(itertools.takewhile(lambda text: text.isascii() or not _SURROGATE.search(text), texts))
            await writer.write_text(*whole)
            if len(whole) < len(texts):
                # Half a character: it can be neither encoded in UTF-8 nor stored.
                raise ProviderFailed

        last = await stream_checked(self.provider.stream_reply(prompt), buffer, self.idle_timeout_s, write_checked)
        if isinstance(last, Blocked):
            result = await self._withhold(request, last, writer)
        else:
            usage = _count_words_if_unknown(last.usage, writer)
            result = TurnResult(last.finish_reason, (), usage, model=last.model, fact_ids=last.fact_ids)
        if not writer.reply.strip():
            raise ProviderFailed
        await writer.complete_stage(Stage.GENERATION, f"{prompt.animal.name} has spoken")
        return replace(result, held_back_ms=round(buffer.held_back_ms))

    async def _withhold(self, request: TurnRequest, blocked: Blocked, writer: TurnWriter) -> TurnResult:
        """Drop the rest of a reply that was blocked, and end it with the animal's safe words."""
        log.warning("reply_withheld", turn=shorten_id(writer.turn_id), category=blocked.category)
        self.instruments.metrics.count_rule_hits(CheckedText.REPLY, (blocked.category,))
        # The animal's safe words are not the model's.
        usage = writer.usage_so_far
        words = self.reply_moderator.get_safe_words(request.animal, request.age_group)
        await writer.write_text(f" {words}" if writer.reply.strip() else words)
        writer.moderation = Moderation(flagged=True, categories=(blocked.category,))
        return TurnResult(FinishReason.BLOCKED, usage=usage, fact_ids=())


def _count_words_if_unknown(usage: Usage, writer: TurnWriter) -> Usage:
    """The provider's counts; where it has counted nothing of the reply, its words."""
    if usage.completion_tokens:
        return usage
    return replace(usage, completion_tokens=writer.usage_so_far.completion_tokens)


def _format_fact_count(facts: Sequence[Fact]) -> str:
    return "1 fact" if len(facts) == 1 else f"{len(facts)} facts"


def _list_sent(request: TurnRequest) -> tuple[Exchange, ...]:
    """What the request itself has of the conversation before it."""
    opening = (Exchange(request.opening, ""),) if request.opening else ()
    return opening + (request.client_history or ())[-MAX_HISTORY_TURNS:]


def _make_exchange(record: TurnRecord, animal: Animal) -> Exchange:
    """A stored turn as an exchange. Facts of another animal that the session was with are left out."""
    outcome = record.outcome
    reply = (outcome.reply if outcome else None) or ""
    is_same = record.animal_id == animal.animal_id
    fact_ids = tuple(source.fact_id for source in outcome.sources) if outcome and is_same else ()
    return Exchange(record.message, reply, fact_ids)
