"""Fixed words for visitors in need, from safe_words.yaml: the rules of moderation and the offline provider say them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from openapi_server.models.rule import Wording
from openapi_server.models.turn import AgeGroup
from openapi_server.yaml_files import load_yaml


@cache
def load_safe_words() -> Mapping[str, Wording]:
    """By name. Raises `ValueError` for an unknown age group."""
    content: dict[str, dict[str, str]] = load_yaml(Path(__file__).with_name("safe_words.yaml"))
    return {
        name: Wording({AgeGroup(age_group): text.strip() for age_group, text in texts.items()})
        for name, texts in content.items()
    }
