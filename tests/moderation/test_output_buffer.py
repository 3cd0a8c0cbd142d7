"""The gate: no unchecked character leaves, whatever the pieces; what is harmless leaves whole, in order and in time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.knowledge.service import KnowledgeService
from openapi_server.moderation.output_buffer import Blocked, BufferLimits, OutputBuffer, Released
from openapi_server.moderation.output_rules import OutputRules
from tests.support.examples import DELICATE_TEXTS
from tests.support.report import Report

RULES = OutputRules.load()
SMALL = BufferLimits(max_chars=80, max_wait_ms=100, margin_chars=30)

UNSAFE = [
    "kill yourself",
    "KILL YOURSELF",
    "k i l l yourself",
    "k\u200bi\u200bl\u200bl your\u200bself",
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
BEFORE = ["", "I am Leo. ", "Well, you know that I am a lion and ", "Roar!\n\n"]
AFTER = ["", ".", " today. And I sleep.", ", said the lion to all the other lions of the pride, and slept."]


class Nothing:
    """A check that finds nothing, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, text: str) -> None:
        self.asked.append(text)


def sent(gate: OutputBuffer, pieces: Iterable[str], *, step_ms: float = 0) -> tuple[str, str | None]:
    """What left, and the category when it ended in a block. `due` is asked whenever the gate says so."""
    out, now_ms = "", 0.0
    for piece in pieces:
        now_ms += step_ms
        answers = [gate.flush_due(now_ms)] if gate.due_ms is not None and gate.due_ms <= now_ms else []
        for answer in (*answers, gate.feed(piece, now_ms)):
            if isinstance(answer, Blocked):
                return out, answer.category
            out += answer.text
    last = gate.finish(now_ms)
    return (out, last.category) if isinstance(last, Blocked) else (out + last.text, None)


def cut(text: str, places: Iterable[int]) -> list[str]:
    bounds = [0, *sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[start:end] for start, end in pairwise(bounds)]


splits = st.lists(st.integers(0, 10_000), max_size=30)
sentences = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(lambda text: text + ". "), max_size=8
).map("".join)


@given(text=sentences | st.text(max_size=400), places=splits, step_ms=st.sampled_from([0, 10, 60, 500]))
def test_harmless_text_leaves_whole_and_in_order(text: str, places: list[int], step_ms: float) -> None:
    """To the character, blanks and all, however it comes in."""
    assert sent(OutputBuffer(Nothing(), SMALL), cut(text, places), step_ms=step_ms) == (text, None)


@given(text=sentences | st.text(max_size=400), places=splits, step_ms=st.sampled_from([0, 60]))
def test_no_character_leaves_before_it_was_checked(text: str, places: list[int], step_ms: float) -> None:
    """At every moment, all that has left stands in what the check was asked about."""
    check = Nothing()
    gate = OutputBuffer(check, SMALL)
    for at, piece in enumerate(cut(text, places)):
        asked_before = len(check.asked)
        for answer in (gate.flush_due(at * step_ms), gate.feed(piece, at * step_ms)):
            assert isinstance(answer, Released)
            assert not answer.text or any(answer.text in asked for asked in check.asked[asked_before:])


@given(text=st.text(max_size=600), places=splits)
def test_what_is_held_is_bounded(text: str, places: list[int]) -> None:
    """A mind that never ends its sentence fills no memory."""
    gate = OutputBuffer(Nothing(), SMALL)
    for piece in cut(text, places):
        gate.feed(piece, 0)
        assert gate.held_chars <= SMALL.max_chars


@given(text=st.text(max_size=600), places=splits)
def test_pieces_stay_the_pieces_that_came(text: str, places: list[int]) -> None:
    """What leaves together is still told in the mind's own pieces: a border only falls where a sentence ends in one."""
    gate = OutputBuffer(Nothing(), SMALL)
    pieces = [piece for piece in cut(text, places) if piece]
    answers = [gate.feed(piece, 0) for piece in pieces] + [gate.finish(0)]
    left = [piece for answer in answers if isinstance(answer, Released) for piece in answer.pieces]

    borders = {sum(map(len, left[:at])) for at in range(len(left) + 1)}
    assert borders >= {sum(map(len, pieces[:at])) for at in range(len(pieces) + 1)}
    assert all(left)


@pytest.mark.parametrize("unsafe", UNSAFE)
def test_unsafe_text_is_stopped_at_every_split(unsafe: str) -> None:
    """Trial K: in two pieces, and letter by letter, at every border, in every sentence: 0 unsafe characters sent."""
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
    """Letter by letter with the bounds at work: what leaves early ends before the unsafe words begin."""
    for length in range(40, 140, 3):
        before = (LONG * 3)[:length] + " "
        out, category = sent(OutputBuffer(RULES.find_violation, SMALL), before + unsafe + " and more", step_ms=step_ms)
        assert category is not None
        assert before.startswith(out)


@given(
    parts=st.lists(st.sampled_from([LONG, "I sleep. ", "Roar! ", "So?\n"]), max_size=4),
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
    """That is what the margin is for."""
    longest = max(map(len, UNSAFE))
    report(f"held back: longest unsafe phrase tested {longest} characters, margin {BufferLimits().margin_chars}")

    assert longest < SMALL.margin_chars < BufferLimits().margin_chars


def test_nothing_leaves_after_a_block() -> None:
    """A gate that has fallen stays down, also for harmless text, time and the end."""
    gate = OutputBuffer(lambda text: "danger" if "bad" in text else None)
    blocked = gate.feed("This is bad. ", 0)

    assert blocked == Blocked("danger")
    assert [gate.feed("This is good. ", 1), gate.flush_due(10_000), gate.finish(10_001)] == [blocked] * 3
    assert gate.held_chars == 0
    assert gate.due_ms is None


def test_half_a_word_is_not_judged() -> None:
    """ "ass" may become "assignment": the check sees whole words, unless the reply is over."""
    asked = Nothing()
    gate = OutputBuffer(asked, BufferLimits(max_chars=40, margin_chars=10))
    gate.feed("I do my reading and my writing and my ass", 0)

    assert asked.asked == ["I do my reading and my writing and my "]


def test_a_sentence_leaves_when_it_ends() -> None:
    """The blank behind the stop must have come: "3." may become "3.5"."""
    gate = OutputBuffer(Nothing())

    assert gate.feed("I weigh 190.", 0) == Released()
    assert gate.feed("5 kg. Y", 40) == Released(("I weigh 190.", "5 kg."), 40)
    assert gate.feed('ou? "Roar!" ', 50) == Released((" Y", 'ou? "Roar!"'), 10)
    assert gate.finish(90) == Released((" ",), 40)


@pytest.mark.parametrize("text", ["我是狮子。", "ライオンです！", "I am a lion! ", "Yes… ", 'He said "Roar." '])
def test_sentences_end_in_other_ways(text: str) -> None:
    """Stops of other scripts need no blank."""
    answer = OutputBuffer(Nothing()).feed(text, 0)

    assert isinstance(answer, Released)
    assert answer.text == text.rstrip(" ")


def test_time_sends_what_a_slow_mind_has_not_ended() -> None:
    """Asked when it is due, and all but the margin leaves at a blank; then it is not due again before more has come."""
    gate = OutputBuffer(Nothing(), BufferLimits(max_chars=200, max_wait_ms=1000, margin_chars=10))
    gate.feed("I walk slowly through the gra", 100)

    assert gate.due_ms == 1100
    assert gate.flush_due(1099) == Released()
    assert gate.flush_due(1100) == Released(("I walk slowly ",), 1000)
    assert gate.due_ms == 1100
    assert gate.flush_due(1100) == Released()
    assert gate.due_ms is None


def test_time_alone_never_sends_the_margin() -> None:
    """However long it takes."""
    gate = OutputBuffer(Nothing(), BufferLimits(margin_chars=10))
    gate.feed("I walk on", 0)

    assert gate.due_ms is None
    assert gate.flush_due(1e9) == Released()


def test_the_longest_wait_is_told() -> None:
    """The price of the gate, for the trial's report."""
    gate = OutputBuffer(Nothing())
    gate.feed("I am ", 0)
    gate.feed("a lion. ", 250)
    gate.feed("Roar!", 300)
    gate.finish(310)

    assert gate.held_back_ms == 250


@pytest.mark.parametrize("margin", [0, 400])
def test_bounds_that_cannot_be_are_refused(margin: int) -> None:
    """Without a margin a phrase could be cut in two; without room beside it nothing would leave."""
    with pytest.raises(ValueError, match="margin_chars"):
        BufferLimits(max_chars=400, margin_chars=margin)


@pytest.mark.parametrize("text", DELICATE_TEXTS.values(), ids=DELICATE_TEXTS.keys())
def test_delicate_text_passes_the_real_rules(text: str) -> None:
    """To the code point."""
    assert sent(OutputBuffer(RULES.find_violation), [text]) == (text, None)


@pytest.mark.parametrize(("words_per_s", "line_ms"), [(12, 2500), (40, 1200)])
def test_the_delay_is_a_sentence(words_per_s: int, line_ms: float, report: Report) -> None:
    """What the gate adds to the keepers' own facts at a mind's pace, told by how long each first character waited."""
    library = KnowledgeService.load()
    texts = [" ".join((fact.say, fact.detail or "")) for animal in library.list_animals() for fact in animal.facts]
    library.close()
    waits = sorted(wait for text in texts for wait in _waits_ms(text, 1000 / words_per_s))
    p50, p95 = waits[len(waits) // 2], waits[int(len(waits) * 0.95)]
    report(f"held back at {words_per_s} words/s: p50 {p50:.0f} ms, p95 {p95:.0f} ms, longest {waits[-1]:.0f} ms")

    assert p95 <= line_ms


def _waits_ms(text: str, step_ms: float) -> list[float]:
    gate, now_ms = OutputBuffer(RULES.find_violation), 0.0
    answers: list[Released | Blocked] = []
    for word in text.split():
        now_ms += step_ms
        answers += [gate.flush_due(now_ms), gate.feed(f"{word} ", now_ms)]
    answers.append(gate.finish(now_ms))
    assert not [answer for answer in answers if isinstance(answer, Blocked)], "the keepers' words are never withheld"
    return [answer.held_ms for answer in answers if isinstance(answer, Released) and answer.pieces]
