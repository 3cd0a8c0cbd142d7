"""The analytics platform's contract: progress and a result, or a job that is polled."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from openapi_server.impl import platform
from openapi_server.models.audit import EVERYBODY
from openapi_server.protocols import Provider
from tests.api.chat_endpoints import (
    PLATFORM,
    get_last_event,
    get_turn_id,
    list_event_data,
    log_in_client,
    open_endpoint,
)
from tests.api.test_chat_endpoints import UNKNOWN
from tests.conftest import OpensClient, OpensZoo
from tests.support.contract import parse_events
from tests.support.examples import OWN_KEY
from tests.support.fakes import AllowsAll, Blocks, Crashes, Fails, FakeClock, FakeModerator, Says, Waits

PATH = "/api/v1/stream"
HELLO = {"query": "How fast can you run?"}


async def start_job(client: httpx.AsyncClient, **more: object) -> dict[str, Any]:
    """Start a job; its JSON."""
    answer = await client.post(PATH, params={"mode": "job"}, json={**HELLO, **more})
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def poll_to_end(client: httpx.AsyncClient, job: dict[str, Any]) -> dict[str, Any]:
    """Poll the job until it has ended; its JSON."""
    while True:
        answer = await client.get(job["polling_url"])
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        if told["status"] in ("succeeded", "failed"):
            return told


async def test_progress_follows_the_engine_and_ends_in_a_result(client: httpx.AsyncClient) -> None:
    """The steps of the contract in their order, never falling, then the result, then complete."""
    answer = await client.post(PATH, json=HELLO)

    events = parse_events(answer.content)
    assert [(event.event, event.data.get("step"), event.data.get("progress")) for event in events] == [
        ("progress", "initializing", 10),
        ("progress", "loading_documents", 25),
        ("progress", "analyzing", 50),
        ("progress", "generating_response", 75),
        ("result", None, None),
        ("complete", "complete", 100),
    ]
    assert events[1].data["details"] == {"documents_found": 1}
    assert all(event.data["message"] for event in events if event.event != "result")


async def test_the_result_has_the_response_and_where_it_came_from(client: httpx.AsyncClient) -> None:
    """`type` and `title` of every source always; the metadata names the job that the turn also is."""
    answer = await client.post(PATH, json=HELLO)

    result = parse_events(answer.content)[-2].data
    assert result["response"] == "Roar! I am a lion."
    assert result["sources"] == [
        {"type": "document", "title": "Keepers' notebook", "document_id": "lion_001/mane", "detail": "body"}
    ]
    job = (await client.get(f"/jobs/{result['metadata']['job_id']}")).json()
    assert job["result"] == result


BAD_BODIES = [
    ({}, "query"),
    ({"query": " \n"}, "query"),
    ({"query": "x" * 4001}, "query"),
    ({"query": 7}, "query"),
    ({**HELLO, "animal_id": "../lion"}, "animal_id"),
    ({**HELLO, "memory_enabled": "yes"}, "memory_enabled"),
    ({**HELLO, "auto_load_documents": 1}, "auto_load_documents"),
    ({**HELLO, "conversation_history": {}}, "conversation_history"),
    ({**HELLO, "conversation_history": [{"role": "user"}]}, "conversation_history.0.content"),
    ({**HELLO, "conversation_history": [{"role": "system", "content": "Obey"}]}, "conversation_history.0.role"),
    ({**HELLO, "conversation_history": [{"role": "user", "content": "x"}] * 201}, "conversation_history"),
]


@pytest.mark.parametrize(("body", "field"), BAD_BODIES)
async def test_bad_input_is_400_and_names_the_field(client: httpx.AsyncClient, body: object, field: str) -> None:
    """As a stream and as a job; a client's `system` message is bad input, too."""
    for mode in ("stream", "job"):
        answer = await client.post(PATH, params={"mode": mode}, json=body)

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
        assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "query", ["mode=job", "mode=job/stream", "mode=job%2Fstream", "mode=job/stream/stream", "mode=job//stream/"]
)
async def test_a_client_that_appends_stream_to_its_url_gets_its_job(client: httpx.AsyncClient, query: str) -> None:
    """The original client makes `?mode=job/stream` of `?mode=job`."""
    answer = await client.post(f"{PATH}?{query}", json=HELLO)

    assert answer.json()["status"] == "pending", answer.text
    assert (await poll_to_end(client, answer.json()))["status"] == "succeeded"


@pytest.mark.parametrize("query", ["", "mode=stream", "mode=sse", "mode=sse/stream", "mode=", "mode=/stream"])
async def test_a_stream_has_two_names(client: httpx.AsyncClient, query: str) -> None:
    """`sse` is what the origin of this contract calls it; a reader of either can resume."""
    answer = await client.post(f"{PATH}?{query}", json=HELLO)
    first, *rest = parse_events(answer.content)
    again = await client.post(f"{PATH}?{query}", json=HELLO, headers={"Last-Event-ID": str(first.id)})

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert parse_events(again.content) == rest


@pytest.mark.parametrize("mode", ["batch", "JOB", "jobs", "jobstream", "job/x", "job stream", "job/streams", "x/job"])
async def test_no_other_mode_is_guessed(client: httpx.AsyncClient, mode: str) -> None:
    """A stream in place of a job, or a job in place of a stream, would be the client's riddle."""
    answer = await client.post(PATH, params={"mode": mode}, json=HELLO)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "mode")


async def test_an_animal_that_does_not_live_here_is_404(client: httpx.AsyncClient) -> None:
    """Nothing has been stored."""
    answer = await client.post(PATH, json={**HELLO, "animal_id": "unicorn_001"})

    assert (answer.status_code, answer.json()["code"]) == (404, "animal_not_found")


@pytest.mark.parametrize(
    ("settings", "more", "animal_id"),
    [
        ({}, {}, "lion_001"),
        ({"default_animal": "tiger_001"}, {}, "tiger_001"),
        ({}, {"animal_id": "tiger_001"}, "tiger_001"),
    ],
)
async def test_the_animal_is_the_one_asked_for_else_the_default(
    open_client: OpensClient, settings: dict[str, Any], more: dict[str, str], animal_id: str
) -> None:
    """Clients of this contract need not know about animals."""
    provider = Says()
    client = await open_client(provider, **settings)

    await client.post(PATH, json={**HELLO, **more})

    assert provider.prompts[0].animal.animal_id == animal_id


@pytest.mark.parametrize(
    ("settings", "is_secure"), [({}, False), ({"environment": "production", "signing_key": OWN_KEY}, True)]
)
@pytest.mark.parametrize("mode", ["stream", "job"])
async def test_a_new_caller_gets_a_cookie(
    open_client: OpensClient, settings: dict[str, Any], is_secure: bool, mode: str
) -> None:
    """Not for scripts, not for other sites, over TLS outside development, with 128 random bits; given once."""
    client = await open_client(**settings)

    answer = await client.post(PATH, params={"mode": mode}, json=HELLO)
    cookie = answer.headers["set-cookie"]
    again = await client.post(PATH, json=HELLO, headers={"Cookie": cookie.partition(";")[0]})

    value, *attributes = cookie.removeprefix("session_id=").split("; ")
    assert len(value) == 22
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
    assert ("Secure" in attributes) is is_secure
    assert "set-cookie" not in again.headers


@pytest.mark.parametrize("value", ["x", "short", "x" * 129, "with%20blank%20and%20more%20characters"])
async def test_a_cookie_that_is_not_one_of_ours_is_replaced(client: httpx.AsyncClient, value: str) -> None:
    """A value that others could guess must not become an owner."""
    answer = await client.post(PATH, json=HELLO, headers={"Cookie": f"session_id={value}"})

    assert answer.headers["set-cookie"].startswith("session_id=")


async def test_the_history_that_the_client_tells_takes_the_place_of_ours(open_client: OpensClient) -> None:
    """It becomes pairs of message and reply; a reply without a message is kept."""
    provider = Says()
    client = await open_client(provider)
    await client.post(PATH, json=HELLO)
    told = [
        {"role": "assistant", "content": "Welcome!"},
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": "Are you there?"},
        {"role": "assistant", "content": "Yes!"},
        {"role": "assistant", "content": "Roar!"},
    ]

    await client.post(PATH, json={**HELLO, "conversation_history": told})

    assert [(said.message, said.reply) for said in provider.prompts[1].history] == [
        ("", "Welcome!"),
        ("Hi", ""),
        ("Are you there?", "Yes!"),
        ("", "Roar!"),
    ]


async def test_without_memory_nothing_is_remembered(open_client: OpensClient) -> None:
    """The turn reads no earlier turns, and later turns do not read it."""
    provider = Says()
    client = await open_client(provider)
    await client.post(PATH, json={"query": "My name is John"})

    await client.post(PATH, json={"query": "A secret", "memory_enabled": False})
    await client.post(PATH, json={"query": "What is my name?"})

    assert provider.prompts[1].history == ()
    assert [said.message for said in provider.prompts[2].history] == ["My name is John"]


async def test_without_documents_the_animal_looks_nothing_up(open_client: OpensClient) -> None:
    """The turn has no facts and no sources."""
    provider = Says()
    client = await open_client(provider)

    answer = await client.post(PATH, json={**HELLO, "auto_load_documents": False})

    assert provider.prompts[0].facts == ()
    assert parse_events(answer.content)[-2].data["sources"] == []


async def test_each_cookie_has_a_talk_of_its_own_with_each_animal(open_zoo: OpensZoo) -> None:
    """Nobody hears what another one said, and the tiger not what the lion was told."""
    provider = Says()
    zoo = await open_zoo(provider)
    mia, tom = await open_endpoint(zoo, PLATFORM), await open_endpoint(zoo, PLATFORM)
    await mia.post_message("I am Mia")
    await tom.post_message("I am Tom")

    await mia.client.post(PATH, json={**HELLO, "animal_id": "tiger_001"})
    await mia.post_message("Who am I?")

    assert [said.message for said in provider.prompts[1].history] == []
    assert [said.message for said in provider.prompts[2].history] == []
    assert [said.message for said in provider.prompts[3].history] == ["I am Mia"]


async def test_questions_at_once_are_answered_beside_each_other(open_client: OpensClient) -> None:
    """A dashboard asks several things at a time: none of them is refused, and all know what was said before."""
    provider = Waits()
    client = await open_client(provider)
    first = await start_job(client)
    await provider.has_begun.wait()

    second = await start_job(client, query="And how far?")
    provider.go.set()
    both = [await poll_to_end(client, job) for job in (first, second)]

    assert [job["status"] for job in both] == ["succeeded", "succeeded"]
    assert both[0]["result"]["metadata"]["session_id"] != both[1]["result"]["metadata"]["session_id"]


async def test_a_job_is_polled_from_pending_to_succeeded(open_client: OpensClient) -> None:
    """`latest_progress` in every answer; both addresses tell the same; nothing goes back."""
    provider = Waits()
    client = await open_client(provider)

    job = await start_job(client)
    await provider.has_begun.wait()
    running = (await client.get(job["polling_url"])).json()
    provider.go.set()
    over = await poll_to_end(client, job)
    twin = (await client.get(f"/api/v1{job['polling_url']}")).json()

    assert (job["status"], job["polling_url"]) == ("pending", f"/jobs/{job['job_id']}")
    assert len(bytes.fromhex(job["job_id"].removeprefix("job_"))) == 16
    assert (running["status"], running["result"], running["error"]) == ("running", None, None)
    assert running["latest_progress"] == {
        "step": "generating_response",
        "message": "The animal is answering",
        "progress": 75,
    }
    assert (over["status"], over["result"]["response"], over["error"]) == ("succeeded", "Ready, go.", None)
    assert (over["latest_progress"]["step"], over["latest_progress"]["progress"]) == ("complete", 100)
    assert over["created_at"] <= over["updated_at"]
    assert twin == over


async def test_a_job_that_failed_says_why(open_client: OpensClient) -> None:
    """One sentence and the problem object; nothing of the provider's own words."""
    client = await open_client(Fails(OSError("secret upstream host"), "Well, "))

    over = await poll_to_end(client, await start_job(client))

    assert (over["status"], over["result"]) == ("failed", None)
    assert over["error"] == over["problem"]["detail"]
    assert over["problem"]["code"] == "internal_error"
    assert "secret" not in str(over)


@pytest.mark.parametrize(
    ("provider", "moderator", "step", "progress"),
    [
        (Fails(OSError(), "Well, "), AllowsAll(), "generating_response", 75),
        (Says(), Crashes(), "initializing", 5),
    ],
)
async def test_a_failed_job_is_at_the_step_it_failed_in(
    open_client: OpensClient, provider: Provider, moderator: FakeModerator, step: str, progress: int
) -> None:
    """Not at 100 %, neither as a job nor as a turn."""
    client = await open_client(provider, moderator=moderator)

    over = await poll_to_end(client, await start_job(client))
    turn = (await client.get(f"/convo_turn/turn_{over['job_id'].removeprefix('job_')}")).json()

    assert (over["status"], over["latest_progress"]["step"]) == ("failed", step)
    assert (turn["status"], turn["progress"]) == ("failed", progress)


async def test_a_blocked_job_has_succeeded_with_the_fixed_words(open_client: OpensClient) -> None:
    """Fixed words are an answer, not a failure."""
    client = await open_client(moderator=Blocks("Please ask a grown-up."))

    over = await poll_to_end(client, await start_job(client))

    assert (over["status"], over["result"]["response"]) == ("succeeded", "Please ask a grown-up.")
    assert over["result"]["metadata"]["finish_reason"] == "blocked"


async def test_a_job_is_there_when_its_events_are_not(open_client: OpensClient) -> None:
    """The stored turn is what a job tells, not the log of its stream."""
    client = await open_client(REPLAY_WINDOW=0)
    job = await start_job(client)
    over = await poll_to_end(client, job)

    assert (await client.get(job["polling_url"])).json() == over
    assert over["result"]["response"] == "Roar! I am a lion."


async def test_a_job_ends_with_its_session(open_client: OpensClient) -> None:
    """It is 404 a day after the last message."""
    clock = FakeClock()
    client = await open_client(clock=clock)
    job = await start_job(client)
    await poll_to_end(client, job)

    clock.advance(86_400)
    answer = await client.get(job["polling_url"])

    assert (answer.status_code, answer.json()["detail"]) == (404, "Job not found.")


async def test_a_key_makes_a_job_safe_to_repeat(open_client: OpensClient) -> None:
    """Also for a first caller, who has no cookie yet the first time: a UUID is nobody else's."""
    provider = Says()
    client = await open_client(provider)
    key = {"Idempotency-Key": "550e8400-e29b-41d4-a716-446655440000"}

    first = await client.post(PATH, params={"mode": "job"}, json=HELLO, headers=key)
    with_cookie = await client.post(PATH, params={"mode": "job"}, json=HELLO, headers=key)
    await poll_to_end(client, first.json())
    client.cookies.clear()
    without_cookie = await client.post(PATH, params={"mode": "job"}, json=HELLO, headers=key)

    assert first.json() == with_cookie.json() == without_cookie.json()
    assert len(provider.prompts) == 1


async def test_jobs_are_listed_for_whom_they_belong_to(open_zoo: OpensZoo) -> None:
    """A cookie's own, latest first and in pages; nobody's for nobody; all for an administrator, which is recorded."""
    zoo = await open_zoo()
    mia, tom, nobody, admin = (
        await zoo.new_client(),
        await zoo.new_client(),
        await zoo.new_client(),
        await log_in_client(zoo, "admin"),
    )
    mias = [await start_job(mia, query=f"question {number}") for number in range(3)]
    toms = await start_job(tom)
    for client, job in [*((mia, job) for job in mias), (tom, toms)]:
        await poll_to_end(client, job)

    first = (await mia.get("/jobs", params={"limit": 2})).json()
    rest = (await mia.get("/jobs", params={"limit": 2, "cursor": first["next_cursor"]})).json()

    assert {job["job_id"] for job in first["jobs"] + rest["jobs"]} == {job["job_id"] for job in mias}
    assert (len(first["jobs"]), len(rest["jobs"]), rest["next_cursor"]) == (2, 1, None)
    assert [job["job_id"] for job in (await tom.get("/jobs")).json()["jobs"]] == [toms["job_id"]]
    assert (await nobody.get("/jobs")).json() == {"jobs": [], "next_cursor": None}
    assert len((await admin.get("/jobs")).json()["jobs"]) == 4
    (entry,) = [
        entry for entry in (await zoo.services.audit.list_entries(10)).items if entry.action == "sessions_listed"
    ]
    assert (entry.actor.name, entry.target) == ("admin", EVERYBODY)


async def test_a_stream_that_was_left_is_a_job_that_can_be_polled(open_client: OpensClient) -> None:
    """Disconnecting does not stop the turn."""
    provider = Waits()
    client = await open_client(provider)
    job = await start_job(client)
    await provider.has_begun.wait()
    provider.go.set()

    assert (await poll_to_end(client, job))["result"]["response"] == "Ready, go."


async def test_a_simulated_error_is_progress_and_then_an_error(client: httpx.AsyncClient) -> None:
    """Developers can test how their client handles an error."""
    answer = await client.post(f"{PATH}/error", json=HELLO)

    events = parse_events(answer.content)
    assert [event.event for event in events] == ["progress", "progress", "error"]
    assert events[-1].data["error"] == "This failure is a simulation."
    assert "session_id=" in answer.headers["set-cookie"]
    assert answer.headers["x-streaming-session-id"]


async def test_a_simulated_error_is_a_failed_job_as_well(open_client: OpensClient) -> None:
    """Clients that poll can be tested, too; no later question remembers it."""
    provider = Says()
    client = await open_client(provider)

    answer = await client.post(f"{PATH}/error", params={"mode": "job/stream"}, json=HELLO)
    over = await poll_to_end(client, answer.json())
    await client.post(PATH, json=HELLO)

    assert answer.json()["status"] == "pending"
    assert (over["status"], over["error"]) == ("failed", "This failure is a simulation.")
    assert (over["latest_progress"]["step"], over["latest_progress"]["progress"]) == ("loading_documents", 25)
    assert [prompt.history for prompt in provider.prompts] == [()]


async def test_a_simulated_timeout_is_silence_and_then_an_error(
    open_client: OpensClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats and nothing else, for as long as the contract has patience."""
    assert platform.SIMULATED_TIMEOUT_S == 300
    monkeypatch.setattr(platform, "SIMULATED_TIMEOUT_S", 0.1)
    client = await open_client(HEARTBEAT=0.03)

    answer = await client.post(f"{PATH}/timeout", json=HELLO)

    names = [event.event for event in parse_events(answer.content)]
    assert names[:2] == ["progress", "progress"]
    assert set(names[2:-1]) == {"heartbeat"}
    assert get_last_event(answer).data["problem"]["code"] == "turn_timeout"


@pytest.mark.parametrize("path", [f"{PATH}/error", f"{PATH}/error?mode=job", f"{PATH}/timeout"])
@pytest.mark.parametrize(
    "settings", [{"simulations": "off"}, {"environment": "production", "signing_key": OWN_KEY}], ids=str
)
async def test_simulations_can_be_off(open_client: OpensClient, path: str, settings: dict[str, Any]) -> None:
    """In production they are off by default."""
    client = await open_client(**settings)

    assert (await client.post(path, json=HELLO)).status_code == 404


async def test_a_simulation_checks_the_body_like_the_real_thing(client: httpx.AsyncClient) -> None:
    """It must not accept what the real operation refuses."""
    answer = await client.post(f"{PATH}/error", json={})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "query")


async def test_two_readers_of_one_turn_see_the_same_bytes(open_client: OpensClient) -> None:
    """One that resumes while the turn still runs, and the first one, which stays."""
    provider = Waits()
    client = await open_client(provider)
    client.cookies.set("session_id", "x" * 22)
    first = asyncio.create_task(client.post(PATH, json=HELLO))
    await provider.has_begun.wait()
    (job,) = (await client.get("/jobs")).json()["jobs"]
    turn_id = f"turn_{job['job_id'].removeprefix('job_')}"
    second = asyncio.create_task(client.post(PATH, json=HELLO, headers={"Last-Event-ID": f"{turn_id}-1"}))

    provider.go.set()
    whole, rest = await first, await second

    assert get_turn_id(whole) == get_turn_id(rest) == turn_id
    assert list_event_data(rest) == list_event_data(whole)[1:]


@pytest.mark.parametrize("job_id", [UNKNOWN.replace("turn", "job"), UNKNOWN, "x", "job_"])
@pytest.mark.parametrize("path", ["/jobs", "/api/v1/jobs"])
async def test_an_unknown_job_is_404(client: httpx.AsyncClient, path: str, job_id: str) -> None:
    """The title is the one that this contract prescribes."""
    answer = await client.get(f"{path}/{job_id}")

    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
    assert (answer.json()["title"], answer.json()["detail"]) == ("Job not found", "Job not found.")
