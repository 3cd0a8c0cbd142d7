"""Guidance: what a model is told for an animal, an age group and a message."""

from __future__ import annotations

import asyncio

import pytest

from openapi_server.models.animal import Animal
from openapi_server.models.turn import AgeGroup
from tests.support.fakes import make_lion
from tests.support.rules import load_input_rules

RULES = load_input_rules()


def join_guidance(message: str = "", age_group: AgeGroup = AgeGroup.ELEMENTARY, animal: Animal | None = None) -> str:
    return "\n".join(asyncio.run(RULES.list_guidance(animal or make_lion(), age_group, message)))


def test_the_most_urgent_guidance_comes_first() -> None:
    """Each sentence begins with its strength, and has the animal's name."""
    lines = join_guidance().splitlines()

    assert lines[0].startswith("ALWAYS: when a visitor is sad")
    assert any(line.startswith("ALWAYS: speak as Leo") for line in lines)
    assert any(line.startswith("NEVER: reveal") for line in lines)
    assert all("{" not in line and ": " in line for line in lines)


def test_guidance_depends_on_the_age_group() -> None:
    """A child of four gets three short sentences, a student proper terms."""
    assert "four-year-old" in join_guidance(age_group=AgeGroup.PRESCHOOL)
    assert "child of eight" in join_guidance(age_group=AgeGroup.ELEMENTARY)
    assert "proper terms" in join_guidance(age_group=AgeGroup.ADULT)
    assert "proper terms" not in join_guidance(age_group=AgeGroup.MIDDLE)


def test_some_guidance_depends_on_the_message() -> None:
    """Models follow a short list better than a long one."""
    assert "softly" in join_guidance("How do lions die?")
    assert "softly" not in join_guidance("How tall are you?")
    assert "softly" not in join_guidance("How do lions die?", AgeGroup.ADULT)
    assert "one plain sentence" in join_guidance("How do lions mate?")
    assert "plain biology" in join_guidance("How do lions mate?", AgeGroup.HIGH)


def test_some_guidance_depends_on_the_animal() -> None:
    """Nobody asks to stroke the octopus, and nobody should knock on its glass."""
    octopus = make_lion("octopus_001", "Opal")

    assert "own side of the fence" in join_guidance("May I stroke you?")
    assert "own side of the fence" not in join_guidance("May I stroke you?", animal=octopus)
    assert "knocking on the glass" in join_guidance("Can I knock?", animal=octopus)


@pytest.mark.parametrize("age_group", AgeGroup)
def test_the_verdict_on_a_message_has_its_guidance(age_group: AgeGroup) -> None:
    """So the message is read once. One that is not answered needs none."""
    for message in ("How do lions hunt?", "Do you have babies?", "Why are they extinct?", "Hi"):
        verdict = asyncio.run(RULES.check_message(message, make_lion(), age_group))
        assert verdict.safe_words is None
        assert "\n".join(verdict.guidance) == join_guidance(message, age_group)
    assert asyncio.run(RULES.check_message("I want to die", make_lion(), age_group)).guidance == ()
