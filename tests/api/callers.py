"""Everybody who may call, with their cookies, tokens and addresses, and things that belong to some of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import httpx
import time_machine

from openapi_server.config import Settings
from openapi_server.http.async_handlers import RequestContext
from openapi_server.http.identity import make_session_token
from openapi_server.http.services import Services
from openapi_server.models.credits import Allocation
from openapi_server.models.ids import make_id
from openapi_server.models.session import SessionRecord
from openapi_server.models.user import Role, User
from openapi_server.storage.sqlite.accounts import SqliteAccounts
from openapi_server.storage.sqlite.sessions import SqliteStore
from tests.api.chat_endpoints import CHAT_ENDPOINTS
from tests.conftest import RunningApp, open_services_over
from tests.support.fakes import CHEAP_HASHER, AllowsAll, FakeClock, FakeKnowledge, Says

PASSWORD = "correct horse battery staple"
ACCOUNTS = {
    "anna": (Role.USER, None),
    "parent": (Role.PARENT, None),
    "child": (Role.USER, "parent"),
    "other_parent": (Role.PARENT, None),
    "other_child": (Role.USER, "other_parent"),
    "keeper": (Role.ZOOKEEPER, None),
    "admin": (Role.ADMINISTRATOR, None),
}


@dataclass(frozen=True)
class Caller:
    """Somebody: cookies, an account or neither, and where they call from.

    `token`: they bring the thing's own `X-Session-Token`, or that of another session.
    """

    address: str
    cookie: str | None = None
    username: str | None = None
    device: str | None = None
    token: Literal["own", "other"] | None = None


CALLERS = {
    "nobody": Caller("10.0.0.1"),
    "neighbour": Caller("10.0.0.1"),
    "elsewhere": Caller("10.0.0.2"),
    "cookie": Caller("10.0.0.1", cookie="c" * 22),
    "other_cookie": Caller("10.0.0.1", cookie="o" * 22),
    "device": Caller("10.0.0.1", device="d" * 22),
    "other_device": Caller("10.0.0.1", device="e" * 22),
    "token": Caller("10.0.0.2", token="own"),
    "other_token": Caller("10.0.0.1", token="other"),
    **{name: Caller("10.0.0.1", username=name) for name in ACCOUNTS if name != "other_child"},
    "expired": Caller("10.0.0.1", username="anna"),
    "logged_out": Caller("10.0.0.1", username="anna"),
}


@dataclass(frozen=True)
class OwnedTurn:
    """A turn with its session, under every id that it has. `name` is the client's own for the session."""

    session_id: str
    turn_id: str
    job_id: str
    name: str = "my-own-name"
    username: str = ""
    token: str = ""
    session: SessionRecord | None = None


class Callers:
    """The callers of one application. Nobody keeps a cookie that is not theirs from the start."""

    def __init__(self, services: Services, clock: FakeClock, clients: dict[str, httpx.AsyncClient]) -> None:
        self.services = services
        self._clock = clock
        # What a caller was shown once, for tests that look at it often.
        self.remembered: dict[str, tuple[int, str]] = {}
        self._clients = clients
        self._made = 0
        self._other_token = ""

    async def request(
        self, name: str, method: str, path: str, *, token: str = "", headers: dict[str, str] | None = None, **parts: Any
    ) -> httpx.Response:
        """`token`: the `X-Session-Token` of the thing that is asked for."""
        client, caller = self._clients[name], CALLERS[name]
        client.cookies.clear()
        if caller.cookie:
            client.cookies.set("session_id", caller.cookie)
        if caller.device:
            client.cookies.set("device_id", caller.device)
        headers = dict(headers or {})
        if caller.token:
            headers["X-Session-Token"] = token if caller.token == "own" else await self._get_other_token()
        return await client.request(method, path, headers=headers, **parts)

    async def _get_other_token(self) -> str:
        """The token of a session that no test looks at."""
        if not self._other_token:
            answer = await self.request("nobody", "POST", "/convo_turn", json={"message": "Hi", "animalId": "lion_001"})
            self._other_token = answer.headers["x-session-token"]
        return self._other_token

    def make_token(self, session_id: str) -> str:
        """The token that a session has, whether it was ever given to anybody or not."""
        return make_session_token(cast(RequestContext, SimpleNamespace(services=self.services)), session_id)

    async def log_in_again(self) -> None:
        """Everybody with an account that may."""
        for name, caller in CALLERS.items():
            if caller.username and name not in ("expired", "logged_out"):
                await _log_in(self.services, self._clients[name], caller.username)

    async def create_turn(
        self, owner: str, endpoint_name: str, name: str | None = None, key: str | None = None, token: str = ""
    ) -> OwnedTurn:
        """A new turn in a new session of the owner's; with a key or a token, perhaps one that is there already."""
        self._made += 1
        self._clock.advance(0.001)
        endpoint, given_name, name = CHAT_ENDPOINTS[endpoint_name], name, name or f"talk-{key or self._made}"
        own_path, own_body, headers = await self._make_own_parts(owner, endpoint_name, name)
        if endpoint_name == "convo" and given_name:
            own_body["sessionId"] = given_name
        body = {**endpoint.body, endpoint.message_field: "Hello!", **own_body}
        if key:
            headers["Idempotency-Key"] = key
        answer = await self.request(owner, "POST", own_path or endpoint.path, json=body, headers=headers, token=token)
        assert answer.status_code == 200, answer.text
        thing = await self._load_thing(answer.headers["x-streaming-session-id"], name)
        is_first = thing.session is not None and thing.session.turn_count == 1
        if is_first and not CALLERS[owner].username:
            assert answer.headers["x-session-token"] == thing.token
        return thing

    async def _make_own_parts(
        self, owner: str, endpoint_name: str, name: str
    ) -> tuple[str, dict[str, Any], dict[str, str]]:
        """What each endpoint wants for a session of its own: another path, body or headers."""
        match endpoint_name:
            case "sessions":
                session = (await self.request(owner, "POST", "/chat/sessions", json={})).json()
                return CHAT_ENDPOINTS[endpoint_name].path.format(**session), {}, {}
            case "platform":
                return "", {"memory_enabled": False}, {}
            case "chat":
                return "", {"session_id": name}, {}
            case "devices":
                return "", {}, {} if CALLERS[owner].device else {"X-Device-ID": name}
            case _:
                return "", {}, {}

    async def _load_thing(self, turn_id: str, name: str) -> OwnedTurn:
        turn = await self.services.store.get_turn(turn_id)
        assert turn is not None
        session = await self.services.store.get_session(turn.session_id)
        token = self.make_token(turn.session_id)
        return OwnedTurn(turn.session_id, turn_id, turn_id.replace("turn", "job"), name, token=token, session=session)

    def make_missing(self) -> OwnedTurn:
        """Ids and a name such as things have, of which there is none."""
        self._made += 1
        turn_id, token = make_id("turn"), self.make_token(make_id("sess"))
        return OwnedTurn(make_id("sess"), turn_id, turn_id.replace("turn", "job"), f"none-{self._made}", token=token)

    def make_user(self, username: str) -> OwnedTurn:
        return OwnedTurn("", "", "", "", username)

    async def count_messages(self, thing: OwnedTurn) -> int:
        session = await self.services.store.get_session(thing.session_id)
        return session.turn_count if session else 0


@asynccontextmanager
async def open_callers(folder: Path, session_binding: Literal["id", "caller"] = "id") -> AsyncIterator[Callers]:
    clock = FakeClock()
    settings = Settings(  # type: ignore[call-arg]
        _env_file=None, validate_responses=True, demo_users="off", session_binding=session_binding
    )
    async with (
        open_services_over(folder, Says(), FakeKnowledge(), AllowsAll(), settings, clock) as services,
        AsyncExitStack() as stack,
    ):
        await _add_accounts(services)
        zoo = RunningApp(services, stack)
        clients = {name: await zoo.new_client(caller.address) for name, caller in CALLERS.items()}
        with time_machine.travel(datetime.now(UTC) - timedelta(seconds=settings.access_token_ttl_s)):
            await _log_in(services, clients["expired"], "anna")
        for name, caller in CALLERS.items():
            if caller.username and name != "expired":
                await _log_in(services, clients[name], caller.username)
        assert (await clients["logged_out"].post("/auth/logout")).status_code == 204
        yield Callers(services, clock, clients)


async def _add_accounts(services: Services) -> None:
    accounts = SqliteAccounts(cast(SqliteStore, services.store).connections, services.clock)
    password_hash = CHEAP_HASHER.hash(PASSWORD)
    for username, (role, parent) in ACCOUNTS.items():
        assert await accounts.create_user(User(username, role, password_hash, services.clock.now(), parent))
        await services.credits.allocate_credits(Allocation(username, 1_000_000, services.clock.now()))


async def _log_in(services: Services, client: httpx.AsyncClient, username: str) -> None:
    granted = await services.accounts.login(username, PASSWORD)
    client.headers["Authorization"] = f"Bearer {granted.access_token}"
