"""Example values that several tests look at, and hypothesis strategies for any others."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from openapi_server.models.errors import FieldError, Problem
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import (
    AgeGroup,
    FinishReason,
    Moderation,
    Outcome,
    Source,
    Stage,
    TurnRecord,
    TurnStatus,
    Usage,
)
from openapi_server.models.turn_events import (
    Chunk,
    Completed,
    Entry,
    Failed,
    StageChanged,
    Started,
    TurnEvent,
    TypingStarted,
    TypingStopped,
)

# A signing key that production accepts.
OWN_KEY = "q7Vd0Xb3TzR5mKc9WnLs2HgYp8EjUa4F6iQo1BxZrNt"
NOON = datetime(2026, 11, 21, 12, 0, 0, 123_456, tzinfo=UTC)
TURN_ID = "turn_3b1f0c52a9d94e6f8a7b6c5d4e3f2a1b"
SESSION_ID = "sess_9c8b7a6d5e4f3021a1b2c3d4e5f60718"
DISCLOSURE = "You are chatting with a computer program that speaks for Leo, not with a real animal."

# Text that a careless layer changes, loses or breaks lines at. It must come back to the code point.
DELICATE_TEXTS = {
    "line separators": "one\u2028two\u2029three\x85four",
    "line ends": "a\nb\rc\r\nd\n",
    "bidi": "\u202eabc\u202c \u2066שלום\u2069 \u200f",
    "zero width": "a\u200bb\u200cc\u200dd\ufeffe",
    "emoji": "👩‍👩‍👧‍👦 🦁🏳️‍🌈 👍🏽",
    "combining": "e\u0301 is not é",
    "last code point": "\U0010ffff \ufffe \uffff",
    "controls": "\x01\x1b[31m\x7f\t\x0b\x0c\x1c",
    "blanks around": "  \u00a0Roar \u3000",
    "quotes and markup": '\'; DROP TABLE turns; -- <script>alert("x")</script> \\u0041 %00 {} ${x}',
    "4,000 code points": "🦁" * 4000,
}

WEB = Source("lion_001/top_speed", "speed", "web", "Panthera leo", "https://zoo.example/lion?a=1&b=2")
NOTEBOOK = Source("lion_001/mane", "body", "document", "Keepers' notebook")

STARTED = Started(TURN_ID, SESSION_ID, "lion_001", "Leo", "fake-1", AgeGroup.ELEMENTARY, DISCLOSURE)
COMPLETED = Completed(
    turn_id=TURN_ID,
    session_id=SESSION_ID,
    reply="Roar! Löwe.",
    chunk_count=2,
    finish_reason=FinishReason.STOP,
    sources=(WEB, NOTEBOOK),
    usage=Usage(3, 5),
    moderation=Moderation(),
    latency_ms=1730,
    first_token_ms=210,
)
BLOCKED = Completed(
    turn_id=TURN_ID,
    session_id=SESSION_ID,
    reply="Let us talk about something else.",
    chunk_count=1,
    finish_reason=FinishReason.BLOCKED,
    sources=(),
    usage=Usage(),
    moderation=Moderation(flagged=True, categories=("danger",)),
    latency_ms=4,
    first_token_ms=None,
)
PROBLEM = Problem(
    code="provider_failed",
    status=502,
    title="The animal lost its voice",
    detail="The animal lost its voice.",
    errors=(FieldError("metadata.size", "must be a number"),),
    turn_id=TURN_ID,
    retryable=True,
)
FAILED = Failed(PROBLEM)

# One of each type, and of each shape that a type can take.
EVENTS: tuple[TurnEvent, ...] = (
    STARTED,
    TypingStarted(),
    StageChanged(Stage.MODERATION, False, 5, "Reading the message"),
    StageChanged(Stage.GENERATION, True, 100, "Leo has spoken"),
    TypingStopped(180),
    Chunk(1, "Roar! "),
    Chunk(2, "Löwe.\u2028\n"),
    COMPLETED,
    BLOCKED,
    FAILED,
)


def number_events(events: Iterable[TurnEvent], turn_id: str = TURN_ID) -> list[Entry]:
    """The events as a log would keep them, a millisecond apart."""
    return [Entry(turn_id, seq, NOON + timedelta(milliseconds=seq), event) for seq, event in enumerate(events, 1)]


def make_session(
    session_id: str = SESSION_ID, *, owner: str | None = "cookie:mia", at: datetime = NOON, animal_id: str = "lion_001"
) -> SessionRecord:
    return SessionRecord(session_id, animal_id, owner, at, at)


def make_turn(
    turn_id: str = TURN_ID,
    session_id: str = SESSION_ID,
    *,
    message: str = "Hello!",
    at: datetime = NOON,
    outcome: Outcome | None = None,
) -> TurnRecord:
    """A turn of `a_session`, and so of its owner."""
    return TurnRecord(
        turn_id=turn_id,
        session_id=session_id,
        animal_id="lion_001",
        age_group=AgeGroup.ELEMENTARY,
        message=message,
        model="fake-1",
        created_at=at,
        outcome=outcome,
        owner="cookie:mia",
    )


def make_outcome(reply: str | None = "Roar!", *, at: datetime = NOON, sources: tuple[Source, ...] = ()) -> Outcome:
    return Outcome(TurnStatus.SUCCEEDED, at, reply, FinishReason.STOP, sources, Usage(3, 1))


def make_failure(*, at: datetime = NOON, partial_reply: str | None = None, progress: int | None = None) -> Outcome:
    return Outcome(TurnStatus.FAILED, at, partial_reply, problem=PROBLEM, progress=progress)


# Lone surrogates are left out: they are not text, and `http/json_bodies.py` refuses them.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
pieces = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
counts = st.integers(0, 10**9)
sources = st.builds(
    Source, texts, texts, st.sampled_from(["document", "dataset", "web"]), texts, st.sampled_from([None, WEB.url])
)
middles: st.SearchStrategy[TurnEvent] = st.one_of(
    st.builds(TypingStarted),
    st.builds(TypingStopped, counts),
    st.builds(StageChanged, st.sampled_from(Stage), st.booleans(), st.integers(0, 100), texts),
    st.builds(Chunk, st.integers(1, 10**6), pieces),
)
endings: st.SearchStrategy[TurnEvent] = st.one_of(
    st.builds(
        Completed,
        turn_id=st.just(TURN_ID),
        session_id=st.just(SESSION_ID),
        reply=texts,
        chunk_count=counts,
        finish_reason=st.sampled_from(FinishReason),
        sources=st.lists(sources, max_size=3).map(tuple),
        usage=st.builds(Usage, counts, counts),
        moderation=st.just(Moderation()),
        latency_ms=counts,
        first_token_ms=st.none() | counts,
    ),
    st.just(FAILED),
)
