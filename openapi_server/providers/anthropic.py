"""Minds behind the messages interface of Anthropic."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from anthropic import AsyncAnthropic, AsyncStream, Timeout
from anthropic.types import MessageParam, RawMessageStreamEvent
from anthropic.types import Usage as AnthropicUsage

from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import FinishReason, Usage
from openapi_server.protocols import ReplyEnd
from openapi_server.providers.failures import make_error, make_error_from
from openapi_server.providers.options import (
    READ_TIMEOUT_S,
    ConfiguredProvider,
    ModelOptions,
    parse_finish_reason,
    parse_text,
    parse_token_count,
)
from openapi_server.providers.prompt import ChatMessage, ChatRole, make_messages, render_system_prompt

_FINISH_REASONS = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.BLOCKED,
}


class AnthropicProvider(ConfiguredProvider):
    """Implements `Provider`."""

    def __init__(self, base_url: str, api_key: str, speech: ModelOptions, *, connect_timeout_s: float) -> None:
        super().__init__(speech)
        # Trying again is `resilience`'s business.
        self._client = AsyncAnthropic(
            base_url=base_url,
            api_key=api_key,
            max_retries=0,
            timeout=Timeout(READ_TIMEOUT_S, connect=connect_timeout_s),
        )

    async def close(self) -> None:
        await self._client.close()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | ReplyEnd, None]:
        speech = self._options.for_animal(prompt.animal)
        finished, has_ended, read_tokens, said_tokens = None, False, 0, 0
        try:
            async with await self._create_stream(speech, render_system_prompt(prompt), make_messages(prompt)) as stream:
                async for event in stream:
                    match event.type:
                        case "message_start":
                            read_tokens = _count_prompt_tokens(event.message.usage)
                        case "content_block_delta" if event.delta.type == "text_delta":
                            if text := parse_text(event.delta.text):
                                yield text
                        case "message_delta":
                            finished = parse_finish_reason(event.delta.stop_reason, _FINISH_REASONS) or finished
                            said_tokens = parse_token_count(event.usage.output_tokens)
                        case "message_stop":
                            has_ended = True
        except Exception as error:
            # Whatever somebody else's server makes the library raise, the caller hears of one kind of failure.
            raise make_error_from("anthropic", error) from None
        if finished is None or not has_ended:
            raise make_error("anthropic", "no end mark")
        yield ReplyEnd(finished, Usage(read_tokens, said_tokens), model=speech.model)

    async def _create_stream(
        self, speech: ModelOptions, system: str, read: Sequence[ChatMessage]
    ) -> AsyncStream[RawMessageStreamEvent]:
        return await self._client.messages.create(
            model=speech.model,
            system=system,
            messages=[_make_message(message) for message in read],
            max_tokens=speech.max_tokens,
            stream=True,
            # The library has no name for it any more: newer models refuse it, older ones still take it.
            extra_body=None if speech.temperature is None else {"temperature": speech.temperature},
        )


def _make_message(message: ChatMessage) -> MessageParam:
    if message.role is ChatRole.ASSISTANT:
        return {"role": "assistant", "content": message.text}
    return {"role": "user", "content": message.text}


def _count_prompt_tokens(usage: AnthropicUsage) -> int:
    """With those that came out of, or went into, the server's cache: they were read, too."""
    cached = parse_token_count(usage.cache_creation_input_tokens) + parse_token_count(usage.cache_read_input_tokens)
    return parse_token_count(usage.input_tokens) + cached
