"""Full-text search: children's wordings find facts, other questions find nothing, and any input is legal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openapi_server.knowledge.animal_files import PACKAGED_ANIMALS, read_animal
from openapi_server.knowledge.retrieval.index import FactIndex
from openapi_server.knowledge.retrieval.query import Lexicon, tokenize


@pytest.fixture(scope="module")
def lion() -> Iterator[FactIndex]:
    index = FactIndex(read_animal(PACKAGED_ANIMALS / "lion_001.yaml"), Lexicon.load())
    yield index
    index.close()


def topics(index: FactIndex, message: str) -> list[str]:
    return [found.fact.topic for found in index.search(index.parse_query(message)).facts]


@pytest.mark.parametrize(
    ("message", "topic"),
    [
        ("How fast are you?", "speed"),
        ("HOW FAAAST ARE YOU", "speed"),
        ("how fast can lions run", "speed"),
        ("are you faster than a cheetah", "speed"),
        ("how big r u", "size"),
        ("do you poop", "poo"),
        ("do you sleap alot", "sleep"),
        ("wot do you eet", "diet"),
        ("whats your dinner", "diet"),
        ("do u like pizza", "diet"),
        ("my teacher says you are endangered", "conservation"),
        ("tell me about your teef", "teeth"),
        ("what are you scared of?", "predators"),
        ("do you have a mummy", "family"),
        ("how can we help you", "people"),
    ],
)
def test_children_find_what_they_ask_for(lion: FactIndex, message: str, topic: str) -> None:
    """Children's words, spelling and detours lead to the right topic."""
    assert topic in topics(lion, message)[:2]


@pytest.mark.parametrize(
    "message",
    [
        "What is the capital of France?",
        "Do you like Minecraft?",
        "What is 7 times 8?",
        "Who won the world cup?",
        "how long is a giraffe's tongue",
        "what is my name",
        "when is my birthday",
        "where can i park my car",
        "hello",
        "thank you so much",
        "tell me a joke",
        "",
        "?!",
        "🦁🦁🦁",
    ],
)
def test_a_question_that_no_fact_answers_finds_nothing(lion: FactIndex, message: str) -> None:
    """A loosely related fact is not an answer."""
    assert topics(lion, message) == []


@pytest.mark.parametrize(
    "message",
    [
        '"',
        "\x00how fast\x00",
        "fast* NEAR(run, 3) AND NOT -x",
        '"; DROP TABLE facts; --',
        "topic:speed ^run {asks}: (",
        "fast " * 1_000,
        "é" * 4_000,
        "\ud800 lone surrogate",
    ],
)
def test_no_message_breaks_the_search(lion: FactIndex, message: str) -> None:
    """Search syntax, NUL bytes and long texts raise nothing."""
    lion.search(lion.parse_query(message))


@settings(max_examples=200, deadline=None)
@given(message=st.text(max_size=4_000))
def test_any_text_is_legal(lion: FactIndex, message: str) -> None:
    """Whatever is typed, searching returns facts or nothing, and tokens are plain letters and digits."""
    assert all(token.isascii() and token.isalnum() for token in tokenize(message))
    lion.search(lion.parse_query(message))


@given(st.text(st.sampled_from("aAbz09 .'’`é\u0301ﬁ²İK中٣🦁\ud800\x00-_") | st.characters(), max_size=40))
def test_words_are_runs_of_letters_and_digits(text: str) -> None:
    """Of ASCII, when accents are taken off; whatever else is in the text ends a word, but for apostrophes."""
    plain = unicodedata.normalize("NFKD", text).lower()
    plain = "".join(letter for letter in plain if letter not in "'’`" and not unicodedata.combining(letter))
    words = re.findall("[a-z0-9]+", plain)

    assert tokenize(text) == tuple(re.sub(r"([a-z])\1{2,}", r"\1\1", word) for word in words)
