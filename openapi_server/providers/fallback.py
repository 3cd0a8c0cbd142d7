"""Resilience: a mind that may fail, and a voice that cannot, behind one provider.

Until the mind's first word everything can be tried again, and in the end the fallback speaks the whole reply: nobody
has heard anything yet. After it a failure is a failure, for no other voice can end a sentence that this one began.
"""

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
from openapi_server.models.turn import FinishReason
from openapi_server.protocols import Clock, Model, Provider, ReplyEnd, WholeReply
from openapi_server.providers.failures import FailureKind, ProviderError

# Before the first retry, at most, in seconds; twice as long before each further one.
MAX_FIRST_BACKOFF_S = 0.5
# No animal talks that long, whatever a server sends.
MAX_REPLY_CHARACTERS = 65_536

log = structlog.get_logger(__name__)


class ModelProvider(Provider, Protocol):
    """A provider that holds connections, and cannot know its reply before it has said it."""

    def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | ReplyEnd, None]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`first_token_s`: how long a visitor waits for the first word, through all retries, until the fallback speaks."""

    first_token_timeout_s: float
    max_retries: int


@dataclass(frozen=True, slots=True)
class StartedReply:
    """A reply that has begun: its first word, and where the others come from."""

    first_text: str
    pieces: AsyncGenerator[str | ReplyEnd, None]
    attempt: Attempt


class FallbackProvider:
    """Implements `Provider`. `jitter` gives a number from 0 to 1, so that not all turns try again at once."""

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

    @property
    def model(self) -> str:
        return self._current_provider.model

    def list_models(self) -> Sequence[Model]:
        return self._primary.list_models()

    def get_model(self, animal: Animal) -> Model:
        return self._current_provider.get_model(animal)

    async def close(self) -> None:
        await self._primary.close()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        opened = await self._start_reply(prompt)
        speech = self._continue_reply(opened) if opened else self._stream_fallback(prompt)
        async with aclosing(speech):
            async for piece in speech:
                yield piece

    @property
    def _current_provider(self) -> Provider:
        """Who would speak now."""
        return self._fallback if self._breaker.is_open else self._primary

    async def _start_reply(self, prompt: Prompt) -> StartedReply | None:
        """The first word, after as many attempts as patience allows; None: let the fallback speak."""
        deadline_s = asyncio.get_running_loop().time() + self._retry_policy.first_token_timeout_s
        for number in range(self._retry_policy.max_retries + 1):
            attempt = self._breaker.start_attempt()
            if attempt is None:
                return None
            opened: StartedReply | None = None
            try:
                async with asyncio.timeout_at(deadline_s):
                    opened = await self._read_first_text(prompt, attempt)
                return opened
            except (ProviderFailed, TimeoutError) as failure:
                if not await self._wait_for_retry(failure, attempt, number, deadline_s):
                    return None
            finally:
                if opened is None:
                    attempt.cancel()
        return None

    async def _read_first_text(self, prompt: Prompt, attempt: Attempt) -> StartedReply:
        pieces = self._primary.stream_reply(prompt)
        try:
            async for piece in pieces:
                if isinstance(piece, ReplyEnd):
                    raise self._make_empty_reply_error(piece)
                # Models like to begin with a line end; that is no word yet.
                if isinstance(piece, str) and piece.strip():
                    self._check_length(len(piece))
                    return StartedReply(piece.lstrip(), pieces, attempt)
            raise self._make_empty_reply_error(ReplyEnd())
        except BaseException:
            # Given up from outside, too: nobody else knows of these pieces yet, and would close them.
            await pieces.aclose()
            raise

    def _make_empty_reply_error(self, spoken: ReplyEnd) -> ProviderError:
        """Asked again it may say something, unless its own rules forbade it."""
        log.warning("provider_failed", failure="empty reply", finish_reason=spoken.finish_reason.value)
        return ProviderError(
            FailureKind.REQUEST if spoken.finish_reason is FinishReason.BLOCKED else FailureKind.TRANSIENT
        )

    def _check_length(self, characters: int) -> None:
        if characters > MAX_REPLY_CHARACTERS:
            log.warning("provider_failed", failure="endless reply")
            raise ProviderError

    async def _wait_for_retry(
        self, failure: ProviderFailed | TimeoutError, attempt: Attempt, number: int, deadline_s: float
    ) -> bool:
        """Tell the breaker, and wait before the next attempt where there is to be one."""
        if isinstance(failure, TimeoutError):
            log.warning("provider_failed", failure="no first word", waited_s=self._retry_policy.first_token_timeout_s)
        cause = failure.cause if isinstance(failure, ProviderError) else FailureKind.TRANSIENT
        if cause is not FailureKind.REQUEST:
            attempt.record_failure()
        if cause is not FailureKind.TRANSIENT or number == self._retry_policy.max_retries or self._breaker.is_open:
            return False
        wait_s = MAX_FIRST_BACKOFF_S * 2**number * self._jitter()
        if isinstance(failure, ProviderError):
            wait_s = max(wait_s, failure.get_wait_s(self._clock) or 0)
        # Who would have to wait beyond the deadline need not wait at all.
        if asyncio.get_running_loop().time() + wait_s >= deadline_s:
            return False
        await asyncio.sleep(wait_s)
        return True

    async def _continue_reply(self, opened: StartedReply) -> AsyncGenerator[str | ReplyEnd, None]:
        said = len(opened.first_text)
        waiting_since_s: float | None = None
        async with aclosing(opened.pieces) as pieces:
            try:
                yield opened.first_text
                waiting_since_s = self._clock.monotonic()
                async for piece in pieces:
                    waiting_since_s = None
                    if isinstance(piece, ReplyEnd):
                        opened.attempt.record_success()
                        yield piece
                        return
                    said += len(piece)
                    self._check_length(said)
                    yield piece
                    waiting_since_s = self._clock.monotonic()
                raise ProviderError
            except ProviderFailed:
                opened.attempt.record_failure()
                raise
            finally:
                self._record_early_end(opened.attempt, waiting_since_s)

    def _record_early_end(self, attempt: Attempt, waiting_since_s: float | None) -> None:
        """Cut short from outside: by a visitor, which says nothing, or for a silence, which is a failure."""
        if (
            waiting_since_s is not None
            and self._clock.monotonic() >= waiting_since_s + self._retry_policy.first_token_timeout_s
        ):
            attempt.record_failure()
        attempt.cancel()

    async def _stream_fallback(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        log.warning("fallback_speaks", instead_of=self._primary.get_model(prompt.animal).model_id)
        model = self._fallback.get_model(prompt.animal).model_id
        async with aclosing(self._fallback.stream_reply(prompt)) as pieces:
            async for piece in pieces:
                yield replace(piece, model=model) if isinstance(piece, ReplyEnd) else piece
