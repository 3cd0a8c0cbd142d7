"""Minds behind OpenAI's chat interface: theirs, and servers that speak like it (vLLM, Ollama, llama.cpp, Azure)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from openai import AsyncOpenAI, AsyncStream, Timeout, omit
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import FinishReason, Usage
from openapi_server.protocols import ReplyEnd
from openapi_server.providers.failures import failed, failed_with
from openapi_server.providers.options import (
    LONGEST_SILENCE_S,
    OneSpeech,
    Speech,
    count_of,
    estimated_usage,
    finish_of,
    text_of,
)
from openapi_server.providers.prompt import ChatMessage, Speaker, messages, system_prompt

_FINISHED = {"length": FinishReason.LENGTH, "content_filter": FinishReason.BLOCKED}


class OpenAIProvider(OneSpeech):
    """Implements `Provider`."""

    def __init__(self, base_url: str, api_key: str, speech: Speech, *, connect_timeout_s: float) -> None:
        super().__init__(speech)
        # Servers of one's own need no key, but the library does. Trying again is `resilience`'s business.
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            max_retries=0,
            timeout=Timeout(LONGEST_SILENCE_S, connect=connect_timeout_s),
        )
        # Imported when first touched, which takes 50 ms: better at the start than in the first visitor's turn.
        self._completions = self._client.chat.completions
        # OpenAI and Azure refuse the old name for newer models; others do not all know the new one.
        host = self._client.base_url.host
        self._knows_new_names = host.endswith((".openai.com", ".azure.com"))

    async def close(self) -> None:
        await self._client.close()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | ReplyEnd, None]:
        speech, system, read = self._speech.of(prompt.animal), system_prompt(prompt), messages(prompt)
        finished, usage, pieces = None, None, 0
        try:
            async with await self._ask(speech, system, read) as stream:
                async for chunk in stream:
                    usage = _usage(chunk) or usage
                    for choice in chunk.choices[:1]:
                        finished = finish_of(choice.finish_reason, _FINISHED) or finished
                        if text := text_of(choice.delta.content):
                            pieces += 1
                            yield text
        except Exception as error:
            # Whatever somebody else's server makes the library raise, the caller hears of one kind of failure.
            raise failed_with("openai", error) from None
        if finished is None:
            raise failed("openai", "no end mark")
        usage = usage or estimated_usage(system, read, pieces)
        yield ReplyEnd(finished, usage, model=speech.model)

    async def _ask(self, speech: Speech, system: str, read: Sequence[ChatMessage]) -> AsyncStream[ChatCompletionChunk]:
        return await self._completions.create(
            model=speech.model,
            messages=[{"role": "system", "content": system}, *map(_message, read)],
            temperature=omit if speech.temperature is None else speech.temperature,
            max_tokens=omit if self._knows_new_names else speech.max_tokens,
            max_completion_tokens=speech.max_tokens if self._knows_new_names else omit,
            stream=True,
            stream_options={"include_usage": True},
        )


def _message(message: ChatMessage) -> ChatCompletionMessageParam:
    if message.speaker is Speaker.ANIMAL:
        return {"role": "assistant", "content": message.text}
    return {"role": "user", "content": message.text}


def _usage(chunk: ChatCompletionChunk) -> Usage | None:
    counts = chunk.usage
    return Usage(count_of(counts.prompt_tokens), count_of(counts.completion_tokens)) if counts else None
