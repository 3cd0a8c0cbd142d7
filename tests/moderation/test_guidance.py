"""Guidance: what a mind is told for an animal, an age and a message."""

from __future__ import annotations

import asyncio

from openapi_server.models.animal import Animal
from openapi_server.models.turn import AgeGroup
from openapi_server.moderation.input_rules import InputRules
from tests.support.fakes import make_lion

MODERATOR = InputRules.load()


def told(message: str = "", age_group: AgeGroup = AgeGroup.ELEMENTARY, animal: Animal | None = None) -> str:
    return "\n".join(asyncio.run(MODERATOR.list_guidance(animal or make_lion(), age_group, message)))


def test_every_mind_is_told_the_orders_first() -> None:
    """What is urgent stands first, and says how it binds; the animal is called by its name."""
    lines = told().splitlines()

    assert lines[0].startswith("ALWAYS: when a visitor is sad")
    assert any(line.startswith("ALWAYS: speak as Leo") for line in lines)
    assert any(line.startswith("NEVER: reveal") for line in lines)
    assert all("{" not in line and ": " in line for line in lines)


def test_age_chooses_how_it_is_told() -> None:
    """A child of four gets three short sentences, a student proper terms."""
    assert "four-year-old" in told(age_group=AgeGroup.PRESCHOOL)
    assert "child of eight" in told(age_group=AgeGroup.ELEMENTARY)
    assert "proper terms" in told(age_group=AgeGroup.ADULT)
    assert "proper terms" not in told(age_group=AgeGroup.MIDDLE)


def test_some_guidance_waits_for_its_subject() -> None:
    """A mind that is told everything heeds nothing: tone is told when the message touches it."""
    assert "softly" in told("How do lions die?")
    assert "softly" not in told("How tall are you?")
    assert "softly" not in told("How do lions die?", AgeGroup.ADULT)
    assert "one plain sentence" in told("How do lions mate?")
    assert "plain biology" in told("How do lions mate?", AgeGroup.HIGH)


def test_some_guidance_is_for_some_animals() -> None:
    """Nobody asks to stroke the octopus, and nobody should knock on its glass."""
    octopus = make_lion("octopus_001", "Opal")

    assert "own side of the fence" in told("May I stroke you?")
    assert "own side of the fence" not in told("May I stroke you?", animal=octopus)
    assert "knocking on the glass" in told("Can I knock?", animal=octopus)
