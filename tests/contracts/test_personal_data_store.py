"""What every backend promises about personal data: old turns are gone, and exports and erasures are complete."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from openapi_server.models.audit import ERASED_NAME, Actor, AuditAction, AuditEntry
from openapi_server.models.credits import Allocation, Charge
from openapi_server.models.errors import SessionNotFound
from openapi_server.models.page import Page
from openapi_server.models.personal_data import DataSubject, Erasure, PersonalData
from openapi_server.models.session import DeviceUser
from openapi_server.models.turn import IdempotencyKey, Lease
from openapi_server.models.user import Login, Role, User
from openapi_server.storage.factory import Stores
from tests.support.examples import NOTEBOOK, SESSION_ID, TURN_ID, make_outcome, make_session, make_turn
from tests.support.fakes import FakeClock
from tests.support.stores import BACKENDS, OpensStores, list_device_users

DAY_S = 86_400
RETENTION = timedelta(days=30)
MIA, BEN, VISITOR = "user:mia", "user:ben", "cookie:5f0b6d0f6a2f4d1c9c7a5f0b6d0f6a2f4d1c9c7a"


@pytest.fixture
async def stores(opens: OpensStores, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Stores]:
    """Empty stores of each implementation, which keep turns for thirty days."""
    async with opens(tmp_path, clock, RETENTION) as opened:
        yield opened


async def add_turns(
    stores: Stores, at: datetime, *messages: str, session_id: str = SESSION_ID, owner: str | None = VISITOR
) -> None:
    """A session of ten years, in which each message is answered when it is said."""
    if await stores.sessions.get_session(session_id) is None:
        await stores.sessions.create_session(replace(make_session(session_id, owner=owner, at=at), ttl_s=3650 * DAY_S))
    for message in messages:
        turn_id = f"turn_{session_id}_{message}"
        await stores.sessions.begin_turn(make_turn(turn_id, session_id, message=message, at=at))
        await stores.sessions.settle_turn(turn_id, make_outcome(f"{message}? Roar!", at=at, sources=(NOTEBOOK,)))


async def list_messages(stores: Stores, session_id: str = SESSION_ID) -> list[str]:
    return [turn.message for turn in (await stores.sessions.list_turns(session_id, 100)).items]


# What is too old


async def test_a_turn_is_gone_after_its_days_though_its_session_goes_on(stores: Stores, clock: FakeClock) -> None:
    """It is visible to the last moment, and then to no method, whether it is deleted already or not."""
    await add_turns(stores, clock.now(), "old")
    clock.advance(10 * DAY_S)
    await add_turns(stores, clock.now(), "young")
    clock.advance(20 * DAY_S - 0.001)
    assert await list_messages(stores) == ["old", "young"]

    clock.advance(0.001)
    assert await list_messages(stores) == ["young"]
    assert await stores.sessions.get_turn(f"turn_{SESSION_ID}_old") is None
    assert [turn.message for turn in await stores.sessions.list_latest_turns(SESSION_ID, 10)] == ["young"]
    assert [turn.message for turn in (await stores.sessions.list_owner_turns(VISITOR, 10)).items] == ["young"]
    assert [turn.message for turn in (await stores.sessions.list_owner_turns(None, 10)).items] == ["young"]


async def test_a_session_in_which_all_is_too_old_is_over(stores: Stores, clock: FakeClock) -> None:
    """Whatever its own time is; the next question finds that it is not there."""
    await add_turns(stores, clock.now(), "old")
    clock.advance(30 * DAY_S)

    assert await stores.sessions.get_session(SESSION_ID) is None
    assert await stores.sessions.list_sessions(VISITOR, 10) == Page(())
    assert await stores.sessions.set_session_ttl(SESSION_ID, 5) is None
    assert await stores.sessions.delete_session(SESSION_ID) is None
    with pytest.raises(SessionNotFound):
        await stores.sessions.begin_turn(make_turn("turn_late", at=clock.now()))
    assert await stores.sessions.count_expired_sessions() == 1
    assert await stores.sessions.delete_expired_sessions(10) == 1


async def test_old_turns_are_deleted_in_steps_and_their_sessions_go_on(stores: Stores, clock: FakeClock) -> None:
    """In steps of a size that the caller chooses; a place in the session is never given twice."""
    await add_turns(stores, clock.now(), "a", "b", "c")
    clock.advance(29 * DAY_S)
    await add_turns(stores, clock.now(), "d")
    assert await stores.sessions.delete_old_turns(10) == 0

    clock.advance(DAY_S)
    assert [await stores.sessions.delete_old_turns(2) for _ in range(3)] == [2, 1, 0]
    await add_turns(stores, clock.now(), "e")
    assert await list_messages(stores) == ["d", "e"]
    session = await stores.sessions.get_session(SESSION_ID)
    assert session is not None
    assert session.turn_count == 2
    first = await stores.sessions.list_turns(SESSION_ID, 1)
    assert [turn.message for turn in (await stores.sessions.list_turns(SESSION_ID, 1, first.next_cursor)).items] == [
        "e"
    ]


async def test_title_and_opening_of_a_session_expire_too(stores: Stores, clock: FakeClock) -> None:
    """Title and opening are a visitor's words; they are hidden whether they are deleted already or not."""
    named = replace(make_session(at=clock.now()), ttl_s=3650 * DAY_S, title="Mia's lion", opening="I am Mia")
    await stores.sessions.create_session(named)
    clock.advance(29 * DAY_S)
    await add_turns(stores, clock.now(), "Hello")
    kept = await stores.sessions.get_session(SESSION_ID)
    assert kept is not None
    assert (kept.title, kept.opening) == ("Mia's lion", "I am Mia")

    clock.advance(DAY_S)
    for _ in range(2):
        (listed,) = (await stores.sessions.list_sessions(named.owner or "", 10)).items
        assert await stores.sessions.get_session(SESSION_ID) == listed
        assert (listed.title, listed.opening) == (None, None)
        await stores.sessions.delete_old_turns(10)


async def test_a_key_does_not_stand_for_a_turn_that_is_too_old(stores: Stores, clock: FakeClock) -> None:
    """However long keys are remembered: the same request is asked anew."""
    key = IdempotencyKey("key", "body", clock.now() + timedelta(days=365))
    session = replace(make_session(at=clock.now()), ttl_s=3650 * DAY_S)
    assert await stores.sessions.begin_turn(make_turn(at=clock.now()), session, [key]) == TURN_ID
    await stores.sessions.settle_turn(TURN_ID, make_outcome(at=clock.now()))
    clock.advance(29 * DAY_S)
    await add_turns(stores, clock.now(), "Hello")

    clock.advance(DAY_S)
    assert await stores.sessions.begin_turn(make_turn("turn_new", at=clock.now()), None, [key]) == "turn_new"


async def test_a_device_without_a_session_is_deleted(stores: Stores, clock: FakeClock) -> None:
    """One with a session is not."""
    for name, days in (("kiosk-7", 0), ("kiosk-8", 29)):
        clock.advance(days * DAY_S)
        session = replace(make_session(f"sess_{name}", owner=None, at=clock.now()), handle=f"chat_{name}")
        await stores.sessions.begin_turn(make_turn(f"turn_{name}", f"sess_{name}", at=clock.now()), session)
    clock.advance(DAY_S - 1)
    await stores.sessions.delete_expired_sessions(10)
    await stores.sessions.delete_old_turns(10)

    assert await list_device_users(stores, "chat_kiosk-7", "sess_kiosk-7") == ()
    assert await list_device_users(stores, "chat_kiosk-8", "sess_kiosk-8") != ()


async def test_a_running_turn_is_not_deleted(stores: Stores, clock: FakeClock) -> None:
    """Also when its session has expired: it is deleted after its end, or once its lease has expired."""
    until = clock.now() + timedelta(seconds=30)
    session = replace(make_session(at=clock.now()), ttl_s=1)
    await stores.sessions.begin_turn(replace(make_turn(at=clock.now()), worker="w", lease_until=until), session)
    clock.advance(29)
    assert (await stores.sessions.count_expired_sessions(), await stores.sessions.delete_expired_sessions(10)) == (0, 0)
    assert await stores.sessions.list_running_turns() == [Lease(TURN_ID, "w", until)]

    clock.advance(1)
    assert await stores.sessions.delete_expired_sessions(10) == 1


# All that is kept of somebody


async def add_account(stores: Stores, clock: FakeClock, name: str, role: Role = Role.USER) -> None:
    """With a login and fifty credits, for a reason that tells something."""
    await stores.accounts.create_user(User(name, role, f"hash of {name}", clock.now()))
    login = Login(f"login_{name}", name, clock.now(), clock.now() + timedelta(days=30))
    await stores.accounts.create_login(login, f"token of {name}", f"hash of {name}")
    await stores.credits.allocate_credits(Allocation(name, 50, clock.now(), notes=f"{name}'s birthday"))


async def pay_for_turn(stores: Stores, clock: FakeClock, name: str) -> None:
    turn = make_turn(f"turn_paid_{name}", f"sess_{name}", message="How much?", at=clock.now())
    await stores.sessions.begin_turn(turn, charge=Charge(name, 10))
    await stores.sessions.settle_turn(turn.turn_id, replace(make_outcome(at=clock.now()), credits_used=4))


async def fill(stores: Stores, clock: FakeClock) -> None:
    """Mia and Ben with an account each, a visitor with a cookie, and a kiosk."""
    for name in ("mia", "ben"):
        await add_account(stores, clock, name)
        await add_turns(stores, clock.now(), "Hello", session_id=f"sess_{name}", owner=f"user:{name}")
        await pay_for_turn(stores, clock, name)
    await add_turns(stores, clock.now(), "a", "b", session_id="sess_cookie")
    kiosk = replace(make_session("sess_kiosk", owner=None, at=clock.now()), handle="chat_kiosk-7")
    await stores.sessions.begin_turn(make_turn("turn_kiosk", "sess_kiosk", at=clock.now()), kiosk)


async def list_remaining_sessions(stores: Stores) -> set[str]:
    names = ("sess_mia", "sess_ben", "sess_cookie", "sess_kiosk")
    return {name for name in names if await stores.sessions.get_session(name) is not None}


async def test_an_export_has_all_data_of_a_user(stores: Stores, clock: FakeClock) -> None:
    """Sessions with every turn, the account, its logins and its ledger; and nothing of anybody else."""
    await fill(stores, clock)
    entry = AuditEntry(clock.now(), AuditAction.LOGIN, Actor("user", "mia"), "mia", "req-1")
    await stores.audit.record(entry)
    await stores.audit.record(replace(entry, actor=Actor("user", "ben"), target="ben"))

    data = await stores.personal_data.export(DataSubject(owner=MIA))

    (session_data,) = data.sessions
    assert session_data.session == await stores.sessions.get_session("sess_mia")
    assert session_data.turns == (await stores.sessions.list_turns("sess_mia", 10)).items
    assert [turn.message for turn in session_data.turns] == ["Hello", "How much?"]
    account = data.account
    assert account is not None
    assert account.user == await stores.accounts.get_user("mia")
    assert [login.login_id for login in account.logins] == ["login_mia"]
    assert account.balance == await stores.credits.get_balance("mia")
    assert account.credit_entries[::-1] == (await stores.credits.list_entries("mia", 10)).items
    assert data.audit_entries == (entry,)
    assert data.devices == ()


@pytest.mark.parametrize(
    ("subject", "session_id"),
    [
        (DataSubject(owner=VISITOR), "sess_cookie"),
        (DataSubject(handle="chat_kiosk-7"), "sess_kiosk"),
        (DataSubject(session_ids=("sess_ben", "sess_nobodys")), "sess_ben"),
    ],
    ids=["cookie", "device", "session"],
)
async def test_a_person_is_found_by_cookie_device_or_session(
    stores: Stores, clock: FakeClock, subject: DataSubject, session_id: str
) -> None:
    """Each of these alone is enough."""
    await fill(stores, clock)

    data = await stores.personal_data.export(subject)

    assert [session_data.session.session_id for session_data in data.sessions] == [session_id]
    assert data.account is None
    users = [DeviceUser("sess_kiosk", "chat_kiosk-7", clock.now())]
    assert list(data.devices) == (users if session_id == "sess_kiosk" else [])


async def test_an_unknown_person_has_no_data(stores: Stores, clock: FakeClock) -> None:
    """Nor is anything erased."""
    await fill(stores, clock)
    for subject in (
        DataSubject(),
        DataSubject(owner="user:eve"),
        DataSubject(handle="chat_"),
        DataSubject(session_ids=("sess_%",)),
    ):
        assert await stores.personal_data.export(subject) == PersonalData()
        assert await stores.personal_data.erase(subject, with_account=True) == Erasure()
    assert len(await list_remaining_sessions(stores)) == 4


async def test_an_export_has_nothing_that_has_expired(stores: Stores, clock: FakeClock) -> None:
    """It is deleted by the export, so that the export is complete."""
    await fill(stores, clock)
    clock.advance(20 * DAY_S)
    await add_turns(stores, clock.now(), "c", session_id="sess_cookie")
    clock.advance(10 * DAY_S)

    assert (await stores.personal_data.export(DataSubject(handle="chat_kiosk-7"))).sessions == ()
    (session_data,) = (await stores.personal_data.export(DataSubject(owner=VISITOR))).sessions
    assert [turn.message for turn in session_data.turns] == ["c"]
    assert await stores.sessions.delete_expired_sessions(10) == 2, "those of Mia and Ben"
    assert await stores.sessions.delete_old_turns(10) == 0


async def test_a_user_is_erased_but_for_the_account_and_its_amounts(stores: Stores, clock: FakeClock) -> None:
    """Amounts stay, without turns and notes. Data of other users is untouched."""
    await fill(stores, clock)
    before = [(entry.kind, entry.credits, entry.at) for entry in (await stores.credits.list_entries("mia", 10)).items]

    erased = await stores.personal_data.erase(DataSubject(owner=MIA))

    turn_ids = ("turn_sess_mia_Hello", "turn_paid_mia")
    assert erased == Erasure(sessions=1, messages=4, devices=0, accounts=0, turn_ids=turn_ids)
    assert [await stores.sessions.get_turn(turn_id) for turn_id in turn_ids] == [None, None]
    after = (await stores.credits.list_entries("mia", 10)).items
    assert [(entry.kind, entry.credits, entry.at) for entry in after] == before
    assert {(entry.turn_id, entry.notes) for entry in after} == {(None, None)}
    assert await stores.accounts.get_user("mia") is not None
    assert await list_remaining_sessions(stores) == {"sess_ben", "sess_cookie", "sess_kiosk"}
    assert {entry.turn_id for entry in (await stores.credits.list_entries("ben", 10)).items} == {None, "turn_paid_ben"}


async def test_an_account_is_erased_with_its_name_everywhere(stores: Stores, clock: FakeClock) -> None:
    """Logins and credits are deleted; a child stays, without a parent; the audit trail has no name."""
    await add_account(stores, clock, "mia", Role.PARENT)
    await stores.accounts.create_user(User("ben", Role.USER, "hash", clock.now(), parent="mia"))
    await stores.audit.record(AuditEntry(clock.now(), AuditAction.LOGIN, Actor("parent", "mia"), "mia"))

    assert (await stores.personal_data.erase(DataSubject(owner=MIA), with_account=True)).accounts == 1

    assert await stores.accounts.get_user("mia") is None
    assert await stores.accounts.get_authenticated_user("mia", "login_mia") is None
    assert await stores.credits.get_balance("mia") is None
    assert (await stores.credits.list_entries("mia", 10)).items == ()
    ben = await stores.accounts.get_user("ben")
    assert ben is not None
    assert ben.parent is None
    assert (await stores.audit.list_entries(1)).items[0] == AuditEntry(
        clock.now(), AuditAction.LOGIN, Actor("parent", ERASED_NAME), ERASED_NAME
    )


async def test_the_audit_trail_of_an_animal_is_not_that_of_a_user_of_its_name(stores: Stores, clock: FakeClock) -> None:
    """It is neither shown nor erased with an account of that name."""
    await stores.accounts.create_user(User("lion_001", Role.USER, "hash", clock.now()))
    changed = AuditEntry(clock.now(), AuditAction.ANIMAL_CHANGED, Actor("zookeeper", "kim"), "lion_001")
    await stores.audit.record(changed)
    namesake = DataSubject(owner="user:lion_001")

    assert (await stores.personal_data.export(namesake)).audit_entries == ()
    await stores.personal_data.erase(namesake, with_account=True)

    assert (await stores.audit.list_entries(1)).items[0] == changed


async def test_a_device_is_erased_with_its_user_and_a_turn_that_runs(stores: Stores, clock: FakeClock) -> None:
    """The turn that goes on without a session is settled by nobody."""
    await fill(stores, clock)

    erased = await stores.personal_data.erase(DataSubject(handle="chat_kiosk-7"))

    assert erased == Erasure(sessions=1, messages=1, devices=1, turn_ids=("turn_kiosk",))
    assert await list_device_users(stores, "chat_kiosk-7", "sess_kiosk") == ()
    assert await stores.sessions.settle_turn("turn_kiosk", make_outcome()) is None


async def test_a_running_turn_that_is_erased_gives_back_what_it_held(stores: Stores, clock: FakeClock) -> None:
    """And the ledger does not say which turn it was."""
    await fill(stores, clock)
    await stores.sessions.begin_turn(make_turn("turn_runs", "sess_mia", at=clock.now()), charge=Charge("mia", 40))
    await stores.personal_data.erase(DataSubject(session_ids=("sess_mia",)))

    balance = await stores.credits.get_balance("mia")
    assert balance is not None
    assert balance.credits == 46
    assert {entry.turn_id for entry in (await stores.credits.list_entries("mia", 10)).items} == {None}


async def test_expired_data_is_erased_too(stores: Stores, clock: FakeClock) -> None:
    """It may not be deleted yet."""
    await fill(stores, clock)
    clock.advance(40 * DAY_S)

    assert (await stores.personal_data.erase(DataSubject(owner=VISITOR))).turns == 2
    assert await stores.sessions.delete_expired_sessions(10) == 3


# Who did what


async def test_an_export_has_a_bounded_number_of_audit_entries(
    stores: Stores, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The latest, oldest first."""
    for backend in BACKENDS:
        monkeypatch.setattr(f"openapi_server.storage.{backend}.personal_data.MAX_AUDIT_ENTRIES", 3)
    for number in range(5):
        entry = AuditEntry(clock.now(), AuditAction.EXPORTED, Actor("user", "mia"), "mia", f"req_{number}")
        await stores.audit.record(entry)

    entries = (await stores.personal_data.export(DataSubject(owner=MIA))).audit_entries

    assert [entry.request_id for entry in entries] == ["req_2", "req_3", "req_4"]


@pytest.mark.parametrize("target", ["", None])
async def test_entries_without_a_name_are_nobodys(stores: Stores, clock: FakeClock, target: str | None) -> None:
    """Whoever has neither account nor cookie nor session is not everybody else who has none."""
    await stores.audit.record(AuditEntry(clock.now(), AuditAction.EXPORTED, Actor("visitor"), target))

    assert (await stores.personal_data.export(DataSubject())).is_empty


def make_audit_entry(clock: FakeClock, number: int = 0) -> AuditEntry:
    return AuditEntry(clock.now(), AuditAction.ERASED, Actor("operator", "löwe"), f"sess_{number}", "req")


async def test_audit_entries_come_back_as_they_were_latest_first(stores: Stores, clock: FakeClock) -> None:
    """Page by page; also those of somebody of whom nothing is known."""
    entries = [
        *(make_audit_entry(clock, number) for number in range(5)),
        AuditEntry(clock.now(), AuditAction.LOGIN_REFUSED, Actor("visitor")),
    ]
    for entry in entries:
        await stores.audit.record(entry)

    first = await stores.audit.list_entries(4)
    rest = await stores.audit.list_entries(4, cursor=first.next_cursor)

    assert [*first.items, *rest.items] == entries[::-1]
    assert rest.next_cursor is None


async def test_audit_entries_are_listed_and_deleted_by_time(stores: Stores, clock: FakeClock) -> None:
    """A step deletes as many as it is told to."""
    for number in range(4):
        await stores.audit.record(make_audit_entry(clock, number))
        clock.advance(DAY_S)
    since = clock.now() - timedelta(days=2)

    assert [entry.target for entry in (await stores.audit.list_entries(10, since)).items] == ["sess_3", "sess_2"]
    assert [await stores.audit.delete_before(since, 1) for _ in range(3)] == [1, 1, 0]
    assert [entry.target for entry in (await stores.audit.list_entries(10)).items] == ["sess_3", "sess_2"]
