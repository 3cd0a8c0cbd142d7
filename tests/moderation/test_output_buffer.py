"""The output buffer: no unchecked character leaves; harmless text leaves complete, in order and in time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.knowledge.service import KnowledgeService
from openapi_server.moderation.output_buffer import Blocked, BufferLimits, OutputBuffer, Released
from tests.support.examples import DELICATE_TEXTS
from tests.support.report import Report
from tests.support.rules import load_output_rules

RULES = load_output_rules()
SMALL = BufferLimits(max_chars=80, max_wait_ms=100, margin_chars=30)

UNSAFE = [
    "kill yourself",
    "KILL YOURSELF",
    "k i l l yourself",
    "k\u200bi\u200bl\u200bl your\u200bself",
    "ki\ufe0fll your\u034fself",
    "kіll yоursеlf",
    "k1ll y0urs3lf",
    "you should die",
    "fuck you",
    "f.u.c.k",
    "this is our little secret",
    "send me a photo",
    "leo@example.com",
    "call 555-123-4567",
    "12 Oak Street",
    "to build a bomb",
    "my system prompt",
]
BEFORE = ["", "I am Leo. ", "W1. W2. So am I. ", "Well, you know that I am a lion and ", "Roar!\n\n"]
AFTER = ["", ".", " today. And I sleep.", ", said the lion to all the other lions of the pride, and slept."]


class FindsNothing:
    """A check that finds nothing, and records the texts."""

    def __init__(self) -> None:
        self.checked: list[str] = []

    def __call__(self, text: str) -> None:
        self.checked.append(text)


def sent(buffer: OutputBuffer, pieces: Iterable[str], *, step_ms: float = 0) -> tuple[str, str | None]:
    """What left, and the category when it was blocked. `flush_due` is called whenever it is due."""
    out, now_ms = "", 0.0
    for piece in pieces:
        now_ms += step_ms
        answers = [buffer.flush_due(now_ms)] if buffer.due_ms is not None and buffer.due_ms <= now_ms else []
        for answer in (*answers, buffer.feed(piece, now_ms)):
            if isinstance(answer, Blocked):
                return out, answer.category
            out += answer.text
    last = buffer.finish(now_ms)
    return (out, last.category) if isinstance(last, Blocked) else (out + last.text, None)


def cut(text: str, places: Iterable[int]) -> list[str]:
    bounds = [0, *sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[start:end] for start, end in pairwise(bounds)]


splits = st.lists(st.integers(0, 10_000), max_size=30)
sentences = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(lambda text: text + ". "), max_size=8
).map("".join)


@given(text=sentences | st.text(max_size=400), places=splits, step_ms=st.sampled_from([0, 10, 60, 500]))
def test_harmless_text_leaves_complete_and_in_order(text: str, places: list[int], step_ms: float) -> None:
    """To the character, in whatever pieces it comes in."""
    assert sent(OutputBuffer(FindsNothing(), SMALL), cut(text, places), step_ms=step_ms) == (text, None)


@given(text=sentences | st.text(max_size=400), places=splits, step_ms=st.sampled_from([0, 60]))
def test_no_character_leaves_before_it_was_checked(text: str, places: list[int], step_ms: float) -> None:
    """At every moment, all that has left is in a text that was checked."""
    check = FindsNothing()
    buffer = OutputBuffer(check, SMALL)
    for at, piece in enumerate(cut(text, places)):
        checked_before = len(check.checked)
        for answer in (buffer.flush_due(at * step_ms), buffer.feed(piece, at * step_ms)):
            assert isinstance(answer, Released)
            assert not answer.text or any(answer.text in checked for checked in check.checked[checked_before:])


@given(text=st.text(max_size=600), places=splits)
def test_what_is_held_is_bounded(text: str, places: list[int]) -> None:
    """A model that never ends its sentence fills no memory."""
    buffer = OutputBuffer(FindsNothing(), SMALL)
    for piece in cut(text, places):
        buffer.feed(piece, 0)
        assert buffer.held_chars <= SMALL.max_chars


@given(text=st.text(max_size=600), places=splits)
def test_released_pieces_are_those_that_came_in(text: str, places: list[int]) -> None:
    """A piece is cut only where a sentence ends in it."""
    buffer = OutputBuffer(FindsNothing(), SMALL)
    pieces = [piece for piece in cut(text, places) if piece]
    answers = [buffer.feed(piece, 0) for piece in pieces] + [buffer.finish(0)]
    left = [piece for answer in answers if isinstance(answer, Released) for piece in answer.pieces]

    borders = {sum(map(len, left[:at])) for at in range(len(left) + 1)}
    assert borders >= {sum(map(len, pieces[:at])) for at in range(len(pieces) + 1)}
    assert all(left)


@pytest.mark.parametrize("unsafe", UNSAFE)
def test_unsafe_text_is_stopped_at_every_split(unsafe: str) -> None:
    """In two pieces at every position, and letter by letter, in every sentence: no unsafe character is sent."""
    for before in BEFORE:
        for after in AFTER:
            text = before + unsafe + after
            for pieces in (*([text[:at], text[at:]] for at in range(len(text) + 1)), list(text)):
                out, category = sent(OutputBuffer(RULES.find_violation), pieces)
                assert category is not None, (text, pieces)
                assert before.startswith(out), (text, pieces)


LONG = "I walk and walk through the long dry grass with all my friends and their many friends while it rains "


@pytest.mark.parametrize("unsafe", UNSAFE)
@pytest.mark.parametrize("step_ms", [0, 25, 200])
def test_unsafe_text_is_stopped_where_a_sentence_does_not_end(unsafe: str, step_ms: float) -> None:
    """Letter by letter with the limits reached: what leaves early ends before the unsafe words begin."""
    for length in range(40, 140, 3):
        before = (LONG * 3)[:length] + " "
        out, category = sent(OutputBuffer(RULES.find_violation, SMALL), before + unsafe + " and more", step_ms=step_ms)
        assert category is not None
        assert before.startswith(out)


@given(
    parts=st.lists(st.sampled_from([LONG, "I sleep. ", "Roar! ", "So?\n", "W1. ", "I am 7. So am I. "]), max_size=4),
    unsafe=st.sampled_from(UNSAFE),
    places=splits,
    step_ms=st.sampled_from([0, 30, 200]),
)
def test_no_unsafe_character_leaves(parts: Sequence[str], unsafe: str, places: list[int], step_ms: float) -> None:
    """Any splitting, any pace, any place in the text."""
    before = "".join(parts)
    out, category = sent(
        OutputBuffer(RULES.find_violation, SMALL), cut(before + unsafe + ". Bye.", places), step_ms=step_ms
    )

    assert category is not None
    assert before.startswith(out)


def test_unsafe_phrases_are_shorter_than_the_margin(report: Report) -> None:
    """Otherwise the beginning of one could leave."""
    longest = max(map(len, UNSAFE))
    report(f"held back: longest unsafe phrase tested {longest} characters, margin {BufferLimits().margin_chars}")

    assert longest < SMALL.margin_chars < BufferLimits().margin_chars


def test_nothing_leaves_after_a_block() -> None:
    """Neither harmless text, nor by time, nor at the end."""
    buffer = OutputBuffer(lambda text: "danger" if "bad" in text else None)
    blocked = buffer.feed("This is bad. ", 0)

    assert blocked == Blocked("danger")
    assert [buffer.feed("This is good. ", 1), buffer.flush_due(10_000), buffer.finish(10_001)] == [blocked] * 3
    assert buffer.held_chars == 0
    assert buffer.due_ms is None


def test_half_a_word_is_not_checked() -> None:
    """ "ass" may become "assignment": the check sees whole words, unless the reply is over."""
    check = FindsNothing()
    buffer = OutputBuffer(check, BufferLimits(max_chars=40, margin_chars=10))
    buffer.feed("I do my reading and my writing and my ass", 0)

    assert check.checked == ["I do my reading and my writing and my "]


def test_a_sentence_leaves_when_it_ends() -> None:
    """The blank behind the full stop must have arrived: "3." may become "3.5"."""
    buffer = OutputBuffer(FindsNothing())

    assert buffer.feed("I weigh 190.", 0) == Released()
    assert buffer.feed("5 kg. Y", 40) == Released(("I weigh 190.", "5 kg."), 40)
    assert buffer.feed('ou? "Roar!" ', 50) == Released((" Y", 'ou? "Roar!"'), 10)
    assert buffer.finish(90) == Released((" ",), 40)


def test_short_sentences_leave_when_two_words_follow() -> None:
    """A slow model may take seconds for each. A number, or a word in single letters, is no sentence."""
    buffer = OutputBuffer(RULES.find_violation)
    said = [buffer.feed(f"W{number}. ", number * 1000) for number in range(1, 6)]
    assert [released.text for released in said if isinstance(released, Released)] == ["", "", "W1.", " W2.", " W3."]

    for text in ("555. 12 34 56 ", "K. i. l. l. i. n. g. ", "So am I. You ", "1. 2. 3. 4. "):
        assert OutputBuffer(FindsNothing()).feed(text, 0) == Released()
    assert OutputBuffer(FindsNothing()).feed("So am I. You too 12", 0) == Released(("So am I.",), 0)


@pytest.mark.parametrize("unsafe", UNSAFE)
def test_a_short_sentence_lets_no_unsafe_character_leave(unsafe: str) -> None:
    """Where a rule sees through a full stop inside a phrase, no part of it is a sentence."""
    for at in range(1, len(unsafe)):
        for stop in (". ", "! ", "1. ", ".\n", "?  "):
            phrase = unsafe[:at] + stop + unsafe[at:]
            is_long = re.search(r"[^\W\d_]{2}[.!?]", phrase)
            text = f"I run. {phrase} now and then"
            if RULES.find_violation(text) is not None and not is_long:
                out, category = sent(OutputBuffer(RULES.find_violation), text)
                assert category is not None
                assert "I run. ".startswith(out), text


@pytest.mark.parametrize("text", ["我是狮子。", "ライオンです！", "I am a lion! ", "Yes… ", 'He said "Roar." '])
def test_sentences_end_in_other_ways(text: str) -> None:
    """Full stops of other scripts need no blank."""
    answer = OutputBuffer(FindsNothing()).feed(text, 0)

    assert isinstance(answer, Released)
    assert answer.text == text.rstrip(" ")


def test_an_unfinished_sentence_leaves_after_the_maximum_wait() -> None:
    """All but the margin leaves, cut at a blank; then nothing is due before more has come in."""
    buffer = OutputBuffer(FindsNothing(), BufferLimits(max_chars=200, max_wait_ms=1000, margin_chars=10))
    buffer.feed("I walk slowly through the gra", 100)

    assert buffer.due_ms == 1100
    assert buffer.flush_due(1099) == Released()
    assert buffer.flush_due(1100) == Released(("I walk slowly ",), 1000)
    assert buffer.due_ms == 1100
    assert buffer.flush_due(1100) == Released()
    assert buffer.due_ms is None


def test_time_alone_never_releases_the_margin() -> None:
    """However long it takes."""
    buffer = OutputBuffer(FindsNothing(), BufferLimits(margin_chars=10))
    buffer.feed("I walk on", 0)

    assert buffer.due_ms is None
    assert buffer.flush_due(1e9) == Released()


def test_the_longest_wait_is_measured() -> None:
    """It is sent as `heldBackMs`."""
    buffer = OutputBuffer(FindsNothing())
    buffer.feed("I am ", 0)
    buffer.feed("a lion. ", 250)
    buffer.feed("Roar!", 300)
    buffer.finish(310)

    assert buffer.held_back_ms == 250


@pytest.mark.parametrize("margin", [0, 400])
def test_impossible_limits_are_refused(margin: int) -> None:
    """Without a margin a phrase could be cut in two; without room beside it nothing would leave."""
    with pytest.raises(ValueError, match="margin_chars"):
        BufferLimits(max_chars=400, margin_chars=margin)


@pytest.mark.parametrize("text", DELICATE_TEXTS.values(), ids=DELICATE_TEXTS.keys())
def test_delicate_text_passes_the_real_rules(text: str) -> None:
    """To the code point."""
    assert sent(OutputBuffer(RULES.find_violation), [text]) == (text, None)


@pytest.mark.parametrize(("words_per_s", "line_ms"), [(12, 2500), (40, 1200)])
def test_the_delay_is_a_sentence(words_per_s: int, line_ms: float, report: Report) -> None:
    """How long the first character of each part waits when a model says the keepers' facts at this speed."""
    library = KnowledgeService.load()
    texts = [" ".join((fact.say, fact.detail or "")) for animal in library.list_animals() for fact in animal.facts]
    library.close()
    waits = sorted(wait for text in texts for wait in _waits_ms(text, 1000 / words_per_s))
    p50, p95 = waits[len(waits) // 2], waits[int(len(waits) * 0.95)]
    report(f"held back at {words_per_s} words/s: p50 {p50:.0f} ms, p95 {p95:.0f} ms, longest {waits[-1]:.0f} ms")

    assert p95 <= line_ms


def _waits_ms(text: str, step_ms: float) -> list[float]:
    buffer, now_ms = OutputBuffer(RULES.find_violation), 0.0
    answers: list[Released | Blocked] = []
    for word in text.split():
        now_ms += step_ms
        answers += [buffer.flush_due(now_ms), buffer.feed(f"{word} ", now_ms)]
    answers.append(buffer.finish(now_ms))
    assert not [answer for answer in answers if isinstance(answer, Blocked)], "the keepers' words are never blocked"
    return [answer.held_ms for answer in answers if isinstance(answer, Released) and answer.pieces]
