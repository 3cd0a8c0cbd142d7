"""Provider for the OpenAI chat completions API, and compatible servers (vLLM, Ollama, llama.cpp, Azure)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from openai import AsyncOpenAI, AsyncStream, DefaultAsyncHttpxClient, Timeout, omit
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import FinishReason, Usage
from openapi_server.protocols import ReplyEnd
from openapi_server.providers.failures import make_error, make_error_from
from openapi_server.providers.options import (
    READ_TIMEOUT_S,
    ConfiguredProvider,
    ModelOptions,
    estimate_usage,
    parse_finish_reason,
    parse_text,
    parse_token_count,
)
from openapi_server.providers.prompt import ChatMessage, ChatRole, make_messages, render_system_prompt
from openapi_server.providers.response_limits import limit_response

_FINISH_REASONS = {"length": FinishReason.LENGTH, "content_filter": FinishReason.BLOCKED}


class OpenAIProvider(ConfiguredProvider):
    """Implements `Provider` with the `openai` library."""

    def __init__(self, base_url: str, api_key: str, options: ModelOptions, *, connect_timeout_s: float) -> None:
        super().__init__(options)
        # Local servers need no key, but the library does. `FallbackProvider` retries.
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            max_retries=0,
            timeout=Timeout(READ_TIMEOUT_S, connect=connect_timeout_s),
            http_client=DefaultAsyncHttpxClient(event_hooks={"response": [limit_response]}),
        )
        # The first access imports 50 ms of modules: better at the start than in the first turn.
        self._completions = self._client.chat.completions
        # OpenAI and Azure refuse `max_tokens` for newer models; other servers do not all know `max_completion_tokens`.
        host = self._client.base_url.host
        self._uses_completion_tokens_option = host.endswith((".openai.com", ".azure.com"))

    async def close(self) -> None:
        await self._client.close()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | ReplyEnd, None]:
        options, system, history = (
            self._options.for_animal(prompt.animal),
            render_system_prompt(prompt),
            make_messages(prompt),
        )
        finish_reason, usage, pieces = None, None, 0
        try:
            async with await self._create_stream(options, system, history) as stream:
                async for chunk in stream:
                    usage = _parse_usage(chunk) or usage
                    for choice in chunk.choices[:1]:
                        finish_reason = parse_finish_reason(choice.finish_reason, _FINISH_REASONS) or finish_reason
                        if text := parse_text(choice.delta.content):
                            pieces += 1
                            yield text
        except Exception as error:
            # Servers can make the library raise almost anything; the caller gets one kind of error.
            raise make_error_from("openai", error) from None
        if finish_reason is None:
            raise make_error("openai", "no end mark")
        usage = usage or estimate_usage(system, history, pieces)
        yield ReplyEnd(finish_reason, usage, model=options.model)

    async def _create_stream(
        self, options: ModelOptions, system: str, history: Sequence[ChatMessage]
    ) -> AsyncStream[ChatCompletionChunk]:
        return await self._completions.create(
            model=options.model,
            messages=[{"role": "system", "content": system}, *map(_make_message, history)],
            temperature=omit if options.temperature is None else options.temperature,
            max_tokens=omit if self._uses_completion_tokens_option else options.max_tokens,
            max_completion_tokens=options.max_tokens if self._uses_completion_tokens_option else omit,
            stream=True,
            stream_options={"include_usage": True},
        )


def _make_message(message: ChatMessage) -> ChatCompletionMessageParam:
    if message.role is ChatRole.ASSISTANT:
        return {"role": "assistant", "content": message.text}
    return {"role": "user", "content": message.text}


def _parse_usage(chunk: ChatCompletionChunk) -> Usage | None:
    counts = chunk.usage
    return (
        Usage(parse_token_count(counts.prompt_tokens), parse_token_count(counts.completion_tokens)) if counts else None
    )
