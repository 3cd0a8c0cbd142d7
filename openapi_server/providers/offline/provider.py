"""The offline provider: composes the reply at once, then streams it word by word at reading speed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from openapi_server.models.animal import Animal
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import FinishReason, Usage
from openapi_server.protocols import Model, ReplyEnd, WholeReply
from openapi_server.providers.offline.replies import compose_reply

# The most that a turn can cost: the words of the prompt with a long history, and those of the reply.
MAX_TURN_TOKENS = 1000


class OfflineProvider:
    """Implements `Provider`. The same seed and prompt give the same reply. `words_per_s` 0: no pauses."""

    def __init__(
        self, *, words_per_s: float, seed: int, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._pause_s = 1 / words_per_s if words_per_s > 0 else 0.0
        self._seed = seed
        self._sleep = sleep

    @property
    def model(self) -> str:
        return "offline-keeper-1"

    def list_models(self) -> Sequence[Model]:
        described = "Speaks in the keepers' own words, word by word; needs neither network nor key."
        return (Model(self.model, "Keepers' voice", described, ("streaming", "offline"), MAX_TURN_TOKENS),)

    def get_model(self, animal: Animal) -> Model:
        return self.list_models()[0]

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        reply = compose_reply(prompt, self._seed)
        pieces = re.findall(r"\S+\s*", reply.text)
        yield WholeReply("".join(pieces))
        for at, piece in enumerate(pieces):
            if at and self._pause_s and not prompt.is_delivered_whole:
                await self._sleep(self._pause_s)
            yield piece
        usage = Usage(prompt_tokens=_count_prompt_words(prompt), completion_tokens=len(pieces))
        yield ReplyEnd(FinishReason.STOP, usage, reply.fact_ids)


def _count_prompt_words(prompt: Prompt) -> int:
    read = [prompt.message, *(fact.text for fact in prompt.facts)]
    read += [text for exchange in prompt.history for text in (exchange.message, exchange.reply)]
    return sum(len(text.split()) for text in read)
