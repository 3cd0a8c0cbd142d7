"""A mind that fails, and what the visitor hears: one whole reply, or the beginning of one and a failure.

The table is trial F7: every way in which an upstream goes wrong, at every point of its answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import pytest

from openapi_server.circuit_breaker import CircuitBreaker
from openapi_server.models.errors import ProviderFailed
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import FinishReason, Usage
from openapi_server.protocols import ReplyEnd
from openapi_server.providers.failures import FailureKind, ProviderError
from openapi_server.providers.fallback import MAX_REPLY_CHARACTERS, FallbackProvider, RetryPolicy
from tests.support.fakes import FakeClock, Says, SingleModelProvider
from tests.support.provider_cases import (
    PROVIDER_CASES,
    READ_TIMEOUT_S,
    SPEECH,
    TIMEOUT_S,
    ProviderCase,
    isolate_environment,
    make_prompt,
)
from tests.support.report import Report
from tests.support.scripted_model import PIECES, FaultPoint, ModelAnswer, ModelFault, ScriptedModel

REPLY = "".join(PIECES)
INSTEAD = "I know that by heart. "
RETRIES = 2
# Less than after which boto3 gives up by itself.
FIRST_TOKEN_S = READ_TIMEOUT_S / 8


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_environment(monkeypatch)


class Keeper(Says):
    """The voice that never fails."""

    model = "keeper-1"


class Follows(SingleModelProvider):
    """An upstream that does what it is told, each time the next thing, the last one again and again."""

    model = "scripted-1"

    def __init__(self, *scripts: Sequence[str | ReplyEnd | Exception]) -> None:
        self.scripts = scripts
        self.asked = 0
        self.closed = 0
        # Held, so that nobody but the caller closes them.
        self.speeches: list[AsyncGenerator[str | ReplyEnd, None]] = []

    def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | ReplyEnd, None]:
        self.speeches.append(self._follow())
        return self.speeches[-1]

    async def _follow(self) -> AsyncGenerator[str | ReplyEnd, None]:
        script = self.scripts[min(self.asked, len(self.scripts) - 1)]
        self.asked += 1
        try:
            for step in script:
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.closed += 1

    async def close(self) -> None:
        pass


class Hangs(Follows):
    """Says what it is told, and then nothing more."""

    async def _follow(self) -> AsyncGenerator[str | ReplyEnd, None]:
        async for piece in super()._follow():
            yield piece
        await asyncio.Event().wait()


def resilient(
    upstream: Follows,
    *,
    clock: FakeClock | None = None,
    failures: int = 100,
    first_token_s: float = FIRST_TOKEN_S,
    retries: int = RETRIES,
) -> FallbackProvider:
    clock = clock or FakeClock()
    breaker = CircuitBreaker("model", clock.monotonic, failure_threshold=failures, pause_s=30)
    patience = RetryPolicy(first_token_s, retries)
    return FallbackProvider(upstream, Keeper(INSTEAD), breaker, patience, clock, jitter=lambda: 0.0)


async def heard(provider: FallbackProvider) -> tuple[str, ReplyEnd | ProviderFailed]:
    """The text, and how it ended."""
    text = ""
    try:
        async with aclosing(provider.stream_reply(make_prompt())) as pieces:
            async for piece in pieces:
                if isinstance(piece, ReplyEnd):
                    return text, piece
                assert piece
                text += piece if isinstance(piece, str) else ""
    except ProviderFailed as failure:
        return text, failure
    raise AssertionError("it ended without a word")


def by_the_fallback(ending: ReplyEnd | ProviderFailed) -> bool:
    return isinstance(ending, ReplyEnd) and ending.model == Keeper.model


# F7, over the wire


@asynccontextmanager
async def resilient_at(
    kind: ProviderCase, url: str, first_token_s: float = TIMEOUT_S
) -> AsyncIterator[FallbackProvider]:
    clock = FakeClock()
    upstream = kind.make(url, SPEECH)
    breaker = CircuitBreaker("model", clock.monotonic, failure_threshold=100, pause_s=30)
    patience = RetryPolicy(first_token_s, RETRIES)
    provider = FallbackProvider(upstream, Keeper(INSTEAD), breaker, patience, clock, jitter=lambda: 0.0)
    async with asyncio.timeout(2 * TIMEOUT_S):
        yield provider
        await provider.close()


EVERYWHERE = (FaultPoint.FIRST, FaultPoint.MIDDLE, FaultPoint.LAST)
# What goes wrong, and how often the upstream is asked where nothing was said yet.
ROWS: list[tuple[ModelAnswer, int]] = [
    *((ModelAnswer(fault=ModelFault.STATUS, status=status), 1) for status in (400, 401)),
    *((ModelAnswer(fault=ModelFault.STATUS, status=status), 1 + RETRIES) for status in (429, 500)),
    (ModelAnswer(fault=ModelFault.STATUS, status=429, retry_after="0"), 1 + RETRIES),
    (ModelAnswer(fault=ModelFault.STATUS, status=429, retry_after="60"), 1),
    *((ModelAnswer(fault=ModelFault.HANG, at=at), 1) for at in (FaultPoint.CONNECT, FaultPoint.FIRST)),
    *(
        (ModelAnswer(fault=fault, at=at), 1 + RETRIES)
        for fault in (ModelFault.RESET, ModelFault.CUT)
        for at in FaultPoint
    ),
    *(
        (ModelAnswer(fault=fault, at=at), 1 + RETRIES)
        for fault in (ModelFault.BAD_JSON, ModelFault.WRONG_TYPE)
        for at in EVERYWHERE
    ),
    *(
        (ModelAnswer(fault=fault, at=at), 1 + RETRIES)
        for fault in (ModelFault.ERROR, ModelFault.NO_END)
        for at in EVERYWHERE
    ),
    *((ModelAnswer(fault=ModelFault.LONG_LINE, at=at), 1 + RETRIES) for at in FaultPoint),
    (ModelAnswer(fault=ModelFault.HTML), 1 + RETRIES),
    (ModelAnswer(pieces=()), 1 + RETRIES),
    (ModelAnswer(pieces=(" ", "\n")), 1 + RETRIES),
    (ModelAnswer(pieces=(), finish=FinishReason.BLOCKED), 1),
]


def told_as(answer: ModelAnswer) -> str:
    if answer.fault is None:
        return f"{len(answer.pieces)} blank pieces, {answer.finish}"
    wait = f", Retry-After {answer.retry_after}" if answer.retry_after else ""
    return f"{answer.status}{wait}" if answer.fault is ModelFault.STATUS else f"{answer.fault} at {answer.at}"


@pytest.mark.parametrize("kind", PROVIDER_CASES.values(), ids=list(PROVIDER_CASES))
@pytest.mark.parametrize(("answer", "times_asked"), ROWS, ids=[told_as(answer) for answer, _ in ROWS])
async def test_a_failing_upstream_is_a_reply_or_a_failure(
    kind: ProviderCase, answer: ModelAnswer, times_asked: int
) -> None:
    """Before the first word the fallback speaks the whole reply; after it, nobody does."""
    first_token_s = FIRST_TOKEN_S if answer.fault is ModelFault.HANG else TIMEOUT_S
    async with (
        ScriptedModel(kind.dialect, [answer]) as upstream,
        resilient_at(kind, upstream.url, first_token_s) as provider,
    ):
        text, ending = await heard(provider)

    if answer.at in (FaultPoint.MIDDLE, FaultPoint.LAST):
        assert isinstance(ending, ProviderFailed)
        assert text
        assert REPLY.startswith(text)
        assert len(upstream.requests) == 1
    else:
        assert by_the_fallback(ending)
        assert text == INSTEAD
        # On a busy machine patience may end before a request was even read.
        assert len(upstream.requests) == times_asked or (answer.fault is ModelFault.HANG and not upstream.requests)


@pytest.mark.parametrize("kind", PROVIDER_CASES.values(), ids=list(PROVIDER_CASES))
@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid"], ids=["refused", "DNS"])
async def test_an_upstream_that_is_not_there_leaves_it_to_the_fallback(kind: ProviderCase, url: str) -> None:
    """Nothing listens, or nobody knows the name."""
    async with resilient_at(kind, url) as provider:
        text, ending = await heard(provider)

    assert text == INSTEAD
    assert by_the_fallback(ending)


@pytest.mark.parametrize("kind", PROVIDER_CASES.values(), ids=list(PROVIDER_CASES))
@pytest.mark.parametrize(
    "fault", [ModelFault.STATUS, ModelFault.RESET, ModelFault.CUT, ModelFault.BAD_JSON, ModelFault.NO_END]
)
async def test_the_next_attempt_may_succeed(kind: ProviderCase, fault: ModelFault) -> None:
    """And the visitor hears nothing of the first."""
    at = FaultPoint.CONNECT if fault is ModelFault.STATUS else FaultPoint.FIRST
    answers = [ModelAnswer(fault=fault, at=at, status=503), ModelAnswer()]
    async with ScriptedModel(kind.dialect, answers) as upstream, resilient_at(kind, upstream.url) as provider:
        text, ending = await heard(provider)

    assert text == REPLY
    assert ending == ReplyEnd(FinishReason.STOP, Usage(12, 3), model="scripted-1")
    assert len(upstream.requests) == 2


async def test_a_hang_costs_no_more_than_patience(report: Report) -> None:
    """The visitor hears the fallback as soon as the first word is overdue."""
    kind = PROVIDER_CASES["openai"]
    async with (
        ScriptedModel(kind.dialect, [ModelAnswer(fault=ModelFault.HANG)]) as upstream,
        resilient_at(kind, upstream.url, FIRST_TOKEN_S) as provider,
    ):
        began_s = time.monotonic()
        await heard(provider)
        waited_s = time.monotonic() - began_s

    assert FIRST_TOKEN_S <= waited_s < FIRST_TOKEN_S + 2
    report(f"F7: an upstream that hangs costs {waited_s:.2f} s where the first word may take {FIRST_TOKEN_S} s")


# Attempts


async def test_all_is_well() -> None:
    """Then nothing is changed but a blank before the first word."""
    spoken = ReplyEnd(FinishReason.LENGTH, Usage(1, 2), ("lion_001/mane",), "scripted-1")
    upstream = Follows(["", "\n", "\n Roar", " ", "!\n", spoken])

    assert await heard(resilient(upstream)) == ("Roar !\n", spoken)
    assert (upstream.asked, upstream.closed) == (1, 1)


@pytest.mark.parametrize("cause", [FailureKind.PERMANENT, FailureKind.REQUEST])
async def test_what_will_not_pass_is_not_tried_again(cause: FailureKind) -> None:
    """A wrong key is wrong the second time, too."""
    upstream = Follows([ProviderError(cause)], ["Roar", ReplyEnd()])

    assert by_the_fallback((await heard(resilient(upstream)))[1])
    assert upstream.asked == 1


async def test_retries_can_be_none() -> None:
    """Then the first failure is the fallback's turn."""
    upstream = Follows([ProviderError()], ["Roar", ReplyEnd()])

    assert by_the_fallback((await heard(resilient(upstream, retries=0)))[1])
    assert upstream.asked == 1


async def test_after_the_first_word_nothing_is_tried_again() -> None:
    """The visitor has heard it: a second beginning would be nonsense."""
    upstream = Follows(["Ro", ProviderError()], ["Roar", ReplyEnd()])

    text, ending = await heard(resilient(upstream))
    assert text == "Ro"
    assert isinstance(ending, ProviderFailed)
    assert (upstream.asked, upstream.closed) == (1, 1)


async def test_a_reply_without_a_last_word_is_a_failure() -> None:
    """Nobody can tell whether it was whole."""
    text, ending = await heard(resilient(Follows(["Roar"])))

    assert text == "Roar"
    assert isinstance(ending, ProviderFailed)


@pytest.mark.parametrize(
    "pieces", [["x" * (MAX_REPLY_CHARACTERS + 1)], ["Roar "] * MAX_REPLY_CHARACTERS], ids=["one", "many"]
)
async def test_a_reply_without_end_is_cut(pieces: list[str]) -> None:
    """Whatever the upstream was asked for: no memory is filled by it."""
    text, ending = await heard(resilient(Follows([*pieces, ReplyEnd()])))

    assert len(text) <= MAX_REPLY_CHARACTERS
    assert isinstance(ending, ProviderFailed) or by_the_fallback(ending)


async def test_between_attempts_it_waits_longer_and_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most half a second, then a second; never in step with others."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    clock = FakeClock()
    provider = FallbackProvider(
        Follows([ProviderError()]),
        Keeper(INSTEAD),
        CircuitBreaker("model", clock.monotonic, failure_threshold=100, pause_s=30),
        RetryPolicy(first_token_timeout_s=10, max_retries=3),
        clock,
        jitter=iter([1.0, 1.0, 0.25]).__next__,
    )
    monkeypatch.setattr(asyncio, "sleep", sleep)
    await heard(provider)

    assert waits == [0.5, 1.0, 0.5]


async def test_the_upstreams_own_wait_is_honoured() -> None:
    """Where the visitor's patience allows it."""
    upstream = Follows([ProviderError(retry_after="1")], ["Roar", ReplyEnd()])
    began_s = time.monotonic()

    assert (await heard(resilient(upstream, first_token_s=5)))[0] == "Roar"
    assert time.monotonic() - began_s >= 1


async def test_a_wait_beyond_all_patience_is_not_begun() -> None:
    """The fallback can as well speak now."""
    upstream = Follows([ProviderError(retry_after="60")], ["Roar", ReplyEnd()])
    began_s = time.monotonic()

    assert by_the_fallback((await heard(resilient(upstream, first_token_s=5)))[1])
    assert time.monotonic() - began_s < 2


@pytest.mark.parametrize("said", [[], ["", " "], ["Roar"]], ids=["silent", "blank", "speaking"])
async def test_who_leaves_ends_the_work(said: list[str]) -> None:
    """Whether anything was heard yet or not."""
    upstream = Hangs(said)
    provider = resilient(upstream, first_token_s=60)
    listener = asyncio.create_task(heard(provider))
    while not upstream.closed:  # noqa: ASYNC110  # it has said all
        await asyncio.sleep(0)
    listener.cancel()
    await asyncio.wait([listener])

    assert listener.cancelled()
    assert upstream.asked == 1


# The breaker


async def test_an_upstream_that_keeps_failing_is_left_alone() -> None:
    """Then the fallback speaks without delay, and says so beforehand; after the pause one turn finds out."""
    clock = FakeClock()
    upstream = Follows(*[[ProviderError()]] * 3, ["Roar", ReplyEnd(model="scripted-1")])
    provider = resilient(upstream, clock=clock, failures=3)
    assert provider.model == "scripted-1"
    assert [model.model_id for model in provider.list_models()] == ["scripted-1"]

    assert by_the_fallback((await heard(provider))[1])
    assert (provider.model, upstream.asked) == (Keeper.model, 3)
    assert by_the_fallback((await heard(provider))[1])
    assert upstream.asked == 3

    clock.advance(30)
    assert provider.model == "scripted-1"
    assert (await heard(provider))[0] == "Roar"
    assert provider.model == "scripted-1"


@pytest.mark.parametrize(
    "script",
    [[ProviderError()], [ProviderError(FailureKind.PERMANENT)], ["Ro", ProviderError()], ["Roar"], [ReplyEnd()], []],
    ids=["before", "for good", "in the middle", "without end", "empty", "nothing"],
)
async def test_every_failure_of_the_upstream_counts(script: list[str | ReplyEnd | Exception]) -> None:
    """Whenever it comes."""
    provider = resilient(Follows(script), failures=1)
    await heard(provider)

    assert provider.model == Keeper.model


@pytest.mark.parametrize(
    "script",
    [[ProviderError(FailureKind.REQUEST)], [ReplyEnd(FinishReason.BLOCKED)], ["Roar", ReplyEnd(FinishReason.BLOCKED)]],
    ids=["refused prompt", "blocked", "cut"],
)
async def test_one_visitors_message_does_not_silence_the_mind_for_all(script: list[str | ReplyEnd | Exception]) -> None:
    """What the upstream refuses to answer says nothing of how it is."""
    provider = resilient(Follows(script), failures=1)
    for _ in range(3):
        await heard(provider)

    assert provider.model == "scripted-1"


async def test_silence_before_the_first_word_counts() -> None:
    """However patient the visitors are."""
    provider = resilient(Hangs([]), failures=1, first_token_s=0.01)
    assert by_the_fallback((await heard(provider))[1])

    assert provider.model == Keeper.model


@pytest.mark.parametrize(("silent_s", "is_failure"), [(FIRST_TOKEN_S, True), (FIRST_TOKEN_S / 2, False)])
async def test_a_long_silence_between_words_counts(silent_s: float, is_failure: bool) -> None:
    """The engine cuts such a turn from outside; a visitor who leaves early has heard no such silence."""
    clock = FakeClock()
    upstream = Hangs(["Roar"])
    provider = resilient(upstream, clock=clock, failures=1)
    speech = provider.stream_reply(make_prompt())
    await anext(speech)
    waiting = asyncio.ensure_future(anext(speech))
    while not upstream.closed:  # noqa: ASYNC110  # it has said all
        await asyncio.sleep(0)
    clock.advance(silent_s)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert (provider.model == Keeper.model) is is_failure


async def test_a_visitor_who_leaves_a_probe_leaves_it_to_the_next() -> None:
    """Otherwise nobody would ever find out."""
    clock = FakeClock()
    provider = resilient(
        Follows([ProviderError(FailureKind.PERMANENT)], ["Ro", "ar", ReplyEnd()]), clock=clock, failures=1
    )
    await heard(provider)
    clock.advance(30)
    speech = provider.stream_reply(make_prompt())
    assert await anext(speech) == "Ro"
    assert provider.model == Keeper.model
    await speech.aclose()

    assert provider.model == "scripted-1"
    assert (await heard(provider))[0] == "Roar"


async def test_a_probe_that_was_refused_for_its_prompt_leaves_it_to_the_next() -> None:
    """It has found out nothing."""
    clock = FakeClock()
    upstream = Follows(
        [ProviderError(FailureKind.PERMANENT)], [ProviderError(FailureKind.REQUEST)], ["Roar", ReplyEnd()]
    )
    provider = resilient(upstream, clock=clock, failures=1)
    await heard(provider)
    clock.advance(30)
    assert by_the_fallback((await heard(provider))[1])

    assert provider.model == "scripted-1"
    assert (await heard(provider))[0] == "Roar"


@pytest.mark.parametrize(
    "script", [[ReplyEnd()], ["x" * (MAX_REPLY_CHARACTERS + 1), ReplyEnd()]], ids=["empty", "endless"]
)
async def test_an_attempt_that_is_given_up_is_closed(script: list[str | ReplyEnd | Exception]) -> None:
    """Its connection is not left to chance."""
    upstream = Follows(script)
    await heard(resilient(upstream))

    assert upstream.closed == upstream.asked == 1 + RETRIES


async def test_a_broken_provider_does_not_hold_the_breaker() -> None:
    """An error that is none of its own reaches the engine, which knows what to do."""
    provider = resilient(Follows([ZeroDivisionError()]), failures=1)
    with pytest.raises(ZeroDivisionError):
        await heard(provider)

    assert provider.model == "scripted-1"
