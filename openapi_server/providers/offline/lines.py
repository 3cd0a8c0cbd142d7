"""Lines that every animal can say, from `lines.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from openapi_server.providers.offline.intents import Intent
from openapi_server.yaml_files import load_yaml

Choices: TypeAlias = tuple[str, ...]
"""Lines of which one is said."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines by what they are for. `favourite`, `boy_or_girl`: by what was asked about; `topics`: a phrase each."""

    by_intent: Mapping[Intent, Choices]
    emoji_only: Choices
    no_words: Choices
    are_you_real: Choices
    who_are_you: Choices
    nice_to_meet: Choices
    known_visitor_name: Choices
    unknown_visitor_name: Choices
    introduction: str
    short_greeting: str
    short_nice_to_meet: str
    visitor_age: Choices
    birthday: Choices
    favourite: Mapping[str, Choices]
    favourite_unknown: Choices
    boy_or_girl: Mapping[str, Choices]
    where_is_home: Choices
    come_to_my_house: Choices
    sound: Choices
    play: Choices
    bored: Choices
    what_can_i_ask: Choices
    joke_explanation: Choices
    other_animal: Choices
    remark: Choices
    confirmation: Choices
    source_reference: Choices
    assurance: Choices
    unknown_reason: Choices
    repetition: Choices
    nothing_more: Choices
    topic_offer: Choices
    topics: Mapping[str, str]

    @classmethod
    def load(cls) -> Lines:
        """Read the file. Raises `TypeError` for a name that is missing or unknown, `KeyError` for an unknown intent."""
        content: dict[str, Any] = load_yaml(Path(__file__).with_name("lines.yaml"))
        by_intent = {Intent[name.upper()]: tuple(lines) for name, lines in content.pop("by_intent").items()}
        return cls(by_intent=by_intent, **{name: _freeze(lines) for name, lines in content.items()})


def _freeze(lines: Any) -> Any:
    """The same with tuples in the place of lists."""
    if isinstance(lines, dict):
        return {key: _freeze(each) for key, each in lines.items()}
    return tuple(lines) if isinstance(lines, list) else lines


LINES = Lines.load()
