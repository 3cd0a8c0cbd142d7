"""The doors of the server: how each kind of client begins a turn. What holds for all of them is tested for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from openapi_server.devtools.check.streams import StreamRules
from openapi_server.spec import load_spec
from tests.api.test_accounts import bearer, log_in
from tests.conftest import Zoo, template_of
from tests.streams import Event, events_of

PLENTY = 100_000


@dataclass(frozen=True)
class Door:
    """One contract: its address, what its clients send, and where its error event has the problem object."""

    name: str
    path: str
    message_field: str
    problem_field: str
    body: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


CONVO = Door("convo", "/convo_turn_stream", "message", "error", {"animalId": "lion_001"})
PLATFORM = Door("platform", "/api/v1/stream", "query", "problem")
SESSIONS = Door("sessions", "/chat/sessions/{sessionId}/stream", "message", "problem")
TOKENS = Door("tokens", "/chat", "message", "problem", {"session_id": "my-talk"})
DEVICES = Door("devices", "/chat/stream", "content", "error", headers={"X-Device-ID": "kiosk-7"})
DOORS = {door.name: door for door in (CONVO, PLATFORM, SESSIONS, TOKENS, DEVICES)}


@dataclass
class Visit:
    """A client that stands at a door, with whatever the contract wants of it first."""

    client: httpx.AsyncClient
    door: Door
    path: str

    async def ask(self, message: str = "Hello!", **headers: str) -> httpx.Response:
        body = {**self.door.body, self.door.message_field: message}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(self.path, json=body, headers=named)

    def text_of(self, answer: httpx.Response) -> str:
        """The reply as the stream told it."""
        rules = StreamRules.of(load_spec(), template_of(self.path))
        return rules.text_of(events_of(answer.content))

    def problem_of(self, answer: httpx.Response) -> dict[str, Any]:
        """The problem object of the stream's last event."""
        problem: dict[str, Any] = events_of(answer.content)[-1].data[self.door.problem_field]
        return problem


async def enter(zoo: Zoo, door: Door, username: str = "user1") -> Visit:
    """A new caller at the door; at the sessions' a user with credits and a session of their own."""
    if door is not SESSIONS:
        return Visit(await zoo.caller(**door.headers), door, door.path)
    client = await logged_in(zoo, username, PLENTY)
    session = (await client.post("/chat/sessions", json={})).json()
    return Visit(client, door, door.path.replace("{sessionId}", session["sessionId"]))


async def logged_in(zoo: Zoo, username: str, credits_given: int = 0) -> httpx.AsyncClient:
    """A caller with the user's token, and with so many credits more."""
    client = await zoo.caller()
    if credits_given:
        given = {"userId": username, "credits": credits_given}
        headers = bearer(await log_in(client, "admin"))
        assert (await client.post("/credits/allocate", json=given, headers=headers)).status_code == 201
    client.headers.update(bearer(await log_in(client, username)))
    return client


def ids_of(answer: httpx.Response) -> list[str]:
    """The ids of the events that have one."""
    return [event.id for event in events_of(answer.content) if event.id]


def turn_of(answer: httpx.Response) -> str:
    """The turn behind a stream."""
    turn_id: str = answer.headers["x-streaming-session-id"]
    return turn_id


def data_of(answer: httpx.Response) -> list[dict[str, Any]]:
    return [event.data for event in events_of(answer.content)]


def last(answer: httpx.Response) -> Event:
    return events_of(answer.content)[-1]
