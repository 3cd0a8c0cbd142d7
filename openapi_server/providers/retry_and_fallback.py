"""A model provider that may fail, with retries and a fallback provider that cannot.

Before the first text of a reply, failures are retried, and in the end the fallback writes the whole reply: the visitor
has read nothing yet. After the first text a failure ends the turn, because another model cannot continue the sentence.
A reply that does not stop is cut.
"""

# The retry loop is our own: tenacity and stamina would need our wait, stop and retry conditions as functions, which are
# as many lines as the loop, and take 50 to 90 ms to import.

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from openapi_server import linear_regex
from openapi_server.circuit_breaker import Attempt, CircuitBreaker
from openapi_server.models.animal import Animal
from openapi_server.models.errors import ProviderFailed
from openapi_server.models.hidden_characters import is_blank
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import FinishReason, Usage
from openapi_server.protocols import KEEP_ALIVE, Clock, KeepAlive, Model, Provider, ProviderState, ReplyEnd, WholeReply
from openapi_server.providers.failures import FailureKind, ProviderError, ReplyTooLong
from openapi_server.providers.options import DRAIN_TIMEOUT_S, estimate_usage
from openapi_server.providers.prompt_history import make_messages
from openapi_server.providers.prompt_template import render_system_prompt
from openapi_server.providers.reply_cleaner import ReplyCleaner

# The longest wait before the first retry, in seconds; doubled for each further one.
MAX_FIRST_BACKOFF_S = 0.5
# Much longer than any reply; protects the memory from servers that never stop sending.
MAX_REPLY_CHARACTERS = 65_536
# The same with the thoughts of the model, which are dropped as they come.
MAX_OUTPUT_CHARACTERS = 2_097_152
# How long a whole sentence waits for the next one where it may be a thought: models think fast, or not at all.
SENTENCE_WAIT_S = 0.25
# Models whose chat template writes the opening mark of their thoughts, so that their replies begin inside one.
_NAMED_THINKERS = linear_regex.compile_detector(
    (), ["deepseek[-_. ]?r1", "r1[-_]distill", "qwq", "qwen3[a-z0-9._-]{0,40}thinking", "exaone[-_]deep", "glm[-_]z1"]
)
# How many pieces are read ahead.
_MAX_QUEUED = 16

log = structlog.get_logger(__name__)


class ModelProvider(Provider, Protocol):
    """A provider of a language model: it has connections to close, and streams replies that it does not know before."""

    def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | KeepAlive | ReplyEnd, None]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long the first text may take, over all retries, before the fallback answers.

    `first_token_timeout_s` is the longest silence: it begins anew whenever the provider is known to work. Blanks are
    silence. `max_first_text_s` is the longest wait in any case.
    """

    first_token_timeout_s: float
    max_retries: int
    max_first_text_s: float = math.inf


@dataclass(frozen=True, slots=True)
class StartedReply:
    """A reply whose first text has come, and the generator of the rest."""

    first_text: str
    pieces: AsyncGenerator[str | KeepAlive | ReplyEnd, None]
    attempt: Attempt


class _FirstTextDeadline:
    """When the first text has to be there, in the time of the event loop."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._silence_s = policy.first_token_timeout_s
        now_s = asyncio.get_running_loop().time()
        self._latest_s = now_s + max(policy.max_first_text_s, policy.first_token_timeout_s)
        self.at_s = now_s + self._silence_s

    def extend(self) -> None:
        self.at_s = min(asyncio.get_running_loop().time() + self._silence_s, self._latest_s)


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
        # What the last replies of a model have shown.
        self._begins_in_thought: dict[str, bool] = {}

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

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | KeepAlive | ReplyEnd, None]:
        reply: StartedReply | None = None
        started_s = asyncio.get_running_loop().time()
        async with aclosing(self._start_reply(prompt)) as attempts:
            async for step in attempts:
                if isinstance(step, KeepAlive):
                    yield step
                else:
                    reply = step
        if reply is None and asyncio.get_running_loop().time() > started_s + self._retry_policy.max_first_text_s / 2:
            # Paced for reading, the fallback's reply could take longer than the turn still has.
            prompt = replace(prompt, is_delivered_whole=True)
        chunks = self._continue_reply(reply) if reply else self._stream_fallback(prompt)
        async with aclosing(chunks):
            async for piece in chunks:
                yield piece

    @property
    def _current_provider(self) -> Provider:
        """The provider that would answer a turn that starts now."""
        return self._fallback if self._breaker.is_open else self._primary

    async def _start_reply(self, prompt: Prompt) -> AsyncGenerator[KeepAlive | StartedReply, None]:
        """The first text, after as many attempts as the policy allows; nothing when the fallback must answer."""
        deadline = _FirstTextDeadline(self._retry_policy)
        for retry_count in range(self._retry_policy.max_retries + 1):
            attempt = self._breaker.start_attempt()
            if attempt is None:
                return
            has_started = False
            try:
                async with aclosing(self._read_first_text(prompt, attempt, deadline)) as steps:
                    async for step in steps:
                        has_started = isinstance(step, StartedReply)
                        yield step
                if has_started:
                    return
            except (ProviderFailed, TimeoutError) as failure:
                if not await self._wait_for_retry(failure, attempt, retry_count, deadline.at_s):
                    return
            finally:
                if not has_started:
                    attempt.cancel()

    async def _read_first_text(
        self, prompt: Prompt, attempt: Attempt, deadline: _FirstTextDeadline
    ) -> AsyncGenerator[KeepAlive | StartedReply, None]:
        pieces = self._stream_cleaned(prompt)
        has_started = False
        try:
            while not has_started:
                # Not around a `yield`: there it would interrupt the reader of this generator.
                async with asyncio.timeout_at(deadline.at_s):
                    piece = await anext(pieces, ReplyEnd())
                if isinstance(piece, ReplyEnd):
                    raise self._make_empty_reply_error(piece)
                # Many models start with a line end, which is not text yet.
                if isinstance(piece, str) and piece.strip():
                    has_started = True
                    yield StartedReply(piece.lstrip(), pieces, attempt)
                elif isinstance(piece, KeepAlive):
                    deadline.extend()
                    yield piece
        finally:
            if not has_started:
                # Also when cancelled: no other code knows this generator yet, and could close it.
                await pieces.aclose()

    async def _stream_cleaned(self, prompt: Prompt) -> AsyncGenerator[str | KeepAlive | ReplyEnd, None]:
        """The primary provider's reply without what its model writes beside it (see `ReplyCleaner`)."""
        model = self._primary.get_model(prompt.animal).model_id
        begins_in_thought = self._begins_in_thought.get(model)
        if begins_in_thought is None:
            begins_in_thought = _NAMED_THINKERS.search(model.lower())
        cleaner = ReplyCleaner(prompt.animal, begins_in_thought=begins_in_thought)
        output = _CleanedOutput(cleaner)
        async with aclosing(_read_with_pauses(self._primary.stream_reply(prompt), cleaner)) as steps:
            try:
                async for step in steps:
                    if isinstance(step, KeepAlive):
                        yield step
                        continue
                    async for part in output.take(step):
                        yield part
                    self._learn(model, cleaner, step)
                    if isinstance(step, ReplyEnd):
                        yield step
                        return
                    if cleaner.has_ended:
                        yield await _read_end(steps, prompt, model, output.count)
                        return
            except ProviderFailed:
                # The reader is waiting for the text before the failure; without any, there may be another attempt.
                if output.has_text:
                    async for part in _share_loop(cleaner.finish_in_parts()):
                        yield part
                raise

    def _learn(self, model: str, cleaner: ReplyCleaner, step: str | ReplyEnd | None) -> None:
        """Remember whether the model begins with a thought: not all replies do, and the others need not wait."""
        if cleaner.began_in_thought:
            self._begins_in_thought[model] = True
        elif isinstance(step, ReplyEnd) and step.finish_reason is FinishReason.STOP:
            self._begins_in_thought[model] = False

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

    async def _continue_reply(self, reply: StartedReply) -> AsyncGenerator[str | KeepAlive | ReplyEnd, None]:
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
                    if isinstance(piece, str):
                        room, length = MAX_REPLY_CHARACTERS - length, length + len(piece)
                        yield piece[:room]
                        if len(piece) > room:
                            raise _make_length_error()
                    else:
                        yield piece
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

    async def _stream_fallback(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | KeepAlive | ReplyEnd, None]:
        log.warning("fallback_used", instead_of=self._primary.get_model(prompt.animal).model_id)
        model = self._fallback.get_model(prompt.animal).model_id
        async with aclosing(self._fallback.stream_reply(prompt)) as pieces:
            async for piece in pieces:
                yield replace(piece, model=model) if isinstance(piece, ReplyEnd) else piece


class _CleanedOutput:
    """What a cleaner makes of the output of a model, in parts between which the event loop does other work."""

    def __init__(self, cleaner: ReplyCleaner) -> None:
        self._cleaner = cleaner
        self._length = 0
        self.count = 0
        self.has_text = False

    async def take(self, step: str | ReplyEnd | None) -> AsyncGenerator[str | KeepAlive, None]:
        """The parts of a piece, of the rest behind the last one, or, for None, of a sentence that has waited.

        A sign of life for a piece of which nothing may be said yet, unless it is blank: a model can write blanks
        forever.
        """
        is_silent = step is None or (isinstance(step, str) and not is_blank(step))
        async for part in _share_loop(self._clean(step)):
            self.has_text, is_silent = True, False
            yield part
        if is_silent:
            yield KEEP_ALIVE

    def _clean(self, step: str | ReplyEnd | None) -> Iterable[str]:
        if step is None:
            return (self._cleaner.release_sentence(),)
        if isinstance(step, ReplyEnd):
            return self._cleaner.finish_in_parts(is_cut_off=step.finish_reason is FinishReason.LENGTH)
        self.count, self._length = self.count + 1, self._length + len(step)
        if self._length > MAX_OUTPUT_CHARACTERS or (len(step) > MAX_REPLY_CHARACTERS and not self.has_text):
            raise _make_length_error() if self.has_text else ProviderError
        # `_continue_reply` cuts what is longer than a reply.
        return self._cleaner.feed_in_parts(step[: MAX_REPLY_CHARACTERS + 1])


async def _share_loop(parts: Iterable[str]) -> AsyncGenerator[str, None]:
    """The parts with text. Each part is a few milliseconds of work: between them, others have their turn."""
    is_first = True
    for part in parts:
        if not is_first:
            await asyncio.sleep(0)
        is_first = False
        if part:
            yield part


async def _read_with_pauses(
    pieces: AsyncGenerator[str | KeepAlive | ReplyEnd, None], cleaner: ReplyCleaner
) -> AsyncGenerator[str | KeepAlive | ReplyEnd | None, None]:
    """The pieces, and None where a whole sentence has waited in the cleaner for `SENTENCE_WAIT_S`.

    The pieces are read in one task of their own, because a time limit around their generator would end it, and
    libraries that keep cancel scopes open over a `yield` cannot be resumed from another task.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | KeepAlive | ReplyEnd | Exception | None] = asyncio.Queue(_MAX_QUEUED)
    task = asyncio.create_task(_put_pieces(pieces, queue))
    release_at_s = math.inf
    try:
        while True:
            release_at_s = min(release_at_s, loop.time() + SENTENCE_WAIT_S) if cleaner.holds_sentence else math.inf
            try:
                async with asyncio.timeout_at(None if release_at_s == math.inf else release_at_s):
                    piece = await queue.get()
            except TimeoutError:
                yield None
                continue
            if piece is None:
                return
            if isinstance(piece, Exception):
                raise piece
            yield piece
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _put_pieces(
    pieces: AsyncGenerator[str | KeepAlive | ReplyEnd, None],
    queue: asyncio.Queue[str | KeepAlive | ReplyEnd | Exception | None],
) -> None:
    """Put the pieces into the queue; at their end the failure, or None."""
    failure: Exception | None = None
    async with aclosing(pieces):
        try:
            async for piece in pieces:
                await queue.put(piece)
        except Exception as error:  # the reader of the queue is waiting, and gets it
            failure = error
        await queue.put(failure)


def _make_length_error() -> ReplyTooLong:
    log.warning("provider_failed", failure="reply too long")
    return ReplyTooLong(reason="the reply was too long")


async def _read_end(
    pieces: AsyncGenerator[str | KeepAlive | ReplyEnd | None, None], prompt: Prompt, model: str, count: int
) -> ReplyEnd:
    """The end of a reply that was cut. It is not waited for, because tokens cost money: then usage is estimated."""
    with suppress(TimeoutError, ProviderFailed):
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            async for piece in pieces:
                if isinstance(piece, ReplyEnd):
                    return replace(piece, finish_reason=FinishReason.STOP)
    return ReplyEnd(usage=estimate_usage(render_system_prompt(prompt), make_messages(prompt), count), model=model)
