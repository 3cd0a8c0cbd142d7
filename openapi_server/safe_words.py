"""Fixed texts for visitors in need (safe_words.yaml), used by the rules of moderation and by the offline provider."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from openapi_server.models.rule import Wording
from openapi_server.models.turn import AgeGroup
from openapi_server.yaml_files import load_yaml


@cache
def load_safe_words() -> Mapping[str, Wording]:
    """The texts by name. Raises `ValueError` for an unknown age group in the file."""
    content: dict[str, dict[str, str]] = load_yaml(Path(__file__).with_name("safe_words.yaml"))
    return {
        name: Wording({AgeGroup(age_group): text.strip() for age_group, text in texts.items()})
        for name, texts in content.items()
    }
