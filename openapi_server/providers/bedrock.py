"""Provider for the Amazon Bedrock Converse API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from functools import partial
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import FinishReason
from openapi_server.protocols import KEEP_ALIVE, KeepAlive, ReplyEnd
from openapi_server.providers.event_stream import MAX_EVENT_BYTES
from openapi_server.providers.failures import ProviderError, ResponseTooLarge, make_error, make_error_from
from openapi_server.providers.options import (
    ConfiguredProvider,
    ModelOptions,
    ReplyProgress,
    parse_finish_reason,
    parse_text,
    parse_token_count,
    read_until_end,
)
from openapi_server.providers.prompt_history import ChatMessage, make_messages
from openapi_server.providers.prompt_template import STOP_SEQUENCES, render_system_prompt
from openapi_server.providers.refused_parameters import RefusedParameters, find_refused
from openapi_server.providers.thread_stream import ThreadStream

# Each running turn has a connection; connections beyond this number are not kept for reuse.
MAX_CONNECTIONS = 100

_FINISH_REASONS = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "content_filtered": FinishReason.BLOCKED,
    "guardrail_intervened": FinishReason.BLOCKED,
}


class BedrockProvider(ConfiguredProvider):
    """Implements `Provider` with boto3, which finds credentials as usual: environment, profile or role."""

    def __init__(
        self,
        region: str,
        endpoint: str | None,
        options: ModelOptions,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
    ) -> None:
        super().__init__(options)
        # `FallbackProvider` retries.
        config = Config(
            connect_timeout=connect_timeout_s,
            read_timeout=read_timeout_s,
            retries={"total_max_attempts": 1},
            max_pool_connections=MAX_CONNECTIONS,
        )
        self._client: Any = boto3.client("bedrock-runtime", region_name=region, endpoint_url=endpoint, config=config)
        self._refused = RefusedParameters("bedrock")

    async def close(self) -> None:
        self._client.close()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | KeepAlive | ReplyEnd, None]:
        options = self._options.for_animal(prompt.animal)
        stream = ThreadStream(partial(self._open_stream, options, prompt))
        reply = _ReplyReader()
        try:
            async for event in read_until_end(stream, reply.count_at_end):
                if (text := reply.read(event)) is not None:
                    yield text or KEEP_ALIVE
        except Exception as error:
            # Servers can make the library raise almost anything; the caller gets one kind of error.
            raise _make_error(error) from None
        finally:
            stream.close()
        yield reply.make_end("bedrock", prompt, options.model)

    def _open_stream(self, options: ModelOptions, prompt: Prompt) -> Any:
        """The stream of events, to a request without the parameters that the model refuses. Blocks until it starts."""
        system, history = render_system_prompt(prompt), make_messages(prompt)
        refused = self._refused.get(options.model)
        while True:
            parameters = _make_parameters(options, system, history, refused)
            try:
                answer = self._client.converse_stream(modelId=options.model, **parameters)
                break
            except ClientError as error:
                sent = {"system", *parameters["inferenceConfig"]} - refused
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                found = find_refused(sent, status, error.response.get("Error", {}).get("Message"))
                if not found:
                    raise
                refused |= found
        self._refused.remember(options.model, refused)
        stream = answer["stream"]
        # It reads nothing before its first event. botocore has no other place for a limit.
        stream._raw_stream = LimitedBody(stream._raw_stream)
        return stream


class LimitedBody:
    """The body of a response in `application/vnd.amazon.eventstream`: `ResponseTooLarge` where a long event begins.

    botocore takes events of up to 24 MB, and copies what has come of one with each further piece.
    """

    def __init__(self, body: Any) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        """The pieces of the body. Each event begins with its length, in four bytes."""
        prefix, left = b"", 0
        for piece in self._body.stream():
            at = 0
            while at < len(piece):
                if left == 0:
                    prefix, at = prefix + piece[at : at + 4 - len(prefix)], at + 4 - len(prefix)
                    if len(prefix) < 4:
                        break
                    length, prefix = int.from_bytes(prefix, "big"), b""
                    if length > MAX_EVENT_BYTES:
                        raise ResponseTooLarge
                    # botocore refuses what is too short for an event.
                    left = max(length - 4, 1)
                taken = min(left, len(piece) - at)
                at, left = at + taken, left - taken
            yield piece

    def shutdown(self) -> None:
        self._body.shutdown()

    def close(self) -> None:
        self._body.close()


class _ReplyReader(ReplyProgress):
    """What the events of one reply say. Those that are unknown are skipped."""

    def read(self, event: object) -> str | None:
        """The text of an event, "" for one that only says that the model is at work, None for one of the end."""
        match event:
            case {"contentBlockDelta": block}:
                # A block that botocore could not parse has no delta: the KeyError ends the reply.
                text = parse_text(block["delta"].get("text"))
                self.pieces += bool(text)
                return text
            case {"messageStop": dict(stop)}:
                reason = parse_finish_reason(stop.get("stopReason"), _FINISH_REASONS)
                self.finish_reason = reason or (FinishReason.STOP if self.pieces else None)
            case {"metadata": {"usage": dict(counts)}}:
                self.prompt_tokens = parse_token_count(counts.get("inputTokens"))
                self.reply_tokens = parse_token_count(counts.get("outputTokens"))
            case _:
                return ""
        return None


def _make_parameters(
    options: ModelOptions, system: str, history: Sequence[ChatMessage], refused: frozenset[str]
) -> dict[str, Any]:
    inference = {
        "maxTokens": options.max_tokens,
        "temperature": options.temperature,
        "stopSequences": list(STOP_SEQUENCES),
    }
    sent = {name: value for name, value in inference.items() if value is not None and name not in refused}
    messages = [{"role": message.role.value, "content": [{"text": message.text}]} for message in history]
    if "system" not in refused:
        return {"system": [{"text": system}], "messages": messages, "inferenceConfig": sent}
    # A model without system prompts reads it at the beginning of the first user message.
    messages[0] = {"role": "user", "content": [{"text": f"{system}\n\n{history[0].text}"}]}
    return {"messages": messages, "inferenceConfig": sent}


def _make_error(error: Exception) -> ProviderError:
    """Errors inside a stream always have status 400, so only the status of the response itself is used."""
    if isinstance(error, ResponseTooLarge):
        return make_error_from("bedrock", error)
    if not isinstance(error, ClientError) or isinstance(error, EventStreamError):
        return make_error("bedrock", type(error).__name__)
    head = error.response.get("ResponseMetadata", {})
    retry_after = head.get("HTTPHeaders", {}).get("retry-after")
    return make_error("bedrock", type(error).__name__, head.get("HTTPStatusCode"), retry_after)
