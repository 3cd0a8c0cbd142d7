"""A model's output through the output buffer: sent as the buffer releases it, and closed when it is not needed."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.models.errors import IdleTimeout, ProviderFailed
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.moderation import output_stream
from openapi_server.moderation.output_buffer import Blocked, BufferLimits, OutputBuffer
from openapi_server.moderation.output_stream import PieceJoiner, stream_checked
from openapi_server.protocols import ReplyEnd, WholeReply
from tests.support.fakes import Fails, Says, Waits, make_lion
from tests.support.rules import load_output_rules

RULES = load_output_rules()
PROMPT = Prompt(make_lion(), AgeGroup.ELEMENTARY, "Hello!")


async def unannounced(
    output: AsyncGenerator[str | WholeReply | ReplyEnd, None],
) -> AsyncGenerator[str | ReplyEnd, None]:
    """As from a model that does not announce its whole reply."""
    async with aclosing(output):
        async for piece in output:
            if not isinstance(piece, WholeReply):
                yield piece


async def collect(output: AsyncGenerator[str | WholeReply | ReplyEnd, None]) -> list[str | ReplyEnd | Blocked]:
    words: list[str | ReplyEnd | Blocked] = []
    await collect_into(words, output)
    return words


async def collect_into(
    words: list[str | ReplyEnd | Blocked],
    output: AsyncGenerator[str | WholeReply | ReplyEnd, None],
    idle_timeout_s: float = 5,
) -> None:
    """Read to the end; what was sent before a failure is in `words`."""

    async def say(texts: Sequence[str]) -> None:
        words.extend(texts)

    words.append(await stream_checked(output, OutputBuffer(RULES.find_violation), idle_timeout_s, say))


async def test_harmless_output_is_sent_in_its_pieces() -> None:
    """Unchanged, and the end of the reply comes last."""
    model = Says("Roar! ", "I am ", "a lion.")

    assert await collect(unannounced(model.stream_reply(PROMPT))) == [
        "Roar!",
        " I am a lion.",
        model.reply_end,
    ]


@given(releases=st.lists(st.lists(st.text(min_size=1, max_size=40), max_size=6), max_size=20))
def test_joined_pieces_are_the_same_text(releases: list[list[str]]) -> None:
    """All that one release lets go leaves at once, and only its last piece may be small."""
    joiner = PieceJoiner()
    for pieces in releases:
        joined = list(joiner.join(pieces))
        assert "".join(joined) == "".join(pieces)
        assert all(len(piece) >= 16 for piece in joined[:-1])
    assert joiner.finish() == ""


@pytest.mark.parametrize("letters", ["。", "I am a lion. "])
async def test_a_reply_that_comes_letter_by_letter_has_few_pieces(letters: str) -> None:
    """65,536 of them took ten megabytes of the log. Not one is lost."""
    text = letters * (65_536 // len(letters))

    async def writes() -> AsyncGenerator[str | ReplyEnd, None]:
        for letter in text:
            yield letter
        yield ReplyEnd()

    sent: list[str] = []

    async def send(pieces: Sequence[str]) -> None:
        sent.extend(pieces)

    await stream_checked(writes(), OutputBuffer(lambda _: None), 5, send)

    assert "".join(sent) == text
    assert len(sent) <= 2_100


async def test_pieces_of_a_paced_reply_stay_as_they_are() -> None:
    """Words of a few letters leave one by one, also when hundreds have left."""

    async def speaks() -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        yield WholeReply("a " * 500)
        for _ in range(500):
            yield "a "
        yield ReplyEnd()

    assert await collect(speaks()) == [*["a "] * 500, ReplyEnd()]


async def test_unsafe_output_is_blocked() -> None:
    """Also when it is split within a word: neither the rest nor the end of the reply is sent."""
    model = Says("Roar! I am nice. You should kill your", "self. ", "Bye. ")

    assert await collect(unannounced(model.stream_reply(PROMPT))) == ["Roar! I am nice.", Blocked("distress")]


async def test_blocking_closes_the_output() -> None:
    """The model behind it costs money."""
    model = Waits("kill yourself. ", "never said")
    model.go.set()

    assert (await collect(unannounced(model.stream_reply(PROMPT))))[-1] == Blocked("distress")
    assert model.was_closed


async def test_a_reply_that_is_known_in_advance_is_checked_as_a_whole_and_never_waits() -> None:
    """Its pieces are sent in the middle of a sentence; one that does not continue the known reply waits."""

    async def reads_out(*pieces: str) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        yield WholeReply("I walk slowly. ")
        for piece in pieces:
            yield piece
        yield ReplyEnd()

    assert await collect(reads_out("I walk ", "slow", "ly. ")) == ["I walk ", "slow", "ly. ", ReplyEnd()]
    assert await collect(reads_out("I ", "kill your", "self. ")) == ["I ", Blocked("distress")]
    assert await collect(reads_out("I walk slowly. ", "kill your", "self. ")) == [
        "I walk slowly. ",
        Blocked("distress"),
    ]


async def test_an_unsafe_reply_that_is_known_in_advance_is_not_sent_at_all() -> None:
    """Not even its harmless beginning."""

    async def announces() -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        yield WholeReply("Roar! You should kill yourself. ")
        yield "Roar! "

    assert await collect(announces()) == [Blocked("distress")]


@pytest.mark.parametrize("end", ["", "You should kill yourself. "])
async def test_a_long_reply_that_is_known_in_advance_does_not_hold_the_event_loop(end: str) -> None:
    text = "".join(f"Lions like number {number} à la carte. " for number in range(1_000)) + end
    longest_s = 0.0

    async def knows() -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        yield WholeReply(text)
        yield text
        yield ReplyEnd()

    async def watch() -> None:
        nonlocal longest_s
        while True:
            started_s = time.thread_time()
            await asyncio.sleep(0)
            longest_s = max(longest_s, time.thread_time() - started_s)

    watcher = asyncio.create_task(watch())
    pieces = await collect(knows())
    watcher.cancel()
    with suppress(asyncio.CancelledError):
        await watcher

    if end:
        assert pieces == [Blocked("distress")]
    else:
        assert "".join(piece for piece in pieces if isinstance(piece, str)) == text
    assert longest_s < 0.05, "seconds of processor time"


CONTROLS = "".join(map(chr, [*range(9), *range(11, 32), *range(127, 160)]))
HIDDEN = "".join(map(chr, [0xAD, 0x200B, *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF, 0xE0001, 0xE0061]))


async def test_characters_that_nobody_sees_are_not_sent() -> None:
    """In pieces, alone in a piece, and in a reply that is known in advance; what scripts and emoji need stays."""

    async def knows(*pieces: str) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        yield WholeReply("".join(pieces))
        for piece in pieces:
            yield piece
        yield ReplyEnd()

    pieces = ("Ro\x1b", "[31", "mar!\r\n", CONTROLS, "\tI \u200ekeep\u200d \u202ethis\u2028. 👩\u200d", "🔬 🏴", HIDDEN)
    for output in (knows(*pieces), unannounced(knows(*pieces))):
        sent = "".join(piece for piece in await collect(output) if isinstance(piece, str))
        assert sent == "Ro[31mar!\n\tI \u200ekeep this\n. 👩\u200d🔬 🏴"


async def test_rules_see_the_text_without_hidden_characters() -> None:
    """They would else part the words of a rule."""
    for control in f"\0\x1b\x7f\x9b\u200c\u200d\ufe0f{HIDDEN}":
        model = Says(f"Roar! You should ki{control}ll your", f"{control}self. ", "Bye. ")
        assert (await collect(unannounced(model.stream_reply(PROMPT))))[-1] == Blocked("distress")


async def test_cancelling_closes_the_output() -> None:
    """A turn that is stopped stops the model."""
    model = Waits()
    streaming = asyncio.create_task(collect(unannounced(model.stream_reply(PROMPT))))
    await asyncio.wait_for(model.has_begun.wait(), 5)
    streaming.cancel()
    await asyncio.wait((streaming,))

    assert model.was_closed


async def test_text_that_waited_too_long_is_sent_without_the_end_of_its_sentence() -> None:
    """Also when the model sends nothing more."""
    buffer = OutputBuffer(RULES.find_violation, BufferLimits(max_wait_ms=20, margin_chars=10))

    async def walks_on() -> AsyncGenerator[str | ReplyEnd, None]:
        yield "I walk slowly through the long dry gr"
        await asyncio.Event().wait()

    said: asyncio.Queue[Sequence[str]] = asyncio.Queue()
    streaming = asyncio.create_task(stream_checked(walks_on(), buffer, 5, said.put))
    first = await asyncio.wait_for(said.get(), 5)
    streaming.cancel()
    await asyncio.wait((streaming,))

    assert first == ["I walk slowly through "]


class Steps:
    """A model that says pieces together, waits until it is let go on, and notes how its waits end."""

    def __init__(self, *steps: Sequence[str]) -> None:
        self._steps = steps
        self.may_go_on = asyncio.Semaphore(0)
        self.was_cancelled = self.was_closed = False

    async def stream(self) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        yield WholeReply("".join(itertools.chain(*self._steps)))
        try:
            for pieces in self._steps:
                for piece in pieces:
                    yield piece
                await self.may_go_on.acquire()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        finally:
            await asyncio.sleep(0)
            self.was_closed = True
        yield ReplyEnd()


async def test_pieces_that_are_there_together_are_sent_together_and_wait_for_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the model has said is sent before the model is waited for."""
    # On a busy machine others would have their turn between two pieces.
    monkeypatch.setattr(output_stream, "_get_time_ms", lambda: 0.0)
    model = Steps(["Roar! I am a lion. ", "I sleep in the sun. "], ["And I run very fast. "], [])
    said: asyncio.Queue[Sequence[str]] = asyncio.Queue()
    streaming = asyncio.create_task(stream_checked(model.stream(), OutputBuffer(lambda _: None), 5, said.put))

    assert await asyncio.wait_for(said.get(), 5) == ["Roar! I am a lion. ", "I sleep in the sun. "]
    model.may_go_on.release()
    assert await asyncio.wait_for(said.get(), 5) == ["And I run very fast. "]
    model.may_go_on.release()
    model.may_go_on.release()
    assert await asyncio.wait_for(streaming, 5) == ReplyEnd()
    assert said.empty()


async def test_a_model_that_waits_is_closed_when_its_text_cannot_be_sent() -> None:
    """As if it were cancelled, and whoever asked hears why nothing was sent."""
    model = Steps(["Roar! I am a lion. "], [])

    async def fail(texts: Sequence[str]) -> None:
        raise LookupError("the log is closed")

    with pytest.raises(LookupError, match="the log is closed"):
        await asyncio.wait_for(stream_checked(model.stream(), OutputBuffer(lambda _: None), 5, fail), 5)
    assert model.was_cancelled
    assert model.was_closed


async def test_text_that_is_being_sent_is_sent_before_what_follows() -> None:
    """A log that takes its time gets all pieces in their order, each once."""
    model = Steps(["Roar! I am a lion. "], ["I sleep in the sun. "], ["And I run very fast. "])
    said: list[str] = []

    async def take_time(texts: Sequence[str]) -> None:
        model.may_go_on.release()
        for _ in range(3):
            await asyncio.sleep(0)
        said.extend(texts)

    model.may_go_on.release()
    await asyncio.wait_for(stream_checked(model.stream(), OutputBuffer(lambda _: None), 5, take_time), 5)

    assert said == ["Roar! I am a lion. ", "I sleep in the sun. ", "And I run very fast. "]


async def test_a_timer_that_fires_early_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some event loops round to milliseconds: text that is not due yet then is sent later."""
    loop = asyncio.get_running_loop()
    later = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda delay, *call: later(delay / 2, *call))

    await test_text_that_waited_too_long_is_sent_without_the_end_of_its_sentence()


async def test_a_silent_model_times_out() -> None:
    """After `idle_timeout_s` without a piece."""
    model = Waits()

    with pytest.raises(IdleTimeout):
        await collect_into([], unannounced(model.stream_reply(PROMPT)), idle_timeout_s=0.02)
    assert model.was_closed


async def test_a_models_failure_is_raised() -> None:
    """After the text before it was checked and sent."""
    model = Fails(ProviderFailed(), "Roar! I am ", "a lion. And ")
    words: list[str | ReplyEnd | Blocked] = []

    with pytest.raises(ProviderFailed):
        await collect_into(words, unannounced(model.stream_reply(PROMPT)))

    assert "".join(map(str, words)) == "Roar! I am a lion. And "


async def stream_pieces(pieces: list[str]) -> AsyncGenerator[str | ReplyEnd, None]:
    """As from a connection on which everything has arrived."""
    for piece in pieces:
        yield piece
    yield ReplyEnd()


async def test_a_long_piece_is_checked_in_parts() -> None:
    """A model may send 60,000 characters as one piece: no check holds the event loop for all of it."""
    checked: list[int] = []

    def check(text: str) -> str | None:
        checked.append(len(text))
        return None

    sent: list[str] = []

    async def say(texts: Sequence[str]) -> None:
        sent.extend(texts)

    text = "a" * 30_000 + "I sleep in the sun. " * 1_500
    await stream_checked(stream_pieces([text]), OutputBuffer(check), 5, say)

    assert "".join(sent) == text
    assert max(checked) <= 2_000
    assert sum(checked) <= 4 * len(text)


async def test_other_tasks_run_while_many_small_pieces_come() -> None:
    """Thousands of pieces that have arrived together."""
    turns_of_others = 0

    async def count() -> None:
        nonlocal turns_of_others
        while True:
            turns_of_others += 1
            await asyncio.sleep(0)

    async def say(texts: Sequence[str]) -> None:
        """Nothing to wait for."""

    counting = asyncio.create_task(count())
    pieces = list("I sleep in the sun. " * 300)
    await stream_checked(stream_pieces(pieces), OutputBuffer(RULES.find_violation), 5, say)
    counting.cancel()

    assert turns_of_others > 5
