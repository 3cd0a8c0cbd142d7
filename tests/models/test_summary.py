"""Summaries: sentences that were really said, in the order in which they were said."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.models.summary import NOTHING_SAID, summarize
from openapi_server.models.turn import TurnRecord
from tests.support.examples import NOTEBOOK, WEB, make_failure, make_outcome, make_turn, texts

SPEED = "Lions sprint across open grassland at eighty kilometres an hour."
SLEEP = "Most lions sleep through the whole warm afternoon."
PRIDE = "Several lions together make a family called a pride."


def make_turns(*replies: str) -> list[TurnRecord]:
    return [make_turn(f"turn_{n}", outcome=make_outcome(reply)) for n, reply in enumerate(replies)]


# Words of four letters and more carry the weight, so most sentences have some.
sentences = st.lists(
    st.sampled_from(["lions", "sleep", "grass", "river", "I", "am", "3.5"]), min_size=1, max_size=9
).map(lambda words: " ".join(words) + ".")
talks = st.lists(st.lists(sentences, max_size=4).map(" ".join) | texts, max_size=5).map(
    lambda replies: make_turns(*replies)
)


@given(turns=talks, max_length=st.integers(40, 400))
def test_a_summary_is_never_longer_than_asked_for(turns: list[TurnRecord], max_length: int) -> None:
    """The caller has so much room, and no more."""
    assert 0 < len(summarize(turns, max_length).text) <= max_length


@given(
    turns=st.lists(st.lists(sentences, min_size=1, max_size=4), min_size=1, max_size=4), max_length=st.integers(40, 400)
)
def test_a_summary_quotes_whole_sentences_in_their_order(turns: list[list[str]], max_length: int) -> None:
    """Nothing is made up, cut in the middle or put in another order; each sentence is told once."""
    said = list(dict.fromkeys(sentence for reply in turns for sentence in reply))
    text = summarize(make_turns(*(" ".join(reply) for reply in turns)), max_length).text
    if text.startswith("The visitor said"):
        return

    quoted = [sentence + "." for sentence in text.removesuffix(".").split(". ")]
    assert [sentence for sentence in said if sentence in quoted] == quoted


def test_the_most_significant_sentence_is_taken_when_there_is_room_for_one() -> None:
    """A word weighs as much as the replies use it."""
    turns = make_turns(f"{PRIDE} Something about butterflies drifting outside.", f"{SLEEP} {SPEED}")

    assert summarize(turns, len(SLEEP) + 1).text == SLEEP


def test_sentences_keep_the_order_in_which_they_were_said() -> None:
    """Significance selects; the order is that of the replies."""
    assert summarize(make_turns(SPEED, SLEEP, PRIDE), 500).text == f"{SPEED} {SLEEP} {PRIDE}"


@pytest.mark.parametrize(
    "reply",
    [
        "My purple tongue reaches about 0.5 metres beyond those lips.",
        "Keepers weighed around 190.25 kilograms last Tuesday!",
        "Have you read wikipedia.org about lions before coming?",
        "Lions roar loudly... really terribly loudly indeed!!!",
    ],
)
def test_a_point_inside_a_number_or_a_name_ends_no_sentence(reply: str) -> None:
    """Half a number is a wrong fact."""
    text = summarize(make_turns(reply), 500).text

    assert text == reply
    assert reply in summarize(make_turns(f"{SLEEP} {reply}"), 500).text


def test_a_sentence_that_was_said_twice_is_told_once() -> None:
    """Animals repeat themselves; a summary does not."""
    assert summarize(make_turns(SPEED, SPEED), 500).text == SPEED


def test_lines_end_sentences_too() -> None:
    """A list without full stops is still a list of separate things."""
    assert summarize(make_turns("lions sleep under acacias\nlions drink every morning"), 40).text in (
        "lions sleep under acacias",
        "lions drink every morning",
    )


def test_topics_are_those_told_most_first() -> None:
    """Topics come from the facts that replies were built from, not from guesses at the text."""
    turns = [
        make_turn("turn_1", outcome=make_outcome(sources=(NOTEBOOK,))),
        make_turn("turn_2", outcome=make_outcome(sources=(WEB, NOTEBOOK))),
        make_turn("turn_3", outcome=make_failure()),
        make_turn("turn_4"),
    ]

    assert summarize(turns, 100).topics == ("body", "speed")


@pytest.mark.parametrize(
    ("turns", "count"),
    [
        ([], 0),
        ([make_turn()], 1),
        ([make_turn(outcome=make_failure())], 1),
        ([make_turn(outcome=make_failure(partial_reply="Ro"))], 2),
        ([make_turn(outcome=make_outcome()), make_turn()], 3),
    ],
    ids=["nobody spoke", "no answer yet", "failed at once", "failed in the middle", "answered, then asked again"],
)
def test_messages_of_visitor_and_animal_are_counted(turns: list[TurnRecord], count: int) -> None:
    """Two a turn; one where the animal has not said anything."""
    assert summarize(turns, 100).message_count == count


def test_without_any_turn_it_says_so() -> None:
    """An empty summary would look like a mistake."""
    assert summarize([], 100).text == NOTHING_SAID


def test_where_no_sentence_fits_the_visitors_first_message_is_quoted() -> None:
    """Cut to fit, with an ellipsis that says that it was cut."""
    turns = [replace(make_turn(message="  Why do lions sleep so much?  "), outcome=make_outcome("Roar!"))]

    assert summarize(turns, 100).text == "The visitor said: Why do lions sleep so much?"
    assert summarize(turns, 40).text == "The visitor said: Why do lions sleep so…"


def test_a_long_reply_of_points_takes_no_time() -> None:
    """Replies are text from outside; a pattern that tries every end of every run would stand still here."""
    reply = "!" * 200_000 + "x" + " ?" * 50_000

    started_s = time.process_time()
    assert len(summarize(make_turns(reply), 100).text) <= 100
    assert time.process_time() - started_s < 2
