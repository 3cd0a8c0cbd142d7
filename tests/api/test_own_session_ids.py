"""A `sessionId` that a client of the zoo's own contract made itself, as the zoo's front ends do.

Who reaches whose session by such a name stands in the table of `test_authorization.py`.
"""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from openapi_server.models.ids import make_id
from tests.api.chat_endpoints import get_turn_id, list_event_data, log_in_client
from tests.conftest import OpensZoo, RunningApp
from tests.support.fakes import Says

OWN = "session_1764400000000_k3j9x"
HELLO = {"message": "Hello!", "animalId": "lion_001", "sessionId": OWN}
BINDINGS = ["id", "caller"]

each_binding = pytest.mark.parametrize("binding", BINDINGS)


async def ask(client: httpx.AsyncClient, message: str = "Hello!", **more: Any) -> httpx.Response:
    answer = await client.post("/convo_turn", json={**HELLO, "message": message, **more})
    assert answer.status_code == 200, answer.text
    return answer


@each_binding
async def test_a_name_of_the_client_is_the_id_in_every_answer(open_zoo: OpensZoo, binding: str) -> None:
    """A front end with a cookie jar never sees another id."""
    client = await (await open_zoo(session_binding=binding)).new_client()

    told = [(await ask(client)).json()["sessionId"]]
    stream = list_event_data(await client.post("/convo_turn_stream", json={**HELLO, "message": "And now?"}))
    told += [stream[0]["sessionId"], stream[-1]["sessionId"]]
    history = (await client.get("/convo_history", params={"sessionId": OWN})).json()
    streamed = await client.get("/convo_history", params={"sessionId": OWN}, headers={"Accept": "text/event-stream"})
    told += [history["sessionId"], list_event_data(streamed)[0]["sessionId"]]
    told.append((await client.get(f"/conversations/sessions/{OWN}")).json()["sessionId"])
    told.append((await client.post("/summarize_convo", json={"sessionId": OWN})).json()["sessionId"])
    (listed,) = (await client.get("/conversations/sessions")).json()["sessions"]
    told.append(listed["sessionId"])

    assert set(told) == {OWN}
    assert [turn["content"] for turn in history["turns"] if turn["role"] == "user"] == ["Hello!", "And now?"]
    deleted = await client.delete("/convo_history", params={"sessionId": OWN})
    assert deleted.status_code == 204
    assert (await client.get("/convo_history", params={"sessionId": OWN})).status_code == 404


async def test_a_client_without_cookies_goes_on_from_its_address(open_zoo: OpensZoo) -> None:
    """In development: it is known by its name for the session, and another address has another session."""
    provider = Says()
    zoo = await open_zoo(provider, session_binding="id")

    async def new_client(address: str = "10.0.0.1") -> httpx.AsyncClient:
        """One for each request: nobody keeps a cookie."""
        return await zoo.new_client(address)

    await ask(await new_client())
    await ask(await new_client(), "And now?")
    elsewhere = await new_client("10.0.0.2")
    history = await (await new_client()).get("/convo_history", params={"sessionId": OWN})
    foreign = await elsewhere.get("/convo_history", params={"sessionId": OWN})
    await ask(elsewhere, "Who are you?")

    assert history.json()["totalTurns"] == 2
    assert foreign.status_code == 404
    assert [len(prompt.history) for prompt in provider.prompts] == [0, 1, 0]
    assert (await (await new_client()).delete("/convo_history", params={"sessionId": OWN})).status_code == 204


async def test_whoever_has_used_the_cookie_is_the_only_one_who_is_known_by_the_name(open_zoo: OpensZoo) -> None:
    """In development, too: after a message with it the same address is not enough, neither to read nor to go on."""
    provider = Says()
    zoo = await open_zoo(provider, session_binding="id")
    visitor, stranger = await zoo.new_client(), await zoo.new_client()
    await ask(visitor)
    await ask(visitor, "And now?")

    foreign = await stranger.get("/convo_history", params={"sessionId": OWN})
    await ask(stranger, "Who are you?")

    assert foreign.status_code == 404
    assert [len(prompt.history) for prompt in provider.prompts] == [0, 1, 0]
    assert (await visitor.get("/convo_history", params={"sessionId": OWN})).json()["totalTurns"] == 2


async def new_stranger(zoo: RunningApp, kind: str) -> httpx.AsyncClient:
    if kind == "login":
        return await log_in_client(zoo, "user1")
    stranger = await zoo.new_client("10.0.0.2")
    if kind == "cookie":
        # Not one that the server has issued: nobody checks that.
        stranger.cookies.set("session_id", "x" * 22)
    return stranger


@each_binding
@pytest.mark.parametrize("proof", ["cookie", "token"])
@pytest.mark.parametrize("kind", ["cookie", "login", "nothing"])
async def test_a_uuid_is_claimed_by_the_proof_of_its_first_answer_alone(
    open_zoo: OpensZoo, binding: str, proof: str, kind: str
) -> None:
    """A stranger who knows it may read and write by the name, as anybody may then, but takes it from nobody."""
    provider = Says()
    zoo = await open_zoo(provider, session_binding=binding)
    named = {"sessionId": str(uuid.uuid4())}
    owner, stranger = await zoo.new_client(), await new_stranger(zoo, kind)
    token = (await ask(owner, **named)).headers["x-session-token"]
    if proof == "token":
        owner = await zoo.new_client(**{"X-Session-Token": token})

    reads = [
        await stranger.get("/convo_history", params=named),
        await stranger.get(f"/conversations/sessions/{named['sessionId']}", params={"include": "turns"}),
        await stranger.post("/summarize_convo", json=named),
    ]
    listed = (await stranger.get("/conversations/sessions")).json()["sessions"]
    await ask(stranger, "Who are you?", **named)
    seen = await owner.get("/convo_history", params=named)
    await ask(owner, "Still me", **named)

    assert [answer.status_code for answer in reads] == [200] * 3
    assert listed == []
    assert seen.json()["totalTurns"] == 2
    assert [len(prompt.history) for prompt in provider.prompts] == [0, 1, 2]
    # Now it is the owner's, and the stranger's same name another session.
    again = await new_stranger(zoo, kind)
    assert (await again.get("/convo_history", params=named)).status_code == 404
    await ask(again, "Who are you?", **named)
    assert provider.prompts[-1].history == ()
    assert (await owner.get("/convo_history", params=named)).json()["totalTurns"] == 3


@pytest.mark.parametrize("proof", ["cookie", "token"])
async def test_a_request_that_reads_claims_nothing(open_zoo: OpensZoo, proof: str) -> None:
    """Not with the right proof either: a `GET` changes nothing, and the name still is enough."""
    zoo = await open_zoo(session_binding="caller")
    named = {"sessionId": str(uuid.uuid4())}
    owner = await zoo.new_client()
    token = (await ask(owner, **named)).headers["x-session-token"]
    if proof == "token":
        owner = await zoo.new_client(**{"X-Session-Token": token})

    assert (await owner.get("/convo_history", params=named)).status_code == 200
    assert (await (await zoo.new_client()).get("/convo_history", params=named)).status_code == 200


async def test_in_production_a_client_without_cookies_needs_its_token(open_zoo: OpensZoo) -> None:
    """The token of the first answer is as good as the cookie; the name alone begins another session."""
    provider = Says()
    zoo = await open_zoo(provider, session_binding="caller")
    token = {"X-Session-Token": (await ask(await zoo.new_client())).headers["x-session-token"]}

    await ask(await zoo.new_client(**token), "And now?")
    await ask(await zoo.new_client(), "Who are you?")
    history = await (await zoo.new_client(**token)).get("/convo_history", params={"sessionId": OWN})

    assert [len(prompt.history) for prompt in provider.prompts] == [0, 1, 0]
    assert history.json()["totalTurns"] == 2
    assert (await (await zoo.new_client()).get("/convo_history", params={"sessionId": OWN})).status_code == 404


@each_binding
async def test_a_strangers_same_name_is_another_session(open_zoo: OpensZoo, binding: str) -> None:
    """Behind one address, with a cookie of their own or an account; neither sees the other's messages."""
    provider = Says()
    zoo = await open_zoo(provider, session_binding=binding)
    visitors = [await zoo.new_client() for _ in range(3)]
    for visitor, value in zip(visitors[:2], "xy", strict=True):
        visitor.cookies.set("session_id", value * 22)
    visitors[2] = await log_in_client(zoo, "user1")

    for number, visitor in enumerate(visitors):
        await ask(visitor, f"I am number {number}.")

    assert [prompt.history for prompt in provider.prompts] == [(), (), ()]
    for number, visitor in enumerate(visitors):
        history = (await visitor.get("/convo_history", params={"sessionId": OWN})).json()
        assert history["turns"][0]["content"] == f"I am number {number}."
        assert history["totalTurns"] == 1


async def test_an_accounts_name_is_the_same_session_on_every_device(open_zoo: OpensZoo) -> None:
    """And nobody else's: a parent reaches it by the id that the list of the child's sessions has, not by this name."""
    provider = Says()
    zoo = await open_zoo(provider)
    await ask(await log_in_client(zoo, "user1"))

    await ask(await log_in_client(zoo, "user1"), "And now?")
    parent = await log_in_client(zoo, "parent1")
    by_name = await parent.get("/convo_history", params={"sessionId": OWN})
    (listed,) = (await parent.get("/conversations/sessions", params={"userId": "user1"})).json()["sessions"]
    by_id = await parent.get("/convo_history", params={"sessionId": listed["sessionId"]})

    assert [len(prompt.history) for prompt in provider.prompts] == [0, 1]
    assert by_name.status_code == 404
    assert listed["sessionId"] != OWN
    assert (by_id.status_code, by_id.json()["totalTurns"]) == (200, 2)


@each_binding
async def test_an_id_of_the_servers_form_is_never_a_clients_name(open_zoo: OpensZoo, binding: str) -> None:
    """Unknown, it is 404 with the way to begin: a session that has ended must not come back empty."""
    client = await (await open_zoo(session_binding=binding)).new_client()
    made_up = make_id("sess")

    answers = [
        await client.post("/convo_turn", json={**HELLO, "sessionId": made_up}),
        await client.post("/convo_turn_stream", json={**HELLO, "sessionId": made_up}),
        await client.get("/convo_history", params={"sessionId": made_up}),
        await client.delete("/convo_history", headers={"X-Session-Id": made_up}),
        await client.post("/summarize_convo", json={"sessionId": made_up}),
        await client.get(f"/conversations/sessions/{made_up}"),
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "session_not_found")] * 6
    assert "Leave sessionId out" in answers[0].json()["detail"]


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "x" * 128,
        "-_-",
        "sess_",
        "sess_unknown",
        "sess_" + "0" * 31,
        "sess_" + "0" * 33,
        "sess_" + "A" * 32,
        "SESS_" + "0" * 32,
        "turn_" + "0" * 32,
        str(uuid.UUID(int=7)),
        "null",
    ],
)
async def test_every_other_form_is_a_name(open_zoo: OpensZoo, name: str) -> None:
    """1 to 128 letters, digits, `-` and `_`."""
    client = await (await open_zoo()).new_client()

    assert (await ask(client, sessionId=name)).json()["sessionId"] == name
    assert (await client.get("/convo_history", params={"sessionId": name})).json()["sessionId"] == name


@pytest.mark.parametrize("name", ["", " ", "x" * 129, "a b", "a/b", "a.b", "a\n", "ä", 7, [], {}])
async def test_what_is_no_name_is_400(open_zoo: OpensZoo, name: object) -> None:
    """The field is named."""
    client = await (await open_zoo()).new_client()

    answer = await client.post("/convo_turn", json={**HELLO, "sessionId": name})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "sessionId")


async def test_the_servers_own_id_of_the_session_is_not_told(open_zoo: OpensZoo) -> None:
    """With the binding `id` it would be a key, which the next visitor behind this address must not get by a name."""
    zoo = await open_zoo(session_binding="id")
    client = await zoo.new_client()
    answer = await ask(client)
    stream = await client.post("/convo_turn_stream", json=HELLO)
    turn = await zoo.services.store.get_turn(answer.json()["turnId"])
    assert turn is not None

    session = await zoo.services.store.get_session(turn.session_id)

    assert session is not None
    assert session.name == OWN
    assert turn.session_id not in answer.text + stream.text + str(answer.headers) + str(stream.headers)


@each_binding
async def test_a_stream_in_it_is_resumed_and_read_along(open_zoo: OpensZoo, binding: str) -> None:
    """By the same post with `Last-Event-ID`, and at the turn's own address: to the byte."""
    provider = Says()
    client = await (await open_zoo(provider, session_binding=binding)).new_client()
    whole = await client.post("/convo_turn_stream", json=HELLO)
    turn_id = get_turn_id(whole)

    again = await client.post("/convo_turn_stream", json=HELLO, headers={"Last-Event-ID": f"{turn_id}-1"})
    along = await client.get(f"/convo_turn/{turn_id}/stream")
    other = await client.post(
        "/convo_turn_stream", json={**HELLO, "sessionId": "another"}, headers={"Last-Event-ID": f"{turn_id}-1"}
    )

    assert along.text == whole.text
    assert again.text.removeprefix("retry: 2000\n") == whole.text.partition("\n\n")[2]
    assert (other.status_code, other.json()["code"]) == (422, "resume_mismatch")
    assert len(provider.prompts) == 1


@pytest.mark.parametrize("has_cookie", [True, False])
async def test_a_repeated_message_in_it_joins_its_turn(open_zoo: OpensZoo, has_cookie: bool) -> None:
    """With the cookie of the first answer, or when that was lost, too."""
    provider = Says()
    zoo = await open_zoo(provider)
    client = await zoo.new_client()
    headers = {"Idempotency-Key": str(uuid.uuid4())}

    first = await client.post("/convo_turn", json=HELLO, headers=headers)
    again = await (client if has_cookie else await zoo.new_client()).post("/convo_turn", json=HELLO, headers=headers)

    assert again.json() == first.json()
    assert len(provider.prompts) == 1


async def test_a_name_of_another_contract_is_another_session(open_zoo: OpensZoo) -> None:
    """`session_id` of the token stream and `sessionId` do not meet."""
    provider = Says()
    client = await (await open_zoo(provider)).new_client()
    await client.post("/chat", json={"message": "Hi", "session_id": OWN})

    await ask(client)

    assert [prompt.history for prompt in provider.prompts] == [(), ()]


async def test_the_name_is_exported_and_erased_with_the_session(open_zoo: OpensZoo) -> None:
    """It is what the visitor's front end called the conversation."""
    client = await (await open_zoo()).new_client()
    await ask(client)

    exported = (await client.get("/privacy/export")).json()
    erased = await client.delete("/privacy")

    assert [session["name"] for session in exported["sessions"]] == [OWN]
    assert erased.status_code == 200
    assert (await client.get("/convo_history", params={"sessionId": OWN})).status_code == 404
