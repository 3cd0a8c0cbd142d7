"""Conversation history over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.chat_endpoints import log_in_client
from tests.conftest import OpensClient, OpensZoo, RunningApp
from tests.support.contract import check_stream
from tests.support.fakes import Fails, FakeClock, Says, Waits

HELLO = {"message": "Hello!", "animalId": "lion_001"}


async def post_messages(client: httpx.AsyncClient, *messages: str) -> str:
    """A session in which the messages were said one after the other; its id."""
    session: dict[str, str] = {}
    for message in messages:
        answer = (await client.post("/convo_turn", json={**HELLO, **session, "message": message})).json()
        session = {"sessionId": answer["sessionId"]}
    return session["sessionId"]


async def test_history_tells_the_messages_in_the_order_in_which_they_were_said(client: httpx.AsyncClient) -> None:
    """Each turn has two messages, the visitor's first."""
    session_id = await post_messages(client, "one", "two")

    history = (await client.get("/convo_history", params={"sessionId": session_id})).json()

    assert [(message["role"], message["content"]) for message in history["turns"]] == [
        *(("user", "one"), ("assistant", "Roar! I am a lion.")),
        *(("user", "two"), ("assistant", "Roar! I am a lion.")),
    ]
    assert (history["animalId"], history["totalTurns"]) == ("lion_001", 2)
    assert "nextCursor" not in history


async def test_history_is_paged_without_a_gap_or_a_repeat(client: httpx.AsyncClient) -> None:
    """Following `nextCursor` lists every turn once."""
    session_id = await post_messages(client, *"abcde")
    said: list[str] = []
    query: dict[str, str] = {"sessionId": session_id, "limit": "2"}

    while True:
        page = (await client.get("/convo_history", params=query)).json()
        said += [message["content"] for message in page["turns"] if message["role"] == "user"]
        if "nextCursor" not in page:
            break
        query["cursor"] = page["nextCursor"]

    assert said == list("abcde")


async def test_history_streams_on_request(client: httpx.AsyncClient) -> None:
    """The events are `session`, `history` for each turn, and `history_complete`."""
    session_id = await post_messages(client, "one", "two")

    answer = await client.get(
        "/convo_history", params={"sessionId": session_id}, headers={"Accept": "text/event-stream"}
    )

    events = check_stream("/convo_history", answer.content, method="get")
    assert [event.event for event in events] == ["session", "history", "history", "history_complete"]
    assert [event.data["userMessage"] for event in events[1:3]] == ["one", "two"]
    assert events[0].data["messageCount"] == events[-1].data["totalMessages"] == 4


async def test_a_failed_turn_keeps_the_visitors_message(open_client: OpensClient) -> None:
    """Nothing that a visitor said is lost because the animal could not answer."""
    client = await open_client(Fails(OSError()))
    await client.post("/convo_turn", json=HELLO)
    session = (await client.get("/conversations/sessions")).json()["sessions"][0]

    history = (await client.get("/convo_history", params={"sessionId": session["sessionId"]})).json()

    assert [message["content"] for message in history["turns"]] == ["Hello!"]
    assert history["turns"][0]["metadata"]["status"] == "failed"


async def test_the_visitors_message_is_stored_before_the_first_byte(open_client: OpensClient) -> None:
    """While the animal still thinks, the history already has the question."""
    provider = Waits()
    client = await open_client(provider)
    await client.post("/convo_turn", json=HELLO, headers={"Prefer": "respond-async"})
    session = (await client.get("/conversations/sessions")).json()["sessions"][0]

    history = (await client.get("/convo_history", params={"sessionId": session["sessionId"]})).json()

    assert [message["content"] for message in history["turns"]] == ["Hello!"]
    provider.go.set()


async def test_a_deleted_session_is_gone(client: httpx.AsyncClient) -> None:
    """204 once; after that the session, its turns and their logs are not there."""
    answer = (await client.post("/convo_turn", json=HELLO)).json()
    session = {"sessionId": answer["sessionId"]}

    first = await client.delete("/convo_history", params=session)
    again = await client.delete("/convo_history", params=session)
    history = await client.get("/convo_history", params=session)
    turn = await client.get(f"/convo_turn/{answer['turnId']}")

    assert first.status_code == 204
    assert [answer.status_code for answer in (again, history, turn)] == [404, 404, 404]


async def test_deleting_a_session_ends_the_turn_that_runs_in_it(open_client: OpensClient) -> None:
    """The model's work is cancelled, and nothing of the turn is stored."""
    provider = Waits()
    client = await open_client(provider)
    accepted = await client.post("/convo_turn", json=HELLO, headers={"Prefer": "respond-async"})
    await provider.has_begun.wait()
    session = (await client.get("/conversations/sessions")).json()["sessions"][0]

    deleted = await client.delete("/convo_history", params={"sessionId": session["sessionId"]})

    assert deleted.status_code == 204
    assert provider.was_closed
    assert (await client.get(accepted.headers["location"])).status_code == 404
    assert (await client.get("/health")).json()["active_jobs"] == 0


async def test_sessions_lists_the_callers_own(client: httpx.AsyncClient) -> None:
    """A visitor is known by the cookie of the first turn; somebody without it sees nothing."""
    first = await post_messages(client, "one")
    second = await post_messages(client, "two", "three")

    mine = (await client.get("/conversations/sessions")).json()
    client.cookies.clear()
    strangers = (await client.get("/conversations/sessions")).json()

    assert [session["sessionId"] for session in mine["sessions"]] == [second, first]
    assert mine["sessions"][0] | {"startTime": "", "lastMessageTime": "", "durationSeconds": 0, "summary": ""} == {
        "sessionId": second,
        "animalId": "lion_001",
        "animalName": "Leo",
        "startTime": "",
        "lastMessageTime": "",
        "messageCount": 4,
        "durationSeconds": 0,
        "summary": "",
    }
    assert strangers == {"sessions": [], "nextCursor": None}


async def test_sessions_are_paged(client: httpx.AsyncClient) -> None:
    """Latest first, each one once."""
    made = [await post_messages(client, "hi") for _ in range(5)]
    seen: list[str] = []
    query = {"limit": "2"}

    while True:
        page = (await client.get("/conversations/sessions", params=query)).json()
        seen += [session["sessionId"] for session in page["sessions"]]
        if page["nextCursor"] is None:
            break
        query["cursor"] = page["nextCursor"]

    assert seen == made[::-1]


async def test_one_session_by_its_id(client: httpx.AsyncClient) -> None:
    """The answer equals the session's item in the list; an unknown id is 404."""
    session_id = await post_messages(client, "hi")

    session = await client.get(f"/conversations/sessions/{session_id}")
    unknown = await client.get("/conversations/sessions/sess_unknown")

    assert (session.json()["sessionId"], session.json()["messageCount"]) == (session_id, 2)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "session_not_found")


async def test_a_summary_quotes_what_was_said_and_names_the_topics(open_client: OpensClient) -> None:
    """The question, a sentence of the animal's that answers it, and it keeps to the length asked for."""
    said = "My mane is thick and dark. It keeps my neck safe. Females like it."
    client = await open_client(Says(said))
    session_id = await post_messages(client, "tell me of your mane")

    answer = await client.post("/summarize_convo", json={"sessionId": session_id, "maxLength": 60})

    summary = answer.json()
    assert summary["summary"] == "Asked: tell me of your mane"
    longer = await client.post("/summarize_convo", json={"sessionId": session_id})
    assert longer.json()["summary"] == "Asked: tell me of your mane Answered: My mane is thick and dark."
    assert (summary["topics"], summary["messageCount"]) == (["body"], 2)


async def test_a_cursor_of_somebody_elses_making_is_400(client: httpx.AsyncClient) -> None:
    """Only cursors of our own answers are valid."""
    session_id = await post_messages(client, "hi")

    answer = await client.get("/convo_history", params={"sessionId": session_id, "cursor": "WyJ4Il0"})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "cursor")


# -- Sessions of others


async def talk_as(zoo: RunningApp, username: str, *messages: str) -> str:
    """A session of the user's, in which these were said; its id."""
    return await post_messages(await log_in_client(zoo, username), *messages)


async def list_looks(zoo: RunningApp) -> list[tuple[str, str | None, str | None]]:
    """Who looked at whose sessions, and how."""
    entries = (await zoo.services.audit.list_entries(100)).items[::-1]
    return [
        (entry.action.value, entry.actor.name, entry.target) for entry in entries if "session" in entry.action.value
    ]


@pytest.mark.parametrize("username", ["parent1", "keeper1", "admin"])
async def test_who_may_finds_the_sessions_of_a_user(open_zoo: OpensZoo, username: str) -> None:
    """The parent, zookeepers and administrators; each look is in the audit trail."""
    zoo = await open_zoo()
    session_id = await talk_as(zoo, "user1", "Hello!")
    looker = await log_in_client(zoo, username)
    await post_messages(looker, "Hello!")

    listed = await looker.get("/conversations/sessions", params={"userId": "user1"})
    read = await looker.get(f"/conversations/sessions/{session_id}")

    assert [session["sessionId"] for session in listed.json()["sessions"]] == [session_id]
    assert read.json() == listed.json()["sessions"][0]
    assert await list_looks(zoo) == [("sessions_listed", username, "user1"), ("session_read", username, "user1")]


async def test_who_may_not_finds_no_such_user(open_zoo: OpensZoo) -> None:
    """Foreign, missing and not logged in look alike, and nothing is noted; nor of a look at one's own."""
    zoo = await open_zoo()
    await talk_as(zoo, "parent1", "Hello!")
    session_id = await talk_as(zoo, "user1", "Hello!")
    user, stranger = await log_in_client(zoo, "user1"), await zoo.new_client()

    answers = [
        await client.get("/conversations/sessions", params={"userId": username})
        for client in (user, stranger)
        for username in ("parent1", "nobody")
    ]
    own = await user.get("/conversations/sessions", params={"userId": "user1"})
    keepers = await (await log_in_client(zoo, "keeper1")).get("/conversations/sessions", params={"userId": "nobody"})

    assert {(answer.status_code, answer.text) for answer in answers} == {(404, answers[0].text)}
    assert (keepers.status_code, keepers.json()) == (404, answers[0].json())
    assert [session["sessionId"] for session in own.json()["sessions"]] == [session_id]
    assert await list_looks(zoo) == []


@pytest.mark.parametrize(
    "read",
    [
        "/conversations/sessions/{sessionId}?include=turns",
        "/convo_history?sessionId={sessionId}",
        "/chat/sessions/{sessionId}",
        "/chat/sessions/{sessionId}/messages",
        "/convo_turn/{turnId}",
        "/convo_turn/{turnId}/stream",
    ],
)
async def test_every_way_to_read_anothers_session_is_noted(open_zoo: OpensZoo, read: str) -> None:
    """Once for each look, with the user's name; a look of the user's own is nobody's business."""
    zoo = await open_zoo()
    user, keeper = await log_in_client(zoo, "user1"), await log_in_client(zoo, "keeper1")
    answer = (await user.post("/convo_turn", json=HELLO)).json()
    path = read.format(sessionId=answer["sessionId"], turnId=answer["turnId"])

    assert (await user.get(path)).status_code == 200
    assert await list_looks(zoo) == []
    assert (await keeper.get(path)).status_code == 200
    assert await list_looks(zoo) == [("session_read", "keeper1", "user1")]


async def test_a_zookeepers_look_at_a_visitors_session_is_noted(open_zoo: OpensZoo) -> None:
    """By part of the hash of the visitor's cookie; a visitor who was given the id is not noted."""
    zoo = await open_zoo()
    visitor, other = await zoo.new_client(), await zoo.new_client()
    session_id = await post_messages(visitor, "Hello!")

    await other.get(f"/conversations/sessions/{session_id}")
    await (await log_in_client(zoo, "user1")).get(f"/conversations/sessions/{session_id}")
    assert await list_looks(zoo) == []
    await (await log_in_client(zoo, "keeper1")).get(f"/conversations/sessions/{session_id}")

    ((action, name, target),) = await list_looks(zoo)
    assert (action, name) == ("session_read", "keeper1")
    assert (target or "").startswith("cookie:")


async def test_sessions_are_found_by_animal_and_time(open_zoo: OpensZoo) -> None:
    """A day is whole, at both ends; pages keep the filter; a token's one session is filtered, too."""
    clock = FakeClock()
    zoo = await open_zoo(clock=clock, SESSION_TTL=864_000)
    client = await zoo.new_client()
    found = {}
    for name, animal_id in {"a": "lion_001", "b": "tiger_001", "c": "lion_001"}.items():
        answer = await client.post("/convo_turn", json={"message": "Hello!", "animalId": animal_id})
        found[answer.json()["sessionId"]] = name
        clock.advance(86_400)

    async def find(caller: httpx.AsyncClient, **params: str) -> str:
        listed = await caller.get("/conversations/sessions", params={**params, "limit": "1"})
        names = [found[session["sessionId"]] for session in listed.json()["sessions"]]
        if listed.json()["nextCursor"]:
            return names[0] + await find(caller, **{**params, "cursor": listed.json()["nextCursor"]})
        return "".join(names)

    assert await find(client) == "cba"
    assert await find(client, animalId="lion_001") == "ca"
    assert await find(client, **{"from": "2026-11-22"}) == "cb"
    assert await find(client, to="2026-11-22") == "ba"
    assert await find(client, **{"from": "2026-11-22", "to": "2026-11-22"}) == "b"
    assert await find(client, to="2026-11-22T10:30:40Z") == "a"
    assert await find(client, **{"from": "2026-11-22T12:30:40+02:00", "to": "2026-11-23T10:30:40.5Z"}) == "cb"
    assert await find(client, animalId="tiger_001", to="2026-11-21") == ""
    by_token = await zoo.new_client(**{"X-Session-Token": answer.headers["x-session-token"]})
    assert await find(by_token) == "c"
    assert await find(by_token, animalId="tiger_001") == ""


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-02-30"}, "from"),
        ({"to": "2026-11-21T25:00:00Z"}, "to"),
        ({"to": "2026-11-21T10:00:00"}, "to"),
        ({"to": "9999-12-31"}, "to"),
        ({"from": "0001-01-01T00:00:00+10:00"}, "from"),
        ({"animalId": "Löwe"}, "animalId"),
        ({"userId": "../x"}, "userId"),
        ({"include": "everything"}, "include"),
    ],
    ids=str,
)
async def test_a_filter_that_makes_no_sense_is_named(
    client: httpx.AsyncClient, params: dict[str, str], field: str
) -> None:
    """400, and never a list of everything."""
    path = "/conversations/sessions/sess_1" if field == "include" else "/conversations/sessions"
    answer = await client.get(path, params=params)

    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (400, [field])


async def test_a_session_has_its_turns_on_request(client: httpx.AsyncClient) -> None:
    """The messages of the history, in pages."""
    session_id = await post_messages(client, "one", "two", "three")
    path = f"/conversations/sessions/{session_id}"

    first = (await client.get(path, params={"include": "turns", "limit": "2"})).json()
    rest = (await client.get(path, params={"include": "turns", "cursor": first["nextCursor"]})).json()
    history = (await client.get("/convo_history", params={"sessionId": session_id})).json()

    assert first["turns"] + rest["turns"] == history["turns"]
    assert rest["nextCursor"] is None
    assert {"turns", "nextCursor"}.isdisjoint((await client.get(path)).json())
    assert first["messageCount"] == rest["messageCount"] == 6


async def test_the_number_of_messages_is_one_number(open_zoo: OpensZoo) -> None:
    """The initial message, the visitor's messages and the replies: wherever it is told, and as many are listed."""
    zoo = await open_zoo(Says("Roar!"))
    client = await log_in_client(zoo, "user1", 1_000)
    session_id = (await client.post("/chat/sessions", json={"initialMessage": "I like cats."})).json()["sessionId"]
    for message in ("one", "two"):
        await client.post(f"/chat/sessions/{session_id}/messages", json={"message": message})
    by_id = {"sessionId": session_id}

    async def get(path: str, **parts: Any) -> Any:
        return (await client.get(path, **parts)).json()

    stream = await client.get("/convo_history", headers={"Accept": "text/event-stream"}, params=by_id)
    events = check_stream("/convo_history", stream.content, method="get")
    told = {
        "list": (await get("/conversations/sessions"))["sessions"][0]["messageCount"],
        "session": (await get(f"/conversations/sessions/{session_id}"))["messageCount"],
        "chat list": (await get("/chat/sessions"))["sessions"][0]["messageCount"],
        "chat session": (await get(f"/chat/sessions/{session_id}"))["messageCount"],
        "summary": (await client.post("/summarize_convo", json={"sessionId": session_id})).json()["messageCount"],
        "history begins": events[0].data["messageCount"],
        "history ends": events[-1].data["totalMessages"],
    }
    listed = {
        "history": len((await get("/convo_history", params=by_id))["turns"]),
        "turns": len((await get(f"/conversations/sessions/{session_id}", params={"include": "turns"}))["turns"]),
        "chat session": len((await get(f"/chat/sessions/{session_id}"))["messages"]),
        "chat messages": len((await get(f"/chat/sessions/{session_id}/messages"))["messages"]),
        "events": sum((event.data["assistantReply"] is not None) + 1 for event in events[1:-1]),
    }

    assert set(told.values()) == set(listed.values()) == {5}
