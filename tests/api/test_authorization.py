"""THE table: who may do what with whose session, turn, job, stream, device and credits. A `+` is a yes.

Whatever is not a yes looks, to the byte, as if the thing were not there.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
import pytest_asyncio

from openapi_server.spec import load_spec
from tests.api.callers import CALLERS, Callers, OwnedTurn, open_callers

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Rows: whose it is, what is done, and who may; the same for sessions, turns and jobs. An account, its credits and all
# that is kept of it, is the user's. The session token of an account's session, which nobody is given, opens nothing.
OF_ACCOUNTS = """
anna read: anna keeper admin
anna write: anna admin
anna delete: anna admin
anna account: anna admin
anna allocate: admin
anna list: keeper admin
child read: child parent keeper admin
child write: child admin
child delete: child parent admin
child account: child parent admin
child allocate: admin
child list: keeper admin
parent read: parent keeper admin
parent write: parent admin
parent delete: parent admin
parent account: parent admin
parent allocate: admin
parent list: keeper admin
"""
# With `SESSION_BINDING=id` the id that the server issued to a visitor is the right itself.
OF_VISITORS = {
    "id": """
nobody read: everybody
nobody write: everybody
nobody delete: everybody
cookie read: everybody
cookie write: everybody
cookie delete: everybody
device read: everybody
device write: everybody
device delete: everybody
""",
    "caller": """
nobody read: token keeper admin
nobody write: token admin
nobody delete: token admin
cookie read: cookie token keeper admin
cookie write: cookie token admin
cookie delete: cookie token admin
device read: device token keeper admin
device write: device token admin
device delete: device token admin
""",
}

# Whose session a caller reaches who says the name that its owner chose. Not even an administrator does, for whom the
# name means a session of their own. `neighbour` and `nobody` have no cookie, and call from one address. No message
# has come with the UUID's own cookie or token before this caller comes; one has, with that of the claimed one.
BY_PROOF = """
nobody: token
cookie: cookie token
anna: anna
child: child
uuid: everybody elsewhere
claimed: token
"""
BY_ADDRESS = """
nobody: nobody neighbour device other_device token other_token
"""
# A device's session is read and changed, and everything exported and erased, by more than a name, whatever the binding;
# unless it is a UUID. A session of the zoo's own contract is seen and deleted by whoever may continue it.
REACHES = {"id": BY_PROOF + BY_ADDRESS, "caller": BY_PROOF}


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
NAMED_CONVO = {**IN_CONVO, "sessionId": "{name}"}
CONFIRMATION = {"completeResponse": "Roar!", "streamingSessionId": "{turn_id}", "tokensUsed": 1}
RESUMED = {"Last-Event-ID": "{turn_id}-1"}
AS_EVENT_SOURCE = {"Accept": "text/event-stream"}
SESSION = "/chat/sessions/{sessionId}"

BY_ID = [
    Route("GET /convo_turn/{turnId}", "read"),
    Route("GET /convo_turn/{turnId}/stream", "read"),
    Route("GET /convo_turn/{turnId}/stream", "read", headers=RESUMED),
    Route("POST /convo_turn/{turnId}/stop", "write"),
    Route("POST /convo_turn", "write", body={**IN_CONVO, **IN_SESSION}),
    Route("POST /convo_turn", "read", body={**IN_CONVO, "stream": True}, headers=RESUMED),
    Route("POST /convo_turn_stream", "write", body={**IN_CONVO, **IN_SESSION}),
    Route("POST /convo_turn_stream", "read", body=IN_CONVO, headers=RESUMED),
    Route("GET /convo_turn_stream", "write", query={**IN_CONVO, **IN_SESSION}, headers=AS_EVENT_SOURCE),
    Route("GET /convo_turn_stream", "read", query=IN_CONVO, headers={**AS_EVENT_SOURCE, **RESUMED}),
    Route("POST /api/v1/stream", "read", body={"query": "Hello!"}, headers=RESUMED),
    Route("GET /convo_history", "read", query=IN_SESSION),
    Route("DELETE /convo_history", "delete", query=IN_SESSION),
    Route("GET /convo_history", "read", headers={"X-Session-Id": "{session_id}"}),
    Route("DELETE /convo_history", "delete", headers={"X-Session-Id": "{session_id}"}),
    Route("GET /conversations/sessions/{sessionId}", "read"),
    Route("POST /summarize_convo", "read", body=IN_SESSION),
    Route("GET /jobs/{jobId}", "read"),
    Route("GET /api/v1/jobs/{jobId}", "read"),
    Route(f"GET {SESSION}", "read", needs_login=True),
    Route(f"DELETE {SESSION}", "delete", needs_login=True),
    Route(f"POST {SESSION}/stream", "write", body={"message": "Hello!"}, needs_login=True),
    Route(f"POST {SESSION}/stream", "write", body={"message": "Hello!"}, headers=RESUMED, needs_login=True),
    Route(f"POST {SESSION}/messages", "write", body={"message": "Hello!"}, needs_login=True),
    Route(f"GET {SESSION}/messages", "read", needs_login=True),
    Route(f"POST {SESSION}/update-stream", "write", body=CONFIRMATION, needs_login=True),
]
OF_USERS = [
    Route("GET /credits/balance", "account", query={"userId": "{username}"}, needs_login=True),
    Route("POST /credits/allocate", "allocate", body={"userId": "{username}", "credits": 1}, needs_login=True),
    Route("GET /usage/stats", "account", query={"userId": "{username}"}, needs_login=True),
    Route("GET /chat/users/{userId}/sessions", "list", needs_login=True),
    Route("GET /privacy/export", "account", query={"userId": "{username}"}),
    Route("DELETE /privacy", "account", query={"userId": "{username}"}),
]
# By the client's own name: the token stream's `session_id`, the zoo's own `sessionId`, the device's `X-Device-ID`.
BY_NAME = [
    Route("POST /chat", "ask", body={"message": "Hello!", "session_id": "{name}"}),
    Route("POST /chat", "resume", body={"message": "Hello!", "session_id": "{name}"}, headers=RESUMED),
    Route("POST /convo_turn", "ask", body=NAMED_CONVO),
    Route("POST /convo_turn_stream", "ask", body=NAMED_CONVO),
    Route("POST /convo_turn_stream", "resume", body=NAMED_CONVO, headers=RESUMED),
    Route("GET /convo_turn_stream", "ask", query=NAMED_CONVO, headers=AS_EVENT_SOURCE),
    Route("GET /convo_turn_stream", "resume", query=NAMED_CONVO, headers={**AS_EVENT_SOURCE, **RESUMED}),
    Route("POST /convo_turn", "resume", body={**NAMED_CONVO, "stream": True}, headers=RESUMED),
    Route("GET /convo_history", "see", query={"sessionId": "{name}"}),
    Route("GET /convo_history", "see", headers={"X-Session-Id": "{name}"}),
    Route("GET /conversations/sessions/{name}", "see"),
    Route("POST /summarize_convo", "see", body={"sessionId": "{name}"}),
    Route("DELETE /convo_history", "delete", query={"sessionId": "{name}"}),
    Route("DELETE /convo_history", "delete", headers={"X-Session-Id": "{name}"}),
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
    Route("GET /privacy/export", "export", headers={"X-Session-Id": "{name}"}),
    Route("DELETE /privacy", "erase", headers={"X-Session-Id": "{name}"}),
]
# The owner and the endpoint of each turn: what one endpoint creates is protected alike at all others.
THINGS = [
    ("nobody", "devices"),
    ("cookie", "convo"),
    ("cookie", "platform"),
    ("cookie", "chat"),
    ("cookie", "devices"),
    ("device", "devices"),
    ("anna", "sessions"),
    ("child", "convo"),
    ("child", "devices"),
    ("parent", "chat"),
]


def parse_table(table: str) -> dict[str, dict[str, bool]]:
    """Who may, by row and caller: `rows["anna read"]["keeper"]`. A later row replaces an earlier one."""
    rows = {}
    for line in table.strip().splitlines():
        what, _, given = line.partition(":")
        names = set(given.split())
        is_for_all = "everybody" in names
        rows[what] = {name: name in names or (is_for_all and name not in OUT) for name in CALLERS}
    return rows


# They are refused before anything is looked at; and who calls from elsewhere is told apart by names only.
OUT = {"expired", "logged_out", "elsewhere"}
BINDINGS = ["id", "caller"]
MAY = {binding: parse_table(OF_VISITORS[binding] + OF_ACCOUNTS) for binding in BINDINGS}
REACH = {binding: parse_table(REACHES[binding].replace("\n\n", "\n")) for binding in BINDINGS}
MAY_BY_NAME = REACH["caller"]
# What belongs to accounts is tried with one binding whole, with the other in part.
THINGS_BY_BINDING = {"id": [thing for thing in THINGS if thing[0] not in ("child", "parent")], "caller": THINGS}


def list_callers(*names: str) -> list[str]:
    """Everybody who is not refused for their access token, nor named here."""
    return [name for name in CALLERS if name not in {"expired", "logged_out", *names}]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BINDINGS)
async def callers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Callers]:
    async with open_callers(tmp_path_factory.mktemp("ownership"), request.param) as everybody:
        yield everybody


def get_binding(callers: Callers) -> str:
    return callers.services.settings.session_binding


async def send_request(callers: Callers, name: str, route: Route, thing: OwnedTurn) -> httpx.Response:
    """Send the route's request for this turn, as this caller."""
    method, _, path = route.operation.partition(" ")
    ids = {"turnId": thing.turn_id, "sessionId": thing.session_id, "jobId": thing.job_id, "userId": thing.username}
    path = path.format(**ids, name=thing.name)
    return await callers.request(
        name,
        method,
        path,
        token=thing.token,
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
    return 403 if route.doing in ("allocate", "list") else 404


@pytest.mark.parametrize("route", BY_ID, ids=str)
async def test_an_id_opens_what_it_should_and_to_whom_it_should(callers: Callers, route: Route) -> None:
    """Every cell: a no is what a made-up id gets, and leaves the thing as it was; a yes works."""
    binding = get_binding(callers)
    for owner, endpoint in THINGS_BY_BINDING[binding]:
        thing = await callers.create_turn(owner, endpoint)
        may = MAY[binding][f"{owner} {route.doing}"]
        refused = [name for name in CALLERS if name != "elsewhere" and (not may[name] or lacks_login(name, route))]
        for name in refused:
            answer = await send_request(callers, name, route, thing)
            assert answer.status_code == get_refusal_status(name, route), (owner, endpoint, name, answer.text)
            assert summarize_answer(answer, thing) == await summarize_missing(callers, name, route), (owner, name)
        assert await callers.services.store.get_session(thing.session_id) == thing.session
        for name in CALLERS.keys() - {*refused, "elsewhere"}:
            changeable = await callers.create_turn(owner, endpoint) if route.doing in ("write", "delete") else thing
            answer = await send_request(callers, name, route, changeable)
            assert answer.status_code in (200, 204), (owner, endpoint, name, answer.text)


@pytest.mark.parametrize("owner", ["anna", "child", "parent"])
@pytest.mark.parametrize("route", OF_USERS, ids=str)
async def test_an_account_is_for_whom_it_concerns(callers: Callers, owner: str, route: Route) -> None:
    """A user that is not there looks like one who is none of the caller's business."""
    thing, missing = callers.make_user(owner), callers.make_user("nobody")
    for name, is_yes in MAY[get_binding(callers)][f"{owner} {route.doing}"].items():
        if name == "elsewhere":
            continue
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


@pytest.mark.parametrize("whose", MAY_BY_NAME)
@pytest.mark.parametrize("route", [route for route in BY_NAME if route.doing == "ask"], ids=str)
async def test_somebody_elses_name_for_a_session_begins_one_of_ones_own(
    callers: Callers, whose: str, route: Route
) -> None:
    """Two visitors who both use the name "default" have two sessions."""
    reach = REACH[get_binding(callers)][whose]
    things = NamedTurns(callers, whose, route)
    for name in list_callers():
        is_yes = reach[name]
        thing = await things.get()
        count = await callers.count_messages(thing)

        answer = await send_request(callers, name, route, thing)

        assert answer.status_code == 200, (name, answer.text)
        assert (await callers.count_messages(thing) == count + 1) is is_yes, name
        # The token of a session comes with its first message only.
        assert answer.headers.get("x-session-token") != thing.token
        things.is_changed = is_yes


@pytest.mark.parametrize("whose", MAY_BY_NAME)
@pytest.mark.parametrize("route", [route for route in BY_NAME if route.doing in ("look", "resume", "see")], ids=str)
async def test_somebody_elses_name_for_a_session_shows_nothing(callers: Callers, whose: str, route: Route) -> None:
    """Nor does it resume, not even for whoever holds the id of a visitor's turn: it is another request."""
    thing = await create_named_turn(callers, whose, route)
    binding = get_binding(callers)
    table = MAY_BY_NAME if route.doing == "look" else REACH[binding]
    for name in list_callers():
        is_yes = table[whose][name]
        is_held = MAY[binding][f"{get_owner(whose)} read"]["nobody" if name == "elsewhere" else name]

        answer = await send_request(callers, name, route, thing)

        if is_yes:
            assert answer.status_code == 200, (name, answer.text)
        elif route.doing == "resume" and is_held:
            assert (answer.status_code, answer.json()["code"]) == (422, "resume_mismatch"), name
        else:
            assert answer.status_code == 404, (name, answer.text)
            assert summarize_answer(answer, thing) == await summarize_missing(callers, name, route), name


@pytest.mark.parametrize("whose", MAY_BY_NAME)
@pytest.mark.parametrize("route", [route for route in BY_NAME if route.doing in ("export", "erase")], ids=str)
async def test_somebody_elses_name_neither_exports_nor_erases(callers: Callers, whose: str, route: Route) -> None:
    """Only the caller's own data is exported or erased."""
    things = NamedTurns(callers, whose, route)
    for name in list_callers():
        is_yes = MAY_BY_NAME[whose][name]
        thing = await things.get()

        answer = await send_request(callers, name, route, thing)
        is_there = await callers.services.store.get_session(thing.session_id) is not None
        if route.doing == "erase":
            await callers.log_in_again()

        assert answer.status_code == 200, (name, answer.text)
        assert is_there is not (is_yes and route.doing == "erase"), name
        assert (thing.session_id in answer.text) is (is_yes and route.doing == "export"), name
        things.is_changed = is_yes


class NamedTurns:
    """The thing that the next caller names: the same as long as it stayed as it was."""

    def __init__(self, callers: Callers, whose: str, route: Route) -> None:
        self._callers, self._whose, self._route = callers, whose, route
        self._current: OwnedTurn | None = None
        # Set by the test: a caller read, changed or deleted it.
        self.is_changed = False

    async def get(self) -> OwnedTurn:
        """A UUID belongs to whoever says it first with a proof, so that each caller gets another."""
        if self._current is None or self.is_changed or self._whose == "uuid":
            self._current = await create_named_turn(self._callers, self._whose, self._route)
            self.is_changed = False
        return self._current


async def create_named_turn(callers: Callers, whose: str, route: Route) -> OwnedTurn:
    """A session under a name that its owner chose, as a rule a plain one. The claimed one was begun by nobody."""
    endpoint = "devices" if "X-Device-ID" in route.headers else "convo" if "conv" in route.operation else "chat"
    name = str(uuid.uuid4()) if whose in ("uuid", "claimed") else f"named-{uuid.uuid4().hex}"
    thing = await callers.create_turn(get_owner(whose), endpoint, name)
    return await callers.create_turn("token", endpoint, name, token=thing.token) if whose == "claimed" else thing


def get_owner(whose: str) -> str:
    return "nobody" if whose in ("uuid", "claimed") else whose


@pytest.mark.parametrize("whose", MAY_BY_NAME)
@pytest.mark.parametrize("route", [route for route in BY_NAME if route.doing == "delete"], ids=str)
async def test_somebody_elses_name_deletes_nothing(callers: Callers, whose: str, route: Route) -> None:
    """It is what a name is that nobody has used."""
    things = NamedTurns(callers, whose, route)
    for name in list_callers():
        is_yes = REACH[get_binding(callers)][whose][name]
        thing = await things.get()

        answer = await send_request(callers, name, route, thing)

        assert answer.status_code == (204 if is_yes else 404), (name, answer.text)
        assert (await callers.services.store.get_session(thing.session_id) is None) is is_yes, name
        things.is_changed = is_yes
        if not is_yes:
            assert summarize_answer(answer, thing) == await summarize_missing(callers, name, route), name


@pytest.mark.parametrize("endpoint", ["chat", "devices"])
@pytest.mark.parametrize("name", CALLERS)
async def test_a_name_that_the_client_chose_is_no_id(callers: Callers, endpoint: str, name: str) -> None:
    """Where the server's ids are asked for, a client's own name opens nothing, not even to the client itself.

    Nor does it reach a session of another contract: there the name begins a session.
    """
    thing = await callers.create_turn("cookie", endpoint)
    chosen = OwnedTurn(session_id=thing.name, turn_id=thing.name, job_id=thing.name, name=thing.name)
    for route in BY_ID:
        if not route.headers and route.operation not in ASKING:
            assert (await send_request(callers, name, route, chosen)).status_code in (400, 401, 404), route
    for route in BY_ID:
        if not route.headers and route.doing == "write" and route.operation in ASKING:
            assert (await send_request(callers, name, route, chosen)).status_code in (200, 401), route
    assert await callers.services.store.get_session(thing.session_id) == thing.session


ASKING = {"POST /convo_turn", "POST /convo_turn_stream"}
LISTS = {"GET /conversations/sessions", "GET /jobs"}
OF_USERS_SESSION = Route("GET /chat/users/{userId}/sessions/{sessionId}", "list", needs_login=True)


async def test_a_users_session_is_shown_to_zookeepers_and_administrators(callers: Callers) -> None:
    """Under its own user's name only; others are refused before anything is looked at."""
    thing = await callers.create_turn("anna", "sessions")
    visitors = await callers.create_turn("cookie", "convo")
    for name in CALLERS.keys() - {"elsewhere"}:
        own, childs = replace(thing, username="anna"), replace(thing, username="child")
        answers = [
            await send_request(callers, name, OF_USERS_SESSION, asked)
            for asked in (
                own,
                childs,
                replace(visitors, username="anna"),
                replace(callers.make_missing(), username="anna"),
            )
        ]
        if name in ("keeper", "admin"):
            assert [answer.status_code for answer in answers] == [200, 404, 404, 404], name
        else:
            status = get_refusal_status(name, OF_USERS_SESSION)
            assert [answer.status_code for answer in answers] == [status] * 4, name


OBSERVE = Route(f"GET {SESSION}/observe", "observe", needs_login=True)


async def test_sessions_are_observed_by_zookeepers_and_administrators(callers: Callers) -> None:
    """By nobody else, not even by whose session it is; they are told when no turn runs."""
    for owner, endpoint in THINGS_BY_BINDING[get_binding(callers)]:
        thing = await callers.create_turn(owner, endpoint)
        for name in CALLERS.keys() - {"elsewhere"}:
            answer = await send_request(callers, name, OBSERVE, thing)
            if name in ("keeper", "admin"):
                assert (answer.status_code, answer.json()["code"]) == (404, "turn_not_found"), (owner, name)
            else:
                assert answer.status_code == get_refusal_status(name, OBSERVE), (owner, name)
                assert summarize_answer(answer, thing) == await summarize_missing(callers, name, OBSERVE), (owner, name)


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
    """Two callers with one Idempotency-Key get two turns, also behind one address."""
    names = list_callers("device", "other_device")
    turns = [(await callers.create_turn(name, endpoint, key=f"key-of-{endpoint}")).turn_id for name in names]

    assert len(set(turns)) == len(names)


@pytest.mark.parametrize("endpoint", ["convo", "platform", "chat", "devices"])
async def test_a_key_that_is_a_uuid_needs_no_cookie(callers: Callers, endpoint: str) -> None:
    """Whoever repeats it is the one who made it. It is nobody's who has a cookie or an account."""
    key = str(uuid.uuid4())
    names = ["nobody", "neighbour", "nobody", "cookie", "cookie", "anna"]
    turns = [(await callers.create_turn(name, endpoint, "one-name", key=key)).turn_id for name in names]

    assert turns[0] == turns[1] == turns[2]
    assert turns[3] == turns[4]
    assert len(set(turns)) == 3


PARAMETERS = {
    "turnId",
    "sessionId",
    "session_id",
    "jobId",
    "userId",
    "X-Device-ID",
    "X-Session-Id",
    "X-Session-Token",
    "Last-Event-ID",
}
FIELDS = {"sessionId", "session_id", "streamingSessionId", "userId"}


async def test_no_route_was_forgotten() -> None:
    """Every operation that takes an id, a name or a point to resume from stands in the table."""
    routes = (*BY_ID, *OF_USERS, *BY_NAME, OBSERVE, OF_USERS_SESSION)
    told = {route.operation.replace("{name}", "{sessionId}") for route in routes} | LISTS
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
