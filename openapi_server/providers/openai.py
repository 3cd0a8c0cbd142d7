"""Provider for the OpenAI chat completions API, and compatible servers (vLLM, Ollama, llama.cpp, Azure)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any

from httpx2 import Request
from openai import AsyncAPIResponse, AsyncOpenAI, DefaultAsyncHttpxClient, Timeout
from openai.types.chat import ChatCompletionMessageParam

from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import FinishReason
from openapi_server.protocols import KEEP_ALIVE, KeepAlive, ReplyEnd
from openapi_server.providers.event_stream import ServerSentEvent, parse_object, read_events
from openapi_server.providers.failures import make_error_from
from openapi_server.providers.options import (
    DRAIN_TIMEOUT_S,
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

_FINISH_REASONS = {"length": FinishReason.LENGTH, "content_filter": FinishReason.BLOCKED}
# The parameter that limits the reply has two names.
_TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
# Not a parameter but a role of messages, which the templates of some models do not know.
_SYSTEM = "system"


class OpenAIProvider(ConfiguredProvider):
    """Implements `Provider` with the `openai` library. `api_version` is for Azure, which also wants another header."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        options: ModelOptions,
        *,
        connect_timeout_s: float,
        api_version: str | None = None,
    ) -> None:
        super().__init__(options)
        hooks: dict[str, list[Any]] = {"response": [limit_response]}
        azure: dict[str, Any] = {}
        if api_version is not None:
            azure = {"default_query": {"api-version": api_version}, "default_headers": {"api-key": api_key}}
            hooks["request"] = [_remove_bearer]
        # Local servers need no key, but the library does. `FallbackProvider` retries.
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            max_retries=0,
            timeout=Timeout(READ_TIMEOUT_S, connect=connect_timeout_s),
            http_client=DefaultAsyncHttpxClient(event_hooks=hooks),
            **azure,
        )
        # The first access imports 50 ms of modules: better at the start than in the first turn.
        self._completions = self._client.chat.completions
        # OpenAI and Azure refuse `max_tokens` for newer models; other servers do not all know `max_completion_tokens`.
        is_openai = self._client.base_url.host.endswith((".openai.com", ".azure.com"))
        self._token_limits = _TOKEN_LIMITS[::-1] if is_openai else _TOKEN_LIMITS
        self._refused = RefusedParameters("openai")

    async def close(self) -> None:
        await self._client.close()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | KeepAlive | ReplyEnd, None]:
        options, system, history = (
            self._options.for_animal(prompt.animal),
            render_system_prompt(prompt),
            make_messages(prompt),
        )
        reply = _ReplyReader()
        try:
            async with self._refused.open_response(
                options.model, partial(self._make_request, options, system, history)
            ) as response:
                events = read_events(response.iter_bytes())
                async for event in read_until_end(events, reply.count_at_end):
                    if isinstance(event, KeepAlive):
                        yield event
                        continue
                    for piece in reply.read(event):
                        yield piece
                    if reply.is_done:
                        break
                await _drain(events)
        except Exception as error:
            # Servers can make the library raise almost anything; the caller gets one kind of error.
            raise make_error_from("openai", error) from None
        yield reply.make_end("openai", prompt, options.model)

    def _make_request(
        self, options: ModelOptions, system: str, history: Sequence[ChatMessage], refused: frozenset[str]
    ) -> tuple[Collection[str], AbstractAsyncContextManager[AsyncAPIResponse[Any]]]:
        parameters = self._make_parameters(options, refused)
        messages = _make_messages(system, history, has_system_role=_SYSTEM not in refused)
        create = self._completions.with_streaming_response.create
        request = create(model=options.model, messages=messages, stream=True, **parameters)
        return {*parameters, _SYSTEM} - refused, request

    def _make_parameters(self, options: ModelOptions, refused: frozenset[str]) -> dict[str, Any]:
        limit = next((name for name in self._token_limits if name not in refused), None)
        parameters: dict[str, Any] = {
            "stop": list(STOP_SEQUENCES),
            "stream_options": {"include_usage": True},
            "temperature": options.temperature,
            limit or "": options.max_tokens,
        }
        return {name: value for name, value in parameters.items() if name and value is not None and name not in refused}


async def _remove_bearer(request: Request) -> None:
    """A hook for requests. The library always sends the key as a bearer token, which Azure takes for one of its own."""
    del request.headers["Authorization"]


class _ReplyReader(ReplyProgress):
    """What the chunks of one reply say. Members that are missing, null or unknown are skipped."""

    def read(self, event: ServerSentEvent) -> list[str | KeepAlive]:
        """The text of a chunk; a `KeepAlive` for one without text. Raises ValueError or TypeError."""
        if event.data.strip() == "[DONE]":
            self.is_done = True
            return []
        if event.name in ("ping", "keepalive", "keep-alive", "heartbeat") or not event.data.strip():
            return [KEEP_ALIVE]
        chunk = parse_object(event.data)
        if event.name == "error" or chunk.get("error") or chunk.get("object") == "error":
            raise ValueError("error event")
        if isinstance(counts := chunk.get("usage"), dict):
            self.prompt_tokens = parse_token_count(counts.get("prompt_tokens"))
            self.reply_tokens = parse_token_count(counts.get("completion_tokens"))
        choices = chunk.get("choices")
        text = self._read_choice(choices[0]) if isinstance(choices, list) and choices else ""
        self.pieces += bool(text)
        return [text or KEEP_ALIVE]

    def _read_choice(self, choice: object) -> str:
        if not isinstance(choice, dict):
            return ""
        reason = choice.get("finish_reason")
        if choice.get("error") or reason == "error":
            raise ValueError("error in a choice")
        self.finish_reason = parse_finish_reason(reason, _FINISH_REASONS) or self.finish_reason
        # A server that does not stream sends one whole message.
        message = choice.get("delta") or choice.get("message")
        if not isinstance(message, dict):
            return ""
        if message.get("refusal"):
            self.finish_reason = FinishReason.BLOCKED
        return _parse_content(message.get("content"))


def _parse_content(content: object) -> str:
    """Text, or a list of parts as newer APIs have it, of which thoughts are left out."""
    if not isinstance(content, list):
        return parse_text(content)
    parts = [part for part in content if isinstance(part, dict) and part.get("type") in ("text", "output_text")]
    return "".join(parse_text(part.get("text")) for part in parts)


async def _drain(events: AsyncGenerator[ServerSentEvent | KeepAlive, None]) -> None:
    """Read to the end of the body, if it is near: then the connection can be used again."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            async for _ in events:
                pass


def _make_messages(
    system: str, history: Sequence[ChatMessage], *, has_system_role: bool
) -> list[ChatCompletionMessageParam]:
    """The chat messages; without a role for it, the system prompt is the beginning of the first user message."""
    if has_system_role:
        return [{"role": "system", "content": system}, *map(_make_message, history)]
    first, *others = history
    return [{"role": "user", "content": f"{system}\n\n{first.text}"}, *map(_make_message, others)]


def _make_message(message: ChatMessage) -> ChatCompletionMessageParam:
    if message.role is ChatRole.ASSISTANT:
        return {"role": "assistant", "content": message.text}
    return {"role": "user", "content": message.text}
