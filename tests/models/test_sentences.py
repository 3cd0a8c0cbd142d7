"""Sentences: where they end, and where they only seem to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.models.sentences import count_sentences, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        (" \n ", []),
        ("I sleep", ["I sleep"]),
        ("I sleep. Do you? Yes!", ["I sleep.", "Do you?", "Yes!"]),
        ("I weigh 0.5 kg at zoo.example.", ["I weigh 0.5 kg at zoo.example."]),
        ("Psst… I sleep.\n\nGood night!", ["Psst…", "I sleep.", "Good night!"]),
    ],
)
def test_a_sentence_ends_at_its_mark_and_white_space(text: str, sentences: list[str]) -> None:
    """Points inside numbers and names end nothing."""
    assert split_sentences(text) == sentences


def test_an_ellipsis_need_not_end_a_sentence() -> None:
    """A summary keeps what follows it."""
    assert split_sentences("Psst… I sleep. Yes!", ends_at_ellipsis=False) == ["Psst… I sleep.", "Yes!"]


@given(st.text(st.one_of(st.sampled_from("ab.!?… \n\t\x1c\u2003\u200b"), st.characters()), max_size=30))
def test_as_many_are_counted_as_there_are(text: str) -> None:
    """Whatever white space there is."""
    assert count_sentences(text) == len(split_sentences(text))
