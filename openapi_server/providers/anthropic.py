"""Minds behind the messages interface of Anthropic."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from anthropic import AsyncAnthropic, AsyncStream, Timeout
from anthropic.types import MessageParam, RawMessageStreamEvent
from anthropic.types import Usage as AnthropicUsage

from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import FinishReason, Usage
from openapi_server.protocols import ReplyEnd
from openapi_server.providers.failures import failed, failed_with
from openapi_server.providers.options import LONGEST_SILENCE_S, OneSpeech, Speech, count_of, finish_of, text_of
from openapi_server.providers.prompt import ChatMessage, Speaker, messages, system_prompt

_FINISHED = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.BLOCKED,
}


class AnthropicProvider(OneSpeech):
    """Implements `Provider`."""

    def __init__(self, base_url: str, api_key: str, speech: Speech, *, connect_timeout_s: float) -> None:
        super().__init__(speech)
        # Trying again is `resilience`'s business.
        self._client = AsyncAnthropic(
            base_url=base_url,
            api_key=api_key,
            max_retries=0,
            timeout=Timeout(LONGEST_SILENCE_S, connect=connect_timeout_s),
        )

    async def close(self) -> None:
        await self._client.close()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | ReplyEnd, None]:
        speech = self._speech.of(prompt.animal)
        finished, has_ended, read_tokens, said_tokens = None, False, 0, 0
        try:
            async with await self._ask(speech, system_prompt(prompt), messages(prompt)) as stream:
                async for event in stream:
                    match event.type:
                        case "message_start":
                            read_tokens = _read_tokens(event.message.usage)
                        case "content_block_delta" if event.delta.type == "text_delta":
                            if text := text_of(event.delta.text):
                                yield text
                        case "message_delta":
                            finished = finish_of(event.delta.stop_reason, _FINISHED) or finished
                            said_tokens = count_of(event.usage.output_tokens)
                        case "message_stop":
                            has_ended = True
        except Exception as error:
            # Whatever somebody else's server makes the library raise, the caller hears of one kind of failure.
            raise failed_with("anthropic", error) from None
        if finished is None or not has_ended:
            raise failed("anthropic", "no end mark")
        yield ReplyEnd(finished, Usage(read_tokens, said_tokens), model=speech.model)

    async def _ask(
        self, speech: Speech, system: str, read: Sequence[ChatMessage]
    ) -> AsyncStream[RawMessageStreamEvent]:
        return await self._client.messages.create(
            model=speech.model,
            system=system,
            messages=[_message(message) for message in read],
            max_tokens=speech.max_tokens,
            stream=True,
            # The library has no name for it any more: newer models refuse it, older ones still take it.
            extra_body=None if speech.temperature is None else {"temperature": speech.temperature},
        )


def _message(message: ChatMessage) -> MessageParam:
    if message.speaker is Speaker.ANIMAL:
        return {"role": "assistant", "content": message.text}
    return {"role": "user", "content": message.text}


def _read_tokens(usage: AnthropicUsage) -> int:
    """With those that came out of, or went into, the server's cache: they were read, too."""
    cached = count_of(usage.cache_creation_input_tokens) + count_of(usage.cache_read_input_tokens)
    return count_of(usage.input_tokens) + cached
