"""The chat sessions' contract: sessions of users, streams that cost credits, and their confirmation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from openapi_server.models.errors import ProviderFailed
from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import Usage
from openapi_server.moderation import pii
from openapi_server.protocols import ReplyEnd, WholeReply
from openapi_server.providers.offline.provider import OfflineProvider
from tests.api.chat_endpoints import (
    MANY_CREDITS,
    SESSIONS,
    EndpointClient,
    get_last_event,
    get_turn_id,
    list_event_data,
    log_in_client,
    open_endpoint,
)
from tests.api.test_chat_endpoints import UNKNOWN
from tests.conftest import OpensZoo, RunningApp
from tests.support.fakes import AllowsAll, Blocks, Fails, FakeClock, Says, SingleModelProvider, Waits

HELLO = {"message": "How fast can you run?"}


class Streams(SingleModelProvider):
    """A provider that does not know its whole reply beforehand, and counts 60 tokens of it."""

    model = "streams-1"

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | ReplyEnd, None]:
        for piece in self.pieces:
            yield piece
        yield ReplyEnd(usage=Usage(50, 60))


class Masks(AllowsAll):
    """Allows everything, and masks personal data as the server does."""

    def mask_pii(self, text: str) -> str:
        return pii.mask_text(text).text


class CountsPrompt(Says):
    """A provider that reads the whole talk again for each reply, and counts it."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt_tokens: list[int] = []

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        texts = [prompt.message, *(text for said in prompt.history for text in (said.message, said.reply))]
        self.prompt_tokens.append(sum(len(text.split()) for text in texts))
        self.reply_end = ReplyEnd(usage=Usage(self.prompt_tokens[-1], 4))
        async for piece in super().stream_reply(prompt):
            yield piece


async def create_session(client: httpx.AsyncClient, **body: object) -> str:
    """Create a session; its id."""
    answer = await client.post("/chat/sessions", json=body)
    assert answer.status_code == 201, answer.text
    session_id: str = answer.json()["sessionId"]
    return session_id


async def get_credits(client: httpx.AsyncClient) -> int:
    left: int = (await client.get("/credits/balance")).json()["credits"]
    return left


async def confirm_stream(chat: EndpointClient, streaming_id: str) -> httpx.Response:
    body = {"completeResponse": "Roar!", "streamingSessionId": streaming_id, "tokensUsed": 1}
    return await chat.client.post(chat.path.replace("/stream", "/update-stream"), json=body)


async def start_stream(chat: EndpointClient) -> str:
    """The id of the session's last stream, as the session itself tells it."""
    details = (await chat.client.get(chat.path.removesuffix("/stream"))).json()
    streaming_id: str = details["messages"][-1]["streamingSessionId"]
    return streaming_id


async def start_waiting_stream(zoo: RunningApp, provider: Waits) -> tuple[EndpointClient, asyncio.Task[httpx.Response]]:
    """A stream that has told its first piece, and waits for the rest."""
    chat = await open_endpoint(zoo, SESSIONS)
    stream = asyncio.create_task(chat.post_message())
    await provider.has_begun.wait()
    return chat, stream


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/chat/sessions"),
        ("GET", "/chat/sessions"),
        ("GET", "/chat/sessions/sess_1"),
        ("DELETE", "/chat/sessions/sess_1"),
        ("POST", "/chat/sessions/sess_1/stream"),
        ("POST", "/chat/sessions/sess_1/update-stream"),
    ],
)
async def test_sessions_need_a_login(client: httpx.AsyncClient, method: str, path: str) -> None:
    """There is no default user."""
    answer = await client.request(method, path, json={} if method == "POST" else None)

    assert (answer.status_code, answer.json()["code"]) == (401, "login_required")


async def test_models_are_listed_for_everybody(client: httpx.AsyncClient) -> None:
    """With the price of a token, of the reply and of the prompt."""
    (model,) = (await client.get("/models")).json()["models"]

    assert model == {
        "id": "fake-1",
        "name": "fake-1",
        "description": "The only model of this server.",
        "capabilities": ["streaming"],
        "creditCost": 1,
        "promptCreditCost": 0,
        "maxTokens": 1024,
        "available": True,
    }


@pytest.mark.parametrize(
    ("body", "title"),
    [
        ({}, "Talk with Leo"),
        ({"title": "My lion"}, "My lion"),
        ({"titel": "My lion", "source": "web"}, "Talk with Leo"),
        ({"initialMessage": "  I love cats. " + "x" * 100}, ("I love cats. " + "x" * 100)[:60]),
        ({"title": "My lion", "initialMessage": "I love cats."}, "My lion"),
        ({"animalId": "tiger_001", "modelId": "fake-1"}, "Talk with Bulan"),
        ({"modelId": "amazon.titan-text-express-v1:0"}, "Talk with Leo"),
    ],
)
async def test_a_session_is_begun_with_a_title(open_zoo: OpensZoo, body: dict[str, str], title: str) -> None:
    """The one that it is given, else the first words, else whom it is with; 201, and it is there."""
    client = await log_in_client(await open_zoo(clock=FakeClock()), "user1")

    answer = await client.post("/chat/sessions", json=body)

    told = answer.json()
    assert answer.status_code == 201
    assert told == {"sessionId": told["sessionId"], "title": title, "createdAt": "2026-11-21T10:30:40.000Z"}
    assert (await client.get(answer.headers["location"])).json()["title"] == title


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"initialMessage": " "}, "initialMessage"),
        ({"initialMessage": "x" * 4001}, "initialMessage"),
        ({"modelId": 9}, "modelId"),
        ({"modelId": "x" * 129}, "modelId"),
        ({"animalId": "Lion"}, "animalId"),
    ],
)
async def test_a_session_of_the_wrong_form_is_400(open_zoo: OpensZoo, body: dict[str, str], field: str) -> None:
    """The error names the field, and no session is created."""
    client = await log_in_client(await open_zoo(), "user1")

    answer = await client.post("/chat/sessions", json=body)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)
    assert (await client.get("/chat/sessions")).json()["sessions"] == []


async def test_a_session_with_an_animal_that_does_not_live_here_is_404(open_zoo: OpensZoo) -> None:
    """Like in all contracts."""
    client = await log_in_client(await open_zoo(), "user1")

    assert (await client.post("/chat/sessions", json={"animalId": "unicorn_001"})).status_code == 404


async def test_sessions_are_listed_latest_first_and_in_pages(open_zoo: OpensZoo) -> None:
    """Only the caller's own sessions."""
    zoo = await open_zoo()
    client, other = await log_in_client(zoo, "user1"), await log_in_client(zoo, "keeper1")
    made = [await create_session(client, title=f"Talk {number}") for number in range(3)]
    await create_session(other)

    first = (await client.get("/chat/sessions", params={"limit": 2})).json()
    rest = (await client.get("/chat/sessions", params={"limit": 2, "cursor": first["nextCursor"]})).json()

    assert [session["sessionId"] for session in first["sessions"] + rest["sessions"]] == made[::-1]
    assert rest["nextCursor"] is None


async def test_a_session_tells_all_its_messages(open_zoo: OpensZoo) -> None:
    """The words that it was begun with come first, and count as one of the visitor's."""
    client = await log_in_client(await open_zoo(Says("Roar!")), "user1", MANY_CREDITS)
    session_id = await create_session(client, initialMessage="I love cats.")
    stream = await client.post(f"/chat/sessions/{session_id}/stream", json=HELLO)

    told = (await client.get(f"/chat/sessions/{session_id}")).json()

    assert told["messageCount"] == 3
    assert [(said["role"], said["content"], said.get("streamingSessionId")) for said in told["messages"]] == [
        ("user", "I love cats.", None),
        ("user", HELLO["message"], get_turn_id(stream)),
        ("assistant", "Roar!", get_turn_id(stream)),
    ]


async def test_messages_come_in_pages(open_zoo: OpensZoo) -> None:
    """The initial message is on the first page only."""
    client = await log_in_client(await open_zoo(Says("Roar!")), "user1", MANY_CREDITS)
    session_id = await create_session(client, initialMessage="I love cats.")
    for number in range(3):
        await client.post(f"/chat/sessions/{session_id}/stream", json={"message": f"question {number}"})

    first = (await client.get(f"/chat/sessions/{session_id}", params={"limit": 2})).json()
    rest = (await client.get(f"/chat/sessions/{session_id}", params={"cursor": first["nextCursor"]})).json()

    asked = [said["content"] for said in first["messages"] + rest["messages"] if said["role"] == "user"]
    assert asked == ["I love cats.", "question 0", "question 1", "question 2"]


async def test_the_opening_words_are_known_to_the_animal(open_zoo: OpensZoo) -> None:
    """The provider gets them first, in every turn of the session."""
    provider = Says("Roar!")
    client = await log_in_client(await open_zoo(provider), "user1", MANY_CREDITS)
    session_id = await create_session(client, initialMessage="My name is John")

    for message in ("What is my name?", "And now?"):
        await client.post(f"/chat/sessions/{session_id}/stream", json={"message": message})

    assert [said.message for said in provider.prompts[0].history] == ["My name is John"]
    assert [said.message for said in provider.prompts[1].history] == ["My name is John", "What is my name?"]


async def test_a_deleted_session_is_gone(open_zoo: OpensZoo) -> None:
    """With its message, once; a second time it is as if it had never been."""
    client = await log_in_client(await open_zoo(), "user1", MANY_CREDITS)
    session_id = await create_session(client)
    stream = await client.post(f"/chat/sessions/{session_id}/stream", json=HELLO)

    deleted = await client.delete(f"/chat/sessions/{session_id}")

    assert deleted.json() == {"message": "The session was deleted.", "sessionId": session_id}
    assert (await client.delete(f"/chat/sessions/{session_id}")).status_code == 404
    assert (await client.get(f"/chat/sessions/{session_id}")).status_code == 404
    assert (await client.get(f"/convo_turn/{get_turn_id(stream)}")).status_code == 404


async def test_deleting_a_session_ends_its_stream(open_zoo: OpensZoo) -> None:
    """The reader gets an error event, and the provider's work is cancelled."""
    provider = Waits()
    zoo = await open_zoo(provider)
    chat, stream = await start_waiting_stream(zoo, provider)

    await chat.client.delete(chat.path.removesuffix("/stream"))

    assert get_last_event(await stream).data["error"] == "session_deleted"
    assert provider.was_closed


async def test_a_stream_tells_pieces_and_is_done(open_zoo: OpensZoo) -> None:
    """Each piece as it comes, then the whole message, what it took, and the id to confirm it with."""
    chat = await open_endpoint(
        await open_zoo(Says("Roar! ", "I am Leo.", reply_end=ReplyEnd(usage=Usage(7, 4)))), SESSIONS
    )

    answer = await chat.post_message()

    assert list_event_data(answer) == [
        {"text": "Roar! "},
        {"text": "I am Leo."},
        {"message": "Roar! I am Leo.", "tokensUsed": 4, "streamingSessionId": get_turn_id(answer)},
    ]
    assert get_last_event(answer).event == "done"


async def test_a_stream_that_fails_says_so_in_three_ways(open_zoo: OpensZoo) -> None:
    """A name for programs, a sentence for people, and the problem object."""
    chat = await open_endpoint(await open_zoo(Fails(OSError("secret"), "Well, ")), SESSIONS)

    error = get_last_event(await chat.post_message())

    assert error.event == "error"
    assert error.data["error"] == error.data["problem"]["code"] == "internal_error"
    assert error.data["message"] == error.data["problem"]["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "message"),
        ({"message": "\n"}, "message"),
        ({"message": "x" * 4001}, "message"),
        ({"message": None}, "message"),
        ({**HELLO, "modelId": 9}, "modelId"),
    ],
)
async def test_a_message_of_the_wrong_form_is_400(open_zoo: OpensZoo, body: dict[str, Any], field: str) -> None:
    """The error names the field, and no credits are charged."""
    chat = await open_endpoint(await open_zoo(), SESSIONS)

    answer = await chat.client.post(chat.path, json=body)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)
    assert await get_credits(chat.client) == MANY_CREDITS


async def test_one_stream_at_a_time(open_zoo: OpensZoo) -> None:
    """400 while the session already streams; and nothing more is held of the credits."""
    provider = Waits()
    chat, stream = await start_waiting_stream(await open_zoo(provider), provider)
    held = await get_credits(chat.client)

    refused = await chat.post_message("And now?")
    still_held = await get_credits(chat.client)
    provider.go.set()
    await stream

    assert (refused.status_code, refused.json()["code"]) == (400, "session_streaming")
    assert held == still_held == MANY_CREDITS - 1024
    assert (await chat.post_message("And now?")).status_code == 200


async def test_without_credits_nothing_is_streamed(open_zoo: OpensZoo) -> None:
    """The answer is 402 instead of a stream."""
    provider = Says()
    client = await log_in_client(await open_zoo(provider), "user1")
    session_id = await create_session(client)

    answer = await client.post(f"/chat/sessions/{session_id}/stream", json=HELLO)

    assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_credits")
    assert answer.headers["content-type"] == "application/problem+json"
    assert provider.prompts == []


async def test_the_last_credits_are_spent_and_no_more(open_zoo: OpensZoo) -> None:
    """A turn may take all there is; the balance never falls below zero."""
    client = await log_in_client(await open_zoo(Says(reply_end=ReplyEnd(usage=Usage(600, 400)))), "user1", 300)
    session_id = await create_session(client)

    answers = [await client.post(f"/chat/sessions/{session_id}/stream", json=HELLO) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 402]
    assert await get_credits(client) == 0


@pytest.mark.parametrize("price", [1, 3])
async def test_a_reply_costs_what_it_took(open_zoo: OpensZoo, price: int) -> None:
    """Credits are reserved first; in the end the tokens are charged."""
    zoo = await open_zoo(Says(reply_end=ReplyEnd(usage=Usage(7, 4))), credits_per_token=price)
    chat = await open_endpoint(zoo, SESSIONS)

    await chat.post_message()

    assert await get_credits(chat.client) == MANY_CREDITS - 4 * price
    model = (await chat.client.get("/models")).json()["models"][0]
    assert (model["creditCost"], model["promptCreditCost"]) == (price, 0)


async def test_prompts_cost_where_they_have_a_price(open_zoo: OpensZoo) -> None:
    """`tokensUsed` counts what is charged: then those of the prompt, too."""
    provider = Says(reply_end=ReplyEnd(usage=Usage(7, 4)))
    chat = await open_endpoint(await open_zoo(provider, credits_per_token=10, credits_per_prompt_token=2), SESSIONS)

    answer = await chat.post_message()

    assert get_last_event(answer).data["tokensUsed"] == 11
    assert await get_credits(chat.client) == MANY_CREDITS - 54
    assert (await chat.client.get("/models")).json()["models"][0]["promptCreditCost"] == 2


async def test_a_long_talk_costs_what_is_said_in_it(open_zoo: OpensZoo) -> None:
    """The fifteenth answer costs no more than the first of the same length, though its prompt is far longer."""
    provider = CountsPrompt()
    chat = await open_endpoint(await open_zoo(provider), SESSIONS)

    tokens = [get_last_event(await chat.post_message()).data["tokensUsed"] for _ in range(15)]

    assert provider.prompt_tokens[-1] > 10 * provider.prompt_tokens[0]
    assert tokens == [4] * 15
    assert await get_credits(chat.client) == MANY_CREDITS - 60


async def test_the_offline_provider_has_no_prompt_to_charge(open_zoo: OpensZoo) -> None:
    """Whatever prompts cost: no model reads one. A word of the reply is a token."""
    provider = OfflineProvider(words_per_s=0, seed=0)
    chat = await open_endpoint(await open_zoo(provider, credits_per_prompt_token=100), SESSIONS)

    for _ in range(3):
        before = await get_credits(chat.client)
        done = get_last_event(await chat.post_message()).data
        assert before - await get_credits(chat.client) == done["tokensUsed"] == len(done["message"].split())


async def test_a_withheld_reply_costs_what_was_sent_of_it(open_zoo: OpensZoo) -> None:
    """The animal's safe words, which end it, are not the model's."""
    chat = await open_endpoint(await open_zoo(Streams("I am a lion. ", "Write to leo@zoo.example! ")), SESSIONS)

    done = get_last_event(await chat.post_message()).data

    assert "leo@" not in done["message"]
    assert len(done["message"].split()) > 4
    assert done["tokensUsed"] == MANY_CREDITS - await get_credits(chat.client) == 4


async def test_a_failure_costs_nothing(open_zoo: OpensZoo) -> None:
    """No matter how much of the reply had been sent."""
    chat = await open_endpoint(await open_zoo(Fails(OSError(), "Well, ")), SESSIONS)

    await chat.post_message()

    assert await get_credits(chat.client) == MANY_CREDITS


async def test_a_blocked_message_costs_nothing(open_zoo: OpensZoo) -> None:
    """No model was used."""
    chat = await open_endpoint(await open_zoo(moderator=Blocks()), SESSIONS)

    await chat.post_message()

    assert await get_credits(chat.client) == MANY_CREDITS


async def test_one_key_is_charged_once(open_zoo: OpensZoo) -> None:
    """However often the request comes, also at the same time; a resumption costs nothing either."""
    chat = await open_endpoint(await open_zoo(Says(reply_end=ReplyEnd(usage=Usage(7, 4)))), SESSIONS)

    answers = await asyncio.gather(*(chat.post_message(Idempotency_Key="key-1") for _ in range(10)))
    await chat.post_message(Last_Event_ID=f"{get_turn_id(answers[0])}-1")

    assert {answer.content for answer in answers} == {answers[0].content}
    assert await get_credits(chat.client) == MANY_CREDITS - 4


async def test_the_server_wrote_the_transcript_and_the_client_confirms(open_zoo: OpensZoo) -> None:
    """200 with the server's own count, however often; the client's words change nothing."""
    chat = await open_endpoint(await open_zoo(Says("Roar!", reply_end=ReplyEnd(usage=Usage(7, 4)))), SESSIONS)
    streaming_id = get_turn_id(await chat.post_message())

    for _ in range(2):
        answer = await confirm_stream(chat, streaming_id)
        session_id = chat.path.split("/")[3]
        assert answer.json() == {"message": "The stream was confirmed.", "sessionId": session_id, "tokensUsed": 4}
    told = (await chat.client.get(chat.path.removesuffix("/stream"))).json()

    assert told["messages"][-1]["content"] == "Roar!"


@pytest.mark.parametrize("given", [UNKNOWN, "x", "turn_", "\u00fc", "x" * 256])
async def test_a_wrong_id_is_a_mismatch(open_zoo: OpensZoo, given: str) -> None:
    """The answer is 400 and does not contain the right id."""
    chat = await open_endpoint(await open_zoo(), SESSIONS)
    streaming_id = get_turn_id(await chat.post_message())

    answer = await confirm_stream(chat, given)

    assert answer.status_code == 400
    assert "mismatch" in answer.json()["detail"]
    assert streaming_id not in answer.text + str(answer.headers)


async def test_every_wrong_id_gets_the_same_answer(open_zoo: OpensZoo) -> None:
    """An old one, another session's, none at all: nobody can feel out which it is."""
    zoo = await open_zoo()
    chat, other = await open_endpoint(zoo, SESSIONS), await open_endpoint(zoo, SESSIONS)
    empty = await open_endpoint(zoo, SESSIONS)
    old = get_turn_id(await chat.post_message())
    await chat.post_message("And now?")
    elsewhere = get_turn_id(await other.post_message())

    answers = [await confirm_stream(chat, given) for given in (old, elsewhere, UNKNOWN)] + [
        await confirm_stream(empty, old)
    ]

    assert {answer.status_code for answer in answers} == {400}
    assert len({answer.content for answer in answers}) == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tokensUsed": -1}, "tokensUsed"),
        ({"tokensUsed": "many"}, "tokensUsed"),
        ({"streamingSessionId": ""}, "streamingSessionId"),
        ({"streamingSessionId": "x" * 257}, "streamingSessionId"),
        ({"streamingSessionId": None}, "streamingSessionId"),
        ({"completeResponse": 7}, "completeResponse"),
    ],
)
async def test_a_confirmation_of_the_wrong_form_is_400(
    open_zoo: OpensZoo, change: dict[str, object], field: str
) -> None:
    """The error names the field, and the stream goes on."""
    chat = await open_endpoint(await open_zoo(), SESSIONS)
    streaming_id = get_turn_id(await chat.post_message())
    body = {"completeResponse": "Roar!", "streamingSessionId": streaming_id, "tokensUsed": 1, **change}

    answer = await chat.client.post(chat.path.replace("/stream", "/update-stream"), json=body)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


async def test_confirming_a_running_stream_stops_it(open_zoo: OpensZoo) -> None:
    """The client is done: the animal's work is cancelled, what was said is kept and paid, the next stream may begin."""
    provider = Waits()
    chat, stream = await start_waiting_stream(await open_zoo(provider), provider)

    confirmed = await confirm_stream(chat, await start_stream(chat))
    was_closed = provider.was_closed
    provider.go.set()
    following = await chat.post_message("And now?")

    assert confirmed.status_code == 200
    assert was_closed
    assert (get_last_event(await stream).event, get_last_event(await stream).data["message"]) == ("done", "Ready, ")
    assert confirmed.json()["tokensUsed"] == get_last_event(await stream).data["tokensUsed"] > 0
    assert following.status_code == 200
    assert chat.read_text(following) == "Ready, go."


async def test_a_stop_costs_what_was_said_until_then(open_zoo: OpensZoo) -> None:
    """The tokens until the stop are charged, no more and no less."""
    provider = Waits()
    chat, stream = await start_waiting_stream(await open_zoo(provider), provider)

    confirmed = await confirm_stream(chat, await start_stream(chat))
    await stream

    assert 0 < MANY_CREDITS - await get_credits(chat.client) == confirmed.json()["tokensUsed"] < 20


async def test_a_wrong_confirmation_stops_nothing(open_zoo: OpensZoo) -> None:
    """The stream continues to its end."""
    provider = Waits()
    chat, stream = await start_waiting_stream(await open_zoo(provider), provider)

    assert (await confirm_stream(chat, UNKNOWN)).status_code == 400
    provider.go.set()

    assert get_last_event(await stream).data["message"] == "Ready, go."


async def test_the_id_is_kept_before_the_first_byte(open_zoo: OpensZoo) -> None:
    """When the header is there, so is the id: a confirmation right after it needs no wait and no second try."""
    chat = await open_endpoint(await open_zoo(Waits()), SESSIONS)
    stream = asyncio.create_task(chat.post_message())
    while not (await chat.client.get(chat.path.removesuffix("/stream"))).json()["messages"]:
        pass

    # The id can be read already, and so it can be confirmed, whatever the stream has said by now.
    confirmed = await confirm_stream(chat, await start_stream(chat))

    assert confirmed.status_code == 200
    assert get_turn_id(await stream) == get_last_event(await stream).data["streamingSessionId"]


# -- Messages without a stream


async def test_a_message_gets_the_same_turn_as_json(open_zoo: OpensZoo) -> None:
    """What `done` would have said, and the same charge; the session has it like any other turn."""
    zoo = await open_zoo(Says("Roar! ", "I am Leo.", reply_end=ReplyEnd(usage=Usage(7, 4))))
    client = await log_in_client(zoo, "user1", MANY_CREDITS)
    session_id = await create_session(client, initialMessage="I love cats.")

    answer = await client.post(f"/chat/sessions/{session_id}/messages", json=HELLO)
    told = (await client.get(f"/chat/sessions/{session_id}/messages")).json()

    turn_id = answer.json()["streamingSessionId"]
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "message": "Roar! I am Leo.",
            "tokensUsed": 4,
            "streamingSessionId": turn_id,
            "sessionId": session_id,
            "modelId": "fake-1",
        },
    )
    assert await get_credits(client) == MANY_CREDITS - 4
    assert (told["sessionId"], told["nextCursor"]) == (session_id, None)
    assert [(said["role"], said["content"], said.get("streamingSessionId")) for said in told["messages"]] == [
        ("user", "I love cats.", None),
        ("user", HELLO["message"], turn_id),
        ("assistant", "Roar! I am Leo.", turn_id),
    ]
    assert told["messages"] == (await client.get(f"/chat/sessions/{session_id}")).json()["messages"]
    assert (await client.get(f"/convo_turn/{turn_id}")).json()["reply"] == "Roar! I am Leo."


@pytest.mark.parametrize("model_id", ["fake-1", "anthropic.claude-3-sonnet-20240229-v1:0", "gpt-9", "", None])
async def test_a_model_that_is_not_on_offer_is_answered_by_the_one_that_is(
    open_zoo: OpensZoo, model_id: str | None
) -> None:
    """Clients of other servers name the models of those; the answer says which model it was."""
    chat = await open_endpoint(await open_zoo(), SESSIONS)
    body = {**HELLO, "modelId": model_id}

    streamed = await chat.client.post(chat.path, json=body)
    answer = await chat.client.post(chat.path.replace("/stream", "/messages"), json=body)

    assert (streamed.status_code, get_last_event(streamed).event) == (200, "done")
    assert (answer.status_code, answer.json()["modelId"]) == (200, "fake-1")


async def test_a_message_is_confirmed_like_a_stream(open_zoo: OpensZoo) -> None:
    """With the id of its turn, and no other."""
    chat = await open_endpoint(await open_zoo(), SESSIONS)
    answer = (await chat.client.post(chat.path.replace("/stream", "/messages"), json=HELLO)).json()

    assert (await confirm_stream(chat, answer["streamingSessionId"])).json()["tokensUsed"] == answer["tokensUsed"]
    assert (await confirm_stream(chat, "turn_0")).status_code == 400


async def test_messages_are_listed_in_pages(open_zoo: OpensZoo) -> None:
    """Each once, in their order."""
    client = await log_in_client(await open_zoo(Says("Roar!")), "user1", MANY_CREDITS)
    path = f"/chat/sessions/{await create_session(client, initialMessage='I love cats.')}/messages"
    for number in range(5):
        assert (await client.post(path, json={"message": f"question {number}"})).status_code == 200

    asked, cursor = [], None
    while True:
        page = (await client.get(path, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        asked += [said["content"] for said in page["messages"] if said["role"] == "user"]
        cursor = page["nextCursor"]
        if cursor is None:
            break

    assert asked == ["I love cats.", *(f"question {number}" for number in range(5))]


async def test_a_message_is_refused_as_a_stream_is(open_zoo: OpensZoo) -> None:
    """400 while the session streams, and for an unknown form; 402 without credits; a failed turn is a problem."""
    provider = Waits()
    zoo = await open_zoo(provider)
    chat, stream = await start_waiting_stream(zoo, provider)
    path = chat.path.replace("/stream", "/messages")

    busy = await chat.client.post(path, json=HELLO)
    wrong = await chat.client.post(path, json={"message": ""})
    await confirm_stream(chat, await start_stream(chat))
    await stream
    poor = await log_in_client(zoo, "parent1")
    unpaid = await poor.post(f"/chat/sessions/{await create_session(poor)}/messages", json=HELLO)

    assert (busy.status_code, busy.json()["code"]) == (400, "session_streaming")
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (400, "message")
    assert (unpaid.status_code, unpaid.json()["code"]) == (402, "insufficient_credits")


async def test_a_message_that_fails_costs_nothing(open_zoo: OpensZoo) -> None:
    """The answer is the problem of the turn."""
    chat = await open_endpoint(await open_zoo(Fails(ProviderFailed(), "Well, ")), SESSIONS)

    answer = await chat.client.post(chat.path.replace("/stream", "/messages"), json=HELLO)

    assert (answer.status_code, answer.json()["code"]) == (502, "provider_failed")
    assert await get_credits(chat.client) == MANY_CREDITS


async def test_a_repeated_message_is_answered_and_charged_once(open_zoo: OpensZoo) -> None:
    """With its `Idempotency-Key`, also when they come at the same time."""
    chat = await open_endpoint(await open_zoo(Says(reply_end=ReplyEnd(usage=Usage(7, 4)))), SESSIONS)
    path, key = chat.path.replace("/stream", "/messages"), {"Idempotency-Key": "key-1"}

    answers = await asyncio.gather(*(chat.client.post(path, json=HELLO, headers=key) for _ in range(5)))
    other = await chat.client.post(path, json={"message": "And now?"}, headers=key)

    assert {answer.text for answer in answers} == {answers[0].text}
    assert answers[0].status_code == 200
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    assert await get_credits(chat.client) == MANY_CREDITS - 4


# -- Observing


async def observe(zoo: RunningApp, username: str, path: str, **headers: str) -> httpx.Response:
    observer = await log_in_client(zoo, username)
    return await observer.get(path.replace("/stream", "/observe"), headers=headers)


async def list_looks(zoo: RunningApp) -> list[tuple[str, str | None, str | None]]:
    """Who looked at whose sessions, and how."""
    entries = (await zoo.services.audit.list_entries(100)).items[::-1]
    return [
        (entry.action.value, entry.actor.name, entry.target)
        for entry in entries
        if entry.action.value.startswith("sess")
    ]


async def wait_for_looks(zoo: RunningApp, count: int) -> None:
    async with asyncio.timeout(10):
        while len(await list_looks(zoo)) < count:  # noqa: ASYNC110  # the audit trail has no event for us
            await asyncio.sleep(0)


@pytest.mark.parametrize("username", ["keeper1", "admin"])
async def test_a_zookeeper_sees_a_running_turn_live(open_zoo: OpensZoo, username: str) -> None:
    """From its first event, the same bytes as its reader; and the audit trail says who looked at whose session."""
    provider = Waits()
    zoo = await open_zoo(provider)
    chat, stream = await start_waiting_stream(zoo, provider)
    observation = asyncio.create_task(observe(zoo, username, chat.path))
    await wait_for_looks(zoo, 1)
    provider.go.set()

    seen, streamed = await observation, await stream

    assert seen.status_code == 200
    assert seen.content == streamed.content
    assert get_turn_id(seen) == get_turn_id(streamed)
    assert await list_looks(zoo) == [("session_observed", username, "user1")]


@pytest.mark.parametrize("username", ["user1", "parent1"])
async def test_nobody_else_observes(open_zoo: OpensZoo, username: str) -> None:
    """Not the owner, nor the parent: as if there were no such session. They see nothing of it, and none is noted."""
    provider = Waits()
    zoo = await open_zoo(provider)
    chat, stream = await start_waiting_stream(zoo, provider)

    refused = await observe(zoo, username, chat.path)
    missing = await observe(zoo, username, f"/chat/sessions/sess_{'0' * 32}/stream")
    anonymous = await (await zoo.new_client()).get(chat.path.replace("/stream", "/observe"))
    provider.go.set()
    await stream

    assert (refused.status_code, refused.json()["code"]) == (404, "session_not_found")
    assert refused.json() == missing.json()
    assert anonymous.status_code == 401
    assert await list_looks(zoo) == []


async def test_there_is_nothing_to_observe_while_no_turn_runs(open_zoo: OpensZoo) -> None:
    """404, as for a session that is not there, but a zookeeper is told which of both."""
    zoo = await open_zoo()
    chat = await open_endpoint(zoo, SESSIONS)
    await chat.post_message()

    idle = await observe(zoo, "keeper1", chat.path)
    missing = await observe(zoo, "keeper1", f"/chat/sessions/sess_{'0' * 32}/stream")

    assert (idle.status_code, idle.json()["code"]) == (404, "turn_not_found")
    assert (missing.status_code, missing.json()["code"]) == (404, "session_not_found")


async def test_an_observer_does_not_keep_a_turn_running(open_zoo: OpensZoo) -> None:
    """When its reader leaves, it ends as if nobody watched; and the observer sees its end."""
    provider = Waits()
    zoo = await open_zoo(provider, ORPHAN_GRACE=0)
    chat, stream = await start_waiting_stream(zoo, provider)
    observation = asyncio.create_task(observe(zoo, "keeper1", chat.path))
    await wait_for_looks(zoo, 1)
    async with asyncio.timeout(10):
        assert zoo.services.engine.reader_count == 1
        turn_id = await start_stream(chat)
        with await zoo.services.engine.open_reader(turn_id, is_observer=True):
            pass
        assert not provider.was_closed, "an observer that leaves ends nothing"
        stream.cancel()
        seen = await observation

    assert get_last_event(seen).event == "done"
    assert provider.was_closed


async def test_an_observer_resumes_where_the_connection_was_lost(open_zoo: OpensZoo) -> None:
    """With the id of the last event; an id of another turn begins at the first."""
    provider = Waits()
    zoo = await open_zoo(provider)
    chat, stream = await start_waiting_stream(zoo, provider)
    turn_id = await start_stream(chat)
    observations = [
        asyncio.create_task(observe(zoo, "keeper1", chat.path, **{"Last-Event-ID": last}))
        for last in (f"{turn_id}-3", f"turn_{'0' * 32}-3")
    ]
    await wait_for_looks(zoo, 2)
    provider.go.set()
    resumed, whole = [await observation for observation in observations]

    assert whole.content == (await stream).content
    assert whole.content.endswith(resumed.content.removeprefix(b"retry: 2000\n"))
    assert len(resumed.content) <= len(whole.content)


@pytest.mark.parametrize(
    ("title", "kept"),
    [
        ("Test Chat Session 1795925857", "Test Chat Session 1795925857"),
        ("Test Chat Session 2026-11-29 16:53:53", "Test Chat Session 2026-11-29 16:53:53"),
        ("Session 1795925857123", "Session 1795925857123"),
        ("Order 8095925857", "Order 8095925857"),
        ("Lions 2: 20261129165354", "Lions 2: 20261129165354"),
        ("Call +49 171 2345678", "Call [phone number]"),
        ("Session with 07911 123456", "Session with [phone number]"),
        ("4111 1111 1111 1111", "[card number]"),
    ],
)
async def test_a_title_keeps_its_numbers(open_zoo: OpensZoo, title: str, kept: str) -> None:
    """Those that are no telephone's and no card's."""
    client = await log_in_client(await open_zoo(moderator=Masks()), "user1")

    created = (await client.post("/chat/sessions", json={"title": title})).json()

    assert created["title"] == kept
    assert (await client.get(f"/chat/sessions/{created['sessionId']}")).json()["title"] == kept


# -- Users and their sessions, for zookeepers


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("user1", ["user1"]),
        ("USE", ["user1"]),
        ("1", ["keeper1", "parent1", "user1"]),
        ("*", ["admin", "keeper1", "parent1", "user1"]),
        ("%", []),
        ("user1@example.com", []),
    ],
)
async def test_users_are_found_by_a_part_of_their_name(open_zoo: OpensZoo, query: str, names: list[str]) -> None:
    """By name; nothing of them is told but their role."""
    keeper = await log_in_client(await open_zoo(), "keeper1")

    found = (await keeper.get("/chat/users/search", params={"query": query})).json()["users"]
    first = (await keeper.get("/chat/users/search", params={"query": query, "limit": "1"})).json()["users"]

    assert [user["userId"] for user in found] == names
    assert first == found[:1]
    assert all(user.keys() == {"userId", "role"} for user in found)


async def test_a_zookeepers_reading_of_users_sessions_is_recorded(open_zoo: OpensZoo) -> None:
    """Once for the list and once for a session; it is the list and the session that the user sees."""
    zoo = await open_zoo()
    chat = await open_endpoint(zoo, SESSIONS)
    await chat.post_message()
    keeper = await log_in_client(zoo, "keeper1")
    session_id = chat.path.split("/")[3]

    listed = (await keeper.get("/chat/users/user1/sessions")).json()
    read = (await keeper.get(f"/chat/users/user1/sessions/{session_id}")).json()

    assert await list_looks(zoo) == [("sessions_listed", "keeper1", "user1"), ("session_read", "keeper1", "user1")]
    assert listed == {"userId": "user1"} | (await chat.client.get("/chat/sessions")).json()
    assert read == (await chat.client.get(f"/chat/sessions/{session_id}")).json()
