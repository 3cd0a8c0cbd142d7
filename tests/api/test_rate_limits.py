"""Rate limits over HTTP: every contract answers 429 in the same form, and no reply is lost to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from openapi_server.accounts.login_protection import FREE_OF_CLIENT
from openapi_server.engine.turn_engine import TurnEngine
from openapi_server.http.services import Services
from openapi_server.storage.sqlite.sessions import SqliteStore
from tests.api.chat_endpoints import CHAT_ENDPOINTS, open_endpoint
from tests.conftest import OpensZoo, RunningApp
from tests.support.fakes import FakeClock, Says, Waits
from tests.support.timing import poll_until

HELLO = {"message": "Hello!", "animalId": "lion_001"}
OTHER_TURNS = [
    ("/convo_turn", HELLO),
    ("/convo_turn_stream", {**HELLO, "stream": False}),
    ("/api/v1/stream?mode=job", {"query": "Hello!"}),
    ("/chat", {"message": "Hello!", "session_id": "my-talk", "streaming": False}),
    ("/chat/", {"content": "Hello!"}),
]
WRONG = {"username": "admin", "password": "wrong one"}
RIGHT = {"username": "admin", "password": "admin-demo"}


def assert_refused(answer: httpx.Response, policy: str) -> None:
    """A 429 problem with all three headers, which a page of an allowed origin may read."""
    assert answer.status_code == 429, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "rate_limited"
    assert answer.json()["status"] == 429
    assert answer.headers["ratelimit-policy"].startswith(f'"{policy}";q=')
    assert answer.headers["ratelimit"].startswith(f'"{policy}";r=0;t=')
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["access-control-allow-origin"]
    exposed = answer.headers["access-control-expose-headers"]
    assert {"Retry-After", "RateLimit", "RateLimit-Policy"} <= set(exposed.split(", "))


async def wait_for_streams(zoo: RunningApp, count: int) -> None:
    async def are_open() -> bool:
        return zoo.services.rate_limits.open_stream_count == count

    await poll_until(are_open, within_s=10)


async def log_in(client: httpx.AsyncClient, body: dict[str, str] = RIGHT) -> httpx.Response:
    return await client.post("/auth/login", json=body)


@pytest.mark.parametrize("name", CHAT_ENDPOINTS)
async def test_turns_are_limited_in_every_contract(open_zoo: OpensZoo, name: str) -> None:
    """Beyond the limit no turn is started; what is left is told before."""
    zoo = await open_zoo(rate_limit_turns=2)
    endpoint = await open_endpoint(zoo, CHAT_ENDPOINTS[name])
    # Without a cookie, a visitor's first request would count for the address.
    endpoint.client.cookies.set("session_id", "c" * 22)
    answers = [await endpoint.post_message() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[1].headers["ratelimit-policy"] == '"turns";q=2;w=60' + (
        "" if name == "sessions" else ', "turns-address";q=10;w=60'
    )
    assert answers[0].headers["ratelimit"].startswith('"turns";r=1;t=')
    assert answers[1].headers["ratelimit"].startswith('"turns";r=0;t=')
    assert_refused(answers[2], "turns")


@pytest.mark.parametrize(("path", "body"), OTHER_TURNS)
async def test_the_other_ways_to_start_a_turn_are_limited_too(
    open_zoo: OpensZoo, path: str, body: dict[str, object]
) -> None:
    """As JSON, as a job, or whole: one limit for all of them together."""
    zoo = await open_zoo(rate_limit_turns=1)
    client = await zoo.new_client(**{"X-Session-Token": "t" * 22})
    assert (await client.post("/convo_turn", json=HELLO)).status_code == 200
    client.cookies.clear()
    assert_refused(await client.post(path, json=body), "turns")
    client.cookies.clear()
    for header in ({"Last-Event-ID": "turn_1-1"}, {"Idempotency-Key": "new"}):
        answer = await client.post(path, json=body, headers=header)
        # A resumed stream of an unknown turn is 404; everything else would start one.
        assert answer.status_code == (404 if answer.status_code != 429 else 429)
        assert answer.status_code == 429 or "Last-Event-ID" in header
        client.cookies.clear()


async def test_a_limited_request_is_not_read_and_asks_no_store(
    open_zoo: OpensZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its body nor its session: refusing costs next to nothing."""
    zoo = await open_zoo(rate_limit_turns=1)
    client = await zoo.new_client()
    client.cookies.set("session_id", "c" * 22)
    assert (await client.post("/convo_turn", json=HELLO)).status_code == 200

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("used")

    for name in ("get_turn", "get_session", "begin_turn", "has_turn"):
        monkeypatch.setattr(SqliteStore, name, fail)
    monkeypatch.setattr(TurnEngine, "start_turn", fail)

    async def body() -> AsyncIterator[bytes]:
        fail()
        yield b""

    assert_refused(await client.post("/convo_turn", content=body()), "turns")


async def test_a_repetition_with_its_key_gets_its_reply_beyond_the_limit(open_zoo: OpensZoo) -> None:
    """Only a new key starts a turn, and is refused."""
    provider = Says()
    zoo = await open_zoo(provider, rate_limit_turns=1)
    client = await zoo.new_client()
    client.cookies.set("session_id", "c" * 22)
    first = await client.post("/convo_turn", json=HELLO, headers={"Idempotency-Key": "key-1"})
    again = await client.post("/convo_turn", json=HELLO, headers={"Idempotency-Key": "key-1"})
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["turnId"] == again.json()["turnId"]
    other = await client.post("/convo_turn", json=HELLO, headers={"Idempotency-Key": "key-2"})
    assert_refused(other, "turns")
    changed = await client.post("/convo_turn", json={**HELLO, "message": "Bye!"}, headers={"Idempotency-Key": "key-1"})
    assert changed.status_code == 422
    assert len(provider.prompts) == 1


async def test_a_stream_is_resumed_beyond_the_limit(open_zoo: OpensZoo) -> None:
    """By the same POST and by GET: a resumed stream is no new turn."""
    zoo = await open_zoo(rate_limit_turns=1, rate_limit_streams=3)
    client = await zoo.new_client()
    client.cookies.set("session_id", "c" * 22)
    first = await client.post("/convo_turn_stream", json=HELLO)
    turn_id = first.headers["x-streaming-session-id"]
    for _ in range(5):
        seen = {"Last-Event-ID": f"{turn_id}-2"}
        assert (await client.post("/convo_turn_stream", json=HELLO, headers=seen)).status_code == 200
        resumed = await client.get(f"/convo_turn/{turn_id}/stream", headers=seen)
        assert resumed.status_code == 200
        assert resumed.headers["ratelimit-policy"].startswith('"streams";q=3;qu="concurrent-requests"')
    assert_refused(await client.post("/convo_turn_stream", json=HELLO), "turns")


async def test_open_streams_are_limited_until_they_end(open_zoo: OpensZoo) -> None:
    """Also those that wait for a whole reply. A stopped turn makes room for the next."""
    provider = Waits()
    zoo = await open_zoo(provider, rate_limit_streams=3, rate_limit_address_factor=1)
    client = await zoo.new_client()
    client.cookies.set("session_id", "c" * 22)
    accepted = await client.post("/convo_turn", json=HELLO, headers={"Prefer": "respond-async"})
    location = accepted.headers["location"]
    reading = [asyncio.create_task(client.get(f"{location}/stream")) for _ in range(2)]
    # The turn, and the two that read it.
    await wait_for_streams(zoo, 3)
    assert_refused(await client.get(f"{location}/stream"), "streams")
    assert_refused(await client.post("/convo_turn", json=HELLO), "streams")
    # Another address is not concerned.
    other = await zoo.new_client("192.0.2.9")
    assert (await other.get(location)).status_code == 200
    assert (await client.post(f"{location}/stop")).status_code == 200
    assert [answer.status_code for answer in await asyncio.gather(*reading)] == [200, 200]
    assert zoo.services.rate_limits.open_stream_count == 0
    assert (await client.get(f"{location}/stream")).status_code == 200


async def leave_stream(client: httpx.AsyncClient, number: int) -> None:
    """Start a turn, and leave before it has ended."""
    reading = asyncio.create_task(client.post("/convo_turn_stream", json=HELLO))
    await asyncio.wait((reading,), timeout=0.5)
    reading.cancel()
    await asyncio.wait((reading,))


async def ask_later(client: httpx.AsyncClient, number: int) -> None:
    assert (await client.post("/convo_turn", json=HELLO, headers={"Prefer": "respond-async"})).status_code == 202


async def start_job(client: httpx.AsyncClient, number: int) -> None:
    body = {"query": "Hello!", "memory_enabled": False}
    assert (await client.post("/api/v1/stream?mode=job", json=body)).status_code == 200


async def repeat_later(client: httpx.AsyncClient, number: int) -> None:
    """Twice with one key: that is one turn."""
    headers = {"Prefer": "respond-async", "Idempotency-Key": f"key-{number}"}
    for _ in range(2):
        assert (await client.post("/convo_turn", json=HELLO, headers=headers)).status_code == 202


@pytest.mark.parametrize("start", [leave_stream, ask_later, start_job, repeat_later])
async def test_turns_that_nobody_waits_for_are_open_until_they_end(
    open_zoo: OpensZoo, start: Callable[[httpx.AsyncClient, int], Awaitable[None]]
) -> None:
    """Whoever asks and does not wait has no more turns at once than whoever does."""
    provider = Waits()
    zoo = await open_zoo(provider, rate_limit_streams=3)
    client = await zoo.new_client()
    client.cookies.set("session_id", "c" * 22)
    for number in range(2):
        await start(client, number)
    assert zoo.services.rate_limits.open_stream_count == zoo.services.engine.running_count == 2
    await ask_later(client, 2)
    assert_refused(await client.post("/convo_turn", json=HELLO, headers={"Prefer": "respond-async"}), "streams")
    assert zoo.services.engine.running_count == 3
    provider.go.set()
    await wait_for_streams(zoo, 0)
    assert (await client.post("/convo_turn", json=HELLO)).status_code == 200
    await wait_for_streams(zoo, 0)


async def test_every_failure_releases_its_stream(open_zoo: OpensZoo) -> None:
    """Bad JSON, missing sessions, wrong tokens, and readers that leave."""
    zoo = await open_zoo(Waits(), rate_limit_streams=1, ORPHAN_GRACE=0)
    client = await zoo.new_client()
    client.cookies.set("session_id", "c" * 22)
    foreign = b'{"message":"Hi","animalId":"lion_001","sessionId":"sess_%s"}' % (b"0" * 32)
    for body in (b"{", b"[]", b'{"message": "Hi"}', foreign):
        answer = await client.post("/convo_turn", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 404)
    reading = asyncio.create_task(client.post("/convo_turn", json=HELLO))
    await wait_for_streams(zoo, 1)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await wait_for_streams(zoo, 0)


async def test_reads_are_limited_and_monitoring_is_not(open_zoo: OpensZoo) -> None:
    """Pages that do not exist are reads as well; a preflight never counts."""
    zoo = await open_zoo(rate_limit_reads=3)
    client = await zoo.new_client()
    answers = [await client.get(path) for path in ("/animal_list", "/nowhere", "/openapi.json", "/animal_list")]
    assert [answer.status_code for answer in answers] == [200, 404, 200, 429]
    assert_refused(answers[3], "reads")
    for path in ("/health", "/ready", "/system_health"):
        assert (await client.get(path)).status_code == 200
        assert "ratelimit" not in (await client.get(path)).headers
    preflight = await client.options("/convo_turn", headers={"Origin": "http://localhost:3000"})
    assert preflight.status_code < 300


async def test_development_limits_nothing_but_logins(open_zoo: OpensZoo) -> None:
    """Scripts and benchmarks run as ever."""
    zoo = await open_zoo()
    client = await zoo.new_client()
    for _ in range(5):
        answer = await client.post("/convo_turn", json=HELLO)
        assert (answer.status_code, answer.headers.get("ratelimit")) == (200, None)
    assert (await log_in(client)).headers["ratelimit-policy"] == '"logins";q=60;w=60'


async def test_logins_and_refreshed_logins_count_together(open_zoo: OpensZoo) -> None:
    """By address, with whatever cookie they come."""
    zoo = await open_zoo(rate_limit_logins=3)
    client = await zoo.new_client()
    token = (await log_in(client)).json()["refreshToken"]
    client.cookies.clear()
    token = (await client.post("/auth/refresh", json={"refreshToken": token})).json()["refreshToken"]
    client.cookies.set("session_id", "c" * 22)
    client.cookies.set("login_device", f"{'d' * 22}.{'e' * 43}.{'f' * 43}")
    assert (await log_in(client, WRONG)).status_code == 401
    assert_refused(await client.post("/auth/refresh", json={"refreshToken": token}), "logins")
    assert_refused(await log_in(client), "logins")
    assert (await log_in(await zoo.new_client("192.0.2.9"))).status_code == 200


async def test_a_browser_that_has_logged_in_has_logins_of_its_own(open_zoo: OpensZoo) -> None:
    """A flood from its address takes none of them, and its cookie brings no more than anybody has."""
    zoo = await open_zoo(rate_limit_logins=3)
    known = await zoo.new_client()
    token = (await log_in(known)).json()["refreshToken"]
    stranger = await zoo.new_client()
    statuses = [(await log_in(stranger, {**WRONG, "username": f"nobody{n}"})).status_code for n in range(6)]
    assert statuses == [401, 401, 429, 429, 429, 429]

    assert (await log_in(known)).status_code == 200
    refreshed = await known.post("/auth/refresh", json={"refreshToken": token})
    assert refreshed.status_code == 200
    assert (await log_in(known)).status_code == 200
    assert_refused(await log_in(known), "logins")


async def open_login_zoo(open_zoo: OpensZoo) -> tuple[RunningApp, FakeClock]:
    clock = FakeClock()
    return await open_zoo(clock=clock, rate_limit_logins=0), clock


async def count_guesses(services: Services, client: httpx.AsyncClient, username: str, tries: int) -> int:
    """How many of the wrong passwords were tried at all."""
    answers = [await log_in(client, {"username": username, "password": f"wrong {n}"}) for n in range(tries)]
    for answer in answers:
        assert answer.status_code in (401, 429)
        if answer.status_code == 429:
            assert answer.json()["code"] == "login_locked"
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["ratelimit"].startswith('"wrong-passwords";r=0;t=')
    return sum(answer.status_code == 401 for answer in answers)


@pytest.mark.parametrize("username", ["admin", "nobody-of-that-name", "Ädmin' OR 1=1"])
async def test_wrong_passwords_lock_a_name_whether_it_exists_or_not(open_zoo: OpensZoo, username: str) -> None:
    """25 wrong passwords, then the right one: 429 with Retry-After; after that time it is let in."""
    zoo, clock = await open_login_zoo(open_zoo)
    client = await zoo.new_client()
    assert await count_guesses(zoo.services, client, username, 25) == FREE_OF_CLIENT
    locked = await log_in(client, {**RIGHT, "username": username})
    assert (locked.status_code, locked.json()["code"]) == (429, "login_locked")
    clock.advance(int(locked.headers["retry-after"]))
    assert (await log_in(client, {**RIGHT, "username": username})).status_code == (200 if username == "admin" else 401)


async def test_a_stranger_does_not_lock_out_a_known_browser_or_address(open_zoo: OpensZoo) -> None:
    """A thousand guesses from many addresses: who has logged in before logs in again; a stranger has to wait."""
    zoo, clock = await open_login_zoo(open_zoo)
    home = await zoo.new_client("192.0.2.1")
    granted = await log_in(home)
    assert "login_device=" in granted.headers["set-cookie"]
    assert "HttpOnly" in granted.headers["set-cookie"]
    home.cookies.clear()
    for number in range(40):
        guesser = await zoo.new_client(f"198.51.100.{number}")
        await count_guesses(zoo.services, guesser, "admin", 25)
    assert (await log_in(await zoo.new_client("203.0.113.1"))).status_code == 429
    assert (await log_in(home)).status_code == 200

    elsewhere = await zoo.new_client("203.0.113.1")
    elsewhere.cookies.set("login_device", granted.cookies["login_device"])
    assert (await log_in(elsewhere)).status_code == 200
    forged = await zoo.new_client("203.0.113.1")
    forged.cookies.set("login_device", granted.cookies["login_device"][:-1] + "x")
    assert (await log_in(forged)).status_code == 429
    # The cookie is good for its own name only, and no more guesses than anybody has.
    assert await count_guesses(zoo.services, elsewhere, "admin", 25) == FREE_OF_CLIENT
    clock.advance(3600)
    assert (await log_in(await zoo.new_client("203.0.113.2"))).status_code == 200


async def test_many_guesses_at_once_are_counted_one_by_one(open_zoo: OpensZoo) -> None:
    """Racing requests do not get more tries than a row of them."""
    zoo, _ = await open_login_zoo(open_zoo)
    client = await zoo.new_client()
    answers = await asyncio.gather(*(log_in(client, {**WRONG, "password": f"wrong {n}"}) for n in range(30)))
    assert sum(answer.status_code == 401 for answer in answers) == FREE_OF_CLIENT
    assert {answer.status_code for answer in answers} == {401, 429}


async def test_guesses_at_many_names_lock_their_address(open_zoo: OpensZoo) -> None:
    """One password tried for each name in a list. Other addresses are not concerned."""
    zoo, _ = await open_login_zoo(open_zoo)
    client = await zoo.new_client()
    answers = [await log_in(client, {"username": f"user{n}", "password": "summer2026"}) for n in range(2, 60)]
    assert sum(answer.status_code == 401 for answer in answers) == 30
    assert (await log_in(client)).status_code == 429
    assert (await log_in(await zoo.new_client("192.0.2.9"))).status_code == 200
