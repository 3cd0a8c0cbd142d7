"""The system prompt: all that the model must know, and nothing from a visitor."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.models.animal import Individual
from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.providers.prompt_template import AGE_STYLES, render_system_prompt
from tests.support.fakes import make_fact, make_lion

LION = replace(
    make_lion(),
    individual=Individual(
        sex="male",
        born=date(2016, 6, 14),
        birthplace="at this zoo",
        home="the Savanna Hill",
        character=("proud", "sleepy"),
        favourites={"food": "beef", "colour": "gold"},
        anecdotes=("I once slept in a box.",),
    ),
)


def make_prompt(message: str = "Do you roar?", **parts: object) -> Prompt:
    whole = Prompt(LION, AgeGroup.ELEMENTARY, message, facts=LION.facts)
    return replace(whole, **parts)  # type: ignore[arg-type]  # whatever a test wants to be different


@pytest.mark.parametrize(
    "told",
    [
        "You speak for Leo, a male African lion (Panthera leo)",
        "You are proud, sleepy.",
        "14 June 2016",
        "the Savanna Hill",
        "food: beef; colour: gold",
        "I once slept in a box.",
        "Roar!",
        "[lion_001/mane] Lions have a mane.",
        "What you do not find here you do not know: say so in your own way",
        "You are chatting with a computer program that speaks for Leo, not with a real animal.",
        "The visitor is six to ten years old.",
        "at most four short sentences",
    ],
)
def test_the_system_prompt_has_all_that_the_model_must_know(told: str) -> None:
    """The animal, its style, the age group, the facts and the disclosure."""
    assert told in render_system_prompt(make_prompt())


@pytest.mark.parametrize("age_group", AgeGroup)
def test_every_age_group_has_its_style(age_group: AgeGroup) -> None:
    """The vocabulary and the length of replies, and nothing about other ages."""
    text = render_system_prompt(make_prompt(age_group=age_group))

    manner = AGE_STYLES[age_group]
    assert all(part in text for part in (manner.age, manner.vocabulary, manner.length))
    assert not any(other.age in text for other in AGE_STYLES.values() if other is not manner)


@pytest.mark.parametrize("age_group", AgeGroup)
def test_details_are_for_older_age_groups(age_group: AgeGroup) -> None:
    """From eleven years on; reasons are for all ages, because children ask why."""
    fact = replace(make_fact(), detail="It is made of keratin.", why="It looks splendid.")
    text = render_system_prompt(make_prompt(age_group=age_group, facts=(fact,)))

    assert ("keratin" in text) == (age_group.rank >= AgeGroup.MIDDLE.rank)
    assert "Why: It looks splendid." in text


def test_without_facts_the_prompt_says_so() -> None:
    """Otherwise the model might invent some."""
    text = render_system_prompt(make_prompt(facts=()))

    assert "The keepers' notes say nothing about this message." in text
    assert "mane" not in text


def test_facts_are_listed_best_first_with_their_ids() -> None:
    """In the order of their ranking."""
    text = render_system_prompt(make_prompt(facts=(make_fact("tail"), make_fact("paw"))))

    assert text.index("[lion_001/tail]") < text.index("[lion_001/paw]")


def test_rules_for_this_animal_and_age_are_added() -> None:
    """One on each line."""
    text = render_system_prompt(make_prompt(rules=("Never speak of the dentist.", "Praise the keepers.")))

    assert "\n- Never speak of the dentist.\n- Praise the keepers.\n" in text


def test_name_placeholders_are_removed() -> None:
    """The lines have placeholders for a visitor's name, which a prompt does not have."""
    assert "{name}" not in render_system_prompt(make_prompt())


def test_the_constant_part_comes_first() -> None:
    """Servers cache prefixes: two turns with the same animal and age differ only in their facts."""
    one, other = (
        render_system_prompt(make_prompt()),
        render_system_prompt(make_prompt("And your tail?", facts=(make_fact("tail"),))),
    )

    same = one.index("From the keepers' notes")
    assert one[:same] == other[:same]


@given(
    said=st.text(min_size=8).filter(
        lambda text: text.strip() == text and text not in render_system_prompt(make_prompt())
    )
)
def test_no_client_text_is_in_the_system_prompt(said: str) -> None:
    """Neither the message nor the history, whatever they are."""
    prompt = make_prompt(said, history=(Exchange(said, said),), context_summary=said, media_urls=(said,))

    assert said not in render_system_prompt(prompt)
    assert render_system_prompt(prompt) == render_system_prompt(make_prompt())
