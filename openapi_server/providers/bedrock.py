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
from openapi_server.providers.failures import ProviderError, failed
from openapi_server.providers.options import OneSpeech, Speech, count_of, finish_of, text_of
from openapi_server.providers.prompt import messages, system_prompt
from openapi_server.providers.thread_stream import Listening

# Each turn that is spoken has a connection of its own; beyond these, one that is not kept.
CONNECTIONS = 100

_FINISHED = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "content_filtered": FinishReason.BLOCKED,
    "guardrail_intervened": FinishReason.BLOCKED,
}


class BedrockProvider(OneSpeech):
    """Implements `Provider`. Credentials are found as everywhere in AWS: variables, profile, role."""

    def __init__(
        self, region: str, endpoint: str | None, speech: Speech, *, connect_timeout_s: float, read_timeout_s: float
    ) -> None:
        super().__init__(speech)
        # Trying again is `resilience`'s business.
        config = Config(
            connect_timeout=connect_timeout_s,
            read_timeout=read_timeout_s,
            retries={"total_max_attempts": 1},
            max_pool_connections=CONNECTIONS,
        )
        self._client: Any = boto3.client("bedrock-runtime", region_name=region, endpoint_url=endpoint, config=config)

    async def close(self) -> None:
        self._client.close()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | ReplyEnd, None]:
        speech = self._speech.of(prompt.animal)
        listening = Listening(partial(self._ask, speech, prompt))
        finished, usage = None, Usage()
        try:
            async for event in listening:
                match event:
                    case {"contentBlockDelta": block}:
                        # One that could not be read comes without its delta: a KeyError, and the end of the reply.
                        if text := text_of(block["delta"].get("text")):
                            yield text
                    case {"messageStop": {"stopReason": reason}}:
                        finished = finish_of(reason, _FINISHED)
                    case {"metadata": {"usage": {"inputTokens": read, "outputTokens": said}}}:
                        usage = Usage(count_of(read), count_of(said))
        except Exception as error:
            # Whatever somebody else's server makes the library raise, the caller hears of one kind of failure.
            raise _failed(error) from None
        finally:
            listening.close()
        if finished is None:
            raise failed("bedrock", "no end mark")
        yield ReplyEnd(finished, usage, model=speech.model)

    def _ask(self, speech: Speech, prompt: Prompt) -> Any:
        """The stream of events. Blocks until its head is there."""
        manner: dict[str, object] = {"maxTokens": speech.max_tokens}
        if speech.temperature is not None:
            manner["temperature"] = speech.temperature
        answer = self._client.converse_stream(
            modelId=speech.model,
            system=[{"text": system_prompt(prompt)}],
            messages=[
                {"role": message.speaker.value, "content": [{"text": message.text}]} for message in messages(prompt)
            ],
            inferenceConfig=manner,
        )
        return answer["stream"]


def _failed(error: Exception) -> ProviderError:
    """What is told within a stream is told with status 400, whatever it is: only a head's status means something."""
    if not isinstance(error, ClientError) or isinstance(error, EventStreamError):
        return failed("bedrock", type(error).__name__)
    head = error.response.get("ResponseMetadata", {})
    retry_after = head.get("HTTPHeaders", {}).get("retry-after")
    return failed("bedrock", type(error).__name__, head.get("HTTPStatusCode"), retry_after)
