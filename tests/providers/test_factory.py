"""The provider that the settings name: only its library is imported, and a missing one is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from openapi_server.clock import SystemClock
from openapi_server.config import ConfigError, load_settings
from openapi_server.providers.factory import open_provider
from openapi_server.providers.offline.provider import OfflineProvider
from openapi_server.providers.retry_and_fallback import FallbackProvider
from tests.support.provider_cases import isolate_environment

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


def test_no_model_library_is_imported_without_its_provider() -> None:
    """Each takes up to a second to import."""
    program = (
        "import sys, openapi_server.composition, openapi_server.providers.factory;"
        "print([name for name in ('openai', 'anthropic', 'boto3') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", timeout=60)
    assert ended.stdout == "[]\n", ended.stderr
