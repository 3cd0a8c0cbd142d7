"""Providers and the scripted upstreams behind them, each in the dialect that its provider speaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from openapi_server.models.animal import Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.providers.anthropic import AnthropicProvider
from openapi_server.providers.bedrock import BedrockProvider
from openapi_server.providers.fallback import Upstream as ProviderOfUpstream
from openapi_server.providers.openai import OpenAIProvider
from openapi_server.providers.options import Speech
from tests.fakes import a_lion
from tests.faults.dialects import AnthropicDialect, BedrockDialect, Dialect, OpenAIDialect
from tests.faults.upstream import Answer, Upstream

PATIENCE_S = 30
SPEECH = Speech("scripted-1", temperature=0.25, max_tokens=77)
READ_TIMEOUT_S = 2


@dataclass(frozen=True, slots=True)
class Told:
    """What an upstream was asked, in words that are the same for all."""

    model: str
    system: str
    messages: list[tuple[str, str]]
    temperature: float | None
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Kind:
    """A provider with an upstream: how it is made, and how what it asks is read."""

    dialect: Dialect
    at: Callable[[str, Speech], ProviderOfUpstream]
    told: Callable[[str, Any], Told]


def openai_at(url: str, speech: Speech) -> ProviderOfUpstream:
    return OpenAIProvider(f"{url}/v1", "sk-test", speech, connect_timeout_s=2)


def anthropic_at(url: str, speech: Speech) -> ProviderOfUpstream:
    return AnthropicProvider(url, "sk-test", speech, connect_timeout_s=2)


def bedrock_at(url: str, speech: Speech) -> ProviderOfUpstream:
    return BedrockProvider("eu-west-1", url, speech, connect_timeout_s=2, read_timeout_s=READ_TIMEOUT_S)


def told_openai(path: str, body: Any) -> Told:
    assert path == "/v1/chat/completions"
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    system, *messages = [(message["role"], message["content"]) for message in body["messages"]]
    assert system[0] == "system"
    return Told(body["model"], system[1], messages, body.get("temperature"), body["max_tokens"])


def told_anthropic(path: str, body: Any) -> Told:
    assert path == "/v1/messages"
    assert body["stream"] is True
    messages = [(message["role"], message["content"]) for message in body["messages"]]
    return Told(body["model"], body["system"], messages, body.get("temperature"), body["max_tokens"])


def told_bedrock(path: str, body: Any) -> Told:
    model = path.removeprefix("/model/").removesuffix("/converse-stream")
    messages = [(message["role"], "".join(part["text"] for part in message["content"])) for message in body["messages"]]
    manner = body["inferenceConfig"]
    return Told(model, body["system"][0]["text"], messages, manner.get("temperature"), manner["maxTokens"])


UPSTREAMS = {
    "openai": Kind(OpenAIDialect(), openai_at, told_openai),
    "anthropic": Kind(AnthropicDialect(), anthropic_at, told_anthropic),
    "bedrock": Kind(BedrockDialect(), bedrock_at, told_bedrock),
}


@asynccontextmanager
async def talking(
    kind: Kind, *answers: Answer, speech: Speech = SPEECH
) -> AsyncIterator[tuple[ProviderOfUpstream, Upstream]]:
    """A provider, and the upstream behind it that gives the answers."""
    async with asyncio.timeout(PATIENCE_S), Upstream(kind.dialect, answers or (Answer(),)) as upstream:
        provider = kind.at(upstream.url, speech)
        try:
            yield provider, upstream
        finally:
            await provider.close()


def a_prompt(message: str = "Do you roar?", **parts: Any) -> Prompt:
    animal = parts.pop("animal", a_lion())
    return Prompt(animal, AgeGroup.ELEMENTARY, message, facts=animal.facts, **parts)


def without_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that are none, and no proxy on the way to this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
