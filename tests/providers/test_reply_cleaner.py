"""What a model writes beside the animal's reply is removed, and everything else stays, however the text is cut."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.models.hidden_characters import find_hidden_character
from openapi_server.providers.reply_cleaner import ReplyCleaner, classify_beginning
from tests.support.fakes import make_lion

LION = make_lion()
REPLY = "I am Leo."

THOUGHTS = [
    "<think>plan</think>I am Leo.",
    "<thinking>plan</thinking>I am Leo.",
    "<THINK >plan</ think>\n\nI am Leo.",
    '<think type="deep">plan</think>I am Leo.',
    "<think></think>I am Leo.",
    "<think/>I am Leo.",
    "<think>plan</thinking>I am Leo.",
    "<think>one<think>two</think>three</think>I am Leo.",
    "<think>one</think><think>two</think>I am Leo.",
    "<think>2 < 3, and <b>bold</b></think>I am Leo.",
    "&lt;think&gt;plan&lt;/think&gt;I am Leo.",
    "◁think▷plan◁/think▷I am Leo.",
    "[THINK]plan[/THINK]I am Leo.",
    "<seed:think>plan</seed:think>I am Leo.",
    "<thinking>plan</thinking>I am Leo.",
    "<|think|>plan<|/think|>I am Leo.",
    "<|begin_of_thought|>plan<|end_of_thought|><|begin_of_solution|>I am Leo.<|end_of_solution|>",
    "<reasoning>plan</reasoning><answer>I am Leo.</answer>",
    "<tool_call>{}</tool_call>I am Leo.",
    # The opening mark is in the model's template.
    "plan</think>I am Leo.",
    "\nplan\n</think>\n\nI am Leo.",
    "The visitor asks. I should say Leo. Roar!\n</think>\n\nI am Leo.",
    "Okay, so the child asks. You know! I am nice.</think>I am Leo.",
    "Lions sleep long. That is all.</think>I am Leo.",
    "Let me think. I am a lion! You are a child!</thinking>I am Leo.",
    # GPT-OSS, with its marks and without.
    "<|channel|>analysis<|message|>plan<|end|><|start|>assistant<|channel|>final<|message|>I am Leo.<|return|>",
    "<|channel|>commentary<|message|>plan<|end|><|start|>assistant<|channel|>final<|message|>I am Leo.",
    "analysisThe user asks. I am to answer!assistantfinalI am Leo.",
]
MARKS = [
    "I am Leo.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHow old are you?",
    "I am Leo.</s>",
    "I am Leo. </s>\n<s>[INST] How old?",
    "I am Leo.<|im_end|>",
    "I am Leo.<|im_end|>\n<|im_start|>user\nHow old are you?",
    "<|im_start|>assistant\nI am Leo.<|im_end|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\nI am Leo.<|eot_id|>",
    "<start_of_turn>model\nI am Leo.<end_of_turn>",
    "<|user|>\nWho are you?<|assistant|>\nI am Leo.<|user|>",
    "<s> I am Leo.</s>",
    "I am Leo.<｜end▁of▁sentence｜><｜User｜>How",
    "I am Leo.[/INST] How",
    "I am Leo.<|endoftext|>Human: How",
    "I am Leo.<|END_OF_TURN_TOKEN|>",
    "I am Leo.<eos>",
    "I am Leo.<|eot",
]
WRAPPERS = [
    "```\nI am Leo.\n```",
    "```text\nI am Leo.\n```\n",
    "```I am Leo.```",
    "~~~\nI am Leo.\n~~~",
    "```\nI am Leo.",
    '```json\n{"response": "I am Leo."}\n```',
    '{"reply": "I am Leo."}',
    ' {"thought": "a long plan of what to say", "reply": "I am Leo."}',
    '{"message": {"role": "assistant", "content": "I am Leo."}}',
    '{"choices": [{"message": {"content": "I am Leo."}}]}',
    '{"animal": "Leo", "line": "I am Leo.", "mood": "happy"}',
    '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "I am Leo."}]',
    '["I am Leo."]',
    '{"reply": "I am Leo.',
    '{"reply": "I am Leo.", "mood": "hap',
    '{"reply": "I am\\u0000 Leo."}',
    '{"reply": "\\u003cthink\\u003eplan\\u003c/think\\u003eI am Leo."}',
    '"I am Leo."',
    "“I am Leo.”",
    "`I am Leo.`",
    '<think>plan</think>\n```json\n{"reply": "Leo: I am Leo.\\nVisitor: How old?"}\n```',
]
DIALOGUES = [
    "Leo: I am Leo.\nVisitor: How old are you?\nLeo: I am six.",
    "**Leo:** I am Leo.\n\n**User:** How old?",
    "**Leo**: I am Leo.",
    "LEO: I am Leo.",
    "[Leo]: I am Leo.",
    "Leo： I am Leo.",
    "Leo (roars): I am Leo.",
    "Leo the lion: I am Leo.",
    "Lion: I am Leo.",
    "Leo:\nI am Leo.\n### User:\nHow old?",
    "Assistant: I am Leo.\nHuman: How old?",
    "Assistant: Leo: I am Leo.",
    "A: I am Leo.\nQ: How old?",
    "I am Leo.\nHuman: How old?",
    "I am Leo. Visitor: How old are you? Leo: I am six.",
    "Visitor: Who are you?\nLeo: I am Leo.",
    "Leo: I am Leo.\nMia: How old are you?\nLeo: I am six.",
]
CHARACTERS = [
    *("I am\0 Leo.", "I\x1b am Leo.", "I am\x07 Leo\x85.", "\ufeffI am \u202eLeo."),
    *("I a\u200bm L\u2060eo\u00ad.", "<th\u200bink>plan</\u2060think>I am Leo.", '{"reply": "I\\u202e am Leo."}'),
]
HONEST = [
    REPLY,
    "Roar! I <3 you, and 2 < 3, and a<b>c</b>.",
    "I am Leo. Try:\n```\nprint('roar')\n```\nGood!",
    "```\nroar\n```\nThat was the first code I wrote.",
    'I write JSON: {"reply": "roar"}',
    '{"reply": "roar"} is JSON, I think.',
    '"Roar!" I say.',
    "You may say Leo: the king!",
    'They said: "Leo: run!" and I ran.',
    "My name has a story. Leo: that is Latin.",
    "I like: meat.\nAnd: sleep.\nFun fact: I sleep a lot.",
    "Knock knock.\nYou: Who's there?\nMe: Lion.",
    "It is 10:30: time to eat! See https://zoo.example/lions",
    "My favourites:\n- Visitor days\n- meat",
    "{waves tail} Hello! [waves] (waves) *roars* _roars_",
    "*roars* I am Leo.",
    "Let me think... I must say that I need to sleep. The visitor's path is that way.",
    "Well, I am Leo.\n\nSee you!\n",
    "Leo",
    "Visitor",
    "2 < think",
    "AT&T & co, &lt;b&gt;",
    "🦁 e\u0301 👩\u200d🔬 ❤\ufe0f می\u200cخ \u05d0",
    "I have\ttabs \n and lines\n\n\n x",
    "Lions sleep. " * 40,
    "x" * 3_000,
]


def clean(text: str, sizes: Callable[[], int], **options: bool) -> str:
    """The text, fed in pieces of those sizes."""
    cleaner, cleaned, at = ReplyCleaner(LION, **options), "", 0
    while at < len(text):
        size = sizes()
        cleaned += cleaner.feed(text[at : at + size])
        at += size
    return cleaned + cleaner.finish()


def clean_whole(text: str, **options: bool) -> str:
    return clean(text, lambda: max(1, len(text)), **options)


@pytest.mark.parametrize("text", [*THOUGHTS, *MARKS, *WRAPPERS, *DIALOGUES, *CHARACTERS])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_only_the_reply_is_left(text: str, size: int) -> None:
    assert clean(text, lambda: size) == REPLY


@pytest.mark.parametrize("text", HONEST)
@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_honest_text_stays_as_it_is(text: str, size: int) -> None:
    assert clean(text, lambda: size) == text


@pytest.mark.parametrize(
    ("pieces", "cleaned"),
    [
        (("Roar \ud83e", "\udd81!"), "Roar 🦁!"),
        (("\ud83e", "", "\udd81"), "🦁"),
        (("Roar \ud83e", " you"), "Roar \ufffd you"),
        (("Roar \udd81", "\ud83e\ud83e\udd81"), "Roar \ufffd\ufffd🦁"),
        (("I roar \ud83e",), "I roar \ufffd"),
    ],
)
def test_halves_of_characters_are_joined(pieces: tuple[str, ...], cleaned: str) -> None:
    """One that stays alone becomes U+FFFD."""
    cleaner = ReplyCleaner(LION)
    assert "".join(map(cleaner.feed, pieces)) + cleaner.finish() == cleaned


@pytest.mark.parametrize(
    "text",
    ["<think>plan", "<think>I am Leo.", "Visitor: Who are you?", "<|im_start|>user\nHello", '{"mood": 3}', "", " "],
)
def test_where_there_is_no_reply_nothing_is_left(text: str) -> None:
    """Then the fallback answers."""
    assert clean(text, lambda: 1).strip() == ""


FRAGMENTS = [
    *'<>/|[]{}"`*:#&; \n.!',
    *("think", "</think>", "<think>", "thinking", "<|", "|>", "im_end", "<|im_start|>", "assistant", "user", "channel"),
    *(
        "<|message|>",
        "final",
        "[THINK]",
        "INST",
        "&lt;",
        "&gt;",
        "◁",
        "▷",
        "```",
        '{"reply": "',
        '"}',
        "json",
        "Leo",
        "**",
    ),
    *(
        "Visitor",
        "Mia",
        ": ",
        "I am Leo. ",
        "The visitor asks. ",
        "\ud83e",
        "\udd81",
        "\0",
        "\\",
        "“",
        "”",
        "analysis",
        "s>",
    ),
]


@given(parts=st.lists(st.sampled_from(FRAGMENTS), max_size=25), seed=st.integers(0, 2**32), begins=st.booleans())
def test_the_result_does_not_depend_on_the_cuts(parts: list[str], seed: int, begins: bool) -> None:
    """Fed whole, character by character, and in pieces of any size."""
    text, dice = "".join(parts), random.Random(seed)  # noqa: S311
    whole = clean_whole(text, begins_in_thought=begins)

    assert clean(text, lambda: 1, begins_in_thought=begins) == whole
    assert clean(text, lambda: dice.randint(1, 9), begins_in_thought=begins) == whole


@given(text=st.text(max_size=200))
def test_no_hidden_characters_and_no_halves_are_left(text: str) -> None:
    cleaned = clean(text, lambda: 1)

    assert find_hidden_character(cleaned) is None
    cleaned.encode()


def test_honest_text_waits_for_its_first_sentence_only() -> None:
    """Then each character passes at once, but for blanks and what may be a mark or a label."""
    cleaner = ReplyCleaner(LION)
    assert cleaner.feed("Roar! ") == "Roar!"
    assert cleaner.feed("I am big") == " I am big"
    assert cleaner.feed(" and st") == " and st"
    assert cleaner.feed("rong, 2 <") == "rong, 2"
    assert cleaner.feed(" 3") == " < 3"


@pytest.mark.parametrize(
    ("text", "is_reply"),
    [
        ("Roar! I am Leo.", True),
        ("Lions sleep 20 hours a day! ", True),
        ("Lions sleep. " * 20, True),
        ("Lions sleep ", None),
        ("The child asks for my name. ", False),
        ("Okay, so they want a story. ", False),
        ("I need to answer as Leo, in at most four short sentences, wi", False),
        ("Der Besucher fragt nach dem Namen. ", False),
    ],
)
def test_a_beginning_is_judged_by_its_sentences(text: str, is_reply: bool | None) -> None:
    assert classify_beginning(text) is is_reply


def test_a_model_that_begins_in_thought_is_known_by_its_first_reply() -> None:
    """The next reply waits for the end of the thought, and is dropped when the token limit came before it."""
    cleaner = ReplyCleaner(LION)
    cleaner.feed("Lions sleep. </think>I am Leo.")
    assert cleaner.began_in_thought

    thinking = "I am a lion! You know that! I say: "
    assert clean(f"{thinking}</think>{REPLY}", lambda: 5, begins_in_thought=True) == REPLY
    assert clean(thinking, lambda: 5, begins_in_thought=True) == thinking
    cut_off = ReplyCleaner(LION, begins_in_thought=True)
    assert cut_off.feed(thinking) + cut_off.finish(is_cut_off=True) == ""


def test_a_reply_that_is_cut_takes_no_more_text() -> None:
    cleaner = ReplyCleaner(LION)
    assert cleaner.feed("I am Leo.</s>You are") == REPLY
    assert cleaner.has_ended
    assert cleaner.feed("more") + cleaner.finish() == ""


HOSTILE = [
    *("<", "<think>", "&lt;", "\n", " ", "Leo: ", "\nLeo:", '{"', "[", "```", '"', "a. ", "<|", "*", "\n*", "\ud83e"),
    *("(Leo ", "\nVisitor", '{"a":', "\\", "The visitor asks. ", "</think>", "<|im_start|>", "“", "[THINK]"),
]


@pytest.mark.parametrize("part", HOSTILE)
def test_time_is_linear(part: str) -> None:
    """65,536 characters, one at a time, take less than a tenth of a millisecond each."""
    text = part * (65_536 // len(part))
    started_s = time.process_time()
    clean(text, lambda: 1)

    assert time.process_time() - started_s < 6.5


LONG = {
    "labels": "Leo: " * 13_000,
    "fences": "```\n" * 16_000,
    "fences and an end": "```\n" * 16_000 + "</s>",
    "thoughts": "<think>" * 9_000,
    "ends of thoughts": "</think>" * 8_000,
    "objects": '{"' * 30_000,
    "visitors": "Visitor: " * 7_000,
    "ends": "<|im_end|>" * 6_000,
    "brackets": "[" * 65_000,
    "brackets in JSON": '{"reply": "' + "[" * 65_000,
    "members": "{" + '"a": {"reply": "Leo: hi"}, ' * 2_500,
    "a thought that waits": "The visitor asks. " * 3_600,
    "a mixture": '```\nLeo: "a." [THINK] {"</think>Visitor: <|im_en' * 1_300,
}


@pytest.fixture
def _without_garbage_collection() -> Iterator[None]:
    """Of the test runner's own objects, which takes longer than any part."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_without_garbage_collection")
@pytest.mark.parametrize("text", LONG.values(), ids=list(LONG))
@pytest.mark.parametrize("size", [65_536, 1_000, 10])
def test_no_part_takes_long(text: str, size: int) -> None:
    """Of the longest replies in one piece and in many: between two parts the event loop does other work."""
    cleaner, longest_s = ReplyCleaner(LION), 0.0

    def run(parts: Iterator[str]) -> None:
        nonlocal longest_s
        started_s = time.thread_time()
        for _ in parts:
            longest_s = max(longest_s, time.thread_time() - started_s)
            started_s = time.thread_time()
        longest_s = max(longest_s, time.thread_time() - started_s)

    for at in range(0, len(text), size):
        run(cleaner.feed_in_parts(text[at : at + size]))
    run(cleaner.finish_in_parts())

    assert longest_s < 0.02


@pytest.mark.parametrize("name", ["reply", "message", "x", "data"])
def test_nested_objects_are_searched_once(name: str) -> None:
    """Each one twice would take twice as long with each depth: 60 of them would take forever."""
    assert clean_whole(f'{{"{name}":' * 60 + "3" + "}" * 60) == ""
    assert clean_whole(f'{{"{name}":' * 60 + '"I am Leo."' + "}" * 60) in (REPLY, "")
    assert clean_whole(f'{{"{name}":[3,' * 60 + "3" + "]}" * 60) == ""


def test_a_sentence_that_waits_can_be_released() -> None:
    """Text behind it passes at once, and the end of a thought is remembered for the next reply."""
    cleaner = ReplyCleaner(LION)
    assert cleaner.feed("Lions sleep") == ""
    assert not cleaner.holds_sentence
    assert cleaner.feed(". ") == ""
    assert cleaner.holds_sentence
    assert cleaner.release_sentence() == "Lions sleep."
    assert not cleaner.holds_sentence
    assert cleaner.feed("The child asks") == " The child asks"

    cleaner.feed("</think>")
    assert cleaner.began_in_thought


@pytest.mark.parametrize("text", ["", "Lions sleep", "The child asks. ", "<think>Lions sleep. ", "Roar! I am Leo. "])
def test_nothing_else_is_released(text: str) -> None:
    """No half sentence, and nothing that reads like a thought."""
    cleaner = ReplyCleaner(LION)
    cleaner.feed(text)

    assert not cleaner.holds_sentence
    assert cleaner.release_sentence() == ""
