"""A model provider that may fail, with retries and a fallback provider that cannot.

Before the first text of a reply, failures are retried, and in the end the fallback writes the whole reply: the visitor
has read nothing yet. After the first text a failure ends the turn, because another model cannot continue the sentence.
A reply that does not stop is cut.
"""

# The retry loop is our own: tenacity and stamina would need our wait, stop and retry conditions as functions, which are
# as many lines as the loop, and take 50 to 90 ms to import.

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from openapi_server.circuit_breaker import Attempt, CircuitBreaker
from openapi_server.models.animal import Animal
from openapi_server.models.errors import ProviderFailed
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import FinishReason, Usage
from openapi_server.protocols import Clock, Model, Provider, ProviderState, ReplyEnd, WholeReply
from openapi_server.providers.failures import FailureKind, ProviderError, ReplyTooLong

# The longest wait before the first retry, in seconds; doubled for each further one.
MAX_FIRST_BACKOFF_S = 0.5
# Much longer than any reply; protects the memory from servers that never stop sending.
MAX_REPLY_CHARACTERS = 65_536

log = structlog.get_logger(__name__)


class ModelProvider(Provider, Protocol):
    """A provider of a language model: it has connections to close, and streams replies that it does not know before."""

    def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | ReplyEnd, None]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`first_token_timeout_s`: the longest wait for the first text, over all retries, before the fallback answers."""

    first_token_timeout_s: float
    max_retries: int


@dataclass(frozen=True, slots=True)
class StartedReply:
    """A reply whose first text has come, and the generator of the rest."""

    first_text: str
    pieces: AsyncGenerator[str | ReplyEnd, None]
    attempt: Attempt


class FallbackProvider:
    """Implements `Provider`. `jitter`: a factor from 0 to 1 for each wait, so that turns do not retry in step."""

    def __init__(
        self,
        primary: ModelProvider,
        fallback: Provider,
        breaker: CircuitBreaker,
        retry_policy: RetryPolicy,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._primary = primary
        self._fallback = fallback
        self._breaker = breaker
        self._retry_policy = retry_policy
        self._clock = clock
        self._jitter = jitter
        self._state = ProviderState()

    @property
    def model(self) -> str:
        return self._current_provider.model

    def list_models(self) -> Sequence[Model]:
        return self._primary.list_models()

    def get_model(self, animal: Animal) -> Model:
        return self._current_provider.get_model(animal)

    def get_state(self) -> ProviderState:
        return self._state

    async def close(self) -> None:
        await self._primary.close()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        reply = await self._start_reply(prompt)
        chunks = self._continue_reply(reply) if reply else self._stream_fallback(prompt)
        async with aclosing(chunks):
            async for piece in chunks:
                yield piece

    @property
    def _current_provider(self) -> Provider:
        """The provider that would answer a turn that starts now."""
        return self._fallback if self._breaker.is_open else self._primary

    async def _start_reply(self, prompt: Prompt) -> StartedReply | None:
        """The first text, after as many attempts as the policy allows; None when the fallback must answer."""
        deadline_s = asyncio.get_running_loop().time() + self._retry_policy.first_token_timeout_s
        for retry_count in range(self._retry_policy.max_retries + 1):
            attempt = self._breaker.start_attempt()
            if attempt is None:
                return None
            reply: StartedReply | None = None
            try:
                async with asyncio.timeout_at(deadline_s):
                    reply = await self._read_first_text(prompt, attempt)
                return reply
            except (ProviderFailed, TimeoutError) as failure:
                if not await self._wait_for_retry(failure, attempt, retry_count, deadline_s):
                    return None
            finally:
                if reply is None:
                    attempt.cancel()
        return None

    async def _read_first_text(self, prompt: Prompt, attempt: Attempt) -> StartedReply:
        pieces = self._primary.stream_reply(prompt)
        try:
            async for piece in pieces:
                if isinstance(piece, ReplyEnd):
                    raise self._make_empty_reply_error(piece)
                # Many models start with a line end, which is not text yet.
                if isinstance(piece, str) and piece.strip():
                    if len(piece) > MAX_REPLY_CHARACTERS:
                        log.warning("provider_failed", failure="reply too long")
                        raise ProviderError
                    return StartedReply(piece.lstrip(), pieces, attempt)
            raise self._make_empty_reply_error(ReplyEnd())
        except BaseException:
            # Also when cancelled: no other code knows this generator yet, and could close it.
            await pieces.aclose()
            raise

    def _make_empty_reply_error(self, end: ReplyEnd) -> ProviderError:
        """An empty reply may be retried, unless the model's own content filter blocked it."""
        log.warning("provider_failed", failure="empty reply", finish_reason=end.finish_reason.value)
        return ProviderError(
            FailureKind.REQUEST if end.finish_reason is FinishReason.BLOCKED else FailureKind.TRANSIENT
        )

    async def _wait_for_retry(
        self, failure: ProviderFailed | TimeoutError, attempt: Attempt, retry_count: int, deadline_s: float
    ) -> bool:
        """Record the failure and wait before the next attempt; false when there must not be one."""
        if isinstance(failure, TimeoutError):
            log.warning(
                "provider_failed", failure="first token timeout", waited_s=self._retry_policy.first_token_timeout_s
            )
        kind = failure.kind if isinstance(failure, ProviderError) else FailureKind.TRANSIENT
        if kind is not FailureKind.REQUEST:
            attempt.record_failure()
            self._record(failure.reason if isinstance(failure, ProviderError) else "no text came in time")
        if kind is not FailureKind.TRANSIENT or retry_count == self._retry_policy.max_retries or self._breaker.is_open:
            return False
        wait_s = MAX_FIRST_BACKOFF_S * 2**retry_count * self._jitter()
        if isinstance(failure, ProviderError):
            wait_s = max(wait_s, failure.get_wait_s(self._clock) or 0)
        # A retry after the deadline is of no use, so the fallback answers now.
        if asyncio.get_running_loop().time() + wait_s >= deadline_s:
            return False
        await asyncio.sleep(wait_s)
        return True

    async def _continue_reply(self, reply: StartedReply) -> AsyncGenerator[str | ReplyEnd, None]:
        length = len(reply.first_text)
        waiting_since_s: float | None = None
        async with aclosing(reply.pieces) as pieces:
            try:
                yield reply.first_text
                waiting_since_s = self._clock.monotonic()
                async for piece in pieces:
                    waiting_since_s = None
                    if isinstance(piece, ReplyEnd):
                        reply.attempt.record_success()
                        self._record(None)
                        yield piece
                        return
                    room, length = MAX_REPLY_CHARACTERS - length, length + len(piece)
                    yield piece[:room]
                    if len(piece) > room:
                        log.warning("provider_failed", failure="reply too long")
                        raise ReplyTooLong(reason="the reply was too long")
                    waiting_since_s = self._clock.monotonic()
                raise ProviderError
            except ReplyTooLong as failure:
                reply.attempt.record_failure()
                self._record(failure.reason)
                # The server has not told its counts.
                tokens = min(length, MAX_REPLY_CHARACTERS) // 3
                yield ReplyEnd(FinishReason.LENGTH, Usage(0, tokens))
            except ProviderFailed as failure:
                reply.attempt.record_failure()
                self._record(failure.reason if isinstance(failure, ProviderError) else "the reply was not complete")
                raise
            finally:
                self._record_early_end(reply.attempt, waiting_since_s)

    def _record_early_end(self, attempt: Attempt, waiting_since_s: float | None) -> None:
        """Record a reply that was cancelled: a failure after a long silence; nothing when the visitor just left."""
        if (
            waiting_since_s is not None
            and self._clock.monotonic() >= waiting_since_s + self._retry_policy.first_token_timeout_s
        ):
            attempt.record_failure()
            self._record("the reply stopped in the middle")
        attempt.cancel()

    def _record(self, failure: str | None) -> None:
        """Remember what a turn met, and log it when it is something else than the turn before met."""
        if failure != self._state.failure:
            if failure is None:
                log.info("provider_up", model=self._primary.model)
            else:
                log.error("provider_down", model=self._primary.model, reason=failure)
        self._state = ProviderState(self._clock.now(), failure)

    async def _stream_fallback(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        log.warning("fallback_used", instead_of=self._primary.get_model(prompt.animal).model_id)
        model = self._fallback.get_model(prompt.animal).model_id
        async with aclosing(self._fallback.stream_reply(prompt)) as pieces:
            async for piece in pieces:
                yield replace(piece, model=model) if isinstance(piece, ReplyEnd) else piece
