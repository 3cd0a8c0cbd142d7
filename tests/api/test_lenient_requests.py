"""What front ends really send: more members than an API has, `null` for what they do not know, and an empty login.

`tests/http/test_lenient_bodies.py` walks all request schemas; here the requests reach their handlers.
"""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from openapi_server.config import LOCAL_ORIGINS
from tests.api.chat_endpoints import CHAT_ENDPOINTS, ChatEndpoint, get_turn_id, list_event_data, open_endpoint
from tests.conftest import OpensClient, OpensZoo, find_template
from tests.http.test_lenient_bodies import LENIENT, UNKNOWN
from tests.support.fakes import Says

each_endpoint = pytest.mark.parametrize("endpoint", CHAT_ENDPOINTS.values(), ids=CHAT_ENDPOINTS)
# The path and body of a front end of each contract.
FRONT_ENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "the zoo's chat page": (
        "/convo_turn",
        {"message": "Hi", "animalId": "lion_001", "userId": "u1", "contextSummary": None, "metadata": {"source": None}},
    ),
    "the zoo's stream": (
        "/convo_turn_stream",
        {"message": "Hi", "animalId": "lion_001", "sessionId": None, "user_id": "u1", "timestamp": 1764400000},
    ),
    "the platform": (
        "/api/v1/stream",
        {
            "query": "Hi",
            "stream": True,
            "conversation_history": [
                {"role": "user", "content": "Hello", "timestamp": "2025-11-06T10:30:40Z", "id": 1},
                {"role": "assistant", "content": "Roar", "sources": [], "metadata": None},
            ],
            "animal_id": None,
        },
    ),
    "the token guide's hook": ("/chat", {"message": "Hi", "user_id": "u1", "session_id": None}),
    "the device guide": ("/chat/", {"content": "Hi", "media_urls": None, "audio_urls": None, "user_id": "u1"}),
    "the device guide's stream": ("/chat/stream", {"content": "Hi", "message": "Hi", "session_id": "s1"}),
}


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("login", [None, "Bearer", "Bearer ", "Bearer null"])
async def test_a_front_end_is_answered(open_client: OpensClient, name: str, login: str | None) -> None:
    """Logged out, and with its body as it is."""
    path, body = FRONT_ENDS[name]
    provider = Says()
    client = await open_client(provider)

    answer = await client.post(path, json=body, headers={"Authorization": login} if login else {})

    assert answer.status_code == 200, answer.text
    assert provider.prompts[0].message == "Hi"


@each_endpoint
async def test_what_is_ignored_changes_nothing(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """Unknown members, and null for every optional one: the animal is asked the same."""
    provider = Says()
    chat = await open_endpoint(await open_zoo(provider), endpoint)
    schema = LENIENT[f"post {find_template(chat.path)}"]
    optional = schema["properties"].keys() - set(schema["required"])
    body = {**UNKNOWN, **dict.fromkeys(optional), endpoint.message_field: "Hello!"}
    body |= {name: endpoint.body[name] for name in endpoint.body.keys() - optional}

    answer = await chat.client.post(chat.path, json=body)
    await chat.post_message()

    assert answer.status_code == 200, answer.text
    first, second = provider.prompts
    assert (first.message, first.animal, first.age_group) == (second.message, second.animal, second.age_group)


@each_endpoint
async def test_a_required_member_that_is_null_is_named(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """Null is the absence of what may be absent, and nothing else."""
    chat = await open_endpoint(await open_zoo(), endpoint)

    answer = await chat.client.post(chat.path, json={**endpoint.body, endpoint.message_field: None})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, endpoint.message_field)


@each_endpoint
async def test_an_optional_member_of_the_wrong_type_is_named(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """Only null is absence: an empty list or false is a mistake of the client."""
    chat = await open_endpoint(await open_zoo(), endpoint)
    properties = LENIENT[f"post {find_template(chat.path)}"]["properties"]
    optional = next(name for name in properties if name not in {endpoint.message_field, "animalId"})
    wrong = {"is": "wrong"} if properties[optional].get("type") != "object" else "wrong"

    answer = await chat.client.post(
        chat.path, json={**endpoint.body, endpoint.message_field: "Hello!", optional: wrong}
    )

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, optional)


@each_endpoint
async def test_a_repeated_request_may_differ_in_what_is_ignored(open_zoo: OpensZoo, endpoint: ChatEndpoint) -> None:
    """A front end that tries again has a new timestamp: it is the same request, and joins the same turn."""
    provider = Says()
    chat = await open_endpoint(await open_zoo(provider), endpoint)
    body = {**endpoint.body, endpoint.message_field: "Hello!"}
    headers = {"Idempotency-Key": str(uuid.uuid4())}

    answers = [
        await chat.client.post(chat.path, json={**body, "timestamp": number}, headers=headers) for number in (1, 2)
    ]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert get_turn_id(answers[0]) == get_turn_id(answers[1])
    assert len(provider.prompts) == 1


async def test_a_keepers_typo_is_told(client: httpx.AsyncClient) -> None:
    """It would be a lost change."""
    login = (await client.post("/auth/login", json={"username": "keeper1", "password": "keeper1-demo"})).json()
    client.headers["Authorization"] = f"Bearer {login['accessToken']}"

    changed = await client.patch(
        "/animal_config?animalId=lion_001", json={"temprature": 0.5}, headers={"If-Match": "*"}
    )

    assert (changed.status_code, changed.json()["errors"][0]["field"]) == (400, "temprature")


# A session that the server names


HOOK = {"message": "Hi", "user_id": "u1", "session_id": None}


def get_session_name(answer: httpx.Response) -> str:
    name: str = answer.headers["x-session-id"]
    return name


@pytest.mark.parametrize("body", [HOOK, {"message": "Hi"}])
@pytest.mark.parametrize("binding", ["id", "caller"])
async def test_the_server_names_a_session_that_its_client_does_not(
    open_zoo: OpensZoo, body: dict[str, Any], binding: str
) -> None:
    """A UUID, told in a header that pages may read; with it, the next message is in the same session."""
    provider = Says()
    client = await (await open_zoo(provider, session_binding=binding)).new_client()

    first = await client.post("/chat", json=body, headers={"Origin": LOCAL_ORIGINS[0]})
    name = get_session_name(first)
    second = await client.post("/chat", json={**body, "session_id": name, "streaming": False})

    assert uuid.UUID(name).version == 4
    assert "X-Session-Id" in first.headers["access-control-expose-headers"]
    assert (second.status_code, second.json()["session_id"], get_session_name(second)) == (200, name, name)
    assert [said.message for said in provider.prompts[1].history] == ["Hi"]
    assert list_event_data(first)[-1]["content"] == {}


async def test_each_message_without_a_session_begins_one(open_zoo: OpensZoo) -> None:
    """Also with a cookie: nobody gets into a conversation that they did not name."""
    provider = Says()
    client = await (await open_zoo(provider)).new_client()

    names = {get_session_name(await client.post("/chat", json=HOOK)) for _ in range(3)}

    assert len(names) == 3
    assert [prompt.history for prompt in provider.prompts] == [(), (), ()]


@pytest.mark.parametrize("has_cookie", [True, False])
async def test_a_repeated_message_without_a_session_gets_the_same_one(open_zoo: OpensZoo, has_cookie: bool) -> None:
    """The first answer was lost, and with it the name and the cookie."""
    provider = Says()
    client = await (await open_zoo(provider)).new_client()
    headers = {"Idempotency-Key": str(uuid.uuid4())}

    first = await client.post("/chat", json=HOOK, headers=headers)
    if not has_cookie:
        client.cookies.clear()
    again = await client.post("/chat", json=HOOK, headers=headers)
    third = await client.post("/chat", json={**HOOK, "session_id": get_session_name(again)})

    assert (get_turn_id(again), get_session_name(again)) == (get_turn_id(first), get_session_name(first))
    assert third.status_code == 200
    assert [said.message for said in provider.prompts[1].history] == ["Hi"]


async def test_two_visitors_with_one_short_key_get_two_sessions(open_zoo: OpensZoo) -> None:
    """A key that others may choose as well leads to nobody else's session."""
    zoo = await open_zoo()
    names = [
        get_session_name(await (await zoo.new_client()).post("/chat", json=HOOK, headers={"Idempotency-Key": "1"}))
        for _ in range(2)
    ]

    assert len(set(names)) == 2


async def test_a_message_without_a_session_can_be_resumed(open_zoo: OpensZoo) -> None:
    """The id of the last event says which turn is meant; another caller's is not resumed where it needs its caller."""
    zoo = await open_zoo(session_binding="caller")
    client, stranger = await zoo.new_client(), await zoo.new_client()
    body = {**HOOK, "onDisconnect": "continue"}
    whole = await client.post("/chat", json=body)
    last_seen = {"Last-Event-ID": f"{get_turn_id(whole)}-0"}

    again = await client.post("/chat", json=body, headers=last_seen)
    foreign = await stranger.post("/chat", json=body, headers=last_seen)

    assert again.text == whole.text
    assert foreign.status_code == 404
