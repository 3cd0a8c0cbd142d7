"""THE table: who may do what with whose session, turn, job, stream, device and credits. A `+` is a yes.

Whatever is not a yes looks, to the byte, as if the thing were not there.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio

from openapi_server.spec import load_spec
from tests.api.callers import CALLERS, Callers, OwnedTurn, open_callers

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Rows: whose it is, and what is done. `read` and `change` need the id that the server issued; to a visitor that id is
# the right itself. Jobs need their cookie beside it. An account, its credits and all that is kept of it, is the user's.
WHO = """
                 nobody neighbour other_cookie cookie anna child parent other_parent keeper admin expired logged_out
nobody  read       +        +          +         +     +     +     +         +         +      +      -        -
nobody  change     +        +          +         +     +     +     +         +         +      +      -        -
nobody  poll       -        -          -         -     -     -     -         -         -      +      -        -
cookie  read       +        +          +         +     +     +     +         +         +      +      -        -
cookie  change     +        +          +         +     +     +     +         +         +      +      -        -
cookie  poll       -        -          -         +     -     -     -         -         -      +      -        -
anna    read       -        -          -         -     +     -     -         -         +      +      -        -
anna    change     -        -          -         -     +     -     -         -         -      +      -        -
anna    poll       -        -          -         -     +     -     -         -         +      +      -        -
anna    account    -        -          -         -     +     -     -         -         -      +      -        -
anna    allocate   -        -          -         -     -     -     -         -         -      +      -        -
child   read       -        -          -         -     -     +     +         -         +      +      -        -
child   change     -        -          -         -     -     +     +         -         -      +      -        -
child   poll       -        -          -         -     -     +     +         -         +      +      -        -
child   account    -        -          -         -     -     +     +         -         -      +      -        -
child   allocate   -        -          -         -     -     -     -         -         -      +      -        -
parent  read       -        -          -         -     -     -     +         -         +      +      -        -
parent  change     -        -          -         -     -     -     +         -         -      +      -        -
parent  poll       -        -          -         -     -     -     +         -         +      +      -        -
parent  account    -        -          -         -     -     -     +         -         -      +      -        -
parent  allocate   -        -          -         -     -     -     -         -         -      +      -        -
"""

# Whose session a caller reaches who says the name that its owner chose. Not even an administrator does, for whom the
# name means a session of their own. `neighbour` and `nobody` have no cookie, and call from one address.
REACHES = """
       nobody neighbour other_cookie cookie anna child parent other_parent keeper admin elsewhere
nobody   +        +          -         -     -     -     -         -         -      -       -
cookie   -        -          -         +     -     -     -         -         -      -       -
anna     -        -          -         -     +     -     -         -         -      -       -
child    -        -          -         -     -     +     -         -         -      -       -
uuid     +        +          -         -     -     -     -         -         -      -       +
"""


@dataclass(frozen=True)
class Route:
    """An operation, what it does in the words of the table, and a request in which the thing's ids are filled in."""

    operation: str
    doing: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, object] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    needs_login: bool = False

    def __str__(self) -> str:
        return self.operation + (" resumed" if "Last-Event-ID" in self.headers else "")


IN_SESSION = {"sessionId": "{session_id}"}
IN_CONVO = {"message": "Hello!", "animalId": "lion_001"}
CONFIRMATION = {"completeResponse": "Roar!", "streamingSessionId": "{turn_id}", "tokensUsed": 1}
RESUMED = {"Last-Event-ID": "{turn_id}-1"}
SESSION = "/chat/sessions/{sessionId}"

BY_ID = [
    Route("GET /convo_turn/{turnId}", "read"),
    Route("GET /convo_turn/{turnId}/stream", "read"),
    Route("GET /convo_turn/{turnId}/stream", "read", headers=RESUMED),
    Route("POST /convo_turn/{turnId}/stop", "change"),
    Route("POST /convo_turn", "change", body={**IN_CONVO, **IN_SESSION}),
    Route("POST /convo_turn", "read", body={**IN_CONVO, "stream": True}, headers=RESUMED),
    Route("POST /convo_turn_stream", "change", body={**IN_CONVO, **IN_SESSION}),
    Route("POST /convo_turn_stream", "read", body=IN_CONVO, headers=RESUMED),
    Route("POST /api/v1/stream", "read", body={"query": "Hello!"}, headers=RESUMED),
    Route("GET /convo_history", "read", query=IN_SESSION),
    Route("DELETE /convo_history", "change", query=IN_SESSION),
    Route("GET /conversations/sessions/{sessionId}", "read"),
    Route("POST /summarize_convo", "read", body=IN_SESSION),
    Route("GET /jobs/{jobId}", "poll"),
    Route("GET /api/v1/jobs/{jobId}", "poll"),
    Route(f"GET {SESSION}", "read", needs_login=True),
    Route(f"DELETE {SESSION}", "change", needs_login=True),
    Route(f"POST {SESSION}/stream", "change", body={"message": "Hello!"}, needs_login=True),
    Route(f"POST {SESSION}/stream", "change", body={"message": "Hello!"}, headers=RESUMED, needs_login=True),
    Route(f"POST {SESSION}/update-stream", "change", body=CONFIRMATION, needs_login=True),
]
OF_USERS = [
    Route("GET /credits/balance", "account", query={"userId": "{username}"}, needs_login=True),
    Route("POST /credits/allocate", "allocate", body={"userId": "{username}", "credits": 1}, needs_login=True),
    Route("GET /privacy/export", "account", query={"userId": "{username}"}),
    Route("DELETE /privacy", "account", query={"userId": "{username}"}),
]
# By the client's own name: the token stream's `session_id`, the device's `X-Device-ID`.
BY_NAME = [
    Route("POST /chat", "ask", body={"message": "Hello!", "session_id": "{name}"}),
    Route("POST /chat", "resume", body={"message": "Hello!", "session_id": "{name}"}, headers=RESUMED),
    Route("POST /chat/", "ask", body={"content": "Hello!"}, headers={"X-Device-ID": "{name}"}),
    Route("POST /chat/stream", "ask", body={"content": "Hello!"}, headers={"X-Device-ID": "{name}"}),
    Route("POST /chat/stream", "resume", body={"content": "Hello!"}, headers={"X-Device-ID": "{name}", **RESUMED}),
    Route("GET /chat/stream", "look", headers={"X-Device-ID": "{name}"}),
    Route("GET /chat/session", "look", headers={"X-Device-ID": "{name}"}),
    Route("PATCH /chat/session", "look", body={"session_ttl": 86_400}, headers={"X-Device-ID": "{name}"}),
    Route("GET /privacy/export", "export", headers={"X-Device-ID": "{name}"}),
    Route("GET /privacy/export", "export", query={"session_id": "{name}"}),
    Route("DELETE /privacy", "erase", headers={"X-Device-ID": "{name}"}),
    Route("DELETE /privacy", "erase", query={"session_id": "{name}"}),
]
# The owner and the endpoint of each turn: what one endpoint creates is protected alike at all others.
THINGS = [
    ("nobody", "devices"),
    ("cookie", "convo"),
    ("cookie", "platform"),
    ("cookie", "chat"),
    ("cookie", "devices"),
    ("anna", "sessions"),
    ("child", "convo"),
    ("child", "devices"),
    ("parent", "chat"),
]


def parse_table(table: str) -> dict[str, dict[str, bool]]:
    """The table by row and column: `rows["anna read"]["keeper"]`."""
    head, *lines = [line.split() for line in table.strip().splitlines()]
    width = len(head)
    return {
        " ".join(line[:-width]): dict(zip(head, (mark == "+" for mark in line[-width:]), strict=True)) for line in lines
    }


MAY, REACH = parse_table(WHO), parse_table(REACHES)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def callers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Callers]:
    async with open_callers(tmp_path_factory.mktemp("ownership")) as everybody:
        yield everybody


async def send_request(callers: Callers, name: str, route: Route, thing: OwnedTurn) -> httpx.Response:
    """Send the route's request for this turn, as this caller."""
    method, _, path = route.operation.partition(" ")
    path = path.format(turnId=thing.turn_id, sessionId=thing.session_id, jobId=thing.job_id)
    return await callers.request(
        name,
        method,
        path,
        params=_fill_in(route.query, thing),
        json=_fill_in(route.body, thing),
        headers=_fill_in(route.headers, thing),
    )


def _fill_in(values: Mapping[str, object] | None, thing: OwnedTurn) -> dict[str, Any] | None:
    if values is None:
        return None
    ids = vars(thing)
    return {name: value.format(**ids) if isinstance(value, str) else value for name, value in values.items()}


def summarize_answer(answer: httpx.Response, thing: OwnedTurn) -> tuple[int, str]:
    """All that a caller can see of an answer, but for the request's id and the ids that it named itself."""
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    text = answer.text + json.dumps(headers)
    for own in (answer.headers["x-request-id"], *vars(thing).values()):
        text = text.replace(str(own), "*") if own else text
    return answer.status_code, text


async def summarize_missing(callers: Callers, name: str, route: Route) -> tuple[int, str]:
    """What the caller is shown of ids that nobody ever had: asked once, for it is always the same."""
    asked = f"{name}: {route}"
    if asked not in callers.remembered:
        missing = callers.make_missing()
        callers.remembered[asked] = summarize_answer(await send_request(callers, name, route, missing), missing)
    return callers.remembered[asked]


def lacks_login(name: str, route: Route) -> bool:
    return route.needs_login and CALLERS[name].username is None


def get_refusal_status(name: str, route: Route) -> int:
    """The status with which the caller is refused."""
    if name in ("expired", "logged_out") or lacks_login(name, route):
        return 401
    return 403 if route.doing == "allocate" else 404


@pytest.mark.parametrize(("owner", "endpoint"), THINGS, ids=lambda part: str(part))
@pytest.mark.parametrize("route", BY_ID, ids=str)
async def test_an_id_opens_what_it_should_and_to_whom_it_should(
    callers: Callers, owner: str, endpoint: str, route: Route
) -> None:
    """Every cell: a yes works, a no is what a made-up id gets, and leaves the thing as it was."""
    thing = await callers.create_turn(owner, endpoint)
    for name, is_yes in MAY[f"{owner} {route.doing}"].items():
        if is_yes and not lacks_login(name, route):
            changeable = await callers.create_turn(owner, endpoint) if route.doing == "change" else thing
            answer = await send_request(callers, name, route, changeable)
            assert answer.status_code in (200, 204), (name, answer.text)
        else:
            answer = await send_request(callers, name, route, thing)
            assert answer.status_code == get_refusal_status(name, route), (name, answer.text)
            assert summarize_answer(answer, thing) == await summarize_missing(callers, name, route), name
    assert await callers.services.store.get_session(thing.session_id) == thing.session


@pytest.mark.parametrize("owner", ["anna", "child", "parent"])
@pytest.mark.parametrize("route", OF_USERS, ids=str)
async def test_an_account_is_for_whom_it_concerns(callers: Callers, owner: str, route: Route) -> None:
    """A user that is not there looks like one who is none of the caller's business."""
    thing, missing = callers.make_user(owner), callers.make_user("nobody")
    for name, is_yes in MAY[f"{owner} {route.doing}"].items():
        answer = await send_request(callers, name, route, thing)
        if is_yes:
            assert answer.status_code in (200, 201), (name, answer.text)
            # Whose account is erased is logged out everywhere.
            await callers.log_in_again()
        else:
            assert answer.status_code == get_refusal_status(name, route), (name, answer.text)
            assert summarize_answer(answer, thing) == summarize_answer(
                await send_request(callers, name, route, missing), missing
            ), name


@pytest.mark.parametrize("whose", REACH)
@pytest.mark.parametrize("route", [route for route in BY_NAME if route.doing == "ask"], ids=str)
async def test_somebody_elses_name_for_a_session_begins_one_of_ones_own(
    callers: Callers, whose: str, route: Route
) -> None:
    """Two visitors who both use the name "default" have two sessions."""
    for name, is_yes in REACH[whose].items():
        thing = await create_named_turn(callers, whose, route)

        answer = await send_request(callers, name, route, thing)

        assert answer.status_code == 200, (name, answer.text)
        assert (await callers.count_messages(thing) == 2) is is_yes, name


@pytest.mark.parametrize("whose", REACH)
@pytest.mark.parametrize("route", [route for route in BY_NAME if route.doing in ("look", "resume")], ids=str)
async def test_somebody_elses_name_for_a_session_shows_nothing(callers: Callers, whose: str, route: Route) -> None:
    """Nor does it resume, not even for whoever holds the id of a visitor's turn: it is another request."""
    thing = await create_named_turn(callers, whose, route)
    for name, is_yes in REACH[whose].items():
        is_held = MAY[f"{get_owner(whose)} read"]["nobody" if name == "elsewhere" else name]

        answer = await send_request(callers, name, route, thing)

        if is_yes:
            assert answer.status_code == 200, (name, answer.text)
        elif route.doing == "resume" and is_held:
            assert (answer.status_code, answer.json()["code"]) == (422, "resume_mismatch"), name
        else:
            assert answer.status_code == 404, (name, answer.text)
            assert summarize_answer(answer, thing) == await summarize_missing(callers, name, route), name


@pytest.mark.parametrize("whose", REACH)
@pytest.mark.parametrize("route", [route for route in BY_NAME if route.doing in ("export", "erase")], ids=str)
async def test_somebody_elses_name_neither_exports_nor_erases(callers: Callers, whose: str, route: Route) -> None:
    """Only the caller's own data is exported or erased."""
    for name, is_yes in REACH[whose].items():
        thing = await create_named_turn(callers, whose, route)

        answer = await send_request(callers, name, route, thing)
        is_there = await callers.services.store.get_session(thing.session_id) is not None
        await callers.log_in_again()

        assert answer.status_code == 200, (name, answer.text)
        assert is_there is not (is_yes and route.doing == "erase"), name
        assert (thing.session_id in answer.text) is (is_yes and route.doing == "export"), name


async def create_named_turn(callers: Callers, whose: str, route: Route) -> OwnedTurn:
    """A session with one message in it, under a name that its owner chose: as a rule a plain one."""
    endpoint = "devices" if "X-Device-ID" in route.headers else "chat"
    return await callers.create_turn(get_owner(whose), endpoint, str(uuid.uuid4()) if whose == "uuid" else None)


def get_owner(whose: str) -> str:
    return "nobody" if whose == "uuid" else whose


@pytest.mark.parametrize("endpoint", ["chat", "devices"])
@pytest.mark.parametrize("name", CALLERS)
async def test_a_name_that_the_client_chose_is_no_id(callers: Callers, endpoint: str, name: str) -> None:
    """Where the server's ids are asked for, a client's own name opens nothing, not even to the client itself."""
    thing = await callers.create_turn("cookie", endpoint)
    chosen = OwnedTurn(session_id=thing.name, turn_id=thing.name, job_id=thing.name, name=thing.name)
    for route in BY_ID:
        if not route.headers:
            assert (await send_request(callers, name, route, chosen)).status_code in (400, 401, 404), route


@pytest.mark.parametrize("path", ["/conversations/sessions", "/chat/sessions", "/jobs"])
async def test_lists_show_ones_own_and_nothing_else(callers: Callers, path: str) -> None:
    """A parent's does not show the children's, nor a keeper's the zoo's; an administrator's jobs are everybody's."""
    things = {owner: await callers.create_turn(owner, "platform") for owner in ("cookie", "anna", "child", "parent")}
    for name in CALLERS:
        answer = await callers.request(name, "GET", path, params={"limit": 100})
        if answer.status_code == 401:
            assert name in ("expired", "logged_out") or path == "/chat/sessions"
            continue
        seen = {
            owner for owner, thing in things.items() if thing.session_id in answer.text or thing.job_id in answer.text
        }
        is_all = name == "admin" and path == "/jobs"
        assert seen == (set(things) if is_all else {name} & set(things)), name


@pytest.mark.parametrize("endpoint", ["convo", "platform", "chat", "devices"])
async def test_a_key_counts_for_its_owner_only(callers: Callers, endpoint: str) -> None:
    """Two callers with one Idempotency-Key get two turns, unless they cannot be told apart."""
    names = [name for name in CALLERS if name not in ("expired", "logged_out")]
    turns = {name: (await callers.create_turn(name, endpoint, key=f"key-of-{endpoint}")).turn_id for name in names}

    assert turns["nobody"] == turns["neighbour"]
    assert len(set(turns.values())) == len(names) - 1


PARAMETERS = {"turnId", "sessionId", "session_id", "jobId", "userId", "X-Device-ID", "Last-Event-ID"}
FIELDS = {"sessionId", "session_id", "streamingSessionId", "userId"}


async def test_no_route_was_forgotten() -> None:
    """Every operation that takes an id, a name or a point to resume from stands in the table."""
    told = {route.operation for route in (*BY_ID, *OF_USERS, *BY_NAME)}
    taking = {
        f"{method.upper()} {path}"
        for path, operations in load_spec()["paths"].items()
        for method, operation in operations.items()
        if _list_parameters(operation)
    }

    assert taking == told


def _list_parameters(operation: Mapping[str, Any]) -> set[str]:
    """The parameters and fields of an operation that name somebody's data."""
    parameters = {_resolve(parameter)["name"] for parameter in operation.get("parameters", [])}
    content = operation.get("requestBody", {}).get("content", {})
    fields = {name for media in content.values() for name in _resolve(media["schema"]).get("properties", {})}
    return parameters & PARAMETERS | fields & FIELDS


def _resolve(value: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = value
    if "$ref" in value:
        found = load_spec()
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
    return found
