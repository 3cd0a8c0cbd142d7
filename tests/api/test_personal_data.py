"""Personal data over HTTP: its export, its erasure, and the audit trail."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
import structlog

from openapi_server.http.services import Services
from openapi_server.models.audit import Actor, AuditAction, AuditEntry
from openapi_server.models.user import derive_cookie_owner
from tests.api.chat_endpoints import (
    CHAT,
    CHAT_ENDPOINTS,
    CONVO,
    DEVICES,
    PLATFORM,
    SESSIONS,
    ChatEndpoint,
    get_turn_id,
    log_in_client,
    open_endpoint,
)
from tests.api.test_accounts import bearer, log_in
from tests.conftest import OpensZoo
from tests.support.contract import assert_conforms
from tests.support.fakes import Fails, FakeClock, Says, UnreliableStore, Waits

SECRET = "My name is Xaverl and I live in Quakenbrueck"
DAY_S = 86_400


async def export_data(client: httpx.AsyncClient, **params: str) -> dict[str, Any]:
    answer = await client.get("/privacy/export", params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "private, no-store"
    document: dict[str, Any] = answer.json()
    return document


async def erase_data(client: httpx.AsyncClient, **params: str) -> dict[str, int]:
    answer = await client.delete("/privacy", params=params)
    assert answer.status_code == 200, answer.text
    counts: dict[str, int] = answer.json()
    return counts


def messages(document: dict[str, Any]) -> list[str]:
    turns = [turn for session in document["sessions"] for turn in session["turns"]]
    return [message["body"] for turn in turns for message in turn["messages"]]


@pytest.mark.parametrize("endpoint", CHAT_ENDPOINTS.values(), ids=CHAT_ENDPOINTS)
async def test_whoever_came_by_a_door_sees_and_erases_what_was_said_there(
    open_zoo: OpensZoo, endpoint: ChatEndpoint
) -> None:
    """By account, cookie, device or the session's own name; and nobody else's."""
    zoo = await open_zoo()
    chat, other = await open_endpoint(zoo, endpoint), await open_endpoint(zoo, CONVO)
    # A token client without a cookie is known by the name of its session alone.
    own = {"session_id": str(CHAT.body["session_id"])} if endpoint is CHAT else {}
    answer = await chat.post_message(SECRET)
    await other.post_message("Hello!")

    document = await export_data(chat.client, **own)
    assert messages(document) == [SECRET, "Roar! I am a lion."]
    assert await erase_data(chat.client, **own) == {
        "sessions": 1,
        "turns": 1,
        "messages": 2,
        "devices": int(endpoint is DEVICES),
    }

    assert messages(await export_data(chat.client, **own)) == []
    assert await zoo.services.store.get_turn(get_turn_id(answer)) is None
    assert await zoo.services.event_log.list_entries(get_turn_id(answer)) is None
    assert messages(await export_data(other.client)) == ["Hello!", "Roar! I am a lion."]


async def test_an_export_keeps_to_its_schema(open_zoo: OpensZoo) -> None:
    """An answered turn, one that failed, an account, its credits; for a browser a file to save."""
    zoo = await open_zoo(Fails(OSError("no upstream")))
    chat = await open_endpoint(zoo, SESSIONS)
    await chat.post_message(SECRET)

    answer = await chat.client.get("/privacy/export")

    assert_conforms(answer.json(), "PersonalData")
    assert answer.headers["content-disposition"] == 'attachment; filename="zoochat.json"'
    account = answer.json()["account"]
    assert (account["username"], account["parent"]) == ("user1", "parent1")
    assert [entry["kind"] for entry in account["credits"]["ledger"]] == ["allocate", "reserve", "refund"]
    assert "argon2" not in answer.text


async def test_somebody_of_whom_nothing_is_kept_gets_an_empty_document(open_zoo: OpensZoo) -> None:
    """Without an error and without a new cookie."""
    zoo = await open_zoo()
    await (await open_endpoint(zoo, CHAT)).post_message(SECRET)
    nobody = await zoo.new_client()

    document = await export_data(nobody)

    assert (document["account"], document["devices"], document["sessions"], document["audit"]) == (None, [], [], [])
    assert await erase_data(nobody) == {"sessions": 0, "turns": 0, "messages": 0, "devices": 0}
    assert "set-cookie" not in (await nobody.get("/privacy/export")).headers


# The demo accounts: who may see and erase what is kept of user1.
MAY = {"user1": 200, "parent1": 200, "admin": 200, "keeper1": 404}


@pytest.mark.parametrize(("username", "status"), MAY.items(), ids=MAY)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_name_opens_what_it_should_and_to_whom_it_should(
    open_zoo: OpensZoo, username: str, status: int, method: str
) -> None:
    """Parents and administrators; to all others it is as if there were no such user."""
    zoo = await open_zoo()
    await (await open_endpoint(zoo, SESSIONS)).post_message(SECRET)
    caller = await log_in_client(zoo, username)
    path = "/privacy/export" if method == "GET" else "/privacy"

    answer = await caller.request(method, path, params={"userId": "user1"})

    assert answer.status_code == status
    if status == 404:
        missing = await caller.request(method, path, params={"userId": "nobody"})
        assert missing.json() == answer.json()
        assert SECRET not in answer.text
    stranger = await zoo.new_client()
    assert (await stranger.request(method, path, params={"userId": "user1"})).status_code == 404


async def test_erasing_ends_what_still_runs(open_zoo: OpensZoo) -> None:
    """Readers get an error event, and further text is not stored."""
    waits = Waits()
    zoo = await open_zoo(waits)
    caller = await zoo.new_client()
    begun = await caller.post(
        "/convo_turn", json={"message": SECRET, "animalId": "lion_001"}, headers={"Prefer": "respond-async"}
    )

    assert (await erase_data(caller))["turns"] == 1

    assert (await caller.get(begun.headers["location"])).status_code == 404
    assert zoo.services.engine.running_count == 0


async def test_an_account_stays_and_can_talk_on(open_zoo: OpensZoo) -> None:
    """Its sessions are erased, and what its credits were spent for."""
    zoo = await open_zoo()
    chat = await open_endpoint(zoo, SESSIONS)
    await chat.post_message(SECRET)
    await erase_data(chat.client)

    document = await export_data(chat.client)
    assert document["sessions"] == []
    assert {entry["turnId"] for entry in document["account"]["credits"]["ledger"]} == {None}
    assert (await chat.client.post("/chat/sessions", json={})).status_code == 201


async def test_what_is_too_old_is_not_shown_whether_swept_or_not(open_zoo: OpensZoo) -> None:
    """`RETENTION_DAYS`, in the history and in the export; the session goes on."""
    clock = FakeClock()
    zoo = await open_zoo(clock=clock, retention_days=2, SESSION_TTL=10 * DAY_S)
    caller = await zoo.new_client()
    first = (await caller.post("/convo_turn", json={"message": SECRET, "animalId": "lion_001"})).json()
    session = {"sessionId": first["sessionId"]}
    clock.advance(1.5 * DAY_S)
    await caller.post("/convo_turn", json={"message": "Hello!", "animalId": "lion_001", **session})
    clock.advance(0.5 * DAY_S)

    history = await caller.get("/convo_history", params=session)
    assert SECRET not in history.text
    assert [turn["content"] for turn in history.json()["turns"]] == ["Hello!", "Roar! I am a lion."]
    assert (await caller.get(f"/convo_turn/{first['turnId']}")).status_code == 404
    assert messages(await export_data(caller)) == ["Hello!", "Roar! I am a lion."]


async def test_expired_turns_are_not_in_the_prompt(open_zoo: OpensZoo) -> None:
    """Expired turns are not part of the prompt either."""
    clock, provider = FakeClock(), Says()
    zoo = await open_zoo(provider, clock=clock, retention_days=1, SESSION_TTL=10 * DAY_S)
    caller = await zoo.new_client()
    session: dict[str, str] = {}
    for message in (SECRET, "Hello!", "And now?"):
        answer = await caller.post("/convo_turn", json={"message": message, "animalId": "lion_001", **session})
        session = {"sessionId": answer.json()["sessionId"]}
        clock.advance(0.6 * DAY_S)

    assert [exchange.message for exchange in provider.prompts[-1].history] == ["Hello!"]


# The trail


async def list_audit_entries(services: Services) -> list[tuple[str, str, str | None, str | None]]:
    entries = (await services.audit.list_entries(100)).items[::-1]
    return [(entry.action, entry.actor.role, entry.actor.name, entry.target) for entry in entries]


async def test_what_happens_is_noted_with_who_and_what(open_zoo: OpensZoo) -> None:
    """Never what was said, and no id that opens anything; the request's id leads to the log."""
    zoo = await open_zoo()
    chat = await open_endpoint(zoo, PLATFORM)
    await chat.post_message(SECRET)
    cookie = derive_cookie_owner(chat.client.cookies["session_id"])
    (session,) = (await chat.client.get("/conversations/sessions")).json()["sessions"]
    deletion = await chat.client.delete("/convo_history", params={"sessionId": session["sessionId"]})
    await export_data(chat.client)
    await erase_data(chat.client)
    admin = await log_in_client(zoo, "admin")
    await admin.post("/credits/allocate", json={"userId": "user1", "credits": 5})
    await export_data(admin, userId="user1")

    mark = cookie[: len("cookie:") + 16]
    assert await list_audit_entries(zoo.services) == [
        ("session_deleted", "visitor", mark, session["sessionId"][:13]),
        ("exported", "visitor", mark, mark),
        ("erased", "visitor", mark, mark),
        ("login", "administrator", "admin", "admin"),
        ("credits_granted", "administrator", "admin", "user1"),
        ("exported", "administrator", "admin", "user1"),
    ]
    entries = (await zoo.services.audit.list_entries(100)).items
    assert entries[-1].request_id == deletion.headers["x-request-id"]
    assert SECRET not in repr(entries)
    assert cookie not in repr(entries)


# Callers of whom nothing is stored.
NOBODIES: dict[str, dict[str, str]] = {
    "nothing": {},
    "device by name": {"X-Device-ID": "kiosk-7"},
    "device by UUID": {"X-Device-ID": "0f2b7c0e-52a4-4c3f-9a55-2f6c1d8e4b70"},
    "device by cookie": {"Cookie": "device_id=0f2b7c0e-52a4-4c3f-9a55-2f6c1d8e4b70"},
    "cookie": {"Cookie": "session_id=5f0b6d0f6a2f4d1c9c7a5f0b6d0f6a2f"},
    "token of no session": {"X-Session-Token": "5f0b6d0f6a2f4d1c9c7a5f0b6d0f6a2f.Zm9yZ2Vk"},
    "session by name": {"X-Session-Id": "my-session"},
}


@pytest.mark.parametrize("headers", NOBODIES.values(), ids=NOBODIES)
async def test_whoever_is_nobody_leaves_no_entry_and_sees_none_of_others(
    open_zoo: OpensZoo, headers: dict[str, str]
) -> None:
    """An export or erasure of nothing is not recorded: nobody can fill the trail, or read the entries of others."""
    zoo = await open_zoo()
    await (await zoo.new_client()).post("/auth/login", json={"username": "nobody", "password": "wrong one"})
    for target in ("", None):
        entry = AuditEntry(zoo.services.clock.now(), AuditAction.EXPORTED, Actor("visitor"), target, "of-another")
        await zoo.services.audit.record(entry)
    before = await list_audit_entries(zoo.services)
    caller = await zoo.new_client()

    for _ in range(2):
        export = await caller.get("/privacy/export", headers=headers)
        assert (export.status_code, export.json()["audit"]) == (200, [])
        assert (await caller.delete("/privacy", headers=headers)).status_code == 200

    assert await list_audit_entries(zoo.services) == before


@pytest.mark.parametrize("endpoint", CHAT_ENDPOINTS.values(), ids=CHAT_ENDPOINTS)
async def test_an_export_has_the_callers_own_entries(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """By account, cookie, device or the session's own name: the export before, and no entry of another visitor."""
    zoo = await open_zoo()
    chat, other = await open_endpoint(zoo, endpoint), await open_endpoint(zoo, CONVO)
    own = {"session_id": str(CHAT.body["session_id"])} if endpoint is CHAT else {}
    await chat.post_message(SECRET)
    await other.post_message("Hello!")
    await export_data(other.client)
    await export_data(chat.client, **own)

    entries = (await export_data(chat.client, **own))["audit"]

    exports = [entry for entry in entries if entry["deed"] == "exported"]
    assert len(exports) == 1
    assert exports[0]["about"]


async def test_a_refused_login_names_only_a_user_who_exists(open_zoo: OpensZoo) -> None:
    """People type passwords into the wrong field, so unknown names are not recorded."""
    zoo = await open_zoo()
    caller = await zoo.new_client()
    for username in ("user1", "my-secret-passw0rd"):
        await caller.post("/auth/login", json={"username": username, "password": "wrong one"})

    assert await list_audit_entries(zoo.services) == [
        ("login_refused", "visitor", None, "user1"),
        ("login_refused", "visitor", None, None),
    ]


async def test_a_session_that_does_not_exist_is_not_recorded_as_deleted(open_zoo: OpensZoo) -> None:
    """Neither is another user's session."""
    zoo = await open_zoo()
    caller = await zoo.new_client()

    assert (await caller.delete("/convo_history", params={"sessionId": "sess_nobodys"})).status_code == 404
    assert await list_audit_entries(zoo.services) == []


async def test_an_audit_trail_that_cannot_be_written_fails_no_request(
    open_zoo: OpensZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The action has been done already; the log has an error line."""
    zoo = await open_zoo()
    away = UnreliableStore(zoo.services.store)
    away.is_away = True
    monkeypatch.setattr(zoo.services.audit, "record", away.get_session)
    caller = await zoo.new_client()

    with structlog.testing.capture_logs() as lines:
        assert bearer(await log_in(caller, "user1"))

    assert {"event": "audit_entry_not_stored", "action": AuditAction.LOGIN.value, "log_level": "error"} in lines


async def test_nothing_of_it_stands_in_the_logs(open_zoo: OpensZoo, caplog: pytest.LogCaptureFixture) -> None:
    """Not what was said, not the cookie or its hash, not a whole id."""
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as lines:
        zoo = await open_zoo()
        chat = await open_endpoint(zoo, CONVO)
        answer = await chat.post_message(SECRET)
        await export_data(chat.client)
        await erase_data(chat.client)

    cookie = chat.client.cookies["session_id"]
    logged = repr(lines) + caplog.text
    for secret in (SECRET, "Xaverl", cookie, derive_cookie_owner(cookie)[:20], get_turn_id(answer)):
        assert secret not in logged
