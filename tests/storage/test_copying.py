"""A whole store is copied from SQLite to DynamoDB and back, and nothing that anybody can ask for is different."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from openapi_server.cli import main
from openapi_server.models.audit import Actor, AuditAction, AuditEntry
from openapi_server.models.credits import Allocation, Charge
from openapi_server.models.idempotency import StoredAnswer
from openapi_server.models.personal_data import DataSubject, PersonalData
from openapi_server.models.turn import IdempotencyKey
from openapi_server.models.user import Login, Role, User
from openapi_server.models.versioned_document import Change, ChangeKind, Draft
from openapi_server.storage import copying
from openapi_server.storage.dynamodb.batches_and_transactions import Database
from openapi_server.storage.dynamodb.opening import get_names
from openapi_server.storage.factory import Stores, open_dynamodb_stores, open_sqlite_stores
from tests.support.dynamodb import open_checked_client, use_tables
from tests.support.examples import DELICATE_TEXTS, WEB, make_failure, make_outcome, make_session, make_turn
from tests.support.fakes import FakeClock

MIA = User("mia", Role.PARENT, "hash of mia's", FakeClock().now())
BEN = replace(MIA, username="ben", role=Role.USER, parent="mia", is_demo=True)
TURNS = 30


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """Empty tables."""
    location = use_tables(tmp_path)
    return Database(open_checked_client(location.region, location.endpoint), get_names(location))


async def fill(stores: Stores, clock: FakeClock) -> None:
    """Some of everything that a store holds."""
    now = clock.now()
    for user in (MIA, BEN):
        assert await stores.accounts.create_user(user)
    for number, credits in enumerate((100, 50)):
        allocation = Allocation("ben", credits, now, now + timedelta(days=5 + number) if number else None, "a gift")
        await stores.credits.allocate_credits(
            allocation, IdempotencyKey(f"gift-{number}", "b", now + timedelta(days=1))
        )
    for user in (MIA, BEN):
        login = Login(f"login_{user.username}", user.username, now, now + timedelta(days=30))
        assert await stores.accounts.create_login(login, f"token of {user.username}", user.password_hash)
    assert await stores.accounts.refresh_login(["token of ben", "second"], now + timedelta(days=31), now)
    await stores.accounts.end_login("login_mia")
    await fill_sessions(stores, clock)
    await fill_documents(stores, clock)
    for number in range(3):
        clock.advance(30 * 86_400 if number == 2 else 0)
        entry = AuditEntry(
            clock.now(), AuditAction.LOGIN, Actor("user", "ben"), "ben" if number else None, f"r-{number}"
        )
        await stores.audit.record(entry)
    key = IdempotencyKey("answered", "body", clock.now() + timedelta(days=1))
    assert await stores.requests.begin(key, "user:ben") is None
    await stores.requests.finish(key, StoredAnswer(201, (("location", "/x"),), '{"Löwe": 1}', "sess_ben"))


async def fill_sessions(stores: Stores, clock: FakeClock) -> None:
    """A long one, one that costs credits, one of a device, and one in which nothing was said."""
    now = clock.now()
    long = replace(make_session("sess_long", at=now), ttl_s=10**9)
    await stores.sessions.create_session(long)
    texts = [*DELICATE_TEXTS.values(), *(f"question {n}" for n in range(TURNS - len(DELICATE_TEXTS)))]
    for number, text in enumerate(texts):
        turn = replace(make_turn(f"turn_{number:02}", "sess_long", message=text, at=now), media_urls=("https://a", "b"))
        key = IdempotencyKey(f"key-{number}", "body", now + timedelta(days=100))
        await stores.sessions.begin_turn(turn, keys=[key])
        outcome = make_failure() if number % 5 == 0 else make_outcome(text, sources=(WEB,))
        await stores.sessions.settle_turn(turn.turn_id, replace(outcome, ended_at=now))
    paid = replace(
        make_session("sess_ben", owner="user:ben", at=now), ttl_s=10**9, title="Löwen", name_key="n", name="n"
    )
    await stores.sessions.begin_turn(make_turn("turn_paid", "sess_ben", at=now), paid, charge=Charge("ben", 60))
    outcome = replace(make_outcome(at=now), credits_used=25, tokens_charged=25)
    await stores.sessions.settle_turn("turn_paid", outcome)
    kiosk = replace(make_session("sess_kiosk", owner=None, at=now), ttl_s=10**9, handle="chat_kiosk", locked_at=now)
    await stores.sessions.begin_turn(make_turn("turn_kiosk", "sess_kiosk", at=now), kiosk)
    await stores.sessions.settle_turn("turn_kiosk", make_outcome(at=now))
    await stores.sessions.create_session(replace(make_session("sess_empty", at=now), ttl_s=10**9, opening="Hi"))


async def fill_documents(stores: Stores, clock: FakeClock) -> None:
    now = clock.now()
    lion = {"name": "Löwe 🦁", "facts": [{"id": "mane"}]}
    await stores.animals.seed({"lion_001": lion, "mole_001": lion}, "(package)", now)
    change = Change("lion_001", ChangeKind.REPLACE, "mia", now, ("name",))
    assert await stores.animals.put_document(change, 1, {**lion, "name": "Leo"})
    assert await stores.animals.delete_document(Change("mole_001", ChangeKind.DELETE, "mia", now), 2)
    assert await stores.animals.put_draft(Draft("lion_001", lion, 3, "mia", now))
    assert await stores.rules.put_document(Change("jokes", ChangeKind.CREATE, "mia", now), None, {"a": 1})


async def export(stores: Stores, subject: DataSubject) -> PersonalData:
    """All of a person's data; their sessions have no order."""
    found = await stores.personal_data.export(subject)
    return replace(found, sessions=tuple(sorted(found.sessions, key=lambda each: each.session.session_id)))


async def read_all(stores: Stores) -> dict[str, Any]:
    """What the stores tell of everything. Numbers that only a store itself knows are left out."""
    subjects = {
        "ben": DataSubject(owner="user:ben"),
        "mia": DataSubject(owner="user:mia"),
        "visitor": DataSubject(owner="cookie:mia"),
        "kiosk": DataSubject(handle="chat_kiosk"),
    }
    told: dict[str, Any] = {name: await export(stores, subject) for name, subject in subjects.items()}
    account = told["ben"].account
    entries = tuple(replace(entry, entry_id="") for entry in account.credit_entries)
    told["ben"] = replace(told["ben"], account=replace(account, credit_entries=entries))
    return told | {
        "sessions": (await stores.sessions.list_sessions("cookie:mia", 50)).items,
        "counts": await stores.sessions.count_messages(["sess_long", "sess_ben", "sess_kiosk", "sess_empty"]),
        "turns": (await stores.sessions.list_turns("sess_long", 100)).items,
        "everybody's": {turn.turn_id for turn in (await stores.sessions.list_owner_turns(None, 100)).items},
        "named": await stores.sessions.find_named_sessions([], "user:ben", "n"),
        "users": await stores.accounts.list_users(),
        "logged in": [await stores.accounts.get_authenticated_user(name, f"login_{name}") for name in ("ben", "mia")],
        "usage": await stores.credits.list_daily_usage("ben", date.min, date.max),
        "animals": await stores.animals.list_changes(0),
        "history": [(await stores.animals.list_history(name, 9)).items for name in ("lion_001", "mole_001")],
        "draft": await stores.animals.get_draft("lion_001"),
        "rules": await stores.rules.list_changes(0),
        "audit": (await stores.audit.list_entries(10)).items,
    }


async def test_a_store_is_the_same_after_two_copies(tmp_path: Path, clock: FakeClock, database: Database) -> None:
    """To every method, and with the same number of everything; what comes later works as before."""
    first, second = tmp_path / "first.sqlite3", tmp_path / "second.sqlite3"
    async with open_sqlite_stores(first, clock) as stores:
        await fill(stores, clock)
        told = await read_all(stores)
    copying.copy_to_dynamodb(first, database, None, lambda count: None)
    assert copying.count_items(database) == copying.count_rows(first)
    async with open_dynamodb_stores(use_tables(tmp_path), clock) as stores:
        assert make_comparable(await read_all(stores)) == make_comparable(told)
        await use_copy(stores, clock)
        told = await read_all(stores)
    copying.copy_to_sqlite(database, second, lambda count: None)

    assert copying.count_rows(second) == copying.count_items(database)
    async with open_sqlite_stores(second, clock) as stores:
        assert make_comparable(await read_all(stores)) == make_comparable(told)


def make_comparable(told: dict[str, Any]) -> dict[str, Any]:
    """A first listing of animals may name those that are deleted or not."""
    return {**told, "animals": (told["animals"].version, told["animals"].existing)}


async def use_copy(stores: Stores, clock: FakeClock) -> None:
    """Go on with what was copied: keys, tokens, credits, drafts and versions."""
    assert await stores.sessions.has_turn([IdempotencyKey("key-3", "body", clock.now())])
    until, since = clock.now() + timedelta(days=30), clock.now() - timedelta(seconds=10)
    assert await stores.accounts.refresh_login(["second", "third"], until, since)
    key = IdempotencyKey("answered", "body", clock.now() + timedelta(days=1))
    answer = await stores.requests.begin(key, "user:ben")
    assert answer is not None
    assert answer.body == '{"Löwe": 1}'
    turn = make_turn("turn_later", "sess_ben", at=clock.now())
    await stores.sessions.begin_turn(turn, charge=Charge("ben", 10))
    await stores.sessions.settle_turn("turn_later", replace(make_outcome(at=clock.now()), credits_used=3))
    draft = await stores.animals.get_draft("lion_001")
    assert draft is not None
    promotion = Change("lion_001", ChangeKind.PROMOTE, "mia", clock.now())
    assert await stores.animals.promote_draft(promotion, 3, draft)
    assert (await stores.personal_data.erase(DataSubject(owner="cookie:mia", session_ids=("sess_kiosk",)))).turns == 31
    assert (await stores.personal_data.export(DataSubject(owner="cookie:mia"))).sessions == ()


class Stopped(Exception):
    """The copy was stopped here."""


async def test_a_copy_goes_on_where_it_was_stopped(tmp_path: Path, clock: FakeClock, database: Database) -> None:
    """After each batch, in both directions."""
    first, second = tmp_path / "first.sqlite3", tmp_path / "second.sqlite3"
    async with open_sqlite_stores(first, clock) as stores:
        await fill(stores, clock)
    expected = copying.count_rows(first)

    def stop(count: int) -> None:
        raise Stopped

    copies: list[Callable[[], None]] = [
        lambda: copying.copy_to_dynamodb(first, database, None, stop),
        lambda: copying.copy_to_sqlite(database, second, stop),
    ]
    for copy in copies:
        stops = 0
        while True:
            try:
                copy()
                break
            except Stopped:
                stops += 1
        assert stops > 3
    assert copying.count_items(database) == copying.count_rows(second) == expected
    with closing(sqlite3.connect(second)) as db:
        assert db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'copy_progress'").fetchone() is None


async def test_a_copy_needs_servers_that_are_stopped_and_an_empty_target(
    tmp_path: Path, clock: FakeClock, database: Database
) -> None:
    """Nothing is written otherwise."""
    path = tmp_path / "zoo.sqlite3"
    async with open_sqlite_stores(path, clock) as stores:
        await stores.sessions.begin_turn(make_turn(), make_session())
        with pytest.raises(copying.CopyRefused, match="1 turns run"):
            copying.copy_to_dynamodb(path, database, None, lambda count: None)
        await stores.sessions.settle_turn(make_turn().turn_id, make_outcome())
    copying.copy_to_dynamodb(path, database, None, lambda count: None)

    with pytest.raises(copying.CopyRefused, match="must be empty, but there are 1 sessions, 1 turns"):
        copying.copy_to_dynamodb(path, database, None, lambda count: None)
    with pytest.raises(copying.CopyRefused, match="must be empty"):
        copying.copy_to_sqlite(database, path, lambda count: None)


async def test_the_command_prints_both_numbers(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    """Of everything; where they differ it ends with 1."""
    location = use_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "SQLITE_PATH": "zoo.sqlite3",
        "DYNAMODB_ENDPOINT": location.endpoint or "",
        "AWS_REGION": location.region,
        "CONVERSATION_SESSION_TABLE_NAME": location.sessions,
        "CONVERSATION_DYNAMO_TABLE_NAME": location.turns,
        "CONVERSATION_STATE_TABLE_NAME": location.state,
    }.items():
        monkeypatch.setenv(name, value)
    refused = CliRunner().invoke(main, ["store", "copy", "sqlite", "dynamodb"])
    assert (refused.exit_code, "does not exist" in refused.output) == (1, True)
    async with open_sqlite_stores(tmp_path / "zoo.sqlite3", clock) as stores:
        await fill(stores, clock)

    copied = await asyncio.to_thread(CliRunner().invoke, main, ["store", "copy", "sqlite", "dynamodb"])
    assert copied.exit_code == 0, copied.output
    rows = [[cell.strip() for cell in line.split("│")[1:4]] for line in copied.output.splitlines() if "│" in line]
    assert ["turns", "32", "32"] in rows
    assert ["audit entries", "3", "3"] in rows
    monkeypatch.setenv("SQLITE_PATH", f"{secrets.token_hex(4)}.sqlite3")
    back = await asyncio.to_thread(CliRunner().invoke, main, ["store", "copy", "dynamodb", "sqlite"])
    assert back.exit_code == 0, back.output
