"""Conversation history over HTTP."""

from __future__ import annotations

import httpx

from tests.conftest import OpensClient
from tests.support.contract import check_stream
from tests.support.fakes import Fails, Says, Waits

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
    """Extractive: every sentence of it was a sentence of the animal's, and it keeps to the length asked for."""
    said = "My mane is thick and dark. It keeps my neck safe. Females like it."
    client = await open_client(Says(said))
    session_id = await post_messages(client, "tell me of your mane")

    answer = await client.post("/summarize_convo", json={"sessionId": session_id, "maxLength": 60})

    summary = answer.json()
    assert len(summary["summary"]) <= 60
    assert all(f"{sentence.rstrip('.')}." in said for sentence in summary["summary"].split(". "))
    assert (summary["topics"], summary["messageCount"]) == (["body"], 2)


async def test_a_cursor_of_somebody_elses_making_is_400(client: httpx.AsyncClient) -> None:
    """Only cursors of our own answers are valid."""
    session_id = await post_messages(client, "hi")

    answer = await client.get("/convo_history", params={"sessionId": session_id, "cursor": "WyJ4Il0"})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "cursor")
