"""Turns over HTTP after their start: reading from any event, stopping, and repeated requests."""

from __future__ import annotations

import asyncio
import uuid

import httpx
import pytest

from tests.api.chat_endpoints import list_event_ids
from tests.conftest import OpensClient
from tests.support.contract import check_stream
from tests.support.fakes import Fails, FakeClock, Says, Waits

HELLO = {"message": "Hello!", "animalId": "lion_001"}


async def run_turn(client: httpx.AsyncClient, **more: object) -> list[str]:
    """Run a turn to its end; its event ids."""
    answer = await client.post("/convo_turn_stream", json={**HELLO, **more})
    return [event.id for event in check_stream("/convo_turn_stream", answer.content) if event.id]


async def start_turn(client: httpx.AsyncClient, **more: object) -> str:
    """Start a turn without reading it; its id."""
    answer = await client.post("/convo_turn", json={**HELLO, **more}, headers={"Prefer": "respond-async"})
    return str(answer.json()["turnId"])


def get_turn_id(event_id: str) -> str:
    return event_id.rpartition("-")[0]


async def test_a_stream_can_be_resumed_after_every_event(client: httpx.AsyncClient) -> None:
    """Whatever the last event was that came through, the rest follows, byte for byte, each event once."""
    whole = await client.post("/convo_turn_stream", json=HELLO)
    blocks = whole.text.removeprefix("retry: 2000\n").split("\n\n")[:-1]
    ids = [event.id for event in check_stream("/convo_turn_stream", whole.content)]

    for place, event_id in enumerate(ids[:-1], 1):
        rest = await client.get(
            f"/convo_turn/{get_turn_id(str(event_id))}/stream", headers={"Last-Event-ID": str(event_id)}
        )
        assert rest.text == "retry: 2000\n" + "".join(f"{block}\n\n" for block in blocks[place:])


@pytest.mark.parametrize("form", ["id", "number"])
async def test_after_does_what_the_header_does(client: httpx.AsyncClient, form: str) -> None:
    """For clients that cannot set headers: the event's id, or only its number."""
    ids = await run_turn(client)
    after = ids[2] if form == "id" else "3"

    rest = await client.get(f"/convo_turn/{get_turn_id(ids[0])}/stream", params={"after": after})

    assert check_stream("/convo_turn/{turnId}/stream", rest.content, method="get", is_resumed=True)[0].id == ids[3]


async def test_without_a_point_a_turn_is_read_from_its_beginning(client: httpx.AsyncClient) -> None:
    """A second screen can join later."""
    ids = await run_turn(client)

    again = await client.get(f"/convo_turn/{get_turn_id(ids[0])}/stream")

    assert [event.id for event in check_stream("/convo_turn/{turnId}/stream", again.content, method="get")] == ids


async def test_a_finished_turn_with_nothing_left_is_204(client: httpx.AsyncClient) -> None:
    """A browser's EventSource takes that as a reason not to come back."""
    ids = await run_turn(client)

    nothing = await client.get(f"/convo_turn/{get_turn_id(ids[0])}/stream", headers={"Last-Event-ID": ids[-1]})

    assert (nothing.status_code, nothing.content) == (204, b"")


@pytest.mark.parametrize("point", ["turn_00000000000000000000000000000000-1", "{turn}-9999", "{turn}-x", "nonsense"])
async def test_an_unknown_point_is_named_not_guessed(client: httpx.AsyncClient, point: str) -> None:
    """Another turn's event, one that has not happened, or no event id at all: 400."""
    ids = await run_turn(client)
    turn_id = get_turn_id(ids[0])

    answer = await client.get(
        f"/convo_turn/{turn_id}/stream", headers={"Last-Event-ID": point.replace("{turn}", turn_id)}
    )

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "Last-Event-ID")


RESUME_PARAMETERS = ["lastEventId", "last_event_id", "after"]


@pytest.mark.parametrize("name", RESUME_PARAMETERS)
async def test_a_query_parameter_resumes_like_the_header(client: httpx.AsyncClient, name: str) -> None:
    """For an EventSource that cannot set headers, or is a polyfill that does not; after the last event it is 204."""
    ids = await run_turn(client)
    path = f"/convo_turn/{get_turn_id(ids[0])}/stream"

    by_header = await client.get(path, headers={"Last-Event-ID": ids[3]})
    by_query = await client.get(path, params={name: ids[3]})
    at_the_end = await client.get(path, params={name: ids[-1]})

    assert by_query.text == by_header.text
    assert at_the_end.status_code == 204
    # What `@microsoft/fetch-event-source` looks at in place of the status.
    assert at_the_end.headers["content-type"] == "text/event-stream; charset=utf-8"


async def test_the_header_counts_before_every_query_parameter(client: httpx.AsyncClient) -> None:
    """Whoever reconnects adds a later point to an address that may have an earlier one."""
    ids = await run_turn(client)
    path = f"/convo_turn/{get_turn_id(ids[0])}/stream"
    points = dict(zip(RESUME_PARAMETERS, ids, strict=False))

    answers = [await client.get(path, params=points, headers={"Last-Event-ID": ids[3]})]
    while points:
        answers.append(await client.get(path, params=points))
        points.pop(next(iter(points)))

    assert [list_event_ids(answer)[0] for answer in answers] == [ids[4], ids[1], ids[2], ids[3]]


@pytest.mark.parametrize("name", RESUME_PARAMETERS)
async def test_an_empty_point_is_the_beginning(client: httpx.AsyncClient, name: str) -> None:
    """Some readers send it before their first event; beside it another one counts."""
    ids = await run_turn(client)
    path = f"/convo_turn/{get_turn_id(ids[0])}/stream"
    whole = await client.get(path)

    assert (await client.get(f"{path}?{name}=")).text == whole.text
    assert (await client.get(path, headers={"Last-Event-ID": ""})).text == whole.text
    assert (await client.get(path, headers={"Last-Event-ID": " "})).text == whole.text
    rest = await client.get(f"{path}?{name}=", headers={"Last-Event-ID": ids[3]})
    assert rest.text == (await client.get(path, params={name: ids[3]}, headers={"Last-Event-ID": ""})).text
    assert rest.text != whole.text


@pytest.mark.parametrize("name", RESUME_PARAMETERS)
async def test_a_point_of_the_wrong_form_is_named(client: httpx.AsyncClient, name: str) -> None:
    """By the parameter that it came in."""
    ids = await run_turn(client)

    answer = await client.get(f"/convo_turn/{get_turn_id(ids[0])}/stream", params={name: "a b"})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, name)


async def test_there_is_nothing_to_read_of_an_unknown_turn(client: httpx.AsyncClient) -> None:
    """Missing turns and those of other users get the same answer."""
    answer = await client.get("/convo_turn/turn_00000000000000000000000000000000/stream")

    assert (answer.status_code, answer.json()["code"]) == (404, "turn_not_found")


async def test_events_that_were_kept_long_enough_are_gone_and_the_reply_is_linked(open_client: OpensClient) -> None:
    """The 410 says where the stored reply is."""
    client = await open_client(Says("Roar!"), REPLAY_WINDOW=0)
    ids = await run_turn(client)

    gone = await client.get(f"/convo_turn/{get_turn_id(ids[0])}/stream", headers={"Last-Event-ID": ids[0]})

    assert (gone.status_code, gone.json()["code"], gone.json()["earliestEventId"]) == (410, "log_gone", None)
    link = gone.headers["link"].partition(">")[0].removeprefix("<")
    assert (await client.get(link)).json()["reply"] == "Roar!"


async def test_the_same_post_with_the_last_event_id_resumes_and_asks_nobody_again(open_client: OpensClient) -> None:
    """Generated clients repeat the POST. There is one turn and one model call."""
    provider = Says()
    client = await open_client(provider)
    ids = await run_turn(client)

    rest = await client.post("/convo_turn_stream", json=HELLO, headers={"Last-Event-ID": ids[1]})

    assert f"id: {ids[2]}\n" in rest.text
    assert f"id: {ids[1]}\n" not in rest.text
    assert len(provider.prompts) == 1


async def test_another_post_with_the_last_event_id_is_422(client: httpx.AsyncClient) -> None:
    """It is not the request that the id resumes, and nothing is begun."""
    ids = await run_turn(client)

    answer = await client.post(
        "/convo_turn_stream", json={**HELLO, "message": "Something else"}, headers={"Last-Event-ID": ids[1]}
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "resume_mismatch")


async def test_stopping_ends_the_model_call_and_keeps_what_was_said(open_client: OpensClient) -> None:
    """Every reader gets complete with finishReason stopped and the partial text."""
    provider = Waits()
    client = await open_client(provider)
    turn_id = await start_turn(client)
    await provider.has_begun.wait()
    reading = asyncio.create_task(client.get(f"/convo_turn/{turn_id}/stream"))

    stopped = (await client.post(f"/convo_turn/{turn_id}/stop")).json()

    complete = check_stream("/convo_turn/{turnId}/stream", (await reading).content, method="get")[-1].data
    assert (complete["fullResponse"], complete["finishReason"]) == ("Ready, ", "stopped")
    assert (stopped["status"], stopped["finishReason"], stopped["reply"]) == ("stopped", "stopped", "Ready, ")
    assert stopped["stoppedInMs"] < 1000
    assert provider.was_closed
    assert (await client.get(f"/convo_turn/{turn_id}")).json()["status"] == "stopped"


async def test_stopping_twice_is_stopping_once(open_client: OpensClient) -> None:
    """Stopping a turn that has ended answers how it ended."""
    provider = Waits()
    client = await open_client(provider)
    turn_id = await start_turn(client)
    await provider.has_begun.wait()

    first, second = [(await client.post(f"/convo_turn/{turn_id}/stop")).json() for _ in range(2)]
    ids = await run_turn(await open_client(Says("Roar!")))
    ended = (await client.post(f"/convo_turn/{get_turn_id(ids[0])}/stop")).json()

    assert {**first, "stoppedInMs": 0} == {**second, "stoppedInMs": 0}
    assert (ended["status"], ended["finishReason"], ended["reply"]) == ("succeeded", "stop", "Roar!")


async def test_there_is_nothing_to_stop_of_an_unknown_turn(client: httpx.AsyncClient) -> None:
    """404, like reading it."""
    assert (await client.post("/convo_turn/turn_unknown/stop")).status_code == 404


async def test_the_session_takes_the_next_turn_after_a_stop(open_client: OpensClient) -> None:
    """A stopped turn is over, and the animal remembers what it had said."""
    provider = Waits()
    client = await open_client(provider)
    turn_id = await start_turn(client)
    await provider.has_begun.wait()
    session_id = (await client.get("/conversations/sessions")).json()["sessions"][0]["sessionId"]

    await client.post(f"/convo_turn/{turn_id}/stop")
    provider.go.set()
    answer = await client.post("/convo_turn", json={**HELLO, "sessionId": session_id})

    assert answer.status_code == 200
    history = (await client.get("/convo_history", params={"sessionId": session_id})).json()
    assert history["turns"][1]["metadata"]["finishReason"] == "stopped"


@pytest.mark.parametrize(
    ("key", "cookies"),
    [
        ("8f14e45f-ceea-467f-a8d5-0b6f9c1e58a3", "kept"),
        ("8f14e45f-ceea-467f-a8d5-0b6f9c1e58a3", "lost"),
        ("not a uuid", "kept"),
    ],
)
async def test_a_repeated_request_joins_its_turn(open_client: OpensClient, key: str, cookies: str) -> None:
    """One turn, one model call, and the whole stream again; with the cookie that the first answer set or without."""
    provider = Says()
    client = await open_client(provider)
    first = await client.post("/convo_turn_stream", json=HELLO, headers={"Idempotency-Key": key})
    if cookies == "lost":
        client.cookies.clear()

    again = await client.post("/convo_turn_stream", json=HELLO, headers={"Idempotency-Key": key})
    as_json = await client.post("/convo_turn", json=HELLO, headers={"Idempotency-Key": key})

    assert again.content == first.content
    assert as_json.json()["turnId"] == check_stream("/convo_turn_stream", first.content)[0].data["turnId"]
    assert len(provider.prompts) == 1


async def test_a_plain_key_without_a_cookie_is_not_recognised_again(open_client: OpensClient) -> None:
    """Another visitor behind the same address may have chosen the same key: nobody gets the other's turn or token."""
    client = await open_client()
    answers = []
    for _ in range(2):
        client.cookies.clear()
        answers.append(await client.post("/convo_turn", json=HELLO, headers={"Idempotency-Key": "1"}))

    assert len({answer.json()["sessionId"] for answer in answers}) == 2
    assert len({answer.headers["x-session-token"] for answer in answers}) == 2


async def test_fifty_repetitions_at_once_are_one_turn(open_client: OpensClient) -> None:
    """The first one starts the turn, the others read it."""
    provider = Says()
    client = await open_client(provider)
    key = {"Idempotency-Key": str(uuid.uuid4())}

    answers = await asyncio.gather(*(client.post("/convo_turn", json=HELLO, headers=key) for _ in range(50)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["turnId"] for answer in answers}) == 1
    assert len(provider.prompts) == 1


async def test_a_key_for_another_body_is_422(client: httpx.AsyncClient) -> None:
    """A key belongs to one request."""
    key = {"Idempotency-Key": str(uuid.uuid4())}
    await client.post("/convo_turn", json=HELLO, headers=key)

    answer = await client.post("/convo_turn", json={**HELLO, "message": "Bye!"}, headers=key)

    assert (answer.status_code, answer.json()["code"]) == (422, "key_reused")


async def test_a_key_of_somebody_else_is_ones_own(open_client: OpensClient) -> None:
    """Two visitors with cookies who choose the same word begin two turns: keys are no way into another's session."""
    client = await open_client(Says())
    turns = []
    for _ in range(2):
        client.cookies.clear()
        await client.post("/convo_turn", json=HELLO)
        answer = await client.post("/convo_turn", json=HELLO, headers={"Idempotency-Key": "mine"})
        turns.append(answer.json()["turnId"])

    assert turns[0] != turns[1]


async def test_a_failed_turn_stays_failed_under_its_key(open_client: OpensClient) -> None:
    """The repetition tells how the turn ended; a new try needs a new key."""
    client = await open_client(Fails(OSError()))
    key = {"Idempotency-Key": str(uuid.uuid4())}

    first, second = [await client.post("/convo_turn", json=HELLO, headers=key) for _ in range(2)]

    assert first.status_code == second.status_code == 500


async def test_a_session_ends_after_its_time_and_is_as_if_it_had_never_been(open_client: OpensClient) -> None:
    """Expiry is enforced when read: nobody needs to have cleaned up."""
    clock = FakeClock()
    client = await open_client(Says("Roar!"), clock=clock, SESSION_TTL=60)
    answer = (await client.post("/convo_turn", json=HELLO)).json()
    session = {"sessionId": answer["sessionId"]}
    clock.advance(59)
    assert (await client.get("/convo_history", params=session)).status_code == 200
    clock.advance(2)

    paths = (f"/convo_turn/{answer['turnId']}", f"/conversations/sessions/{answer['sessionId']}")
    assert [(await client.get(path)).status_code for path in paths] == [404, 404]
    assert (await client.get("/convo_history", params=session)).status_code == 404
    assert (await client.post("/convo_turn", json={**HELLO, **session})).status_code == 404
    assert (await client.get("/conversations/sessions")).json()["sessions"] == []
