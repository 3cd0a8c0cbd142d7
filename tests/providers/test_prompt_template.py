"""The prompt: all that the model must know, and nothing from a visitor in the system prompt."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openapi_server.models.animal import Individual
from openapi_server.models.prompt import Exchange, Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.providers.prompt_template import (
    AGE_STYLES,
    HISTORY_TOKENS,
    MAX_EXCHANGES,
    ChatMessage,
    ChatRole,
    break_template_marks,
    estimate_tokens,
    make_messages,
    render_system_prompt,
)
from tests.support.examples import DELICATE_TEXTS
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


# The system text


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


# The talk


def test_roles_alternate_and_the_message_is_last() -> None:
    """In its order."""
    prompt = make_prompt(history=(Exchange("Hello!", "Roar!"), Exchange("Who are you?", "I am Leo.")))

    assert make_messages(prompt) == (
        ChatMessage(ChatRole.USER, "Hello!"),
        ChatMessage(ChatRole.ASSISTANT, "Roar!"),
        ChatMessage(ChatRole.USER, "Who are you?"),
        ChatMessage(ChatRole.ASSISTANT, "I am Leo."),
        ChatMessage(ChatRole.USER, "Do you roar?"),
    )


ROWS: dict[str, tuple[Prompt, list[tuple[str, str]]]] = {
    "nothing was said before": (make_prompt(), [("user", "Do you roar?")]),
    "a turn failed": (make_prompt(history=(Exchange("Hello?", ""),)), [("user", "Hello?\n\nDo you roar?")]),
    "a turn failed, then one did not": (
        make_prompt(history=(Exchange("Hello?", " "), Exchange("Hello!", "Roar!"))),
        [("user", "Hello?\n\nHello!"), ("assistant", "Roar!"), ("user", "Do you roar?")],
    ),
    "the animal spoke first": (
        make_prompt(history=(Exchange("", "Welcome!"), Exchange("Hello!", "Roar!"))),
        [("user", "Hello!"), ("assistant", "Roar!"), ("user", "Do you roar?")],
    ),
    "there is a summary": (
        make_prompt(context_summary="We spoke of manes.", history=(Exchange("Hello!", "Roar!"),)),
        [
            ("user", "(What we talked about before: We spoke of manes.)\n\nHello!"),
            ("assistant", "Roar!"),
            ("user", "Do you roar?"),
        ],
    ),
    "there is a blank summary": (make_prompt(context_summary=" \n"), [("user", "Do you roar?")]),
}


@pytest.mark.parametrize(("prompt", "expected"), ROWS.values(), ids=list(ROWS))
def test_irregular_histories_are_merged(prompt: Prompt, expected: list[tuple[str, str]]) -> None:
    """Some servers refuse two messages of one role in a row, empty ones, or a reply at the start."""
    assert [(message.role.value, message.text) for message in make_messages(prompt)] == expected


@pytest.mark.parametrize("message", DELICATE_TEXTS.values(), ids=list(DELICATE_TEXTS))
def test_the_message_is_last_and_unchanged(message: str) -> None:
    """Unchanged, however small the budget for the history is."""
    prompt = make_prompt(message, history=(Exchange("x" * 900, "y" * 900),))

    assert make_messages(prompt, 0) == (ChatMessage(ChatRole.USER, break_template_marks(message)),)
    assert make_messages(prompt)[-1] == ChatMessage(ChatRole.USER, break_template_marks(message))


def test_only_the_last_ten_exchanges_are_sent() -> None:
    """Even if the budget allows more."""
    history = tuple(Exchange(f"q{number}", f"a{number}") for number in range(50))

    told = make_messages(make_prompt(history=history))
    assert [message.text for message in told[:2]] == ["q40", "a40"]
    assert len(told) == 2 * MAX_EXCHANGES + 1


def test_a_long_exchange_drops_those_before_it() -> None:
    """The kept history has no gaps: it is the newest part that fits the budget."""
    history = (Exchange("short", "one"), Exchange("long", "x" * 9_000), Exchange("newest", "one"))

    assert [message.text for message in make_messages(make_prompt(history=history))] == [
        "newest",
        "one",
        "Do you roar?",
    ]


exchanges = st.builds(Exchange, st.text(max_size=300), st.text(max_size=300))


@given(
    history=st.lists(exchanges, max_size=14),
    message=st.text(min_size=1, max_size=300),
    summary=st.none() | st.text(max_size=300),
    budget=st.integers(0, HISTORY_TOKENS),
)
@example(history=[Exchange("<|im_start|>" * 20, "[INST]")], message="</s>", summary="<<SYS>>", budget=200)
def test_any_history_fits_its_budget_and_keeps_its_order(
    history: list[Exchange], message: str, summary: str | None, budget: int
) -> None:
    """The message does not count; the oldest exchanges are dropped first."""
    told = make_messages(make_prompt(message, history=tuple(history), context_summary=summary), budget)

    assert sum(estimate_tokens(one.text) for one in told) <= budget + estimate_tokens(break_template_marks(message))
    assert told[0].role is told[-1].role is ChatRole.USER
    assert all(one.role is not next_one.role for one, next_one in pairwise(told))
    assert told[-1].text.endswith(break_template_marks(message))
    assert all(one.text.strip() for one in told[:-1])

    said = [text for exchange in history for text in (exchange.message, exchange.reply)]
    kept = "\n".join(one.text for one in told)
    places = [kept.find(break_template_marks(text.strip())) for text in said if len(text.strip()) > 250]
    found = [place for place in places if place >= 0]
    assert places[len(places) - len(found) :] == found


# Marks of chat templates


MARKS = [
    "<|im_start|>system",
    "<|im_end|>",
    "<|system|>",
    "<|eot_id|><|start_header_id|>system<|end_header_id|>",
    "<｜User｜>",
    "<start_of_turn>model",
    "<END_OF_TURN>",
    "[INST] [/INST]",
    "[SYSTEM_PROMPT]",
    "<<SYS>> <</SYS>>",
    "<s></s>",
    "<bos><eos>",
]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_template_marks_are_broken(mark: str, depth: int) -> None:
    """Wherever they are: breaking twice changes nothing more, and no other text is lost."""
    text = mark
    for _ in range(depth - 1):
        text = text.replace("<", "<<").replace("[", "[[")
    safe = break_template_marks(f"Hello {text} lion")

    assert mark not in safe
    assert break_template_marks(safe) == safe
    assert safe.replace(" ", "") == f"Hello{text}lion".replace(" ", "")


@pytest.mark.parametrize(
    "text",
    ["I <3 lions", "a < b | c > d", "[really]", "<b>bold</b>", "<strong>", "x[i]", "<3 s>", "1 << 2", "ROAR | moo"],
)
def test_other_text_is_unchanged(text: str) -> None:
    """Such as the hearts that children write."""
    assert break_template_marks(text) == text
