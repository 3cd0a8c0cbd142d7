"""Each provider with a scripted model server that speaks its dialect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.providers.anthropic import AnthropicProvider
from openapi_server.providers.bedrock import BedrockProvider
from openapi_server.providers.openai import OpenAIProvider
from openapi_server.providers.options import ModelOptions
from openapi_server.providers.retry_and_fallback import ModelProvider
from tests.support.fakes import make_lion
from tests.support.model_dialects import AnthropicDialect, BedrockDialect, Dialect, OpenAIDialect
from tests.support.scripted_model import ModelAnswer, ScriptedModel

TIMEOUT_S = 30
SPEECH = ModelOptions("scripted-1", temperature=0.25, max_tokens=77)
READ_TIMEOUT_S = 2


@dataclass(frozen=True, slots=True)
class RequestedReply:
    """A request to a model server, in a form common to all dialects."""

    model: str
    system: str
    messages: list[tuple[str, str]]
    temperature: float | None
    max_tokens: int


@dataclass(frozen=True, slots=True)
class ProviderCase:
    """How one provider is made, and how its requests are read."""

    dialect: Dialect
    make: Callable[[str, ModelOptions], ModelProvider]
    read_request: Callable[[str, Any], RequestedReply]


def make_openai(url: str, speech: ModelOptions) -> ModelProvider:
    return OpenAIProvider(f"{url}/v1", "sk-test", speech, connect_timeout_s=2)


def make_anthropic(url: str, speech: ModelOptions) -> ModelProvider:
    return AnthropicProvider(url, "sk-test", speech, connect_timeout_s=2)


def make_bedrock(url: str, speech: ModelOptions) -> ModelProvider:
    return BedrockProvider("eu-west-1", url, speech, connect_timeout_s=2, read_timeout_s=READ_TIMEOUT_S)


def read_openai_request(path: str, body: Any) -> RequestedReply:
    assert path == "/v1/chat/completions"
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    system, *messages = [(message["role"], message["content"]) for message in body["messages"]]
    assert system[0] == "system"
    return RequestedReply(body["model"], system[1], messages, body.get("temperature"), body["max_tokens"])


def read_anthropic_request(path: str, body: Any) -> RequestedReply:
    assert path == "/v1/messages"
    assert body["stream"] is True
    messages = [(message["role"], message["content"]) for message in body["messages"]]
    return RequestedReply(body["model"], body["system"], messages, body.get("temperature"), body["max_tokens"])


def read_bedrock_request(path: str, body: Any) -> RequestedReply:
    model = path.removeprefix("/model/").removesuffix("/converse-stream")
    messages = [(message["role"], "".join(part["text"] for part in message["content"])) for message in body["messages"]]
    manner = body["inferenceConfig"]
    return RequestedReply(model, body["system"][0]["text"], messages, manner.get("temperature"), manner["maxTokens"])


PROVIDER_CASES = {
    "openai": ProviderCase(OpenAIDialect(), make_openai, read_openai_request),
    "anthropic": ProviderCase(AnthropicDialect(), make_anthropic, read_anthropic_request),
    "bedrock": ProviderCase(BedrockDialect(), make_bedrock, read_bedrock_request),
}


@asynccontextmanager
async def open_provider(
    kind: ProviderCase, *answers: ModelAnswer, speech: ModelOptions = SPEECH
) -> AsyncIterator[tuple[ModelProvider, ScriptedModel]]:
    """A provider, and the scripted model server that gives it the answers."""
    async with asyncio.timeout(TIMEOUT_S), ScriptedModel(kind.dialect, answers or (ModelAnswer(),)) as upstream:
        provider = kind.make(upstream.url, speech)
        try:
            yield provider, upstream
        finally:
            await provider.close()


def make_prompt(message: str = "Do you roar?", **parts: Any) -> Prompt:
    animal = parts.pop("animal", make_lion())
    return Prompt(animal, AgeGroup.ELEMENTARY, message, facts=animal.facts, **parts)


def isolate_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Invalid credentials, and no proxy on the way to this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
