"""Minds: which one speaks, as the settings say. Only its own module is imported: some bring heavy libraries along."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openapi_server.config import ConfigError, Settings
from openapi_server.protocols import Clock, Provider
from openapi_server.providers.circuit_breaker import CircuitBreaker
from openapi_server.providers.fallback import Patience, ResilientProvider, Upstream
from openapi_server.providers.offline import OfflineProvider
from openapi_server.providers.options import Speech


@asynccontextmanager
async def open_provider(settings: Settings, clock: Clock) -> AsyncIterator[Provider]:
    """The offline voice; or a model, with the offline voice in its place whenever it fails."""
    offline = OfflineProvider(words_per_s=settings.offline_words_per_s, seed=settings.offline_seed)
    if settings.provider == "offline":
        yield offline
        return
    try:
        upstream = _upstream(settings)
    except ModuleNotFoundError as error:
        name = settings.provider
        raise ConfigError(
            f"PROVIDER: {name} needs the extra `{name}`, which is not installed (no {error.name})"
        ) from None
    breaker = CircuitBreaker(clock, failure_threshold=settings.breaker_failures, pause_s=settings.breaker_pause_s)
    patience = Patience(settings.first_token_timeout_s, settings.provider_retries)
    provider = ResilientProvider(upstream, offline, breaker, patience, clock)
    try:
        yield provider
    finally:
        await provider.close()


def _upstream(settings: Settings) -> Upstream:
    connect_timeout_s = settings.connect_timeout_s
    match settings.provider:
        case "openai":
            from openapi_server.providers.openai import OpenAIProvider

            speech = _speech(settings.openai_model, settings)
            url, key = settings.openai_base_url, settings.openai_api_key
            return OpenAIProvider(url, key, speech, connect_timeout_s=connect_timeout_s)
        case "anthropic":
            from openapi_server.providers.anthropic import AnthropicProvider

            speech = _speech(settings.anthropic_model, settings)
            url, key = settings.anthropic_base_url, settings.anthropic_api_key
            return AnthropicProvider(url, key, speech, connect_timeout_s=connect_timeout_s)
        case _:
            from openapi_server.providers.bedrock import BedrockProvider

            return BedrockProvider(
                settings.aws_region,
                settings.bedrock_endpoint or None,
                _speech(settings.bedrock_model, settings),
                connect_timeout_s=connect_timeout_s,
                # The engine gives up after such a silence; then nobody needs the thread any more.
                read_timeout_s=settings.stream_idle_timeout_s,
            )


def _speech(model: str, settings: Settings) -> Speech:
    return Speech(model, settings.temperature, settings.max_tokens)
