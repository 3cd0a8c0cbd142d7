"""The provider that the settings name: only its library is imported, and a missing one is named."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from openapi_server.clock import SystemClock
from openapi_server.config import ConfigError, load_settings
from openapi_server.providers.factory import explain_client_failure, open_provider
from openapi_server.providers.offline.provider import OfflineProvider
from openapi_server.providers.retry_and_fallback import FallbackProvider
from tests.support.model_dialects import OpenAIDialect
from tests.support.provider_cases import isolate_environment, make_prompt
from tests.support.scripted_model import ScriptedModel

PROVIDER_SETTINGS: dict[str, dict[str, object]] = {
    "openai": {"openai_api_key": "sk-test", "openai_model": "model-1"},
    "anthropic": {"anthropic_api_key": "sk-test", "anthropic_model": "model-1"},
    "bedrock": {"aws_region": "eu-west-1", "bedrock_model": "model-1"},
}


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate_environment(monkeypatch)
    monkeypatch.chdir(tmp_path)


async def test_the_default_is_the_offline_provider() -> None:
    """It cannot fail, so it needs no fallback."""
    async with open_provider(load_settings(), SystemClock()) as provider:
        assert isinstance(provider, OfflineProvider)


@pytest.mark.parametrize("name", PROVIDER_SETTINGS)
async def test_a_model_provider_has_the_offline_provider_as_its_fallback(name: str) -> None:
    """Visitors see the model's name."""
    settings = load_settings(provider=name, **PROVIDER_SETTINGS[name])
    async with open_provider(settings, SystemClock()) as provider:
        assert isinstance(provider, FallbackProvider)
        assert provider.model == "model-1"


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    """With the extra that installs it."""
    monkeypatch.setitem(sys.modules, provider, None)
    monkeypatch.delitem(sys.modules, f"openapi_server.providers.{provider}", raising=False)

    with pytest.raises(ConfigError, match=f"PROVIDER: {provider} needs the extra `{provider}`"):
        async with open_provider(load_settings(provider=provider, **PROVIDER_SETTINGS[provider]), SystemClock()):
            pass


@pytest.mark.parametrize("proxy", [None, "socks5://127.0.0.1:1"])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ImportError("libssl.so.3: cannot open shared object file", name="_ssl"), "PROVIDER: a library .*_ssl"),
        (ImportError("cannot import name 'x'"), "PROVIDER: a library .*ImportError"),
        (ModuleNotFoundError("No module named 'h2'", name="h2"), "PROVIDER: a library .*h2"),
        (ImportError("Using SOCKS proxy, but the 'socksio' package is not installed."), "ALL_PROXY: a SOCKS proxy"),
    ],
)
def test_a_library_that_cannot_be_loaded_is_no_missing_proxy_package(
    monkeypatch: pytest.MonkeyPatch, error: ImportError, told: str, proxy: str | None
) -> None:
    """Whether a proxy is set or not. Only what the HTTP client says of SOCKS is about one."""
    if proxy is not None:
        monkeypatch.setenv("ALL_PROXY", proxy)
    assert re.match(told, explain_client_failure("PROVIDER", error))


def test_no_model_library_is_imported_without_its_provider() -> None:
    """Each takes up to a second to import."""
    program = (
        "import sys, openapi_server.composition, openapi_server.providers.factory;"
        "print([name for name in ('openai', 'anthropic', 'boto3') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", timeout=60)
    assert ended.stdout == "[]\n", ended.stderr


AZURE = "https://x.openai.azure.com"


@pytest.mark.parametrize(
    ("written", "url", "version"),
    [
        (f"{AZURE}/openai/deployments/d?api-version=2024-06-01", f"{AZURE}/openai/deployments/d", "2024-06-01"),
        (
            f"{AZURE}/openai/deployments/d/?api-version=2025-01-01-preview",
            f"{AZURE}/openai/deployments/d",
            "2025-01-01-preview",
        ),
        (
            f"{AZURE}/openai/deployments/d/chat/completions?api-version=2024-06-01",
            f"{AZURE}/openai/deployments/d",
            "2024-06-01",
        ),
        (f"{AZURE}/openai/v1/", f"{AZURE}/openai/v1", None),
        (f"{AZURE}/openai/v1?api-version=preview", f"{AZURE}/openai/v1", "preview"),
        (
            "https://x.services.ai.azure.com/models?api-version=2024-05-01-preview",
            "https://x.services.ai.azure.com/models",
            "2024-05-01-preview",
        ),
        (
            "http://gateway.example/openai/deployments/d?api-version=2024-06-01",
            "http://gateway.example/openai/deployments/d",
            "2024-06-01",
        ),
        ("http://127.0.0.1:8000/v1/chat/completions", "http://127.0.0.1:8000/v1", None),
        ("https://api.openai.com/v1", "https://api.openai.com/v1", None),
    ],
)
def test_the_address_may_be_written_as_the_service_shows_it(written: str, url: str, version: str | None) -> None:
    """With Azure's version, with a slash at the end, or as the address of a call."""
    assert load_settings(openai_base_url=written).openai_endpoint == (url, version)


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (AZURE, f"needs a path: write {AZURE}/openai/v1"),
        (f"{AZURE}/", f"write {AZURE}/openai/v1, or {AZURE}/openai/deployments/NAME"),
        (f"{AZURE}/openai", "needs a path"),
        (f"{AZURE}/openai/deployments/d", f"write {AZURE}/openai/deployments/d\\?api-version=2024-10-21"),
        (f"{AZURE}/openai/deployments/d?version=1", "may only have api-version in its query"),
        ("https://llm.example/v1?key=secret", "may only have api-version in its query"),
        ("https://llm.example/v1#x", "must be a URL"),
        ("llm.example/v1", "must be a URL"),
        ("https://user:word@llm.example/v1", "without a user name"),
    ],
)
def test_an_address_that_cannot_work_is_answered_with_what_to_write(written: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"OPENAI_BASE_URL: .*{sentence}") as told:
        load_settings(openai_base_url=written)

    assert "secret" not in str(told.value)


async def test_azure_gets_its_version_and_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is in `api-key`, and no `Authorization` beside it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with ScriptedModel(OpenAIDialect()) as upstream:
        url = f"{upstream.url}/openai/deployments/d?api-version=2024-06-01"
        settings = load_settings(provider="openai", openai_base_url=url, openai_api_key="sk-test", openai_model="d")
        async with open_provider(settings, SystemClock()) as provider:
            pieces = [piece async for piece in provider.stream_reply(make_prompt())]
        (asked,) = upstream.requests

    assert "".join(piece for piece in pieces if isinstance(piece, str)) == "Roar! I am a lion."
    assert asked.path == "/openai/deployments/d/chat/completions?api-version=2024-06-01"
    assert asked.headers["api-key"] == "sk-test"
    assert "authorization" not in asked.headers
