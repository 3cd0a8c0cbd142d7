"""What every `Store` promises, whatever the backend: nothing here knows of tables, keys or files."""

from __future__ import annotations

import asyncio
import json
import random
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TypeVar

import pytest

from openapi_server.models.errors import (
    InvalidInput,
    KeyReused,
    Problem,
    SessionClaimed,
    SessionNotFound,
    TurnRunning,
)
from openapi_server.models.page import Page
from openapi_server.models.session import DeviceUser, SessionClaim, SessionFilter, SessionRecord
from openapi_server.models.turn import (
    AgeGroup,
    FinishReason,
    IdempotencyKey,
    Lease,
    Moderation,
    Outcome,
    TurnOwnership,
    TurnRecord,
    TurnStatus,
    Usage,
)
from openapi_server.protocols import Store
from openapi_server.storage.factory import Stores
from tests.support.examples import (
    DELICATE_TEXTS,
    NOON,
    NOTEBOOK,
    SESSION_ID,
    TURN_ID,
    WEB,
    make_failure,
    make_outcome,
    make_session,
    make_turn,
)
from tests.support.fakes import FakeClock
from tests.support.stores import OpensStores, list_device_users

T = TypeVar("T")
OTHER_ID = "sess_of_somebody_else"
MIA, BEN = "cookie:mia", "cookie:ben"
RACERS = 50


@pytest.fixture
async def stores(opens: OpensStores, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Stores]:
    """The empty stores of each backend."""
    async with opens(tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def store(stores: Stores) -> Store:
    """An empty store of each implementation."""
    return stores.sessions


async def list_running(store: Store) -> list[str]:
    return sorted(lease.turn_id for lease in await store.list_running_turns())


def minutes(count: float) -> datetime:
    return NOON + timedelta(minutes=count)


async def add_turns(
    store: Store, *messages: str, session_id: str = SESSION_ID, owner: str | None = MIA
) -> list[TurnRecord]:
    """A session in which each message was answered, a minute apart; its turns as they should be kept."""
    await store.create_session(make_session(session_id, owner=owner))
    told: list[TurnRecord] = []
    for place, message in enumerate(messages):
        turn = make_turn(f"turn_{session_id}_{place}", session_id, message=message, at=minutes(place))
        turn = replace(turn, owner=owner)
        outcome = make_outcome(f"{message}? Roar!", at=minutes(place + 0.5))
        await store.begin_turn(turn)
        assert await store.settle_turn(turn.turn_id, outcome)
        told.append(replace(turn, outcome=outcome))
    return told


async def list_all_pages(read: Callable[[str | None], Awaitable[Page[T]]], limit: int) -> list[T]:
    """Every item, page by page; no page is longer than the limit, and only the last has no cursor."""
    found: list[T] = []
    cursor: str | None = None
    seen: set[str] = set()
    while True:
        page = await read(cursor)
        assert len(page.items) <= limit
        found += page.items
        if page.next_cursor is None:
            return found
        assert len(page.items) == limit
        assert page.next_cursor not in seen, "the listing goes round in circles"
        cursor = page.next_cursor
        seen.add(cursor)


# Sessions


@pytest.mark.parametrize("owner", [MIA, "user:löwe🦁", None], ids=["cookie", "user", "nobody"])
async def test_a_session_comes_back_as_it_was(store: Store, owner: str | None) -> None:
    """Every field, to the microsecond."""
    session = SessionRecord(SESSION_ID, "tiger_001", owner, NOON, minutes(3), turn_count=0, ttl_s=7200)
    await store.create_session(session)

    assert await store.get_session(SESSION_ID) == session


async def test_times_come_back_in_utc(store: Store) -> None:
    """Whatever zone they were told in; it is the same moment."""
    in_india = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    await store.create_session(make_session(at=in_india))

    kept = await store.get_session(SESSION_ID)
    assert kept is not None
    assert kept.created_at == NOON
    assert kept.created_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("session_id", [OTHER_ID, "", "sess_%", "sess_" + "9" * 128, "' OR 1=1 --", SESSION_ID.upper()])
async def test_what_is_not_there_is_none(store: Store, session_id: str) -> None:
    """Sessions and turns alike; an id is matched whole and exactly."""
    await add_turns(store, "Hello")

    assert await store.get_session(session_id) is None
    assert await store.get_turn(session_id) is None
    assert await store.list_turns(session_id, 10) == Page(())
    assert list(await store.list_latest_turns(session_id, 10)) == []


async def test_a_turn_moves_its_session_forward(store: Store) -> None:
    """The count and the time of the last message are the session's own, for its list."""
    await add_turns(store, "one", "two", "three")

    assert await store.get_session(SESSION_ID) == replace(make_session(), last_message_at=minutes(2), turn_count=3)


async def test_an_owner_sees_its_sessions_latest_message_first(store: Store) -> None:
    """By the last message, not by the beginning."""
    for place, name in enumerate(["sess_a", "sess_b", "sess_c"]):
        await store.create_session(make_session(name, owner=MIA, at=minutes(place)))
    await store.begin_turn(make_turn("turn_late", "sess_a", at=minutes(10)))

    page = await store.list_sessions(MIA, 10)
    assert [session.session_id for session in page.items] == ["sess_a", "sess_c", "sess_b"]
    assert page.items[0] == replace(make_session("sess_a"), last_message_at=minutes(10), turn_count=1)
    assert page.next_cursor is None


async def test_an_owner_sees_nobody_elses_sessions(store: Store) -> None:
    """Nor does anyone see those that nobody owns."""
    owners = {
        "sess_mia": MIA,
        "sess_ben": BEN,
        "sess_nobody": None,
        "sess_longer": MIA + "x",
        "sess_upper": MIA.upper(),
    }
    for name, owner in owners.items():
        await store.create_session(make_session(name, owner=owner))

    for owner in (MIA, BEN):
        page = await store.list_sessions(owner, 10)
        assert [session.session_id for session in page.items] == [
            name for name, whose in owners.items() if whose == owner
        ]
    assert await store.list_sessions("cookie:%", 10) == Page(())
    assert await store.list_sessions("", 10) == Page(())


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8])
async def test_pages_of_sessions_have_no_gap_and_no_repeat(store: Store, limit: int) -> None:
    """Also where several sessions had their last message in the same moment."""
    for name, minute in {"a": 1, "b": 2, "c": 2, "d": 2, "e": 0, "f": 3, "g": 3}.items():
        await store.create_session(make_session(f"sess_{name}", owner=MIA, at=minutes(minute)))
        await store.create_session(make_session(f"other_{name}", owner=BEN, at=minutes(minute)))

    found = await list_all_pages(lambda cursor: store.list_sessions(MIA, limit, cursor), limit)
    assert sorted(session.session_id for session in found) == [f"sess_{name}" for name in "abcdefg"]
    times = [session.last_message_at for session in found]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (SessionFilter(), "abcd"),
        (SessionFilter(animal_id="lion_001"), "abd"),
        (SessionFilter(animal_id="mole_001"), "c"),
        (SessionFilter(animal_id="%"), ""),
        (SessionFilter(since=minutes(1)), "bcd"),
        (SessionFilter(until=minutes(1)), "a"),
        (SessionFilter(since=minutes(1), until=minutes(3)), "bc"),
        (SessionFilter("mole_001", minutes(2), minutes(2)), ""),
    ],
    ids=str,
)
async def test_sessions_are_listed_by_animal_and_time(store: Store, only: SessionFilter, expected: str) -> None:
    """By the time of their last message; the beginning counts, the end does not; in pages as without a filter."""
    for minute, name in enumerate("abcd"):
        session = make_session(f"sess_{name}", owner=MIA, at=minutes(minute))
        await store.create_session(replace(session, animal_id="mole_001") if name == "c" else session)
        await store.create_session(make_session(f"other_{name}", owner=BEN, at=minutes(minute)))

    found = await list_all_pages(lambda cursor: store.list_sessions(MIA, 1, cursor, only), 1)
    assert [session.session_id for session in found] == [f"sess_{name}" for name in reversed(expected)]
    assert all(only.matches(session) for session in found)


async def test_messages_are_counted_on_both_sides(store: Store) -> None:
    """The opening, what the visitor said, and the replies that there are; nothing of sessions that are not there."""
    await store.create_session(replace(make_session("sess_opened"), opening="I like cats."))
    turns = {
        "answered": make_outcome(),
        "failed": make_failure(),
        "cut": make_failure(partial_reply="Ro"),
        "runs": None,
    }
    for name, outcome in turns.items():
        await store.begin_turn(make_turn(f"turn_{name}", "sess_opened"))
        if outcome:
            await store.settle_turn(f"turn_{name}", outcome)
    await store.create_session(make_session("sess_empty"))

    counts = await store.count_messages(["sess_opened", "sess_empty", "sess_missing"])

    assert counts == {"sess_opened": 7, "sess_empty": 0, "sess_missing": 0}


# Turns


FULL = TurnRecord(
    turn_id=TURN_ID,
    session_id=SESSION_ID,
    animal_id="tiger_001",
    age_group=AgeGroup.PRESCHOOL,
    message="Hello!",
    model="offline-keeper-1",
    created_at=NOON,
    metadata='{"kiosk":"Nörd 🦁","tags":[1,2.5,null]}',
    worker="worker_7",
    lease_until=NOON + timedelta(seconds=30),
    owner="cookie:mia",
    media_urls=("https://zoo.example/a.jpg", "https://zoo.example/b.mp3"),
)

OUTCOMES = {
    "succeeded": Outcome(
        status=TurnStatus.SUCCEEDED,
        ended_at=minutes(1),
        reply="Roar! Löwe \u2028 🦁",
        finish_reason=FinishReason.LENGTH,
        sources=(WEB, NOTEBOOK),
        usage=Usage(123, 2**40),
        moderation=Moderation(flagged=True, categories=("danger", "violence")),
        latency_ms=1730,
        first_token_ms=0,
    ),
    "stopped": Outcome(TurnStatus.STOPPED, minutes(1), "Ro", FinishReason.STOPPED, first_token_ms=7),
    "failed": make_failure(at=minutes(1)),
    "failed in the middle": make_failure(at=minutes(1), partial_reply="Ro", progress=75),
    "failed, said little": replace(make_failure(), problem=Problem("internal_error", 500, "Wrong", "Wrong.")),
    "an empty reply": make_outcome(""),
    "no reply": make_outcome(None),
}


@pytest.mark.parametrize("age_group", AgeGroup)
@pytest.mark.parametrize("metadata", [None, FULL.metadata], ids=["bare", "with metadata"])
async def test_a_running_turn_comes_back_as_it_was(store: Store, age_group: AgeGroup, metadata: str | None) -> None:
    """The visitor's message is kept before the animal begins to think."""
    turn = replace(FULL, age_group=age_group, metadata=metadata)
    await store.create_session(make_session())
    await store.begin_turn(turn)

    kept = await store.get_turn(TURN_ID)
    assert kept == turn
    assert kept.status is TurnStatus.RUNNING


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES.keys())
async def test_a_settled_turn_comes_back_as_it_was(store: Store, outcome: Outcome) -> None:
    """Every field of every kind of outcome, however the turn is asked for."""
    await store.create_session(make_session())
    await store.begin_turn(FULL)
    assert await store.settle_turn(TURN_ID, outcome)

    settled = replace(FULL, outcome=outcome)
    assert await store.get_turn(TURN_ID) == settled
    assert await store.list_turns(SESSION_ID, 1) == Page((settled,))
    assert list(await store.list_latest_turns(SESSION_ID, 1)) == [settled]


@pytest.mark.parametrize("text", DELICATE_TEXTS.values(), ids=DELICATE_TEXTS.keys())
async def test_text_is_kept_byte_for_byte(store: Store, text: str) -> None:
    """Message, reply, metadata and the words of sources: nothing is trimmed, normalised or cut."""
    turn = replace(FULL, message=text, metadata=json.dumps({"text": text}, ensure_ascii=False))
    outcome = replace(OUTCOMES["succeeded"], reply=text, sources=(replace(WEB, title=text),))
    await store.create_session(make_session())
    await store.begin_turn(turn)
    await store.settle_turn(TURN_ID, outcome)

    assert await store.get_turn(TURN_ID) == replace(turn, outcome=outcome)


async def test_any_text_is_kept_byte_for_byte(store: Store) -> None:
    """Four thousand code points from anywhere in Unicode, the same ones each time."""
    choose = random.Random(7)  # noqa: S311  # an example, not a secret
    points = (choose.randrange(1, 0x110000) for _ in range(6000))
    text = "".join(chr(point) for point in points if not 0xD800 <= point <= 0xDFFF)[:4000]
    await store.create_session(make_session())
    await store.begin_turn(replace(FULL, message=text))
    await store.settle_turn(TURN_ID, make_outcome(text[::-1]))

    kept = await store.get_turn(TURN_ID)
    assert kept is not None
    assert kept.outcome is not None
    assert (len(text), kept.message, kept.outcome.reply) == (4000, text, text[::-1])


async def test_a_turn_needs_its_session(store: Store) -> None:
    """It was deleted a moment ago, or never was; nothing is kept of the message."""
    with pytest.raises(SessionNotFound):
        await store.begin_turn(make_turn())

    assert await store.get_turn(TURN_ID) is None
    assert await list_running(store) == []


async def test_a_session_has_one_turn_at_a_time(store: Store) -> None:
    """The second one is told which turn runs, and leaves no trace."""
    await store.create_session(make_session())
    await store.begin_turn(make_turn("turn_first"))
    with pytest.raises(TurnRunning) as refusal:
        await store.begin_turn(make_turn("turn_second", at=minutes(5)))

    assert refusal.value.turn_id == "turn_first"
    assert await store.get_turn("turn_second") is None
    assert await store.get_session(SESSION_ID) == replace(make_session(), turn_count=1)


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES.keys())
async def test_once_a_turn_has_ended_the_next_may_begin(store: Store, outcome: Outcome) -> None:
    """However it ended."""
    await store.create_session(make_session())
    await store.begin_turn(make_turn("turn_first"))
    await store.settle_turn("turn_first", outcome)
    await store.begin_turn(make_turn("turn_second"))

    assert await list_running(store) == ["turn_second"]


async def test_of_fifty_that_begin_at_once_one_wins(store: Store) -> None:
    """The store decides: the others hear which turn runs, and nothing of theirs is kept."""
    await store.create_session(make_session())
    turns = [make_turn(f"turn_{n}", message=f"question {n}") for n in range(RACERS)]
    results = await asyncio.gather(*(store.begin_turn(turn) for turn in turns), return_exceptions=True)

    (winner,) = [turn for turn, result in zip(turns, results, strict=True) if result == turn.turn_id]
    losers = [result for result in results if isinstance(result, TurnRunning)]
    assert [loser.turn_id for loser in losers] == [winner.turn_id] * (RACERS - 1)
    assert await store.list_turns(SESSION_ID, 100) == Page((winner,))
    assert await store.get_session(SESSION_ID) == replace(make_session(), turn_count=1)


async def test_fifty_sessions_begin_at_once_and_all_win(store: Store) -> None:
    """The rule is one turn a session, not one turn."""
    for n in range(RACERS):
        await store.create_session(make_session(f"sess_{n}"))
    await asyncio.gather(*(store.begin_turn(make_turn(f"turn_{n}", f"sess_{n}")) for n in range(RACERS)))

    assert await list_running(store) == sorted(f"turn_{n}" for n in range(RACERS))


async def test_a_turn_is_settled_once(store: Store) -> None:
    """The first outcome stands; whoever comes later is told so, and changes nothing."""
    first, second = make_outcome("first", at=minutes(1)), make_failure(at=minutes(2), partial_reply="second")
    await store.create_session(make_session())
    await store.begin_turn(make_turn())

    assert await store.settle_turn(TURN_ID, first) is not None
    assert await store.settle_turn(TURN_ID, second) is None
    assert await store.settle_turn(TURN_ID, first) is None
    assert await store.get_turn(TURN_ID) == make_turn(outcome=first)


async def test_of_fifty_that_settle_at_once_one_is_told_that_it_was_first(store: Store) -> None:
    """And its outcome is the one that is kept, whole."""
    await store.create_session(make_session())
    await store.begin_turn(make_turn())
    outcomes = [
        make_outcome(f"reply {n}") if n % 2 else make_failure(partial_reply=f"reply {n}") for n in range(RACERS)
    ]
    results = await asyncio.gather(*(store.settle_turn(TURN_ID, outcome) for outcome in outcomes))

    (winner,) = [outcome for outcome, is_first in zip(outcomes, results, strict=True) if is_first]
    assert [outcome for outcome in results if outcome is not None] == [winner]
    assert await store.get_turn(TURN_ID) == make_turn(outcome=winner)


async def test_a_turn_that_is_gone_cannot_be_settled(store: Store) -> None:
    """The session was deleted while the animal spoke: the reply does not bring it back."""
    await store.create_session(make_session())
    await store.begin_turn(make_turn())
    await store.delete_session(SESSION_ID)

    assert await store.settle_turn(TURN_ID, make_outcome()) is None
    assert await store.settle_turn("turn_that_never_was", make_outcome()) is None
    assert await store.get_turn(TURN_ID) is None
    assert await store.list_turns(SESSION_ID, 10) == Page(())


async def test_turns_without_an_outcome_are_running(store: Store) -> None:
    """A restarted server settles these, of all sessions, and no others."""
    await add_turns(store, "Hello")
    await add_turns(store, "Hello", session_id=OTHER_ID)
    assert await list_running(store) == []

    await store.begin_turn(make_turn("turn_a", SESSION_ID))
    await store.begin_turn(make_turn("turn_b", OTHER_ID))
    assert await list_running(store) == ["turn_a", "turn_b"]
    await store.settle_turn("turn_a", make_failure())
    assert await list_running(store) == ["turn_b"]


# Listings of turns


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8, 200])
async def test_pages_of_turns_are_oldest_first_without_gap_or_repeat(store: Store, limit: int) -> None:
    """The pages joined are the talk; another session's turns are in none of them."""
    await add_turns(store, "not", "mine", session_id=OTHER_ID)
    told = await add_turns(store, *"abcdefg")

    assert await list_all_pages(lambda cursor: store.list_turns(SESSION_ID, limit, cursor), limit) == told


async def test_turns_keep_their_order_when_the_clock_goes_back(store: Store) -> None:
    """What was said first stands first, whatever the time was."""
    await store.create_session(make_session())
    names = [f"turn_{n}" for n in range(5)]
    for place, name in enumerate(names):
        await store.begin_turn(make_turn(name, at=minutes(-place)))
        await store.settle_turn(name, make_outcome())

    assert [turn.turn_id for turn in (await store.list_turns(SESSION_ID, 10)).items] == names
    assert [turn.turn_id for turn in await store.list_latest_turns(SESSION_ID, 3)] == names[-3:]


async def test_a_cursor_still_holds_when_more_was_said_meanwhile(store: Store) -> None:
    """It marks a place, not a number of rows to skip."""
    await add_turns(store, "a", "b", "c")
    first = await store.list_turns(SESSION_ID, 2)
    await store.begin_turn(make_turn("turn_new", message="d", at=minutes(9)))

    second = await store.list_turns(SESSION_ID, 2, first.next_cursor)
    assert [turn.message for turn in (*first.items, *second.items)] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("limit", "expected"), [(1, "c"), (2, "bc"), (3, "abc"), (50, "abc")])
async def test_the_latest_turns_come_oldest_first(store: Store, limit: int, expected: str) -> None:
    """As the animal remembers the talk: the last few, in the order in which they were said."""
    await add_turns(store, "not mine", session_id=OTHER_ID)
    await add_turns(store, "a", "b", "c")

    assert "".join(turn.message for turn in await store.list_latest_turns(SESSION_ID, limit)) == expected


def forge_cursor(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


BAD_CURSORS = {
    "nonsense": "nonsense",
    "not ASCII": "é🦁",
    "punctuation": "!!!",
    "blanks": "   ",
    "NUL": "\0",
    "too long": "A" * 512,
    "not a list": forge_cursor({"a": 1}),
    "an empty list": forge_cursor([]),
    "null": forge_cursor([None]),
    "a fraction": forge_cursor([1.5]),
    "true": forge_cursor([True]),
    "too many parts": forge_cursor([1, "a", 2, "b", 3]),
    "a huge number": forge_cursor([10**30]),
    "a huge number below zero": forge_cursor([-(10**30)]),
    "deeper than anyone reads": urlsafe_b64encode(b"[" * 300).decode().rstrip("="),
    "half a surrogate pair": forge_cursor(["\ud800", "sess_a"]),
    "half a surrogate pair at the end": forge_cursor(["2026-11-21", "\udfff"]),
}


@pytest.mark.parametrize("cursor", BAD_CURSORS.values(), ids=BAD_CURSORS.keys())
async def test_a_bad_cursor_is_invalid_input(store: Store, cursor: str) -> None:
    """It came from outside: it is refused by name, and never an error of ours."""
    await add_turns(store, "a", "b")

    for read in (
        lambda: store.list_turns(SESSION_ID, 10, cursor),
        lambda: store.list_sessions(MIA, 10, cursor),
        lambda: store.list_owner_turns(MIA, 10, cursor),
    ):
        with pytest.raises(InvalidInput) as refusal:
            await read()
        assert [error.field for error in refusal.value.errors] == ["cursor"]


async def test_a_cursor_of_another_listing_is_invalid_input(store: Store) -> None:
    """Sessions and turns are counted in different ways."""
    await add_turns(store, "a", "b")
    await store.create_session(make_session(OTHER_ID, owner=MIA))
    of_turns = (await store.list_turns(SESSION_ID, 1)).next_cursor
    of_sessions = (await store.list_sessions(MIA, 1)).next_cursor

    with pytest.raises(InvalidInput):
        await store.list_sessions(MIA, 1, of_turns)
    with pytest.raises(InvalidInput):
        await store.list_turns(SESSION_ID, 1, of_sessions)


async def test_a_damaged_cursor_is_refused_or_read_and_nothing_else(store: Store) -> None:
    """Every letter of a real one, changed: a page or a refusal, never a crash, never another owner's session."""
    await add_turns(store, "a", "b")
    for name in ("sess_a", "sess_b"):
        await store.create_session(make_session(name, owner=BEN))
    real = (await store.list_sessions(BEN, 1)).next_cursor
    assert real is not None

    for place in range(len(real)):
        for letter in "A_z9%":
            damaged = real[:place] + letter + real[place + 1 :]
            try:
                page = await store.list_sessions(BEN, 10, damaged)
            except InvalidInput:
                continue
            assert {session.owner for session in page.items} <= {BEN}


# Deletion


async def test_deletion_leaves_nothing(store: Store) -> None:
    """Session, turns, the one that runs: each way to ask finds nothing, and the ids of the turns are told."""
    told = await add_turns(store, "a", "b")
    await store.begin_turn(make_turn("turn_running", at=minutes(9)))

    deleted = await store.delete_session(SESSION_ID)
    assert sorted(deleted or ()) == sorted([*(turn.turn_id for turn in told), "turn_running"])
    await _assert_deleted(store, [*(turn.turn_id for turn in told), "turn_running"])


async def _assert_deleted(store: Store, turn_ids: Sequence[str]) -> None:
    assert await store.get_session(SESSION_ID) is None
    assert [await store.get_turn(turn_id) for turn_id in turn_ids] == [None] * len(turn_ids)
    assert await store.list_turns(SESSION_ID, 10) == Page(())
    assert list(await store.list_latest_turns(SESSION_ID, 10)) == []
    assert await store.list_sessions(MIA, 10) == Page(())
    assert await list_running(store) == []
    with pytest.raises(SessionNotFound):
        await store.begin_turn(make_turn("turn_late"))


async def test_deletion_deletes_the_devices_user(store: Store, stores: Stores) -> None:
    """Its session's id stays in no table; the next message makes both anew."""
    await store.begin_turn(make_turn(), replace(make_session(), handle=KIOSK))
    assert await list_device_users(stores, KIOSK, SESSION_ID) != ()
    await store.delete_session(SESSION_ID)

    assert await list_device_users(stores, KIOSK, SESSION_ID) == ()


async def test_deletion_is_told_once(store: Store) -> None:
    """None is "there was nothing"; an empty list is a session in which nothing was said."""
    await store.create_session(make_session())

    turn_ids = await store.delete_session(SESSION_ID)
    assert turn_ids is not None
    assert list(turn_ids) == []
    assert await store.delete_session(SESSION_ID) is None
    assert await store.delete_session(OTHER_ID) is None


async def test_deletion_leaves_the_others_alone(store: Store) -> None:
    """Also those of the same owner."""
    await add_turns(store, "a")
    kept = await add_turns(store, "b", session_id=OTHER_ID)
    await store.delete_session(SESSION_ID)

    assert (await store.list_turns(OTHER_ID, 10)).items == tuple(kept)
    assert [session.session_id for session in (await store.list_sessions(MIA, 10)).items] == [OTHER_ID]


async def test_a_session_deleted_amid_fifty_beginnings_stays_deleted(store: Store) -> None:
    """Whoever came too late hears that it is gone; no turn is left without a session."""
    await store.create_session(make_session())
    beginnings = [store.begin_turn(make_turn(f"turn_{n}")) for n in range(RACERS)]
    results = await asyncio.gather(*beginnings, store.delete_session(SESSION_ID), return_exceptions=True)

    assert all(isinstance(result, str | TurnRunning | SessionNotFound) for result in results[:-1])
    await _assert_deleted(store, [f"turn_{n}" for n in range(RACERS)])


# Expiry


TTL_S = 3600


def make_short_session(session_id: str = SESSION_ID, *, at: datetime, owner: str | None = MIA) -> SessionRecord:
    return replace(make_session(session_id, owner=owner, at=at), ttl_s=TTL_S)


async def test_a_session_is_over_after_its_time_whether_deleted_or_not(store: Store, clock: FakeClock) -> None:
    """To the last moment it is there; from then on no way to ask finds it, and it takes no message."""
    await store.create_session(make_short_session(at=clock.now()))
    await store.begin_turn(make_turn(at=clock.now()))
    await store.settle_turn(TURN_ID, make_outcome(at=clock.now()))

    clock.advance(TTL_S - 0.001)
    assert await store.get_session(SESSION_ID) is not None
    assert await store.get_turn(TURN_ID) is not None
    clock.advance(0.001)
    assert await store.get_session(SESSION_ID) is None
    assert await store.list_sessions(MIA, 10) == Page(())
    assert await store.get_turn(TURN_ID) is None
    assert await store.list_turns(SESSION_ID, 10) == Page(())
    assert list(await store.list_latest_turns(SESSION_ID, 10)) == []
    assert await store.delete_session(SESSION_ID) is None
    with pytest.raises(SessionNotFound):
        await store.begin_turn(make_turn("turn_late", at=clock.now()))


async def test_each_message_gives_a_session_its_whole_time_again(store: Store, clock: FakeClock) -> None:
    """It ends so long after the last message, not after the first."""
    await store.create_session(make_short_session(at=clock.now()))
    clock.advance(TTL_S - 1)
    await store.begin_turn(make_turn(at=clock.now()))
    clock.advance(TTL_S - 1)

    kept = await store.get_session(SESSION_ID)
    assert kept is not None
    assert kept.expires_at == clock.now() + timedelta(seconds=1)


async def test_expired_sessions_are_deleted_and_no_others(store: Store, clock: FakeClock) -> None:
    """In steps of a size that the caller chooses, so that none of them holds up the turns."""
    for n in range(5):
        await store.create_session(make_short_session(f"sess_{n}", at=clock.now()))
        await store.begin_turn(make_turn(f"turn_{n}", f"sess_{n}", at=clock.now()))
    clock.advance(TTL_S / 2)
    await store.create_session(make_short_session("sess_young", at=clock.now()))
    assert (await store.count_expired_sessions(), await store.delete_expired_sessions(10)) == (0, 0)

    clock.advance(TTL_S / 2)
    assert await store.count_expired_sessions() == 5
    assert [await store.delete_expired_sessions(2) for _ in range(4)] == [2, 2, 1, 0]
    assert await store.count_expired_sessions() == 0
    assert await list_running(store) == []
    assert await store.settle_turn("turn_0", make_outcome()) is None
    assert [session.session_id for session in (await store.list_sessions(MIA, 10)).items] == ["sess_young"]


# Beginning a session with its first turn, and requests that come twice


DAY = timedelta(days=1)


def make_key(name: str = "key-1", body: str = "body-1", *, at: datetime = NOON) -> IdempotencyKey:
    return IdempotencyKey(name, body, at + DAY)


async def test_a_session_and_its_first_turn_are_kept_together(store: Store) -> None:
    """One step: no session without a message is left behind when the second half fails."""
    assert await store.begin_turn(make_turn(), make_session()) == TURN_ID

    assert await store.get_session(SESSION_ID) == replace(make_session(), turn_count=1)
    assert await store.get_turn(TURN_ID) == make_turn()


@pytest.mark.parametrize("has_ended", [False, True], ids=["while it runs", "after its end"])
async def test_the_same_request_again_is_the_same_turn(store: Store, has_ended: bool) -> None:
    """The earlier turn's id comes back, and nothing at all has changed."""
    assert await store.begin_turn(make_turn(), make_session(), [make_key()]) == TURN_ID
    if has_ended:
        await store.settle_turn(TURN_ID, make_outcome())
    before = [await store.get_session(SESSION_ID), await store.get_turn(TURN_ID)]

    again = make_turn("turn_again", OTHER_ID, at=minutes(1))
    assert await store.begin_turn(again, make_session(OTHER_ID), [make_key()]) == TURN_ID
    assert await store.begin_turn(make_turn("turn_third", at=minutes(2)), None, [make_key()]) == TURN_ID
    assert [await store.get_session(SESSION_ID), await store.get_turn(TURN_ID)] == before
    assert await store.get_session(OTHER_ID) is None
    assert await store.get_turn("turn_again") is None
    assert await store.get_turn("turn_third") is None


async def test_any_of_several_keys_names_the_turn(store: Store) -> None:
    """A request may be known under more than one."""
    await store.begin_turn(make_turn(), make_session(), [make_key("one"), make_key("two")])

    for keys in ([make_key("two")], [make_key("new"), make_key("one")]):
        assert await store.begin_turn(make_turn("turn_b", OTHER_ID), make_session(OTHER_ID), keys) == TURN_ID


async def test_a_key_with_another_body_is_refused(store: Store) -> None:
    """And nothing of that request is kept, its session neither."""
    await store.begin_turn(make_turn(), make_session(), [make_key()])
    with pytest.raises(KeyReused):
        await store.begin_turn(make_turn("turn_b", OTHER_ID), make_session(OTHER_ID), [make_key(body="body-2")])

    assert await store.get_session(OTHER_ID) is None
    assert await store.get_turn("turn_b") is None


async def test_fifty_requests_with_one_key_are_one_turn(store: Store) -> None:
    """All of them hear the same id."""
    begun = await asyncio.gather(
        *(
            store.begin_turn(make_turn(f"turn_{n}", f"sess_{n}"), make_session(f"sess_{n}"), [make_key()])
            for n in range(RACERS)
        )
    )

    (turn_id,) = set(begun)
    assert await list_running(store) == [turn_id]
    assert len((await store.list_sessions(MIA, 100)).items) == 1


async def test_different_keys_are_different_requests(store: Store) -> None:
    """As are requests without any."""
    for n, keys in enumerate([[make_key("one")], [make_key("two")], [], []]):
        assert (
            await store.begin_turn(make_turn(f"turn_{n}", f"sess_{n}"), make_session(f"sess_{n}"), keys) == f"turn_{n}"
        )


async def test_a_refused_turn_does_not_use_up_its_key(store: Store) -> None:
    """The client waits and sends the same request again: then it counts."""
    await store.begin_turn(make_turn("turn_first"), make_session())
    with pytest.raises(TurnRunning):
        await store.begin_turn(make_turn("turn_second"), None, [make_key()])
    await store.settle_turn("turn_first", make_outcome())

    assert await store.begin_turn(make_turn("turn_second"), None, [make_key()]) == "turn_second"


@pytest.mark.parametrize(("after", "turn_id"), [(DAY - timedelta(seconds=1), TURN_ID), (DAY, "turn_b")])
async def test_a_key_expires(store: Store, after: timedelta, turn_id: str) -> None:
    """Then the same key makes a new turn, whatever the body, and stands for that one."""
    await store.begin_turn(make_turn(), replace(make_session(), ttl_s=10**6), [make_key()])

    for name in ("b", "c"):
        again = make_turn(f"turn_{name}", f"sess_{name}", at=NOON + after)
        session = make_session(again.session_id, at=again.created_at)
        assert await store.begin_turn(again, session, [make_key(at=again.created_at)]) == turn_id


async def test_a_key_tells_beforehand_whether_it_stands_for_a_turn(store: Store) -> None:
    """Whatever the body; no longer when the turn is deleted. Asking changes nothing."""
    assert not await store.has_turn([make_key()])
    assert not await store.has_turn([])
    await store.begin_turn(make_turn(), make_session(), [make_key()])

    assert await store.has_turn([make_key("key-2"), make_key(body="body-2")])
    assert not await store.has_turn([make_key("key-2")])
    await store.delete_session(SESSION_ID)
    assert not await store.has_turn([make_key()])


async def test_a_deleted_session_takes_its_keys_along(store: Store) -> None:
    """The same request then begins anew: a key must not lead to deleted data."""
    await store.begin_turn(make_turn(), make_session(), [make_key()])
    await store.delete_session(SESSION_ID)

    assert await store.begin_turn(make_turn("turn_b"), make_session(), [make_key(body="body-2")]) == "turn_b"


# Sessions that clients name


NAMED = SessionRecord(
    session_id=SESSION_ID,
    animal_id="lion_001",
    owner="user:ben",
    created_at=NOON,
    last_message_at=NOON,
    title="Löwen \u2028 🦁",
    opening="My name is Ben.\nHello!",
    handle="chat_kiosk 7 ☂",
    locked_at=NOON - timedelta(microseconds=1),
)


async def test_what_a_client_gave_its_session_comes_back(store: Store) -> None:
    """Title, the words it was begun with and the device's name, whether it was made empty or with its first turn."""
    other = replace(NAMED, session_id=OTHER_ID)
    await store.create_session(NAMED)
    await store.begin_turn(make_turn("turn_other", OTHER_ID), other)

    assert await store.get_session(SESSION_ID) == NAMED
    assert await store.get_session(OTHER_ID) == replace(other, turn_count=1)


async def test_a_session_that_exists_already_is_used(store: Store) -> None:
    """Somebody was quicker: it stays what it was, and goes on with this turn."""
    await store.begin_turn(make_turn("turn_first"), make_session())
    await store.settle_turn("turn_first", make_outcome())
    again = replace(make_session(owner=BEN, at=minutes(1)), title="another", ttl_s=5)
    assert await store.begin_turn(make_turn("turn_second", at=minutes(1)), again) == "turn_second"

    assert await store.get_session(SESSION_ID) == replace(make_session(), last_message_at=minutes(1), turn_count=2)
    assert [turn.turn_id for turn in (await store.list_turns(SESSION_ID, 10)).items] == ["turn_first", "turn_second"]


async def test_fifty_first_questions_in_a_session_are_one_session_and_one_turn(store: Store) -> None:
    """All of them would begin it; one does, and the others hear which turn runs."""
    begun = await asyncio.gather(
        *(store.begin_turn(make_turn(f"turn_{n}"), make_session()) for n in range(RACERS)), return_exceptions=True
    )

    (winner,) = [result for result in begun if isinstance(result, str)]
    assert [result.turn_id for result in begun if isinstance(result, TurnRunning)] == [winner] * (RACERS - 1)
    assert await store.get_session(SESSION_ID) == replace(make_session(), turn_count=1)


async def test_a_session_that_is_over_makes_room_for_one_of_its_name(store: Store, clock: FakeClock) -> None:
    """The new one has none of its turns, the one that still ran neither, and none of its keys."""
    await store.begin_turn(
        make_turn("turn_old", at=clock.now()), make_short_session(at=clock.now()), [make_key(at=clock.now())]
    )
    await store.settle_turn("turn_old", make_outcome(at=clock.now()))
    await store.begin_turn(make_turn("turn_lost", at=clock.now()))
    clock.advance(TTL_S)
    fresh = make_short_session(at=clock.now(), owner=BEN)
    # The same key leads to a new turn, and not to the one that it stood for.
    again = [make_key(body="body-2", at=clock.now())]
    assert await store.begin_turn(make_turn("turn_new", at=clock.now()), fresh, again) == "turn_new"

    assert await store.get_session(SESSION_ID) == replace(fresh, turn_count=1)
    assert [turn.turn_id for turn in await store.list_latest_turns(SESSION_ID, 10)] == ["turn_new"]
    assert await list_running(store) == ["turn_new"]
    assert await store.get_turn("turn_old") is None
    assert await store.settle_turn("turn_lost", make_outcome()) is None


async def test_a_session_is_used_to_its_last_moment(store: Store, clock: FakeClock) -> None:
    """It does not make room before its time."""
    await store.create_session(make_short_session(at=clock.now()))
    clock.advance(TTL_S - 0.001)
    await store.begin_turn(make_turn(at=clock.now()), make_short_session(at=clock.now(), owner=BEN))

    kept = await store.get_session(SESSION_ID)
    assert kept is not None
    assert kept.owner == MIA


# Devices


KIOSK = "chat_kiosk-7"


def make_kiosk_session(*, at: datetime = NOON, animal_id: str = "lion_001") -> SessionRecord:
    return replace(make_short_session(at=at), animal_id=animal_id, handle=KIOSK, locked_at=at)


async def test_a_device_has_a_user_from_its_first_message_on(store: Store, stores: Stores) -> None:
    """Sessions that are no device's have none."""
    assert await list_device_users(stores, KIOSK, SESSION_ID) == ()
    await store.begin_turn(make_turn(at=minutes(1)), make_kiosk_session())
    await store.begin_turn(make_turn("turn_other", OTHER_ID), make_session(OTHER_ID))

    assert await list_device_users(stores, KIOSK, SESSION_ID, OTHER_ID) == (DeviceUser(SESSION_ID, KIOSK, minutes(1)),)


async def test_a_devices_user_stays_when_its_sessions_are_over(store: Store, stores: Stores, clock: FakeClock) -> None:
    """The user is the one of the first message, and is made once."""
    first_seen = clock.now()
    await store.begin_turn(make_turn(at=first_seen), make_kiosk_session(at=first_seen))
    clock.advance(TTL_S)
    await store.begin_turn(make_turn("turn_b", at=clock.now()), make_kiosk_session(at=clock.now()))

    assert await list_device_users(stores, KIOSK, SESSION_ID) == (DeviceUser(SESSION_ID, KIOSK, first_seen),)


async def test_a_devices_user_is_deleted_with_its_expired_session(
    store: Store, stores: Stores, clock: FakeClock
) -> None:
    """Nothing of the device is left then. One whose session goes on stays, and so does one that comes back at once."""
    for name in ("over", "back", "on"):
        session = replace(make_kiosk_session(at=clock.now()), session_id=f"sess_{name}", handle=f"chat_{name}")
        await store.begin_turn(make_turn(f"turn_{name}", f"sess_{name}", at=clock.now()), session)
    await store.set_session_ttl("sess_on", 10 * TTL_S)
    clock.advance(TTL_S)
    again = replace(make_kiosk_session(at=clock.now()), session_id="sess_back", handle="chat_back")
    await store.begin_turn(make_turn("turn_again", "sess_back", at=clock.now()), again)

    assert await store.delete_expired_sessions(1) == 1
    assert await store.delete_expired_sessions(1) == 0
    left = {name: await list_device_users(stores, f"chat_{name}") for name in ("over", "back", "on")}
    assert {name: len(users) for name, users in left.items()} == {"over": 0, "back": 1, "on": 1}


async def test_a_refused_first_message_makes_no_user(store: Store, stores: Stores) -> None:
    """Nothing of a refused turn is kept."""
    await store.begin_turn(make_turn(), make_session(), [make_key()])
    other = replace(make_kiosk_session(), session_id=OTHER_ID)
    with pytest.raises(KeyReused):
        await store.begin_turn(make_turn("turn_b", OTHER_ID), other, [make_key(body="body-2")])

    assert await list_device_users(stores, KIOSK, OTHER_ID) == ()


async def test_a_session_is_with_the_animal_that_was_asked_last(store: Store) -> None:
    """And knows since when; asking the same one again changes nothing, and each turn keeps its own animal."""
    asked = ["lion_001", "tiger_001", "tiger_001", "lion_001"]
    known: list[tuple[str, datetime | None]] = []
    for place, animal_id in enumerate(asked, 1):
        turn = replace(make_turn(f"turn_{place}", at=minutes(place)), animal_id=animal_id)
        await store.begin_turn(turn, replace(make_kiosk_session(), ttl_s=86_400))
        await store.settle_turn(turn.turn_id, make_outcome())
        session = await store.get_session(SESSION_ID)
        assert session is not None
        known.append((session.animal_id, session.locked_at))

    assert known == [("lion_001", NOON), ("tiger_001", minutes(2)), ("tiger_001", minutes(2)), ("lion_001", minutes(4))]
    assert [turn.animal_id for turn in (await store.list_turns(SESSION_ID, 10)).items] == asked


@pytest.mark.parametrize(
    "media_urls",
    [(), ("https://zoo.example/ä?x=1&y=🦁",), tuple(f"https://zoo.example/{n}.jpg" for n in range(10))],
    ids=["none", "one", "ten"],
)
async def test_the_addresses_that_came_with_a_message_are_kept(store: Store, media_urls: tuple[str, ...]) -> None:
    """All of them, in their order, however the turn is asked for."""
    turn = replace(make_turn(), media_urls=media_urls)
    await store.begin_turn(turn, make_session())

    assert await store.get_turn(TURN_ID) == turn
    assert list(await store.list_latest_turns(SESSION_ID, 1)) == [turn]
    assert (await store.list_owner_turns(MIA, 1)).items == (turn,)


# The turns of an owner


async def list_owner_messages(store: Store, owner: str | None, limit: int = 50) -> list[str]:
    turns = await list_all_pages(lambda cursor: store.list_owner_turns(owner, limit, cursor), limit)
    return [turn.message for turn in turns]


async def test_an_owners_turns_come_latest_first_from_all_its_sessions(store: Store) -> None:
    """Each as it is kept; somebody else's, and nobody's, are not among them."""
    told = await add_turns(store, "a", "b", "c")
    await add_turns(store, "not mine", session_id=OTHER_ID, owner=BEN)
    await add_turns(store, "nobody's", session_id="sess_of_nobody", owner=None)
    await store.begin_turn(make_turn("turn_now", "sess_2", message="d", at=minutes(1.5)), make_session("sess_2"))

    assert await list_owner_messages(store, MIA) == ["c", "d", "b", "a"]
    assert (await store.list_owner_turns(MIA, 1)).items == (told[-1],)
    assert await list_owner_messages(store, BEN) == ["not mine"]
    for nobody in ("", "cookie:%", MIA.upper()):
        assert await list_owner_messages(store, nobody) == []


async def test_without_an_owner_everybodys_turns_are_listed(store: Store) -> None:
    """Those that nobody owns, too."""
    await add_turns(store, "a", "b")
    await add_turns(store, "c", session_id=OTHER_ID, owner=BEN)
    await add_turns(store, "d", session_id="sess_of_nobody", owner=None)

    assert sorted(await list_owner_messages(store, None)) == ["a", "b", "c", "d"]
    everybodys = (await store.list_owner_turns(None, 10)).items
    assert {turn.message: turn.owner for turn in everybodys} == {"a": MIA, "b": MIA, "c": BEN, "d": None}


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8])
@pytest.mark.parametrize("owner", [MIA, None])
async def test_pages_of_an_owners_turns_have_no_gap_and_no_repeat(store: Store, owner: str | None, limit: int) -> None:
    """Also where several were asked in the same moment."""
    for name, minute in {"a": 1, "b": 2, "c": 2, "d": 2, "e": 0, "f": 3, "g": 3}.items():
        turn = make_turn(f"turn_{name}", f"sess_{name}", message=name, at=minutes(minute))
        await store.begin_turn(turn, make_session(turn.session_id, at=turn.created_at))

    found = await list_owner_messages(store, owner, limit)
    assert sorted(found) == list("abcdefg")
    assert [set(found[:2]), set(found[2:5]), found[5:]] == [set("fg"), set("bcd"), ["a", "e"]]


async def test_turns_of_a_session_that_is_over_are_not_listed(store: Store, clock: FakeClock) -> None:
    """Neither to their owner nor to whoever sees everything; deleted or not."""
    await store.begin_turn(make_turn(at=clock.now()), make_short_session(at=clock.now()))
    assert await list_owner_messages(store, MIA) == await list_owner_messages(store, None) == ["Hello!"]
    clock.advance(TTL_S)

    assert await list_owner_messages(store, MIA) == await list_owner_messages(store, None) == []


# A session's time


@pytest.mark.parametrize("ttl_s", [1, TTL_S // 2, 10 * TTL_S])
async def test_a_session_ends_when_it_is_told_to(store: Store, clock: FakeClock, ttl_s: int) -> None:
    """So long after its last message, sooner or later than it would have; nothing else of it changes."""
    session = make_short_session(at=clock.now())
    await store.create_session(session)
    assert await store.set_session_ttl(SESSION_ID, ttl_s) == replace(session, ttl_s=ttl_s)

    clock.advance(ttl_s - 0.001)
    assert await store.get_session(SESSION_ID) == replace(session, ttl_s=ttl_s)
    clock.advance(0.001)
    assert await store.get_session(SESSION_ID) is None
    assert await store.count_expired_sessions() == 1


async def test_a_shorter_time_may_be_over_already(store: Store, clock: FakeClock) -> None:
    """It counts from the last message, not from now; the next message begins a new session."""
    await store.create_session(make_short_session(at=clock.now()))
    clock.advance(TTL_S / 2)
    assert await store.set_session_ttl(SESSION_ID, TTL_S // 4) is not None

    assert await store.get_session(SESSION_ID) is None
    with pytest.raises(SessionNotFound):
        await store.begin_turn(make_turn(at=clock.now()))


async def test_each_message_gives_a_session_the_time_that_it_was_told(store: Store, clock: FakeClock) -> None:
    """It is the session's own from then on."""
    await store.create_session(make_short_session(at=clock.now()))
    await store.set_session_ttl(SESSION_ID, 2 * TTL_S)
    clock.advance(TTL_S)
    await store.begin_turn(make_turn(at=clock.now()))

    kept = await store.get_session(SESSION_ID)
    assert kept is not None
    assert kept.expires_at == clock.now() + timedelta(seconds=2 * TTL_S)


async def test_a_session_that_is_not_there_is_told_nothing(store: Store, clock: FakeClock) -> None:
    """Unknown or over; a longer time does not bring it back."""
    await store.create_session(make_short_session(at=clock.now()))
    clock.advance(TTL_S)

    assert await store.set_session_ttl(SESSION_ID, 100 * TTL_S) is None
    assert await store.set_session_ttl(OTHER_ID, TTL_S) is None
    assert await store.get_session(SESSION_ID) is None


# Leases


async def test_a_running_turn_tells_who_runs_it_and_until_when_that_is_believed(store: Store) -> None:
    """What another process needs in order to take a dead one's turns over."""
    await store.begin_turn(FULL, make_session())

    assert FULL.lease_until is not None
    assert list(await store.list_running_turns()) == [Lease(TURN_ID, "worker_7", FULL.lease_until)]


async def test_a_turn_without_a_lease_counts_as_abandoned(store: Store) -> None:
    """Its end is in the past, whatever the time is."""
    await store.begin_turn(make_turn(), make_session())

    (lease,) = await store.list_running_turns()
    assert lease.until < NOON - 365 * DAY


async def test_leases_are_renewed_for_what_still_runs(store: Store) -> None:
    """The ids that come back are those; the others have ended or are gone, and their process has to know."""
    for name in ("turn_a", "turn_b", "turn_c", "turn_d"):
        turn = replace(FULL, turn_id=name, session_id=f"sess_{name}")
        await store.begin_turn(turn, make_session(turn.session_id))
    await store.settle_turn("turn_b", make_outcome())
    await store.delete_session("sess_turn_c")

    renewed = await store.renew_leases(["turn_a", "turn_b", "turn_c", "turn_unknown"], minutes(5))
    assert list(renewed) == ["turn_a"]
    until = {lease.turn_id: lease.until for lease in await store.list_running_turns()}
    assert until == {"turn_a": minutes(5), "turn_d": FULL.lease_until}
    assert list(await store.renew_leases([], minutes(9))) == []


# The store itself


async def test_a_store_that_works_answers_a_ping(store: Store) -> None:
    """`/ready` asks this; it changes nothing."""
    told = await add_turns(store, "a")
    await store.ping()
    await store.ping()

    assert (await store.list_turns(SESSION_ID, 10)).items == tuple(told)


# Ownership


async def test_the_ownership_of_a_turn_is_that_of_its_session(store: Store) -> None:
    """None for a turn that is not there."""
    await store.create_session(make_session())
    await store.begin_turn(replace(make_turn(), is_bound=True))

    assert await store.get_turn_ownership(TURN_ID) == TurnOwnership(SESSION_ID, "cookie:mia", is_bound=True)
    assert await store.get_turn_ownership("turn_none") is None


async def test_sessions_are_found_by_their_ids_and_by_their_owner_s_name(store: Store) -> None:
    """The latest first; another owner's session with the same name is not among them."""
    named = replace(make_session("sess_a", at=minutes(1)), name_key="default")
    other = replace(make_session("sess_b", at=minutes(2), owner="cookie:tom"), name_key="default")
    unnamed = make_session("sess_c", at=minutes(3))
    for session in (named, other, unnamed):
        await store.create_session(session)

    assert await store.find_named_sessions(["sess_c", "sess_none"], "cookie:mia", "default") == [unnamed, named]
    assert await store.find_named_sessions([], None, "default") == []


@pytest.mark.parametrize(
    ("is_claimed", "claim", "owner"),
    [
        (False, SessionClaim("cookie:tom", is_proved=False), "cookie:mia"),
        (False, SessionClaim("cookie:tom", is_proved=True), "cookie:tom"),
        (True, SessionClaim("cookie:mia", is_proved=True), "cookie:mia"),
        (True, SessionClaim("cookie:mia", is_proved=False), None),
        (True, SessionClaim("cookie:tom", is_proved=True), None),
    ],
)
async def test_a_turn_claims_its_session_or_is_refused(
    store: Store, *, is_claimed: bool, claim: SessionClaim, owner: str | None
) -> None:
    """In the transaction that starts it, so that of two claimants one is refused."""
    await store.create_session(replace(make_session(), is_claimed=is_claimed))

    if owner is None:
        with pytest.raises(SessionClaimed):
            await store.begin_turn(make_turn(), claim=claim)
        assert await store.get_turn(TURN_ID) is None
        return
    await store.begin_turn(make_turn(), claim=claim)
    session = await store.get_session(SESSION_ID)

    assert session is not None
    assert (session.owner, session.is_claimed) == (owner, is_claimed or claim.is_proved)
