"""Creates the provider that the settings name. Imports only its module, because some need large libraries."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openapi_server.circuit_breaker import CircuitBreaker
from openapi_server.config import ConfigError, Settings
from openapi_server.instruments import Metrics
from openapi_server.protocols import Clock, Provider
from openapi_server.providers.offline.provider import OfflineProvider
from openapi_server.providers.options import ModelOptions
from openapi_server.providers.retry_and_fallback import FallbackProvider, ModelProvider, RetryPolicy

# How much of a turn's time a model may think: the rest is for the fallback.
_FIRST_TEXT_SHARE = 0.9
_PROXY_VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_PROXY_SCHEMES = ("http://", "https://", "socks5://", "socks5h://")


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
    except Exception as error:
        # The clients of the libraries raise what they like for a proxy or a certificate of the environment.
        raise ConfigError(explain_client_failure("PROVIDER", error)) from None
    breaker = CircuitBreaker(
        "model", clock.monotonic, failure_threshold=settings.breaker_failures, pause_s=settings.breaker_pause_s
    )
    max_first_text_s = settings.turn_deadline_s * _FIRST_TEXT_SHARE
    retry_policy = RetryPolicy(settings.first_token_timeout_s, settings.provider_retries, max_first_text_s)
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
            url, api_version = settings.openai_endpoint
            key = settings.openai_api_key
            return OpenAIProvider(url, key, speech, connect_timeout_s=connect_timeout_s, api_version=api_version)
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


def explain_client_failure(setting: str, error: Exception) -> str:
    """Why the HTTP client behind a setting could not be made: what is wrong in the environment that it reads.

    Values are not repeated, because the URL of a proxy may contain a password.
    """
    proxies = {name: value for name, value in os.environ.items() if name.upper() in _PROXY_VARIABLES and value}
    if isinstance(error, ImportError) and "socks" not in str(error).lower():
        return f"{setting}: a library that it needs cannot be loaded ({error.name or type(error).__name__})"
    if isinstance(error, ImportError):
        name = next((name for name, value in proxies.items() if value.startswith("socks")), "ALL_PROXY")
        return (
            f"{name}: a SOCKS proxy needs the package `socksio` (`pip install socksio`); or start with `env -u {name}`"
        )
    for name, value in proxies.items():
        if not value.startswith(_PROXY_SCHEMES) and "://" in value:
            return f"{name}: must be a URL such as http://proxy.example:3128"
    if isinstance(error, OSError):
        name = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), setting)
        return f"{name}: the certificates there cannot be read ({type(error).__name__})"
    named = next(iter(proxies), setting)
    return f"{named}: the address there is no valid URL"
