"""The five contracts as a child comes through them: one question each, with whatever the contract wants first."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from openapi_server.devtools.check.stream_rules import StreamRules
from openapi_server.spec import load_spec
from tests.support.contract import SseEvent, check_stream

COOKIE = "a-cookie-of-the-trial-on-children"
CREDITS = 10_000_000


@dataclass(frozen=True, slots=True)
class ChatApi:
    """One contract: its address in the spec, the member that holds the message, and what else its clients send."""

    path: str
    member: str
    body: Mapping[str, object] = field(default_factory=dict)


CONVO = ChatApi("/convo_turn_stream", "message", {"animalId": "lion_001"})
PLATFORM = ChatApi("/api/v1/stream", "query")
SESSIONS = ChatApi("/chat/sessions/{sessionId}/stream", "message")
CHAT = ChatApi("/chat", "message")
DEVICES = ChatApi("/chat/stream", "content")
CHAT_APIS = (CONVO, PLATFORM, SESSIONS, CHAT, DEVICES)


@dataclass(frozen=True, slots=True)
class ApiReply:
    """What came back through a door."""

    api: ChatApi
    turn_id: str
    events: tuple[SseEvent, ...]

    @property
    def text(self) -> str:
        return StreamRules.from_spec(load_spec(), self.api.path).join_text(list(self.events))


@dataclass(frozen=True, slots=True)
class Child:
    """Comes through any door: with a cookie, and where an account is needed, as a user with many credits."""

    client: httpx.AsyncClient
    account: Mapping[str, str]
    cookie: Mapping[str, str] = field(default_factory=lambda: {"Cookie": f"session_id={COOKIE}"})

    async def ask(self, door: ChatApi, message: str, name: str = "", **members: object) -> ApiReply:
        """`name`: what the client calls its session or device; without it, something new."""
        name = name or str(uuid.uuid4())
        own = {"session_id": name} if door is CHAT else {}
        path = door.path.replace("{sessionId}", await self.create_session()) if door is SESSIONS else door.path
        headers = {**self.get_headers(door), "X-Device-ID": name}
        body = {**door.body, **own, door.member: message, **members}
        answer = await self.client.post(path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        events = check_stream(door.path, answer.content)
        return ApiReply(door, answer.headers["x-streaming-session-id"], tuple(events))

    async def create_session(self, **members: object) -> str:
        """A new session of the chat sessions' contract; its id."""
        answer = await self.client.post("/chat/sessions", json=members, headers=self.account)
        session_id: str = answer.json()["sessionId"]
        return session_id

    def get_headers(self, door: ChatApi) -> Mapping[str, str]:
        return self.account if door is SESSIONS else self.cookie


async def log_in_child(client: httpx.AsyncClient) -> Child:
    """At a server with the demo users."""
    admin, user = [await _log_in(client, name) for name in ("admin", "user1")]
    given = {"userId": "user1", "credits": CREDITS}
    assert (await client.post("/credits/allocate", json=given, headers=admin)).status_code == 201
    return Child(client, user)


async def _log_in(client: httpx.AsyncClient, username: str) -> dict[str, str]:
    answer = await client.post("/auth/login", json={"username": username, "password": f"{username}-demo"})
    return {"Authorization": f"Bearer {answer.json()['accessToken']}"}
