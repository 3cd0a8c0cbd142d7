"""Creates the provider that the settings name. Imports only its module, because some need large libraries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openapi_server.circuit_breaker import CircuitBreaker
from openapi_server.config import ConfigError, Settings
from openapi_server.instruments import Metrics
from openapi_server.protocols import Clock, Provider
from openapi_server.providers.offline.provider import OfflineProvider
from openapi_server.providers.options import ModelOptions
from openapi_server.providers.retry_and_fallback import FallbackProvider, ModelProvider, RetryPolicy


@asynccontextmanager
async def open_provider(settings: Settings, clock: Clock, metrics: Metrics | None = None) -> AsyncIterator[Provider]:
    """The offline provider, or a model provider with the offline provider as its fallback. Closed on exit."""
    words_per_s, seed = settings.offline_words_per_s, settings.offline_seed
    offline = OfflineProvider(words_per_s=words_per_s, seed=seed, metrics=metrics)
    if settings.provider == "offline":
        yield offline
        return
    try:
        model_provider = _create_model_provider(settings)
    except ModuleNotFoundError as error:
        name = settings.provider
        raise ConfigError(
            f"PROVIDER: {name} needs the extra `{name}`, which is not installed (no {error.name})"
        ) from None
    breaker = CircuitBreaker(
        "model", clock.monotonic, failure_threshold=settings.breaker_failures, pause_s=settings.breaker_pause_s
    )
    retry_policy = RetryPolicy(settings.first_token_timeout_s, settings.provider_retries)
    provider = FallbackProvider(model_provider, offline, breaker, retry_policy, clock)
    try:
        yield provider
    finally:
        await provider.close()


def _create_model_provider(settings: Settings) -> ModelProvider:
    connect_timeout_s = settings.connect_timeout_s
    match settings.provider:
        case "openai":
            from openapi_server.providers.openai import OpenAIProvider

            speech = _make_options(settings.openai_model, settings)
            url, key = settings.openai_base_url, settings.openai_api_key
            return OpenAIProvider(url, key, speech, connect_timeout_s=connect_timeout_s)
        case "anthropic":
            from openapi_server.providers.anthropic import AnthropicProvider

            speech = _make_options(settings.anthropic_model, settings)
            url, key = settings.anthropic_base_url, settings.anthropic_api_key
            return AnthropicProvider(url, key, speech, connect_timeout_s=connect_timeout_s)
        case _:
            from openapi_server.providers.bedrock import BedrockProvider

            return BedrockProvider(
                settings.aws_region,
                settings.bedrock_endpoint or None,
                _make_options(settings.bedrock_model, settings),
                connect_timeout_s=connect_timeout_s,
                # After such a silence the engine ends the turn, so the thread may end, too.
                read_timeout_s=settings.stream_idle_timeout_s,
            )


def _make_options(model: str, settings: Settings) -> ModelOptions:
    return ModelOptions(model, settings.temperature, settings.max_tokens)
