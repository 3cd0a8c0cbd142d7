"""Minds behind Amazon Bedrock's Converse interface."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import FinishReason, Usage
from openapi_server.protocols import ReplyEnd
from openapi_server.providers.failures import ProviderError, make_error
from openapi_server.providers.options import (
    ConfiguredProvider,
    ModelOptions,
    parse_finish_reason,
    parse_text,
    parse_token_count,
)
from openapi_server.providers.prompt import make_messages, render_system_prompt
from openapi_server.providers.thread_stream import ThreadStream

# Each turn that is spoken has a connection of its own; beyond these, one that is not kept.
MAX_CONNECTIONS = 100

_FINISH_REASONS = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "content_filtered": FinishReason.BLOCKED,
    "guardrail_intervened": FinishReason.BLOCKED,
}


class BedrockProvider(ConfiguredProvider):
    """Implements `Provider`. Credentials are found as everywhere in AWS: variables, profile, role."""

    def __init__(
        self,
        region: str,
        endpoint: str | None,
        speech: ModelOptions,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
    ) -> None:
        super().__init__(speech)
        # Trying again is `resilience`'s business.
        config = Config(
            connect_timeout=connect_timeout_s,
            read_timeout=read_timeout_s,
            retries={"total_max_attempts": 1},
            max_pool_connections=MAX_CONNECTIONS,
        )
        self._client: Any = boto3.client("bedrock-runtime", region_name=region, endpoint_url=endpoint, config=config)

    async def close(self) -> None:
        self._client.close()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | ReplyEnd, None]:
        speech = self._options.for_animal(prompt.animal)
        listening = ThreadStream(partial(self._open_stream, speech, prompt))
        finished, usage = None, Usage()
        try:
            async for event in listening:
                match event:
                    case {"contentBlockDelta": block}:
                        # One that could not be read comes without its delta: a KeyError, and the end of the reply.
                        if text := parse_text(block["delta"].get("text")):
                            yield text
                    case {"messageStop": {"stopReason": reason}}:
                        finished = parse_finish_reason(reason, _FINISH_REASONS)
                    case {"metadata": {"usage": {"inputTokens": read, "outputTokens": said}}}:
                        usage = Usage(parse_token_count(read), parse_token_count(said))
        except Exception as error:
            # Whatever somebody else's server makes the library raise, the caller hears of one kind of failure.
            raise _make_error(error) from None
        finally:
            listening.close()
        if finished is None:
            raise make_error("bedrock", "no end mark")
        yield ReplyEnd(finished, usage, model=speech.model)

    def _open_stream(self, speech: ModelOptions, prompt: Prompt) -> Any:
        """The stream of events. Blocks until its head is there."""
        manner: dict[str, object] = {"maxTokens": speech.max_tokens}
        if speech.temperature is not None:
            manner["temperature"] = speech.temperature
        answer = self._client.converse_stream(
            modelId=speech.model,
            system=[{"text": render_system_prompt(prompt)}],
            messages=[
                {"role": message.role.value, "content": [{"text": message.text}]} for message in make_messages(prompt)
            ],
            inferenceConfig=manner,
        )
        return answer["stream"]


def _make_error(error: Exception) -> ProviderError:
    """What is told within a stream is told with status 400, whatever it is: only a head's status means something."""
    if not isinstance(error, ClientError) or isinstance(error, EventStreamError):
        return make_error("bedrock", type(error).__name__)
    head = error.response.get("ResponseMetadata", {})
    retry_after = head.get("HTTPHeaders", {}).get("retry-after")
    return make_error("bedrock", type(error).__name__, head.get("HTTPStatusCode"), retry_after)
