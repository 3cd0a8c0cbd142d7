"""Which words of a message are taken for the visitor's name."""

from __future__ import annotations

import pytest

from openapi_server.providers.offline.visitor_names import find_visitor_name


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("my name is Mia", "Mia"),
        ("my name is mia and i like you", "Mia"),
        ("My name's Jean-Luc", "Jean-Luc"),
        ("I'm Mia", "Mia"),
        ("Hi, I'm Mia!", "Mia"),
        ("im mia", "Mia"),
        ("hi im mia and im 6", "Mia"),
        ("hi leo! im mia", "Mia"),
        ("I am called MIA", "Mia"),
        ("you can call me Mia", "Mia"),
        ("my name is Mia Smith", "Mia"),
        ("My name is not important. My name is Mia", "Mia"),
        ("a long story " * 200 + "and my name is Mia", "Mia"),
        ("I'm hungry", None),
        ("I am 6", None),
        ("I'm a boy", None),
        ("Im Tired", None),
        ("i'm scared of you", None),
        ("i'm going home", None),
        ("my name is poop", None),
        ("My name is Fuckface", None),
        ("I'm called Fück-Face. How fast are you?", None),
        ("Call me Scheißkopf", None),
        ("my name is Dick", "Dick"),
        ("I'm Fanny!", "Fanny"),
        ("My name is Ishita", "Ishita"),
        ("my name is [removed]", None),
        ("what is my name", None),
        ("im sure you are nice", None),
    ],
)
def test_first_names_are_found(message: str, name: str | None) -> None:
    """Moods, ages, rude words and surnames are no first names."""
    assert find_visitor_name(message) == name
