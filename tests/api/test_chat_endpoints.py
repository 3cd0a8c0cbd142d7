"""What holds for all five contracts: their turns are streamed, resumed and repeated alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openapi_server.config import LOCAL_ORIGINS
from openapi_server.models.hidden_characters import remove_hidden_characters
from openapi_server.models.turn import FinishReason
from tests.api.chat_endpoints import CHAT_ENDPOINTS, ChatEndpoint, get_turn_id, list_event_ids, open_endpoint
from tests.conftest import OpensZoo
from tests.support.examples import DELICATE_TEXTS
from tests.support.fakes import Blocks, Fails, Says, Waits

UNKNOWN = "turn_00000000000000000000000000000000"

pytestmark = pytest.mark.parametrize("endpoint", CHAT_ENDPOINTS.values(), ids=CHAT_ENDPOINTS)


async def test_a_stream_tells_the_reply_that_is_kept(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """To the character, text that careless layers lose included; what was told complete is stored.

    All but the characters that nobody sees: a terminal or a log might act on them, and they hide words.
    """
    sent = "".join(DELICATE_TEXTS.values())
    said = remove_hidden_characters(sent)
    hidden = "\x85\r\r\x01\x1b\x7f\x0b\x0c\x1c\u202e\u202c\u2066\u2069\u200b\u200c\u200d\ufeff\ufffe\uffff\U0010ffff"
    assert len(sent) - len(said) == len(hidden)
    zoo = await open_zoo(Says(sent[:50], sent[50:]))
    chat = await open_endpoint(zoo, endpoint)

    answer = await chat.post_message()

    turn = await zoo.services.store.get_turn(get_turn_id(answer))
    assert turn is not None
    assert turn.outcome is not None
    assert turn.outcome.reply == said
    # The platform's clients get the whole answer at once, as a result.
    assert chat.read_text(answer) == said


async def test_a_stream_has_the_headers_that_every_stream_has(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """Nothing may hold it back, and scripts of other pages may read the turn's id."""
    chat = await open_endpoint(await open_zoo(), endpoint)

    answer = await chat.post_message(Origin=LOCAL_ORIGINS[0])

    headers = answer.headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache, no-store, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert headers["access-control-allow-origin"] == LOCAL_ORIGINS[0]
    assert "X-Streaming-Session-Id" in headers["access-control-expose-headers"]
    assert {event_id.rpartition("-")[0] for event_id in list_event_ids(answer)} == {get_turn_id(answer)}


async def test_the_same_post_resumes_after_every_event(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """The rest follows byte for byte, after the last event there is nothing; and it is one turn all the time."""
    provider = Says()
    chat = await open_endpoint(await open_zoo(provider), endpoint)
    whole = await chat.post_message()
    text, ids = whole.text.removeprefix("retry: 2000\n"), list_event_ids(whole)

    for event_id in ids[:-1]:
        before, _, rest = text.partition(f"id: {event_id}\n")
        resumed = await chat.post_message(Last_Event_ID=event_id)
        assert resumed.text == "retry: 2000\n" + rest.partition("\n\n")[2], before
        assert get_turn_id(resumed) == get_turn_id(whole)
    nothing = await chat.post_message(Last_Event_ID=ids[-1])

    assert (nothing.status_code, nothing.content) == (204, b"")
    assert len(provider.prompts) == 1


async def test_another_message_resumes_nothing(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """The client has mixed up two requests: 422, and no turn is started."""
    provider = Says()
    chat = await open_endpoint(await open_zoo(provider), endpoint)
    ids = list_event_ids(await chat.post_message())

    answer = await chat.post_message("Something else", Last_Event_ID=ids[0])

    assert (answer.status_code, answer.json()["code"]) == (422, "resume_mismatch")
    assert len(provider.prompts) == 1


@pytest.mark.parametrize("event_id", [f"{UNKNOWN}-1", UNKNOWN, "nonsense", "7"])
async def test_an_event_of_no_turn_resumes_nothing(open_zoo: OpensZoo, endpoint: ChatEndpoint, event_id: str) -> None:
    """404, as for another user's turn; a resumed request never starts a new turn."""
    provider = Says()
    chat = await open_endpoint(await open_zoo(provider), endpoint)

    answer = await chat.post_message(Last_Event_ID=event_id)

    assert (answer.status_code, answer.json()["code"]) == (404, "turn_not_found")
    assert provider.prompts == []


@pytest.mark.parametrize("number", ["9999", "x", "01"])
async def test_an_event_that_has_not_happened_is_named(open_zoo: OpensZoo, endpoint: ChatEndpoint, number: str) -> None:
    """400 with the field: the server never guesses a position."""
    chat = await open_endpoint(await open_zoo(), endpoint)
    turn_id = get_turn_id(await chat.post_message())

    answer = await chat.post_message(Last_Event_ID=f"{turn_id}-{number}")

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "Last-Event-ID")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Last-Event-ID", "turn_a-1; x"),
        ("Last-Event-ID", "x" * 129),
        ("Idempotency-Key", "x" * 256),
        ("Idempotency-Key", "caf\u00e9"),
        ("Idempotency-Key", "a\tb"),
    ],
)
async def test_a_header_of_the_wrong_form_is_named(
    open_zoo: OpensZoo, endpoint: ChatEndpoint, header: str, value: str
) -> None:
    """400, and no turn is started."""
    provider = Says()
    chat = await open_endpoint(await open_zoo(provider), endpoint)

    answer = await chat.client.post(
        chat.path,
        json={**endpoint.body, endpoint.message_field: "Hi"},
        headers={header.encode(): value.encode("latin-1")},
    )

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, header)
    assert provider.prompts == []


async def test_events_that_were_kept_long_enough_are_gone(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """410, with the address of the stored reply."""
    chat = await open_endpoint(await open_zoo(REPLAY_WINDOW=0), endpoint)
    ids = list_event_ids(await chat.post_message())

    gone = await chat.post_message(Last_Event_ID=ids[0])

    assert (gone.status_code, gone.json()["code"]) == (410, "log_gone")
    link = gone.headers["link"].partition(">")[0].removeprefix("<")
    assert (await chat.client.get(link)).json()["reply"] == "Roar! I am a lion."


async def test_a_key_makes_a_post_safe_to_repeat(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """The same turn from its first event, three times; the animal speaks once."""
    provider = Says()
    chat = await open_endpoint(await open_zoo(provider), endpoint)

    answers = [await chat.post_message(Idempotency_Key="key-1") for _ in range(3)]

    assert {answer.content for answer in answers} == {answers[0].content}
    assert len(provider.prompts) == 1


async def test_a_key_stands_for_one_request(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """Another message with the same key is 422; another key is another turn."""
    provider = Says()
    chat = await open_endpoint(await open_zoo(provider), endpoint)
    first = await chat.post_message(Idempotency_Key="key-1")

    other_body = await chat.post_message("Something else", Idempotency_Key="key-1")
    other_key = await chat.post_message(Idempotency_Key="key-2")

    assert (other_body.status_code, other_body.json()["code"]) == (422, "key_reused")
    assert get_turn_id(other_key) != get_turn_id(first)
    assert len(provider.prompts) == 2


async def test_what_was_said_before_reaches_the_animal(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """Told "My name is John", a later reply can use it; the zoo's own contract wants the session's id for that."""
    provider = Says("Roar!")
    chat = await open_endpoint(await open_zoo(provider), endpoint)
    first = await chat.post_message("My name is John")
    if endpoint.name == "convo":
        session_id = (await chat.client.get("/conversations/sessions")).json()["sessions"][0]["sessionId"]
        chat.endpoint = replace(endpoint, body={**endpoint.body, "sessionId": session_id})

    await chat.post_message("What is my name?")

    assert first.status_code == 200
    assert [(said.message, said.reply) for said in provider.prompts[1].history] == [("My name is John", "Roar!")]


async def test_a_broken_animal_ends_the_stream_with_one_error(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """The contract's own error event with the problem object in it; nothing of the provider's words."""
    chat = await open_endpoint(await open_zoo(Fails(OSError("secret upstream host"), "Well, ")), endpoint)

    answer = await chat.post_message()

    problem = chat.read_problem(answer)
    assert (answer.status_code, problem["status"], problem["code"]) == (200, 500, "internal_error")
    assert "secret" not in answer.text


async def test_silence_is_filled_and_then_given_up(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """Heartbeats carry no id; the animal that stays silent too long is an IDLE_TIMEOUT, and its work is cancelled."""
    provider = Waits()
    chat = await open_endpoint(await open_zoo(provider, HEARTBEAT=0.02, STREAM_IDLE_TIMEOUT=0.2), endpoint)

    answer = await chat.post_message()

    is_heartbeat = "event: heartbeat\n" if endpoint.name in ("convo", "platform") else "\n\n:"
    assert answer.text.count(is_heartbeat) >= 2
    assert chat.read_problem(answer)["code"] == "IDLE_TIMEOUT"
    assert provider.was_closed


async def test_moderation_stands_before_every_animal(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """The fixed words are the reply, and the provider never hears of the message."""
    provider = Says("I should not be heard")
    zoo = await open_zoo(provider, moderator=Blocks("Please ask a grown-up."))
    chat = await open_endpoint(zoo, endpoint)

    answer = await chat.post_message()

    turn = await zoo.services.store.get_turn(get_turn_id(answer))
    assert chat.read_text(answer) == "Please ask a grown-up."
    assert turn is not None
    assert turn.outcome is not None
    assert turn.outcome.finish_reason is FinishReason.BLOCKED
    assert provider.prompts == []


async def test_a_server_that_is_about_to_end_takes_no_more(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """503 that says when to come back, instead of a stream that breaks."""
    zoo = await open_zoo()
    chat = await open_endpoint(zoo, endpoint)
    zoo.services.engine.start_draining()

    answer = await chat.post_message()

    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "draining", "5")


BROKEN_BODIES: dict[str, tuple[bytes, str, int]] = {
    "no JSON": (b"{", "application/json", 400),
    "not an object": (b"[]", "application/json", 400),
    "NaN": (b'{"x": NaN}', "application/json", 400),
    "one key twice": (b'{"x": 1, "x": 2}', "application/json", 400),
    "not UTF-8": (b'{"x": "\xff"}', "application/json", 400),
    "half a character": (b'{"x": "\\ud800"}', "application/json", 400),
    "a form": (b"a=b", "application/x-www-form-urlencoded", 415),
    "text": (b"Hello!", "text/plain", 415),
}


@pytest.mark.parametrize("name", BROKEN_BODIES)
async def test_a_body_that_cannot_be_read_is_refused(open_zoo: OpensZoo, endpoint: ChatEndpoint, name: str) -> None:
    """The answer is a problem object, and no turn is started."""
    provider = Says()
    chat = await open_endpoint(await open_zoo(provider), endpoint)
    content, media_type, status = BROKEN_BODIES[name]

    answer = await chat.client.post(chat.path, content=content, headers={"Content-Type": media_type})

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert provider.prompts == []
