"""Which mind speaks: as the settings say, imported only then, and named when it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from openapi_server.clock import SystemClock
from openapi_server.config import ConfigError, load_settings
from openapi_server.providers.factory import open_provider
from openapi_server.providers.fallback import FallbackProvider
from openapi_server.providers.offline.provider import OfflineProvider
from tests.support.provider_cases import isolate_environment

CHOICES: dict[str, dict[str, object]] = {
    "openai": {"openai_api_key": "sk-test", "openai_model": "model-1"},
    "anthropic": {"anthropic_api_key": "sk-test", "anthropic_model": "model-1"},
    "bedrock": {"aws_region": "eu-west-1", "bedrock_model": "model-1"},
}


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate_environment(monkeypatch)
    monkeypatch.chdir(tmp_path)


async def test_without_a_word_it_is_the_offline_voice() -> None:
    """It cannot fail, so nothing stands around it."""
    async with open_provider(load_settings(), SystemClock()) as mind:
        assert isinstance(mind, OfflineProvider)


@pytest.mark.parametrize("provider", CHOICES)
async def test_a_model_speaks_with_the_offline_voice_behind_it(provider: str) -> None:
    """Its name is the one that visitors are told."""
    settings = load_settings(provider=provider, **CHOICES[provider])
    async with open_provider(settings, SystemClock()) as mind:
        assert isinstance(mind, FallbackProvider)
        assert mind.model == "model-1"


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    """With the extra that brings it."""
    monkeypatch.setitem(sys.modules, provider, None)
    monkeypatch.delitem(sys.modules, f"openapi_server.providers.{provider}", raising=False)

    with pytest.raises(ConfigError, match=f"PROVIDER: {provider} needs the extra `{provider}`"):
        async with open_provider(load_settings(provider=provider, **CHOICES[provider]), SystemClock()):
            pass


def test_the_offline_voice_brings_no_heavy_library_along() -> None:
    """Each takes a second to import, which nobody should wait for in vain."""
    program = (
        "import sys, openapi_server.composition, openapi_server.minds;"
        "print([name for name in ('openai', 'anthropic', 'boto3') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", timeout=60)
    assert ended.stdout == "[]\n", ended.stderr
