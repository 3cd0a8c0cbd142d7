"""The zoo's own contract over HTTP: the stream, its JSON form, and polling."""

from __future__ import annotations

import httpx
import pytest

from openapi_server.models.turn import Usage
from openapi_server.protocols import ReplyEnd
from tests.conftest import OpensClient
from tests.support.contract import check_stream
from tests.support.fakes import Blocks, Fails, Says, Waits

HELLO = {"message": "Hello!", "animalId": "lion_001"}


async def post_turn(client: httpx.AsyncClient, **more: object) -> dict[str, object]:
    answer = await client.post("/convo_turn", json={**HELLO, **more})
    assert answer.status_code == 200, answer.text
    body: dict[str, object] = answer.json()
    return body


async def test_a_stream_begins_with_metadata_and_ends_with_the_whole_reply(client: httpx.AsyncClient) -> None:
    """Concatenated chunks are the full response, to the character, and typing stops before the first of them."""
    answer = await client.post("/convo_turn_stream", json={**HELLO, "stream": True})

    events = check_stream("/convo_turn_stream", answer.content)
    assert [event.event for event in events if event.event != "progress"] == [
        *("metadata", "typing", "typing"),
        *("chunk", "chunk", "chunk", "complete"),
    ]
    complete = events[-1].data
    assert "".join(event.data["content"] for event in events if event.event == "chunk") == complete["fullResponse"]
    assert complete["fullResponse"] == "Roar! I am a lion."
    assert (complete["chunkCount"], complete["finishReason"]) == (3, "stop")
    assert complete["usage"] == {"promptTokens": 3, "completionTokens": 3}


async def test_a_stream_has_the_headers_that_proxies_and_browsers_need(client: httpx.AsyncClient) -> None:
    """Nothing between us and the visitor may hold the stream back, and scripts may read the turn's id."""
    answer = await client.post("/convo_turn_stream", json=HELLO, headers={"Origin": "http://localhost:3000"})

    turn_id = check_stream("/convo_turn_stream", answer.content)[0].data["turnId"]
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-store, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-streaming-session-id"] == turn_id
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "X-Streaming-Session-Id" in answer.headers["access-control-expose-headers"]


async def test_the_stages_are_told_in_order_and_progress_never_falls(client: httpx.AsyncClient) -> None:
    """Each stage starts and then completes."""
    answer = await client.post("/convo_turn_stream", json=HELLO)

    progress = [event.data for event in check_stream("/convo_turn_stream", answer.content) if event.event == "progress"]
    assert [(step["stage"], step["status"]) for step in progress] == [
        (stage, status)
        for stage in ("moderation", "retrieval", "reranking", "generation")
        for status in ("started", "complete")
    ]
    assert [step["progress"] for step in progress] == sorted(step["progress"] for step in progress)


async def test_the_json_answer_has_everything_the_stream_had(open_client: OpensClient) -> None:
    """`POST /convo_turn` waits for the end and tells it all at once."""
    client = await open_client(Says("Roar!", reply_end=ReplyEnd(usage=Usage(7, 1))))

    answer = await post_turn(client)

    assert answer["reply"] == "Roar!"
    assert answer["moderation"] == {"flagged": False, "categories": []}
    assert answer["metadata"] == {"animalId": "lion_001", "model": "fake-1"}
    assert isinstance(answer["turn"], dict)
    assert (answer["turn"]["tokensPrompt"], answer["turn"]["tokensCompletion"]) == (7, 1)
    assert answer["turn"]["convoTurnId"] == answer["turnId"]
    assert answer["sources"] == [
        {"factId": "lion_001/mane", "topic": "body", "type": "document", "title": "Keepers' notebook"}
    ]


@pytest.mark.parametrize(
    ("path", "stream", "media_type"),
    [
        ("/convo_turn_stream", None, "text/event-stream"),
        ("/convo_turn_stream", False, "application/json"),
        ("/convo_turn", None, "application/json"),
        ("/convo_turn", True, "text/event-stream"),
    ],
)
async def test_stream_chooses_between_events_and_json(
    client: httpx.AsyncClient, path: str, stream: bool | None, media_type: str
) -> None:
    """Both addresses take the same body; `stream` decides, and each has its own default."""
    body = HELLO if stream is None else {**HELLO, "stream": stream}

    answer = await client.post(path, json=body)

    assert answer.headers["content-type"].partition(";")[0] == media_type


async def test_respond_async_answers_at_once_and_the_turn_is_polled(open_client: OpensClient) -> None:
    """202 with a Location; the turn goes on without anyone connected, and its state tells how far it is."""
    provider = Waits("go.")
    client = await open_client(provider)

    accepted = await client.post("/convo_turn", json=HELLO, headers={"Prefer": "respond-async"})
    await provider.has_begun.wait()
    location = accepted.headers["location"]
    running = (await client.get(location)).json()
    provider.go.set()
    while (await client.get(location)).json()["status"] == "running":
        pass
    ended = (await client.get(location)).json()

    assert (accepted.status_code, accepted.headers["preference-applied"]) == (202, "respond-async")
    assert (running["status"], running["progress"], running["reply"]) == ("running", 75, "Ready, ")
    assert (ended["status"], ended["progress"], ended["reply"]) == ("succeeded", 100, "Ready, go.")


async def test_a_session_goes_on_and_the_animal_remembers_it(open_client: OpensClient) -> None:
    """The provider gets the earlier messages and replies, oldest first."""
    provider = Says("Roar!")
    client = await open_client(provider)

    first = await post_turn(client, message="My name is Mia")
    await post_turn(client, message="What is my name?", sessionId=first["sessionId"])

    assert [(exchange.message, exchange.reply) for exchange in provider.prompts[1].history] == [
        ("My name is Mia", "Roar!")
    ]


async def test_a_second_turn_on_a_busy_session_is_409_and_names_the_running_one(open_client: OpensClient) -> None:
    """One turn at a time per session."""
    provider = Waits()
    client = await open_client(provider)
    first = await client.post("/convo_turn", json=HELLO, headers={"Prefer": "respond-async"})
    state = first.json()
    await provider.has_begun.wait()
    history = client.cookies  # the visitor's own sessions tell the session id
    sessions = (await client.get("/conversations/sessions")).json()["sessions"]

    second = await client.post("/convo_turn", json={**HELLO, "sessionId": sessions[0]["sessionId"]})

    assert history.get("session_id")
    assert second.status_code == 409
    assert second.json()["code"] == "turn_running"
    assert second.json()["turnId"] == state["turnId"]
    provider.go.set()


async def test_a_provider_that_breaks_ends_the_stream_with_one_error_event(open_client: OpensClient) -> None:
    """The error event carries our problem object; nothing of the provider's own words reaches the visitor."""
    client = await open_client(Fails(OSError("secret upstream host"), "Well, "))

    answer = await client.post("/convo_turn_stream", json=HELLO)

    events = check_stream("/convo_turn_stream", answer.content)
    assert events[-1].event == "error"
    assert events[-1].data["error"]["status"] == 500
    assert b"secret" not in answer.content


async def test_a_provider_that_breaks_makes_the_json_answer_a_problem(open_client: OpensClient) -> None:
    """The same failure without a stream is a status, and polling tells of it for ever."""
    client = await open_client(Fails(OSError("secret upstream host")))

    answer = await client.post("/convo_turn", json=HELLO)

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


async def test_a_silent_provider_is_given_up_after_the_idle_timeout(open_client: OpensClient) -> None:
    """Nobody waits for ever: the turn ends with IDLE_TIMEOUT, and the provider's work is cancelled."""
    provider = Waits()
    client = await open_client(provider, STREAM_IDLE_TIMEOUT=0.05)

    answer = await client.post("/convo_turn", json=HELLO)

    assert (answer.status_code, answer.json()["code"]) == (504, "IDLE_TIMEOUT")
    assert provider.was_closed


async def test_a_turn_over_its_deadline_is_ended(open_client: OpensClient) -> None:
    """The deadline holds for the whole turn, however lively the provider is."""
    provider = Waits()
    client = await open_client(provider, TURN_DEADLINE=0.05)

    answer = await client.post("/convo_turn", json=HELLO)

    assert (answer.status_code, answer.json()["code"]) == (504, "turn_timeout")


async def test_a_blocked_message_gets_the_safe_words_and_never_reaches_the_provider(open_client: OpensClient) -> None:
    """Moderation comes first; the turn is complete, with finishReason blocked."""
    provider = Says("I should not be heard")
    client = await open_client(provider, moderator=Blocks("Please ask a grown-up."))

    answer = await client.post("/convo_turn_stream", json=HELLO)

    complete = check_stream("/convo_turn_stream", answer.content)[-1].data
    assert (complete["fullResponse"], complete["finishReason"]) == ("Please ask a grown-up.", "blocked")
    assert provider.prompts == []


async def test_an_empty_reply_is_a_failure_not_an_empty_bubble(open_client: OpensClient) -> None:
    """A provider that returns no text has failed."""
    client = await open_client(Says("", "  "))

    answer = await client.post("/convo_turn", json=HELLO)

    assert (answer.status_code, answer.json()["code"]) == (502, "provider_failed")


async def test_a_silence_is_filled_with_heartbeats_that_name_the_stage(open_client: OpensClient) -> None:
    """Proxies and phones drop silent connections; a heartbeat says that the animal still thinks."""
    client = await open_client(Waits(), HEARTBEAT=0.01, STREAM_IDLE_TIMEOUT=0.2)

    answer = await client.post("/convo_turn_stream", json=HELLO)

    beats = [event for event in check_stream("/convo_turn_stream", answer.content) if event.event == "heartbeat"]
    assert beats
    assert {beat.data["stage"] for beat in beats} == {"generation"}
    assert all(beat.id is None for beat in beats)
    elapsed = [beat.data["elapsedMs"] for beat in beats]
    assert elapsed == sorted(elapsed)


BAD_BODIES = [
    ({"animalId": "lion_001"}, "message", "is required"),
    ({"message": "Hi"}, "animalId", "is required"),
    ({"message": "", "animalId": "lion_001"}, "message", "must be 1 to 4,000 characters long"),
    ({"message": " \n\t", "animalId": "lion_001"}, "message", "must be 1 to 4,000 characters long"),
    ({"message": "x" * 4001, "animalId": "lion_001"}, "message", "must be 1 to 4,000 characters long"),
    ({"message": 7, "animalId": "lion_001"}, "message", "must be a text"),
    ({"message": "Hi", "animalId": "lion_001\n"}, "animalId", "must be an animal's id"),
    ({"message": "Hi", "animalId": "../lion"}, "animalId", "must be an animal's id"),
    ({"message": "Hi", "animalId": "lіon_001"}, "animalId", "must be an animal's id"),
    ({"message": "Hi", "animalId": "lion_001", "ageGroup": "baby"}, "ageGroup", "must be one of preschool"),
    ({"message": "Hi", "animalId": "lion_001", "stream": "yes"}, "stream", "must be true or false"),
    ({"message": "Hi", "animalId": "lion_001", "sessionId": "a b"}, "sessionId", "must be 1 to 128 letters"),
    ({"message": "Hi", "animalId": "lion_001", "metadata": {"a": "x" * 4100}}, "metadata", "must be at most 4096"),
    ({"message": "Hi", "animalId": "lion_001", "contextSummary": "x" * 2001}, "contextSummary", "must be at most"),
    (["Hi"], "body", "must be an object"),
]


@pytest.mark.parametrize("path", ["/convo_turn_stream", "/convo_turn"])
@pytest.mark.parametrize(("body", "field", "message"), BAD_BODIES)
async def test_bad_input_is_400_and_names_the_field(
    client: httpx.AsyncClient, path: str, body: object, field: str, message: str
) -> None:
    """A person can mend the request from the answer alone; the value that was sent is not repeated."""
    answer = await client.post(path, json=body)

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (400, "invalid_input")
    assert problem["errors"][0]["field"] == field
    assert problem["errors"][0]["message"].startswith(message)


async def test_several_mistakes_are_told_at_once(client: httpx.AsyncClient) -> None:
    """A client can fix all of them in one step."""
    answer = await client.post("/convo_turn", json={"animalId": "LION", "stream": 1})

    assert {error["field"] for error in answer.json()["errors"]} == {"message", "animalId", "stream"}


@pytest.mark.parametrize("message", ["x" * 4000, "  " + "x" * 4000 + "\n\n", "🦁" * 4000, "‮abc⁦ \u2028\u200b", "?"])
async def test_a_message_is_kept_byte_for_byte(client: httpx.AsyncClient, message: str) -> None:
    """Characters are code points. Blanks around the message do not count and are not kept; the rest is, all of it."""
    answer = await post_turn(client, message=message)

    history = await client.get("/convo_history", params={"sessionId": str(answer["sessionId"])})
    assert history.json()["turns"][0]["content"] == message.strip()


async def test_an_animal_that_does_not_live_here_is_404(client: httpx.AsyncClient) -> None:
    """Nothing has been stored."""
    answer = await client.post("/convo_turn_stream", json={**HELLO, "animalId": "unicorn_001"})

    assert (answer.status_code, answer.json()["code"]) == (404, "animal_not_found")


async def test_a_session_stays_with_its_animal(client: httpx.AsyncClient) -> None:
    """A message to another animal in the session is 422."""
    answer = await post_turn(client)

    other = await client.post("/convo_turn", json={**HELLO, "animalId": "tiger_001", "sessionId": answer["sessionId"]})

    assert (other.status_code, other.json()["code"]) == (422, "animal_mismatch")


async def test_an_unknown_turn_is_404(client: httpx.AsyncClient) -> None:
    """Ids are secrets: an unknown one and a foreign one answer alike."""
    answer = await client.get("/convo_turn/turn_00000000000000000000000000000000")

    assert (answer.status_code, answer.json()["code"]) == (404, "turn_not_found")


async def test_metadata_of_the_client_is_kept_with_the_turn(client: httpx.AsyncClient) -> None:
    """Whatever the kiosk wants to remember comes back with the history."""
    answer = await post_turn(client, metadata={"kiosk": "north-gate"})

    history = await client.get("/convo_history", params={"sessionId": str(answer["sessionId"])})
    assert history.json()["turns"][0]["metadata"]["client"] == {"kiosk": "north-gate"}


async def test_ids_cannot_be_guessed(client: httpx.AsyncClient) -> None:
    """Ids have 128 random bits, because knowing an id is the permission to use it."""
    answers = [await post_turn(client) for _ in range(3)]

    ids = {str(answer[key]).partition("_")[2] for answer in answers for key in ("turnId", "sessionId")}
    assert len(ids) == 6
    assert all(len(bytes.fromhex(digits)) == 16 for digits in ids)
