"""Summaries: what was asked, and the sentences that answered, in the order in which they were said."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.models.summary import NOTHING_SAID, NOTHING_TO_TELL, summarize
from openapi_server.models.turn import Moderation, Source, TurnRecord
from tests.support.examples import NOTEBOOK, WEB, make_failure, make_outcome, make_turn, texts

SPEED = Source("lion_001/speed", "speed", "dataset", "Speed of lions")
SLEEP = Source("lion_001/sleep", "sleep", "dataset", "Sleep of lions")
FACTS = {
    "lion_001/speed": "A lion reaches about 75 kilometres an hour in a sprint. I sprint at 75 kilometres an hour!",
    "lion_001/sleep": "Lions sleep and rest for 16 to 20 hours a day. I sleep for 20 hours a day.",
}
FAST = "When I sprint I reach 75 kilometres an hour!"
SLEEPY = "I sleep for 20 hours a day."


def say(message: str, reply: str | None = None, *sources: Source) -> TurnRecord:
    return make_turn(message=message, outcome=make_outcome(reply, sources=sources))


asked = st.sampled_from(["How fast are you?", "what do you eat", "Hello!", "Löwe?", "I like cats.", "?", "a"])
replies = st.lists(st.sampled_from([FAST, SLEEPY, "Yaaawn!", "Shall I tell you more?"]), max_size=4).map(" ".join)
talks = st.lists(
    st.builds(say, asked | texts, replies | texts | st.none(), st.sampled_from([SPEED, SLEEP, NOTEBOOK])), max_size=6
)


@given(turns=talks, max_length=st.integers(40, 400))
def test_a_summary_is_never_longer_than_asked_for(turns: list[TurnRecord], max_length: int) -> None:
    """The caller has so much room, and no more."""
    assert 0 < len(summarize(turns, max_length, FACTS).text) <= max_length


@given(turns=st.lists(st.builds(say, asked, replies), min_size=1, max_size=6))
def test_a_summary_makes_nothing_up(turns: list[TurnRecord]) -> None:
    """Each question is a visitor's message, each answer a sentence of the reply to it, in their order."""
    text = summarize(turns, 4000, FACTS).text
    pairs = re.findall(r"Asked: (.*?)(?: Answered: (.*?))?(?= Asked: |$)", text)
    places = [[turn.message for turn in turns].index(question) for question, _ in pairs]

    assert places == sorted(set(places)) or any(answer for _, answer in pairs)
    for question, answer in pairs:
        assert any(turn.message == question and turn.outcome and answer in (turn.outcome.reply or "") for turn in turns)


def test_questions_and_answers_are_told_and_the_animals_filler_is_not() -> None:
    """No greeting, no offer, no thanks: after small talk that was all there was."""
    turns = [
        say("Hello!", "Yaaawn! Oh, hello! I was only resting my eyes."),
        say("How fast are you?", f"I am glad you asked! {FAST} Shall I tell you about my mane?", SPEED),
        say("And how much do you sleep?", f"A royal question, that one! {SLEEPY} You could ask about my pride.", SLEEP),
        say("Thank you", "It was my royal pleasure!"),
    ]

    assert summarize(turns, 500, FACTS).text == (
        f"Asked: How fast are you? Answered: {FAST} Asked: And how much do you sleep? Answered: {SLEEPY}"
    )


def test_small_talk_is_told_by_what_was_asked_in_it() -> None:
    """A question without a fact has the first thing that the animal states, if it states anything."""
    turns = [
        say("Hello!", "Yaaawn! Oh, hello! I was only resting my eyes."),
        say("How are you?", "Ha! A little sleepy, but a lion always is. How kind of you to ask!"),
        say("Is it cold?", "Brrr! Shall I tell you about my mane?"),
    ]

    assert summarize(turns, 500).text == (
        "Asked: How are you? Answered: A little sleepy, but a lion always is. Asked: Is it cold?"
    )


@pytest.mark.parametrize("message", ["what do you eat", "你吃什么？", "ماذا تأكل؟", "Tell me of your mane", "Τι τρως;"])
def test_a_question_is_one_in_any_writing(message: str) -> None:
    """With a mark of any script, or with a word that asks."""
    assert summarize([say(message, "I eat nothing but meat.")], 500).text == (
        f"Asked: {message} Answered: I eat nothing but meat."
    )


def test_where_nothing_was_asked_it_is_what_the_visitor_said() -> None:
    """Each thing once; and never what the animal said around it."""
    turns = [say("Hello!", "Oh, hello! I was only resting my eyes."), say("hm ok", "Thank you!"), say("Hello!", "Hi!")]

    assert summarize(turns, 500).text == "The visitor said: Hello! hm ok"
    assert summarize(turns, 22).text == "The visitor said: Hel…"


def test_what_was_answered_with_facts_comes_first_where_there_is_little_room() -> None:
    """The rest is told by its question alone, if that still fits; the order is that of the conversation."""
    turns = [say("How are you?", "I am a little sleepy."), say("How fast are you?", f"Oh! {FAST}", SPEED)]
    fast = f"Asked: How fast are you? Answered: {FAST}"

    assert summarize(turns, len(fast), FACTS).text == fast
    assert summarize(turns, len(fast) + 20, FACTS).text == f"Asked: How are you? {fast}"
    assert summarize(turns, 40, FACTS).text == "Asked: How fast are you?"


def test_a_question_that_was_asked_twice_is_told_once() -> None:
    """With the answer that it got in the end."""
    turns = [say("How fast are you?"), say("how fast are you?", FAST, SPEED), say("How fast are you?", SLEEPY, SLEEP)]

    assert summarize(turns, 500, FACTS).text == f"Asked: how fast are you? Answered: {FAST}"


@pytest.mark.parametrize(
    "answer",
    [
        "My purple tongue reaches about 0.5 metres beyond those lips.",
        "Keepers weighed around 190.25 kilograms last Tuesday!",
        "Lions roar loudly… really terribly loudly indeed!!!",
        "lions drink every morning",
    ],
)
def test_an_answer_is_a_whole_sentence(answer: str) -> None:
    """Half a number is a wrong fact. Lines end sentences, too."""
    assert summarize([say("And?", f"Hm.\n{answer}\nOh.")], 500).text == f"Asked: And? Answered: {answer}"


def test_what_may_not_be_quoted_is_left_out() -> None:
    """An insult that somebody gave as a name, for example; and turns that moderation has flagged."""
    flagged = replace(make_outcome("Please talk to a grown-up."), moderation=Moderation(True, ("distress",)))
    turns = [
        say("What is a bad word?", "It is nothing nice."),
        make_turn(message="Should I hurt?", outcome=flagged),
        say("How fast are you?", FAST, SPEED),
    ]

    told = summarize(turns, 500, FACTS, lambda message: "bad" not in message).text
    nothing = summarize(turns[:2], 500, FACTS, lambda message: "bad" not in message).text

    assert told == f"Asked: How fast are you? Answered: {FAST}"
    assert nothing == NOTHING_TO_TELL


def test_line_ends_and_blanks_of_a_message_are_one_blank() -> None:
    """A summary is one line."""
    assert (
        summarize([say("  How \n\n fast?\x07 ", FAST, SPEED)], 500, FACTS).text == f"Asked: How fast? Answered: {FAST}"
    )


def test_long_texts_are_cut_and_say_so() -> None:
    """With an ellipsis; the rest still fits."""
    text = summarize([say("Why " + "so " * 100 + "?", "Lions " + "sleep " * 100 + "."), say("And?", FAST)], 500).text

    assert re.fullmatch(rf"Asked: Why (so )+s?o?… Answered: Lions (sleep )+\w*… Asked: And\? Answered: {FAST}", text)


def test_topics_are_those_told_most_first() -> None:
    """Topics come from the facts that replies were built from, not from guesses at the text."""
    turns = [
        make_turn("turn_1", outcome=make_outcome(sources=(NOTEBOOK,))),
        make_turn("turn_2", outcome=make_outcome(sources=(WEB, NOTEBOOK))),
        make_turn("turn_3", outcome=make_failure()),
        make_turn("turn_4"),
    ]

    assert summarize(turns, 100).topics == ("body", "speed")


def test_without_any_turn_it_says_so() -> None:
    """An empty summary would look like a mistake."""
    assert summarize([], 100).text == NOTHING_SAID


def test_a_long_reply_of_points_takes_no_time() -> None:
    """Replies are text from outside; a pattern that tries every end of every run would stand still here."""
    reply = "!" * 200_000 + "x" + " ?" * 50_000

    started_s = time.process_time()
    assert len(summarize([say("And?", reply)], 100).text) <= 100
    assert time.process_time() - started_s < 2
