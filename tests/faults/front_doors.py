"""The five contracts as a child comes through them: one question each, with whatever the contract wants first."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from openapi_server.devtools.check.streams import StreamRules
from openapi_server.spec import load_spec
from tests.streams import Event, check_stream

COOKIE = "a-cookie-of-the-trial-on-children"
CREDITS = 10_000_000


@dataclass(frozen=True, slots=True)
class Door:
    """One contract: its address in the spec, the member that holds the message, and what else its clients send."""

    path: str
    member: str
    body: Mapping[str, object] = field(default_factory=dict)


CONVO = Door("/convo_turn_stream", "message", {"animalId": "lion_001"})
PLATFORM = Door("/api/v1/stream", "query")
SESSIONS = Door("/chat/sessions/{sessionId}/stream", "message")
TOKENS = Door("/chat", "message")
DEVICES = Door("/chat/stream", "content")
DOORS = (CONVO, PLATFORM, SESSIONS, TOKENS, DEVICES)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back through a door."""

    door: Door
    turn_id: str
    events: tuple[Event, ...]

    @property
    def text(self) -> str:
        return StreamRules.of(load_spec(), self.door.path).text_of(list(self.events))


@dataclass(frozen=True, slots=True)
class Child:
    """Comes through any door: with a cookie, and where an account is needed, as a user with many credits."""

    client: httpx.AsyncClient
    account: Mapping[str, str]
    cookie: Mapping[str, str] = field(default_factory=lambda: {"Cookie": f"session_id={COOKIE}"})

    async def ask(self, door: Door, message: str, name: str = "", **members: object) -> Reply:
        """`name`: what the client calls its session or device; without it, something new."""
        name = name or str(uuid.uuid4())
        own = {"session_id": name} if door is TOKENS else {}
        path = door.path.replace("{sessionId}", await self.begin()) if door is SESSIONS else door.path
        headers = {**self.headers_of(door), "X-Device-ID": name}
        body = {**door.body, **own, door.member: message, **members}
        answer = await self.client.post(path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        events = check_stream(door.path, answer.content)
        return Reply(door, answer.headers["x-streaming-session-id"], tuple(events))

    async def begin(self, **members: object) -> str:
        """A new session of the chat sessions' contract; its id."""
        answer = await self.client.post("/chat/sessions", json=members, headers=self.account)
        session_id: str = answer.json()["sessionId"]
        return session_id

    def headers_of(self, door: Door) -> Mapping[str, str]:
        return self.account if door is SESSIONS else self.cookie


async def a_child(client: httpx.AsyncClient) -> Child:
    """At a server with the demo users."""
    admin, user = [await _logged_in(client, name) for name in ("admin", "user1")]
    given = {"userId": "user1", "credits": CREDITS}
    assert (await client.post("/credits/allocate", json=given, headers=admin)).status_code == 201
    return Child(client, user)


async def _logged_in(client: httpx.AsyncClient, username: str) -> dict[str, str]:
    answer = await client.post("/auth/login", json={"username": username, "password": f"{username}-demo"})
    return {"Authorization": f"Bearer {answer.json()['accessToken']}"}
