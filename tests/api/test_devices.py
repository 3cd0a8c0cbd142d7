"""The devices' contract: one animal at a time, a session that outlives restarts, and an answer even without a store."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from openapi_server.protocols import Store
from openapi_server.wire.timestamps import format_naive_timestamp
from tests.api.chat_endpoints import (
    DEVICES,
    get_last_event,
    get_turn_id,
    list_event_data,
    list_event_ids,
    log_in_client,
    open_endpoint,
)
from tests.conftest import OpensClient, OpensZoo
from tests.support.asgi import Request, ask
from tests.support.fakes import Blocks, Fails, FakeClock, FakeKnowledge, Says, UnreliableStore, make_lion

PATH = "/chat/stream"
WHOLE = "/chat/"
HELLO = {"content": "Hello!"}
KIOSK = {"X-Device-ID": "kiosk-7"}
A_UUID = "550e8400-e29b-41d4-a716-446655440000"


async def post_content(client: httpx.AsyncClient, content: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()} or KIOSK
    answer = await client.post(WHOLE, json={"content": content}, headers=named)
    assert answer.status_code == 200, answer.text
    return answer


async def get_device_session(client: httpx.AsyncClient, **headers: str) -> dict[str, Any]:
    answer = await client.get("/chat/session", headers=headers or KIOSK)
    assert answer.status_code == 200, answer.text
    session: dict[str, Any] = answer.json()
    return session


def read_rows(folder: Path, query: str) -> list[tuple[object, ...]]:
    """The rows of a query, read by another connection."""
    with closing(sqlite3.connect(folder / "zoo.sqlite3")) as db:
        return db.execute(query).fetchall()


async def test_the_whole_answer_is_one_field(client: httpx.AsyncClient) -> None:
    """`POST /chat/`, with the slash; without a device's name it is somebody else's address."""
    answer = await client.post(WHOLE, json=HELLO, headers=KIOSK)

    assert answer.json() == {"content": "Roar! I am a lion."}
    assert (await client.post("/chat", json=HELLO)).status_code == 400


async def test_a_stream_ends_with_an_empty_final_piece(open_client: OpensClient) -> None:
    """Unnamed events; a timestamp to the microsecond, without a zone, as these clients have always been sent."""
    clock = FakeClock()
    client = await open_client(Says("Roar! ", "I am Leo."), clock=clock)
    at = format_naive_timestamp(clock.now())

    answer = await client.post(PATH, json=HELLO, headers=KIOSK)

    assert list_event_data(answer) == [
        {"content": "Roar! ", "timestamp": at, "is_final": False},
        {"content": "I am Leo.", "timestamp": at, "is_final": False},
        {"content": "", "timestamp": at, "is_final": True},
    ]
    assert at == "2026-11-21T10:30:40.000000"
    assert b"event:" not in answer.content


async def test_on_an_error_the_final_piece_says_so(open_client: OpensClient) -> None:
    """With the problem object; what was said before it has been said."""
    client = await open_client(Fails(OSError("secret"), "Well, "))

    answer = await client.post(PATH, json=HELLO, headers=KIOSK)

    final = get_last_event(answer).data
    assert (final["content"], final["is_final"], final["error"]["code"]) == ("", True, "internal_error")


async def test_without_a_stream_an_error_is_a_status(open_client: OpensClient) -> None:
    """The body is a problem object, without any text of the provider."""
    client = await open_client(Fails(OSError("secret"), "Well, "))

    answer = await client.post(WHOLE, json=HELLO, headers=KIOSK)

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", [PATH, WHOLE])
@pytest.mark.parametrize("content", ["", " ", "\n\t\u3000"])
async def test_blank_content_is_400_in_these_words(client: httpx.AsyncClient, path: str, content: str) -> None:
    """Existing clients compare the text."""
    answer = await client.post(path, json={"content": content}, headers=KIOSK)

    assert (answer.status_code, answer.json()["detail"]) == (400, "Content cannot be empty")
    assert answer.json()["errors"] == [{"field": "content", "message": "cannot be empty"}]


@pytest.mark.parametrize("path", [PATH, WHOLE])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "content"),
        ({"content": None}, "content"),
        ({"content": "x" * 4001}, "content"),
        ({**HELLO, "media_urls": "https://zoo.example/a.jpg"}, "media_urls"),
        ({**HELLO, "media_urls": ["file:///etc/passwd"]}, "media_urls.0"),
        ({**HELLO, "media_urls": ["https://zoo.example/a b"]}, "media_urls.0"),
        ({**HELLO, "media_urls": ["https://zoo.example/a\nhttps://b"]}, "media_urls.0"),
        ({**HELLO, "audio_urls": ["https://zoo.example/" + "x" * 2000]}, "audio_urls.0"),
        ({**HELLO, "audio_urls": ["https://zoo.example/a.mp3"] * 11}, "audio_urls"),
    ],
)
async def test_bad_input_is_400_and_names_the_field(
    client: httpx.AsyncClient, path: str, body: dict[str, object], field: str
) -> None:
    """The same for both paths."""
    answer = await client.post(path, json=body, headers=KIOSK)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


BAD_NAMES = ["", "x" * 256, "kiosk\r\nX-Evil: 1", "kiosk\n", "kiosk\x00", "kiosk\t7", "caf\u00e9", "kiosk\x7f"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", PATH), ("POST", WHOLE), ("GET", PATH), ("GET", "/chat/session"), ("PATCH", "/chat/session")],
)
async def test_a_device_that_is_not_a_name_is_refused(
    open_zoo: OpensZoo, capsys: pytest.CaptureFixture[str], method: str, path: str, name: str
) -> None:
    """1 to 255 printable characters: no line of the log and no header can be forged by it."""
    zoo = await open_zoo()
    headers = (("Content-Type", "application/json"), ("X-Device-ID", name))

    answer = await ask(zoo.app, Request(method, path, headers=headers))

    assert (answer.status, answer.problem["errors"][0]["field"]) == (400, "X-Device-ID")
    assert "Session lock" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["k", "x" * 255, 'Kiosk 7, hall "B" = 100% ~!\'$(rm -rf)'])
async def test_any_printable_name_will_do(client: httpx.AsyncClient, name: str) -> None:
    """The session's answer contains the name unchanged."""
    await post_content(client, "Hello!", X_Device_ID=name)

    assert (await get_device_session(client, **{"X-Device-ID": name}))["device"] == f"chat_{name}"


async def test_a_device_without_a_name_gets_a_cookie(open_zoo: OpensZoo) -> None:
    """Random, not for scripts; with it the device is the same one again, and its session tells nothing of it."""
    zoo = await open_zoo()
    mine, other = await zoo.new_client(), await zoo.new_client()

    first = await mine.post(PATH, json={"content": "May I talk to the tiger?"})
    again = await mine.post(WHOLE, json=HELLO)
    await other.post(WHOLE, json=HELLO)

    cookie = first.headers["set-cookie"]
    assert re.fullmatch(r"device_id=[\w-]{22}; HttpOnly; Max-Age=\d+; Path=/; SameSite=Lax", cookie)
    assert "set-cookie" not in again.headers
    session = (await mine.get("/chat/session")).json()
    assert (session["active_animal"], session["message_count"]) == ("tiger_001", 2)
    assert cookie[10:32] not in str(session)
    assert (await other.get("/chat/session")).json()["active_animal"] == "lion_001"


async def test_the_animal_is_the_one_asked_for_else_kept_else_the_default(open_client: OpensClient) -> None:
    """Only a request to talk with another animal changes it, an ordinary question does not."""
    provider = Says()
    client = await open_client(provider)

    for content in ("Hello!", "May I talk to the tiger?", "How fast can you run?", "And now the lion, please"):
        await post_content(client, content)

    asked = [prompt.animal.animal_id for prompt in provider.prompts]
    assert asked == ["lion_001", "tiger_001", "tiger_001", "lion_001"]
    assert (await get_device_session(client))["active_animal"] == "lion_001"


async def test_the_next_animal_is_told_what_was_said_but_not_as_its_own_facts(open_client: OpensClient) -> None:
    """The visitor is the same one; what the lion told of lions is not the tiger's to refer to."""
    provider = Says("Roar!")
    client = await open_client(provider)
    await post_content(client, "My name is John")
    await post_content(client, "May I talk to the tiger?")

    (said,) = provider.prompts[1].history
    assert (said.message, said.fact_ids) == ("My name is John", ())


async def test_an_animal_that_may_not_be_asked_any_more_is_not_kept(open_zoo: OpensZoo) -> None:
    """When the session's animal is retired, the default animal answers."""
    first, second = Says(), Says()
    zoo = await open_zoo(first)
    await post_content(await zoo.new_client(), "May I talk to the tiger?")

    animals = FakeKnowledge(make_lion(), make_lion("tiger_001", "Bulan", status="retired"))
    later = await open_zoo(second, knowledge=animals)
    await post_content(await later.new_client(), "Hello!")

    assert second.prompts[0].animal.animal_id == "lion_001"


@pytest.mark.parametrize("spelling", ["{0}", "{{{0}}}", "urn:uuid:{0}"])
async def test_a_uuid_is_not_logged_whole(
    open_client: OpensClient, capsys: pytest.CaptureFixture[str], spelling: str
) -> None:
    """It is a key to what was said there, and whoever reads the log must not have it."""
    client = await open_client(clock=FakeClock())
    name = spelling.format("550e8400-e29b-41d4-a716-446655440000")
    await post_content(client, "Hello!", X_Device_ID=name)

    output = capsys.readouterr().out
    assert f"Session lock for {name[:13]}: lion_001" in output
    assert "446655440000" not in output


async def test_a_lock_is_logged_and_dated_when_it_changes(
    open_client: OpensClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only when the animal changes, not for every message."""
    clock = FakeClock()
    client = await open_client(clock=clock)
    for content in ("Hello!", "May I talk to the tiger?", "How fast can you run?"):
        await post_content(client, content)
        clock.advance(60)

    locks = re.findall(r"Session lock for .*?: \w+", capsys.readouterr().out)
    assert locks == ["Session lock for kiosk-7: lion_001", "Session lock for kiosk-7: tiger_001"]
    assert await get_device_session(client) == {
        "device": "chat_kiosk-7",
        "active_animal": "tiger_001",
        "locked_at": "2026-11-21T10:31:40.000Z",
        "session_ttl": 86_400,
        "last_message_at": "2026-11-21T10:32:40.000Z",
        "message_count": 3,
    }


async def test_a_session_ends_a_day_after_its_last_message(open_client: OpensClient) -> None:
    """To the second, whether it was cleaned up or not; then the device begins anew, and remembers nothing."""
    provider, clock = Says(), FakeClock()
    client = await open_client(provider, clock=clock)
    await post_content(client, "May I talk to the tiger?")

    clock.advance(86_399)
    assert (await get_device_session(client))["active_animal"] == "tiger_001"
    clock.advance(1)
    over = await client.get("/chat/session", headers=KIOSK)
    await post_content(client, "Hello!")

    assert (over.status_code, over.json()["code"]) == (404, "session_not_found")
    assert (provider.prompts[1].animal.animal_id, provider.prompts[1].history) == ("lion_001", ())


async def test_the_time_to_live_is_the_sessions_own(open_client: OpensClient) -> None:
    """From the change on; it counts from the last message, in both directions."""
    clock = FakeClock()
    client = await open_client(clock=clock)
    await post_content(client, "Hello!")

    changed = await client.patch("/chat/session", json={"session_ttl": 3600}, headers=KIOSK)
    clock.advance(3599)
    await post_content(client, "Hello again!")
    clock.advance(3599)

    assert changed.json()["session_ttl"] == 3600
    assert (await get_device_session(client))["message_count"] == 2
    clock.advance(1)
    assert (await client.get("/chat/session", headers=KIOSK)).status_code == 404
    assert (await client.patch("/chat/session", json={"session_ttl": 9999}, headers=KIOSK)).status_code == 404


@pytest.mark.parametrize("ttl", [None, 59, 2_592_001, "3600", 3600.5, True, -1])
async def test_a_time_to_live_of_the_wrong_form_is_400(client: httpx.AsyncClient, ttl: object) -> None:
    """The session stays unchanged."""
    await post_content(client, "Hello!")

    answer = await client.patch("/chat/session", json={} if ttl is None else {"session_ttl": ttl}, headers=KIOSK)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "session_ttl")
    assert (await get_device_session(client))["session_ttl"] == 86_400


async def test_a_device_survives_a_restart(open_zoo: OpensZoo) -> None:
    """Animal, memory and all: another process over the same database knows it."""
    provider = Says("Roar!")
    await post_content(await (await open_zoo()).new_client(), "May I talk to the tiger? My name is John")

    client = await (await open_zoo(provider)).new_client()
    await post_content(client, "What is my name?")

    assert provider.prompts[0].animal.animal_id == "tiger_001"
    assert [said.message for said in provider.prompts[0].history] == ["May I talk to the tiger? My name is John"]


async def test_a_name_counts_within_account_or_cookie(open_zoo: OpensZoo) -> None:
    """Two kiosks with one name do not meet, unless they are of one account."""
    zoo = await open_zoo()
    user, there, hall = (
        await log_in_client(zoo, "user1"),
        await log_in_client(zoo, "user1"),
        await zoo.new_client("10.0.0.1"),
    )
    other_hall, same_hall = await zoo.new_client("10.0.0.2"), await zoo.new_client("10.0.0.1")
    for client in (user, hall):
        await post_content(client, "May I talk to the tiger?")

    found = [
        (await client.get("/chat/session", headers=KIOSK)).status_code
        for client in (user, there, hall, same_hall, other_hall)
    ]

    assert found == [200, 200, 200, 404, 404]
    assert (await get_device_session(user))["message_count"] == (await get_device_session(hall))["message_count"] == 1


@pytest.mark.parametrize("binding", ["id", "caller"])
async def test_a_name_is_no_key(open_zoo: OpensZoo, binding: str) -> None:
    """On the same network the name alone continues the conversation at most: it reads, changes and erases nothing."""
    zoo = await open_zoo(session_binding=binding)
    kiosk, stranger = await zoo.new_client(), await zoo.new_client()
    first = await post_content(kiosk, "My name is Mia")
    turn_id = (await kiosk.get("/jobs")).json()["jobs"][0]["job_id"].replace("job", "turn")

    refused = [
        (await stranger.get("/chat/session", headers=KIOSK)).status_code,
        (await stranger.get("/chat/stream", headers=KIOSK)).status_code,
        (await stranger.patch("/chat/session", json={"session_ttl": 60}, headers=KIOSK)).status_code,
    ]
    exported = (await stranger.get("/privacy/export", headers=KIOSK)).json()
    await stranger.delete("/privacy", headers=KIOSK)

    assert refused == [404, 404, 404]
    assert exported["sessions"] == exported["devices"] == []
    assert (await get_device_session(kiosk))["message_count"] == 1
    # Neither does a token of another session help.
    other = await post_content(await zoo.new_client(), "Hello!", X_Device_ID="kiosk-8")
    foreign = {**KIOSK, "X-Session-Token": other.headers["x-session-token"]}
    assert (await stranger.get("/chat/session", headers=foreign)).status_code == 404
    # The device's own does, from anywhere and for its turns, too.
    elsewhere = await zoo.new_client("10.0.0.9")
    own = {"X-Session-Token": first.headers["x-session-token"]}
    assert (await get_device_session(elsewhere, **KIOSK, **own))["message_count"] == 1
    assert (await elsewhere.get(f"/convo_turn/{turn_id}", headers=own)).status_code == 200
    assert (await elsewhere.get("/privacy/export", headers=own)).json()["sessions"] != []


async def test_a_name_alone_continues_until_the_cookie_or_token_is_used(open_zoo: OpensZoo) -> None:
    """Scripts that keep nothing are remembered from one address; whoever uses the cookie or token is alone with it."""
    provider = Says()
    zoo = await open_zoo(provider)
    kiosk, script = await zoo.new_client(), await zoo.new_client()
    first = await post_content(kiosk, "My name is Mia")
    await post_content(script, "Is that you?")
    await post_content(await zoo.new_client(), "And now?", **KIOSK, X_Session_Token=first.headers["x-session-token"])
    await post_content(await zoo.new_client(), "What is my name?")

    assert [len(prompt.history) for prompt in provider.prompts] == [0, 1, 2, 0]
    await post_content(kiosk, "Still me")
    assert len(provider.prompts[-1].history) == 3


async def test_a_uuid_stands_alone_until_it_is_claimed(open_zoo: OpensZoo) -> None:
    """From any address; then it is the claimant's, and means another session to everybody else."""
    zoo = await open_zoo(session_binding="caller")
    named = {"X-Device-ID": A_UUID}
    phone, tablet = await zoo.new_client("10.0.0.1"), await zoo.new_client("10.0.0.2")
    await post_content(phone, "Hello!", X_Device_ID=A_UUID)

    assert (await get_device_session(tablet, **named))["message_count"] == 1
    await post_content(phone, "Hello again!", X_Device_ID=A_UUID)

    assert (await get_device_session(phone, **named))["message_count"] == 2
    assert (await tablet.get("/chat/session", headers=named)).status_code == 404
    await post_content(tablet, "Hello!", X_Device_ID=A_UUID)
    assert (await get_device_session(tablet, **named))["message_count"] == 1


@pytest.mark.parametrize("name", ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"])
async def test_a_uuid_that_everybody_knows_is_a_plain_name(open_zoo: OpensZoo, name: str) -> None:
    """The nil and the max UUID of RFC 9562."""
    zoo = await open_zoo()
    await post_content(await zoo.new_client(), "Hello!", X_Device_ID=name)

    answer = await (await zoo.new_client()).get("/chat/session", headers={"X-Device-ID": name})

    assert answer.status_code == 404


async def test_two_users_of_one_device_have_two_sessions(open_zoo: OpensZoo) -> None:
    """The device's cookie is the same, the accounts are not."""
    zoo = await open_zoo()
    anna, ben = await log_in_client(zoo, "user1"), await log_in_client(zoo, "parent1")
    for client in (anna, ben):
        client.cookies.set("device_id", "d" * 22)
        assert (await client.post(WHOLE, json=HELLO)).status_code == 200

    assert (await ben.get("/chat/session")).json()["message_count"] == 1


async def test_a_user_and_both_messages_are_in_the_books(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """One row for the device, with its first message; two for the turn, with their directions."""
    media = {"media_urls": ["https://zoo.example/a.jpg"], "audio_urls": ["https://zoo.example/b.mp3"]}
    await client.post(WHOLE, json={**HELLO, **media}, headers=KIOSK)
    await post_content(client, "And now?")

    assert read_rows(tmp_path, "SELECT handle FROM device_users") == [("chat_kiosk-7",)]
    messages = "SELECT direction, body, media_url FROM messages JOIN turns USING (turn_id) ORDER BY position, direction"
    assert read_rows(tmp_path, messages) == [
        ("incoming", "Hello!", "https://zoo.example/a.jpg\nhttps://zoo.example/b.mp3"),
        ("outgoing", "Roar! I am a lion.", None),
        ("incoming", "And now?", None),
        ("outgoing", "Roar! I am a lion.", None),
    ]
    assert all(
        at for (at,) in read_rows(tmp_path, "SELECT created_at FROM messages UNION SELECT created_at FROM device_users")
    )


async def test_media_are_handed_to_the_provider_and_never_fetched(open_client: OpensClient) -> None:
    """Pictures first, then sounds; the address may even be one that nobody answers at."""
    provider = Says()
    client = await open_client(provider)
    media = {"media_urls": ["http://127.0.0.1:9/a.jpg"], "audio_urls": ["https://zoo.invalid/b.mp3"]}

    await client.post(WHOLE, json={**HELLO, **media}, headers=KIOSK)

    assert provider.prompts[0].media_urls == ("http://127.0.0.1:9/a.jpg", "https://zoo.invalid/b.mp3")


async def test_a_screen_can_listen_to_what_the_device_is_told(client: httpx.AsyncClient) -> None:
    """`GET /chat/stream`, as a browser's EventSource reads it: the last turn, from its beginning."""
    stream = await client.post(PATH, json=HELLO, headers=KIOSK)

    heard = await client.get(PATH, headers=KIOSK)
    rest = await client.get(PATH, headers={**KIOSK, "Last-Event-ID": list_event_ids(stream)[0]})
    nothing = await client.get(PATH, headers={**KIOSK, "Last-Event-ID": list_event_ids(stream)[-1]})

    assert heard.content == stream.content
    assert list_event_data(rest) == list_event_data(stream)[1:]
    assert nothing.status_code == 204


async def test_a_listener_comes_back_with_the_id_of_an_earlier_turn(client: httpx.AsyncClient) -> None:
    """It gets the new turn from its first event."""
    first = await client.post(PATH, json=HELLO, headers=KIOSK)
    second = await client.post(PATH, json=HELLO, headers=KIOSK)

    heard = await client.get(PATH, headers={**KIOSK, "Last-Event-ID": list_event_ids(first)[-1]})

    assert get_turn_id(heard) == get_turn_id(second)
    assert heard.content == second.content


async def test_a_key_counts_within_its_device(open_client: OpensClient) -> None:
    """Two kiosks at one address with the same key and the same words: each is answered from its own memory."""
    provider = Says()
    client = await open_client(provider)
    await post_content(client, "My name is John")

    for device in ("kiosk-7", "kiosk-8", "kiosk-7"):
        await post_content(client, "What is my name?", X_Device_ID=device, Idempotency_Key="1")

    assert [len(prompt.history) for prompt in provider.prompts] == [0, 1, 0]


async def test_a_nameless_device_may_repeat_its_first_post(open_zoo: OpensZoo) -> None:
    """It never got its cookie; a key that is a UUID is nobody else's."""
    provider = Says()
    zoo = await open_zoo(provider)
    first, again = await zoo.new_client(), await zoo.new_client()

    for client in (first, first, again):
        assert (await client.post(WHOLE, json=HELLO, headers={"Idempotency-Key": A_UUID})).status_code == 200

    assert len(provider.prompts) == 1


async def test_there_is_nothing_to_hear_of_a_device_that_said_nothing(client: httpx.AsyncClient) -> None:
    """404, for the named and the nameless; and nothing is made of it."""
    for headers in (KIOSK, {}):
        answer = await client.get(PATH, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")


async def test_without_a_store_the_device_is_answered_without_memory(
    open_zoo: OpensZoo, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same answer to the visitor, a line in the log for the keepers; the next time it remembers again."""
    provider, stores = Says("Roar!"), list[UnreliableStore]()
    zoo = await open_zoo(provider, wrap=lambda store: keep_store(stores, store))
    chat = await open_endpoint(zoo, DEVICES)
    await chat.post_message("My name is John")

    stores[0].is_away = True
    whole = await post_content(chat.client, "What is my name?")
    streamed = await chat.post_message("What is my name?", Idempotency_Key="key-1")
    stores[0].is_away = False
    await chat.post_message("What is my name?")

    assert whole.json() == {"content": "Roar!"}
    assert chat.read_text(streamed) == "Roar!"
    assert capsys.readouterr().out.count("The store is unavailable: answering without memory") == 2
    assert [len(prompt.history) for prompt in provider.prompts] == [0, 0, 0, 1]


async def test_without_a_store_the_rules_still_stand(open_zoo: OpensZoo) -> None:
    """Moderation needs no stored history."""
    provider, stores = Says("I should not be heard"), list[UnreliableStore]()
    zoo = await open_zoo(
        provider, moderator=Blocks("Please ask a grown-up."), wrap=lambda store: keep_store(stores, store)
    )
    stores[0].is_away = True
    chat = await open_endpoint(zoo, DEVICES)

    assert chat.read_text(await chat.post_message()) == "Please ask a grown-up."
    assert provider.prompts == []


async def test_what_a_device_asks_of_a_store_that_is_away_is_503(open_zoo: OpensZoo) -> None:
    """Only a turn can do without: a session can be neither shown nor changed."""
    stores = list[UnreliableStore]()
    zoo = await open_zoo(wrap=lambda store: keep_store(stores, store))
    client = await zoo.new_client()
    stores[0].is_away = True

    answers = [
        await client.get("/chat/session", headers=KIOSK),
        await client.patch("/chat/session", json={"session_ttl": 3600}, headers=KIOSK),
        await client.get(PATH, headers=KIOSK),
    ]

    assert [(answer.status_code, answer.headers["retry-after"]) for answer in answers] == [(503, "2")] * 3


def keep_store(stores: list[UnreliableStore], store: Store) -> Store:
    """Put a store that the test can switch off in front of the real one."""
    stores.append(UnreliableStore(store))
    return cast(Store, stores[-1])
