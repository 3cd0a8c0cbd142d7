"""The five endpoints that start a turn, one for each contract, and clients for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from openapi_server.devtools.check.stream_rules import StreamRules
from openapi_server.spec import load_strict_spec
from tests.api.test_accounts import bearer, log_in
from tests.conftest import RunningApp, find_template
from tests.support.contract import SseEvent, parse_events

MANY_CREDITS = 100_000


@dataclass(frozen=True)
class ChatEndpoint:
    """The endpoint of a contract: its path, what its clients send, and where its error event has the problem object."""

    name: str
    path: str
    message_field: str
    problem_field: str
    body: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


CONVO = ChatEndpoint("convo", "/convo_turn_stream", "message", "error", {"animalId": "lion_001"})
PLATFORM = ChatEndpoint("platform", "/api/v1/stream", "query", "problem")
SESSIONS = ChatEndpoint("sessions", "/chat/sessions/{sessionId}/stream", "message", "problem")
CHAT = ChatEndpoint("chat", "/chat", "message", "problem", {"session_id": "my-talk", "onDisconnect": "continue"})
DEVICES = ChatEndpoint("devices", "/chat/stream", "content", "error", headers={"X-Device-ID": "kiosk-7"})
CHAT_ENDPOINTS = {endpoint.name: endpoint for endpoint in (CONVO, PLATFORM, SESSIONS, CHAT, DEVICES)}


@dataclass
class EndpointClient:
    """A client of an endpoint, with the login, session or headers that the contract requires."""

    client: httpx.AsyncClient
    endpoint: ChatEndpoint
    path: str

    async def post_message(self, message: str = "Hello!", **headers: str) -> httpx.Response:
        body = {**self.endpoint.body, self.endpoint.message_field: message}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(self.path, json=body, headers=named)

    def read_text(self, answer: httpx.Response) -> str:
        """The reply as the stream told it."""
        rules = StreamRules.from_spec(load_strict_spec(), find_template(self.path))
        return rules.join_text(parse_events(answer.content))

    def read_problem(self, answer: httpx.Response) -> dict[str, Any]:
        """The problem object of the stream's last event."""
        problem: dict[str, Any] = parse_events(answer.content)[-1].data[self.endpoint.problem_field]
        return problem


async def open_endpoint(zoo: RunningApp, endpoint: ChatEndpoint, username: str = "user1") -> EndpointClient:
    """A new client of the endpoint. For sessions it is a user with credits and a session of their own."""
    if endpoint is not SESSIONS:
        return EndpointClient(await zoo.new_client(**endpoint.headers), endpoint, endpoint.path)
    client = await log_in_client(zoo, username, MANY_CREDITS)
    session = (await client.post("/chat/sessions", json={})).json()
    return EndpointClient(client, endpoint, endpoint.path.replace("{sessionId}", session["sessionId"]))


async def log_in_client(zoo: RunningApp, username: str, credits_given: int = 0) -> httpx.AsyncClient:
    """A caller with the user's token, and with so many credits more."""
    client = await zoo.new_client()
    if credits_given:
        given = {"userId": username, "credits": credits_given}
        headers = bearer(await log_in(client, "admin"))
        assert (await client.post("/credits/allocate", json=given, headers=headers)).status_code == 201
    client.headers.update(bearer(await log_in(client, username)))
    return client


def list_event_ids(answer: httpx.Response) -> list[str]:
    """The ids of the events that have one."""
    return [event.id for event in parse_events(answer.content) if event.id]


def get_turn_id(answer: httpx.Response) -> str:
    """The turn behind a stream."""
    turn_id: str = answer.headers["x-streaming-session-id"]
    return turn_id


def list_event_data(answer: httpx.Response) -> list[dict[str, Any]]:
    return [event.data for event in parse_events(answer.content)]


def get_last_event(answer: httpx.Response) -> SseEvent:
    return parse_events(answer.content)[-1]
