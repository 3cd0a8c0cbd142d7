"""Provider for the Anthropic messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from anthropic import AsyncAnthropic, AsyncAPIResponse, DefaultAsyncHttpxClient, Timeout
from anthropic.types import MessageParam

from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import FinishReason
from openapi_server.protocols import KEEP_ALIVE, KeepAlive, ReplyEnd
from openapi_server.providers.event_stream import ServerSentEvent, parse_object, read_events
from openapi_server.providers.failures import make_error_from
from openapi_server.providers.options import (
    READ_TIMEOUT_S,
    ConfiguredProvider,
    ModelOptions,
    ReplyProgress,
    parse_finish_reason,
    parse_text,
    parse_token_count,
    read_until_end,
)
from openapi_server.providers.prompt_history import ChatMessage, ChatRole, make_messages
from openapi_server.providers.prompt_template import STOP_SEQUENCES, render_system_prompt
from openapi_server.providers.refused_parameters import RefusedParameters
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
        self._refused = RefusedParameters("anthropic")

    async def close(self) -> None:
        await self._client.close()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | KeepAlive | ReplyEnd, None]:
        options = self._options.for_animal(prompt.animal)
        reply = _ReplyReader()
        try:
            async with self._refused.open_response(
                options.model, partial(self._make_request, options, prompt)
            ) as response:
                async for event in read_until_end(read_events(response.iter_bytes()), reply.count_at_end):
                    yield event if isinstance(event, KeepAlive) else reply.read(event) or KEEP_ALIVE
        except Exception as error:
            # Servers can make the library raise almost anything; the caller gets one kind of error.
            raise make_error_from("anthropic", error) from None
        yield reply.make_end("anthropic", prompt, options.model)

    def _make_request(
        self, options: ModelOptions, prompt: Prompt, refused: frozenset[str]
    ) -> tuple[Collection[str], AbstractAsyncContextManager[AsyncAPIResponse[Any]]]:
        # The library has no `temperature` any more: newer models refuse it, older ones still accept it.
        parameters = {"temperature": options.temperature, "stop_sequences": list(STOP_SEQUENCES)}
        sent = {name: value for name, value in parameters.items() if value is not None and name not in refused}
        request = self._client.messages.with_streaming_response.create(
            model=options.model,
            system=render_system_prompt(prompt),
            messages=[_make_message(message) for message in make_messages(prompt)],
            max_tokens=options.max_tokens,
            stream=True,
            extra_body=sent,
        )
        return sent, request


class _ReplyReader(ReplyProgress):
    """What the events of one reply say. Those that are unknown are skipped: the API may add some at any time."""

    def read(self, event: ServerSentEvent) -> str:
        """The text of an event, "" for none. Raises ValueError or TypeError."""
        content = parse_object(event.data)
        match content:
            case {"type": "error"}:
                raise ValueError("error event")
            case {"type": "message_start", "message": {"usage": dict(counts)}}:
                self.prompt_tokens = _count_prompt_tokens(counts)
            case {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}:
                self.pieces += bool(text)
                return parse_text(text)
            case {"type": "message_delta", "delta": dict(delta)}:
                reason = parse_finish_reason(delta.get("stop_reason"), _FINISH_REASONS)
                self.finish_reason = reason or self.finish_reason
                self._read_reply_tokens(content.get("usage"))
            case {"type": "message_stop"}:
                self.is_done = True
        return ""

    def _read_reply_tokens(self, counts: object) -> None:
        if isinstance(counts, dict):
            self.reply_tokens = parse_token_count(counts.get("output_tokens"))


def _make_message(message: ChatMessage) -> MessageParam:
    if message.role is ChatRole.ASSISTANT:
        return {"role": "assistant", "content": message.text}
    return {"role": "user", "content": message.text}


def _count_prompt_tokens(counts: dict[str, object]) -> int | None:
    """All prompt tokens: also those read from, or written to, the server's prompt cache. None where one is no count."""
    cached = ("cache_creation_input_tokens", "cache_read_input_tokens")
    values = (counts.get("input_tokens"), *(counts[name] for name in cached if counts.get(name) is not None))
    parsed = [count for count in map(parse_token_count, values) if count is not None]
    return parse_token_count(sum(parsed)) if len(parsed) == len(values) else None
