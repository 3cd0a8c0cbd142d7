"""Model options beside the prompt, and what the providers share: parsers of text, finish reason and token counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from openapi_server.models.animal import Animal
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import FinishReason, Usage
from openapi_server.protocols import Model, ProviderState, ReplyEnd
from openapi_server.providers.failures import make_error
from openapi_server.providers.prompt_history import HISTORY_TOKENS, ChatMessage, estimate_tokens, make_messages
from openapi_server.providers.prompt_template import render_system_prompt

# The most that a turn costs for reading: the history, and about as much for the system prompt and the message.
MAX_PROMPT_TOKENS = 2 * HISTORY_TOKENS
# The longest turn. The engine's own timeouts are shorter.
READ_TIMEOUT_S = 300
# How long a server's usage may take behind the finish reason: the reply is complete.
USAGE_TIMEOUT_S = 1.0
# More than any model reads or writes in a turn.
MAX_TOKEN_COUNT = 10_000_000
# How long the rest of a body may take behind a reply that is complete.
DRAIN_TIMEOUT_S = 0.2

Event = TypeVar("Event")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """The options of a model, unless the animal's own settings name others.

    `temperature` None: the model's default. `max_tokens`: the longest reply.
    """

    model: str
    temperature: float | None = None
    max_tokens: int = 512

    def for_animal(self, animal: Animal) -> ModelOptions:
        settings = animal.model_settings
        return ModelOptions(
            settings.model or self.model,
            self.temperature if settings.temperature is None else settings.temperature,
            settings.max_tokens or self.max_tokens,
        )

    def to_model(self) -> Model:
        """The model as the list of models shows it to clients."""
        described = "A language model that speaks from the keepers' notes."
        return Model(self.model, self.model, described, max_tokens=self.max_tokens, max_prompt_tokens=MAX_PROMPT_TOKENS)


class ConfiguredProvider:
    """The model methods of `Provider`, for a provider with one `ModelOptions` and the animals' own settings over it."""

    def __init__(self, options: ModelOptions) -> None:
        self._options = options

    @property
    def model(self) -> str:
        return self._options.model

    def list_models(self) -> Sequence[Model]:
        return (self._options.to_model(),)

    def get_model(self, animal: Animal) -> Model:
        return self._options.for_animal(animal).to_model()

    def get_state(self) -> ProviderState:
        """`FallbackProvider`, which knows of every failure, keeps the state."""
        return ProviderState()


def parse_text(value: object) -> str:
    """A piece of text as a server sent it, "" for none. TypeError for other types, which the libraries let through."""
    if value is not None and not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return value or ""


def parse_finish_reason(value: object, known: Mapping[str, FinishReason]) -> FinishReason | None:
    """The finish reason for a server's value; None for none, `STOP` for an unknown one."""
    word = parse_text(value)
    # Some servers write null as a text, in every chunk.
    return known.get(word, FinishReason.STOP) if word not in ("", "null", "None") else None


def parse_token_count(value: object) -> int | None:
    """A token count as a server sent it; None for anything that is no integer from 0 to `MAX_TOKEN_COUNT`."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MAX_TOKEN_COUNT else None


def estimate_usage(system: str, history: Sequence[ChatMessage], pieces: int) -> Usage:
    """For servers that send no counts: prompt tokens by the length of the texts, and one token for each reply piece."""
    return Usage(estimate_tokens(system) + sum(estimate_tokens(message.text) for message in history), pieces)


def complete_usage(prompt_tokens: int | None, reply_tokens: int | None, prompt: Prompt, pieces: int) -> Usage:
    """The counts of a server; those that are None are estimated (see `estimate_usage`)."""
    if prompt_tokens is not None and reply_tokens is not None:
        return Usage(prompt_tokens, reply_tokens)
    estimate = estimate_usage(render_system_prompt(prompt), make_messages(prompt), pieces)
    return Usage(
        estimate.prompt_tokens if prompt_tokens is None else prompt_tokens,
        estimate.completion_tokens if reply_tokens is None else reply_tokens,
    )


class ReplyProgress:
    """What a server has said of one reply so far. `pieces`: of text. `is_done`: it has sent its end mark."""

    def __init__(self) -> None:
        self.finish_reason: FinishReason | None = None
        self.prompt_tokens: int | None = None
        self.reply_tokens: int | None = None
        self.pieces = 0
        self.is_done = False

    def count_at_end(self) -> int | None:
        """The number of pieces, once the reply has a finish reason or its end mark."""
        return self.pieces if self.is_done or self.finish_reason else None

    def make_end(self, provider: str, prompt: Prompt, model: str) -> ReplyEnd:
        """The end of a reply that is complete. Raises `ProviderError` for one that was cut off."""
        if self.finish_reason is None and not (self.is_done and self.pieces):
            raise make_error(provider, "no end mark")
        usage = complete_usage(self.prompt_tokens, self.reply_tokens, prompt, self.pieces)
        return ReplyEnd(self.finish_reason or FinishReason.STOP, usage, model=model)


async def read_until_end(
    events: AsyncIterator[Event], count_at_end: Callable[[], int | None]
) -> AsyncGenerator[Event, None]:
    """The events of a reply. Behind its finish reason no more is waited for than `USAGE_TIMEOUT_S`.

    There only the usage is missing, and some servers leave the connection open. `count_at_end`: None before the
    finish reason, then how many pieces of text there were: more text begins the time anew, because some servers name
    a finish reason in every event. A connection that breaks there has lost nothing.
    """
    loop = asyncio.get_running_loop()
    count: int | None = None
    deadline_s: float | None = None
    while True:
        if count_at_end() != count:
            count, deadline_s = count_at_end(), loop.time() + USAGE_TIMEOUT_S
        try:
            async with asyncio.timeout_at(deadline_s):
                event = await anext(events)
        except StopAsyncIteration:
            return
        except Exception:
            # The libraries raise almost anything. Behind its finish reason a reply is whole and can be read.
            if count is None:
                raise
            return
        yield event
