"""`GET /convo_turn_stream`: the zoo's own stream for a browser's EventSource, which cannot post."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from openapi_server.config import LOCAL_ORIGINS
from tests.api.chat_endpoints import get_turn_id
from tests.conftest import OpensClient, OpensZoo
from tests.support.contract import SseEvent, check_stream
from tests.support.fakes import FakeClock, Says

PATH = "/convo_turn_stream"
ACCEPT = {"Accept": "text/event-stream"}
HELLO = {"message": "Hello, 獅子! How fast? 5 & 6 = 11", "animalId": "lion_001"}
UNKNOWN = "turn_00000000000000000000000000000000"


async def ask(client: httpx.AsyncClient, headers: dict[str, str] | None = None, **more: str) -> httpx.Response:
    return await client.get(PATH, params={**HELLO, **more}, headers={**ACCEPT, **(headers or {})})


def _resume(how: str, event_id: str) -> dict[str, Any]:
    """The position as a header, or in the query."""
    return {"headers": {how: event_id}} if how == "Last-Event-ID" else {how: event_id}


def read(answer: httpx.Response, **options: Any) -> list[SseEvent]:
    assert answer.status_code == 200, answer.text
    return check_stream(PATH, answer.content, method="get", **options)


async def test_the_stream_is_the_one_that_a_post_gets(open_client: OpensClient) -> None:
    """To the byte, but for the ids; the message may have any character."""
    provider = Says()
    client = await open_client(provider, clock=FakeClock())

    got = await ask(client, ageGroup="adult")
    posted = await client.post(PATH, json={**HELLO, "ageGroup": "adult"})

    texts = []
    for answer in (got, posted):
        start = check_stream(PATH, answer.content)[0].data
        assert answer.headers["x-streaming-session-id"] == start["turnId"]
        texts.append(answer.text.replace(start["turnId"], "TURN").replace(start["sessionId"], "SESSION"))
    assert texts[0] == texts[1]
    assert [prompt.message for prompt in provider.prompts] == [HELLO["message"]] * 2
    assert got.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert got.headers["cache-control"] == "no-cache, no-store, no-transform"
    assert "session_id=" in got.headers["set-cookie"]


@pytest.mark.parametrize(
    "accept",
    [
        "text/event-stream",
        "Text/Event-Stream",
        "text/event-stream; charset=utf-8",
        "*/*;q=0.1, text/event-stream;q=0.5",
    ],
)
async def test_whoever_names_the_stream_gets_it(open_client: OpensClient, accept: str) -> None:
    """However it is written."""
    client = await open_client()

    assert read(await ask(client, {"Accept": accept}))[-1].event == "complete"


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "*/*"},
        {"Accept": ""},
        {"Accept": "*"},
        {"Accept": "text/*"},
        {"Accept": "application/json"},
        {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"},
        {"Accept": "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"},
        {"Accept": "text/event-stream;q=0, */*"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Purpose": "prefetch"},
        {"X-Moz": "prefetch"},
    ],
    ids=str,
)
async def test_nobody_else_asks(open_client: OpensClient, headers: dict[str, str]) -> None:
    """Not an address bar, an image, a crawler or a prefetch: 406, and no turn."""
    provider = Says()
    client = await open_client(provider)

    answer = await ask(client, headers)

    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
    assert provider.prompts == []


async def test_a_head_request_asks_nothing(open_client: OpensClient) -> None:
    """405; `OPTIONS` does not offer it."""
    provider = Says()
    client = await open_client(provider)

    answer = await client.head(PATH, params=HELLO, headers=ACCEPT)

    assert answer.status_code == 405
    assert answer.headers["allow"] == (await client.options(PATH)).headers["allow"] == "GET, OPTIONS, POST"
    assert provider.prompts == []


@pytest.mark.parametrize(
    "origin", ["https://stranger.example", "null", "http://testserver.example", "http://localhost:1"]
)
async def test_a_page_of_a_stranger_asks_nothing(open_client: OpensClient, origin: str) -> None:
    """A browser would send the visitor's cookie with it, and ask nobody before."""
    provider = Says()
    client = await open_client(provider)

    answer = await ask(client, {"Origin": origin})

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert provider.prompts == []


@pytest.mark.parametrize("accept", ["text/event-stream", "text/event-stream, */*"])
@pytest.mark.parametrize(
    "metadata",
    [
        {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, **origin}
        for site in ("cross-site", "same-site", "same-origin", "none")
        for mode in ("no-cors", "navigate", "websocket")
        for origin in ({}, {"Origin": LOCAL_ORIGINS[0]})
    ]
    + [{"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "cors"} for site in ("cross-site", "same-site", "odd", "")]
    + [{"Sec-Fetch-Site": site} for site in ("cross-site", "same-site", "Same-Origin")]
    + [{"Sec-Fetch-Mode": mode} for mode in ("no-cors", "navigate", "")],
    ids=lambda headers: "-".join(headers.values()),
)
async def test_a_page_that_does_not_name_itself_asks_nothing(
    open_client: OpensClient, metadata: dict[str, str], accept: str
) -> None:
    """`fetch(..., {mode: "no-cors"})` has no `Origin`, of another port or subdomain it has the visitor's cookie, and
    any page may set its `Accept`.
    """
    provider = Says()
    client = await open_client(provider)

    answer = await ask(client, {"Accept": accept, **metadata})

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert provider.prompts == []


OWN, ALLOWED = {"Sec-Fetch-Site": "same-origin"}, {"Origin": LOCAL_ORIGINS[0]}
CORS = {"Sec-Fetch-Mode": "cors"}


@pytest.mark.parametrize(
    "headers",
    [
        ALLOWED,
        {"Origin": "http://testserver"},
        {**ALLOWED, **CORS, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "empty"},
        {**ALLOWED, **CORS, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "empty"},
        {**OWN, **CORS, "Sec-Fetch-Dest": "empty"},
        {**OWN, "Sec-Fetch-Mode": "same-origin", "Sec-Fetch-Dest": "empty"},
        {**CORS, "Sec-Fetch-Site": "none"},
        CORS,
    ],
    ids=lambda headers: "-".join(headers.values()),
)
async def test_pages_that_may_ask(open_client: OpensClient, headers: dict[str, str]) -> None:
    """Those of `CORS_ORIGINS`, the server's own, and programs that are no page (Node's `fetch` sends a mode)."""
    client = await open_client()

    assert read(await ask(client, headers))[-1].event == "complete"


@pytest.mark.parametrize("how", ["Last-Event-ID", "lastEventId", "last_event_id"])
async def test_a_reconnection_resumes_and_never_asks_again(open_client: OpensClient, how: str) -> None:
    """After each event the rest follows, to the byte; after the last one there is nothing."""
    provider = Says()
    client = await open_client(provider)
    whole = await ask(client)
    text, ids = whole.text.removeprefix("retry: 2000\n"), [event.id for event in read(whole)]

    for event_id in ids:
        rest = await ask(client, **_resume(how, str(event_id)))
        assert get_turn_id(rest) == get_turn_id(whole) if event_id != ids[-1] else rest.status_code == 204
        expected = text.partition(f"id: {event_id}\n")[2].partition("\n\n")[2]
        assert rest.text.removeprefix("retry: 2000\n") == expected
    assert len(provider.prompts) == 1


async def test_the_header_comes_before_the_query(open_client: OpensClient) -> None:
    """A polyfill's address keeps the id of an earlier connection."""
    client = await open_client()
    ids = [event.id for event in read(await ask(client))]

    rest = await ask(client, {"Last-Event-ID": str(ids[-2])}, lastEventId=str(ids[0]), last_event_id=str(ids[1]))

    assert [event.id for event in read(rest, is_resumed=True)] == [ids[-1]]


@pytest.mark.parametrize("field", ["lastEventId", "last_event_id"])
async def test_an_empty_position_is_none(open_client: OpensClient, field: str) -> None:
    """A polyfill sends it before its first event."""
    client = await open_client()

    assert read(await ask(client, {"Last-Event-ID": ""}, **{field: ""}))[0].event == "metadata"


@pytest.mark.parametrize("position", [f"{UNKNOWN}-1", "nonsense", "7"])
async def test_a_position_that_means_nothing_asks_nothing(open_client: OpensClient, position: str) -> None:
    """The turn is gone, or was never there: an error, after which a browser does not come back."""
    provider = Says()
    client = await open_client(provider)

    answer = await ask(client, {"Last-Event-ID": position})

    assert (answer.status_code, answer.json()["code"]) == (404, "turn_not_found")
    assert provider.prompts == []


async def test_another_message_resumes_nothing(open_client: OpensClient) -> None:
    """The page has mixed up two streams."""
    provider = Says()
    client = await open_client(provider)
    turn_id = get_turn_id(await ask(client))

    answer = await ask(client, {"Last-Event-ID": f"{turn_id}-1"}, message="Something else")

    assert (answer.status_code, answer.json()["code"]) == (422, "resume_mismatch")
    assert len(provider.prompts) == 1


async def test_a_key_makes_a_reconnection_before_the_first_event_safe(open_client: OpensClient) -> None:
    """The same address is the same turn, from its first event; another message with the key is refused."""
    provider = Says()
    client = await open_client(provider)
    key: dict[str, Any] = {"idempotencyKey": "0b6f9c1e-58a3-4d0e-9b6e-3a1c2d4e5f60"}

    first, again = await ask(client, **key), await ask(client, **key)
    posted = await client.post(PATH, json=HELLO, headers={"Idempotency-Key": key["idempotencyKey"]})
    other = await ask(client, **key, message="Something else")

    assert first.text == again.text == posted.text
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    assert len(provider.prompts) == 1


@pytest.mark.parametrize("place", ["query", "header"])
async def test_a_session_goes_on(open_client: OpensClient, place: str) -> None:
    """Its id may stand in the query or in `X-Session-Id`; a name that the page made itself is an id, too."""
    provider = Says("Roar!")
    client = await open_client(provider)
    for session_id in (read(await ask(client))[0].data["sessionId"], "talk-at-the-gate"):
        for message in ("My name is Mia", "What is my name?"):
            sent: dict[str, Any] = {"sessionId": session_id} if place == "query" else {}
            sent["headers"] = {"X-Session-Id": session_id} if place == "header" else {}
            assert read(await ask(client, message=message, **sent))[-1].event == "complete"

        assert (provider.prompts[-1].history[-1].message, provider.prompts[-1].message) == (
            "My name is Mia",
            "What is my name?",
        )


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"animalId": "lion_001"}, "message"),
        ({"message": "Hello!"}, "animalId"),
        ({**HELLO, "message": "  "}, "message"),
        ({**HELLO, "message": "a" * 4001}, "message"),
        ({**HELLO, "animalId": "Lion"}, "animalId"),
        ({**HELLO, "sessionId": "../x"}, "sessionId"),
        ({**HELLO, "ageGroup": "old"}, "ageGroup"),
        ({**HELLO, "onBusy": "later"}, "onBusy"),
        ({**HELLO, "idempotencyKey": ""}, "idempotencyKey"),
        ({**HELLO, "page": "2"}, "page"),
    ],
    ids=str,
)
async def test_a_query_of_the_wrong_form_is_400(open_client: OpensClient, query: dict[str, str], field: str) -> None:
    """And the field is named."""
    provider = Says()
    client = await open_client(provider)

    answer = await client.get(PATH, params=query, headers=ACCEPT)

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert provider.prompts == []


async def test_the_longest_message_fits(open_client: OpensClient) -> None:
    """Four thousand characters of the most bytes."""
    provider = Says()
    client = await open_client(provider)

    assert read(await ask(client, message="🦁" * 4000))[-1].event == "complete"
    assert provider.prompts[0].message == "🦁" * 4000


async def test_the_answer_is_always_a_stream(open_client: OpensClient) -> None:
    """`Prefer: respond-async` is not for it."""
    client = await open_client()

    assert read(await ask(client, {"Prefer": "respond-async"}))[-1].event == "complete"


@pytest.mark.parametrize("how", ["Last-Event-ID", "lastEventId"])
async def test_only_questions_count_as_turns(open_zoo: OpensZoo, how: str) -> None:
    """A browser that reconnects has asked once: otherwise a bad line would use up the limit."""
    zoo = await open_zoo(Says(), RATE_LIMIT_TURNS=1)
    client = await zoo.new_client()
    # The answer to a visitor's first question gives it its name.
    await ask(client)
    turn_id = get_turn_id(await ask(client))

    for _ in range(3):
        assert (await ask(client, **_resume(how, f"{turn_id}-1"))).status_code == 200
    assert (await ask(client)).status_code == 429
