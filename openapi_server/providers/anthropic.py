"""Provider for the Anthropic messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from anthropic import AsyncAnthropic, AsyncStream, DefaultAsyncHttpxClient, Timeout
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
from openapi_server.providers.response_limits import limit_response

_FINISH_REASONS = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.BLOCKED,
}


class AnthropicProvider(ConfiguredProvider):
    """Implements `Provider` with the `anthropic` library."""

    def __init__(self, base_url: str, api_key: str, options: ModelOptions, *, connect_timeout_s: float) -> None:
        super().__init__(options)
        # `FallbackProvider` retries.
        self._client = AsyncAnthropic(
            base_url=base_url,
            api_key=api_key,
            max_retries=0,
            timeout=Timeout(READ_TIMEOUT_S, connect=connect_timeout_s),
            http_client=DefaultAsyncHttpxClient(event_hooks={"response": [limit_response]}),
        )

    async def close(self) -> None:
        await self._client.close()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | ReplyEnd, None]:
        options = self._options.for_animal(prompt.animal)
        finish_reason, has_ended, prompt_tokens, reply_tokens = None, False, 0, 0
        try:
            async with await self._create_stream(
                options, render_system_prompt(prompt), make_messages(prompt)
            ) as stream:
                async for event in stream:
                    match event.type:
                        case "message_start":
                            prompt_tokens = _count_prompt_tokens(event.message.usage)
                        case "content_block_delta" if event.delta.type == "text_delta":
                            if text := parse_text(event.delta.text):
                                yield text
                        case "message_delta":
                            finish_reason = (
                                parse_finish_reason(event.delta.stop_reason, _FINISH_REASONS) or finish_reason
                            )
                            reply_tokens = parse_token_count(event.usage.output_tokens)
                        case "message_stop":
                            has_ended = True
        except Exception as error:
            # Servers can make the library raise almost anything; the caller gets one kind of error.
            raise make_error_from("anthropic", error) from None
        if finish_reason is None or not has_ended:
            raise make_error("anthropic", "no end mark")
        yield ReplyEnd(finish_reason, Usage(prompt_tokens, reply_tokens), model=options.model)

    async def _create_stream(
        self, options: ModelOptions, system: str, history: Sequence[ChatMessage]
    ) -> AsyncStream[RawMessageStreamEvent]:
        return await self._client.messages.create(
            model=options.model,
            system=system,
            messages=[_make_message(message) for message in history],
            max_tokens=options.max_tokens,
            stream=True,
            # The library has no parameter for it any more: newer models refuse it, older ones still accept it.
            extra_body=None if options.temperature is None else {"temperature": options.temperature},
        )


def _make_message(message: ChatMessage) -> MessageParam:
    if message.role is ChatRole.ASSISTANT:
        return {"role": "assistant", "content": message.text}
    return {"role": "user", "content": message.text}


def _count_prompt_tokens(usage: AnthropicUsage) -> int:
    """All prompt tokens: also those read from, or written to, the server's prompt cache."""
    cached = parse_token_count(usage.cache_creation_input_tokens) + parse_token_count(usage.cache_read_input_tokens)
    return parse_token_count(usage.input_tokens) + cached
