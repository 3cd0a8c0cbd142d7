"""The load: clients of every contract, keepers and operators, and what they were promised."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from openapi_server.protocols import Store

QUESTIONS = (
    "How fast can you run?",
    "What do you eat?",
    "Where do you live?",
    "Tell me a story!",
    "Do you sleep a lot?",
)
ANIMALS = ("lion_001", "octopus_001")
# A server that drains or has no store says 503; logins are limited by address, and everybody here has the same.
ALWAYS_ALLOWED = frozenset({429, 503})
# Of turns that the visitor holds against the store; a turn is settled before its reader is told so.
SETTLED_AFTER_S = 2.0
CREDITS = 1_000_000


@dataclass(slots=True)
class Promise:
    """A turn that the server has accepted, and its reply where the client was told that it is complete."""

    made_s: float
    reply: str | None = None


@dataclass(slots=True)
class Ledger:
    """What all visitors saw, and what the server still owes them."""

    actions: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    refused_when_up: int = 0
    accepted: int = 0
    replies: int = 0
    messages_lost: int = 0
    replies_lost: int = 0
    garbled: int = 0
    promises: dict[str, Promise] = field(default_factory=dict)

    def accept(self, turn_id: str) -> None:
        self.accepted += 1
        self.promises[turn_id] = Promise(time.monotonic())

    def complete(self, turn_id: str, reply: str) -> None:
        self.replies += 1
        self.promises.setdefault(turn_id, Promise(0)).reply = reply
        self.promises[turn_id].made_s = time.monotonic()

    def forget(self, turn_ids: Collection[str]) -> None:
        """Before the visitor deletes them."""
        for turn_id in turn_ids:
            self.promises.pop(turn_id, None)

    async def check(self, store: Store) -> None:
        """Hold what was promised against the store. Each promise is checked once, after the visitor was told."""
        before_s = time.monotonic() - SETTLED_AFTER_S
        for turn_id in [turn_id for turn_id, promise in self.promises.items() if promise.made_s < before_s]:
            turn = await store.get_turn(turn_id)
            promise = self.promises.pop(turn_id, None)
            if promise is None:
                continue
            self.messages_lost += turn is None
            reply = turn.outcome.reply if turn is not None and turn.outcome is not None else None
            self.replies_lost += promise.reply is not None and promise.reply != reply


def describe_problem(body: bytes) -> str:
    """The code and the detail of a problem; nothing where the body is none.

    >>> describe_problem(b'{"code": "internal_error", "detail": "Something broke."}'), describe_problem(b"<html>")
    ('internal_error (Something broke.)', '')
    """
    try:
        problem = json.loads(body)
        return f"{problem['code']} ({problem['detail']})"
    except (ValueError, KeyError, TypeError):
        return ""


class Unexpected(Exception):
    """An answer that the visitor did not ask for; it is in the ledger."""


@dataclass(slots=True)
class Stream:
    """What came of a stream so far."""

    turn_id: str = ""
    last_id: str = ""
    text: str = ""
    events: dict[str, Any] = field(default_factory=dict)
    lines: AsyncIterator[str] | None = None


class Visitor:
    """A client with cookies of its own, which does one thing after the other until it is cancelled."""

    def __init__(self, url: str, ledger: Ledger, seed: int) -> None:
        self._url = url
        self._ledger = ledger
        self._random = random.Random(seed)  # noqa: S311  # no secret
        self._client = httpx.AsyncClient(base_url=url, timeout=60)
        self._mine: list[str] = []

    async def run_forever(self) -> None:
        actions, weights = zip(*ACTIONS.items(), strict=True)
        async with self._client:
            while True:
                (action,) = self._random.choices(actions, weights)
                await self.act(action)
                await asyncio.sleep(self._random.uniform(0, 0.3))

    async def close(self) -> None:
        await self._client.aclose()

    async def act(self, action: Callable[[Visitor], Awaitable[None]]) -> None:
        """Do one thing, and note how it went."""
        self._ledger.actions[action.__name__] += 1
        try:
            await action(self)
        except httpx.TransportError:
            # The server was killed, or closes: whoever is cut off comes back.
            self._ledger.cut += 1
            await asyncio.sleep(0.5)
        except Unexpected:
            await asyncio.sleep(0.1)

    # --- Turns

    async def read_whole_stream(self) -> None:
        async with self._open_turn(self._ask()) as answer:
            stream = await self._read(answer, Stream())
        self._note_end(stream)

    async def leave_and_resume(self) -> None:
        """Leave after a few chunks, and read the rest from there: every chunk once."""
        stream = Stream()
        async with self._open_turn(self._ask()) as answer:
            await self._read(answer, stream, chunks=3)
        path = f"/convo_turn/{stream.turn_id}/stream"
        async with self._open("GET", path, {204, 404, 410}, headers={"Last-Event-ID": stream.last_id}) as answer:
            if answer.status_code != 200:
                return
            stream.lines = None
            await self._read(answer, stream)
        self._note_end(stream)

    async def leave_for_good(self) -> None:
        async with self._open_turn({**self._ask(), "onDisconnect": "cancel"}) as answer:
            await self._read(answer, Stream(), chunks=2)

    async def stop_turn(self) -> None:
        stream = Stream()
        async with self._open_turn(self._ask()) as answer:
            await self._read(answer, stream, chunks=1)
            await self._request("POST", f"/convo_turn/{stream.turn_id}/stop", {404})
            await self._read(answer, stream)

    async def talk_and_look_back(self) -> None:
        """Two turns of one session, its history and summary; then the session is deleted."""
        first = (await self._request("POST", "/convo_turn", {502, 504}, json=self._ask())).json()
        if "turnId" not in first or "sessionId" not in first:
            return
        session_id = first["sessionId"]
        self._note_reply(first)
        body = {**self._ask(), "sessionId": session_id, "animalId": first["metadata"]["animalId"]}
        again = (await self._request("POST", "/convo_turn", {404, 502, 504}, json=body)).json()
        if "turnId" in again and "reply" in again:
            self._note_reply(again)
        query = {"sessionId": session_id}
        await self._request("GET", "/convo_history", {404}, params=query)
        await self._request("POST", "/summarize_convo", {404}, json=query)
        self._ledger.forget(self._mine)
        await self._request("DELETE", "/convo_history", {204, 404}, params=query)

    async def repeat_with_key(self) -> None:
        headers = {"Idempotency-Key": str(uuid.uuid4()), "Prefer": "respond-async"}
        body = self._ask()
        first = await self._request("POST", "/convo_turn", {202}, json=body, headers=headers)
        again = await self._request("POST", "/convo_turn", {202}, json=body, headers=headers)
        turn_ids = {answer.json().get("turnId") for answer in (first, again) if answer.status_code == 202}
        if len(turn_ids) > 1:
            self._ledger.unexpected["two turns for one Idempotency-Key"] += 1

    async def use_platform(self) -> None:
        async with self._open("POST", "/api/v1/stream", json={"query": self._choose_question()}) as answer:
            stream = Stream(answer.headers.get("x-streaming-session-id", ""))
            self._mine.append(stream.turn_id)
            await self._read(answer, stream)
        if result := stream.events.get("result"):
            self._ledger.complete(stream.turn_id, result["response"])

    async def poll_job(self) -> None:
        body = {"query": self._choose_question(), "memory_enabled": False}
        job = (await self._request("POST", "/api/v1/stream?mode=job", json=body)).json()
        deadline_s = time.monotonic() + 30
        while "polling_url" in job and time.monotonic() < deadline_s:
            state = (await self._request("GET", job["polling_url"], {404})).json()
            if state.get("status") not in ("pending", "running"):
                return
            await asyncio.sleep(0.3)

    async def use_chat(self) -> None:
        body = {"session_id": f"talk-{self._random.randrange(10**9)}", "message": self._choose_question()}
        async with self._open("POST", "/chat", json=body) as answer:
            await self._read(answer, Stream(), chunks=self._random.choice((2, 10**6)))

    async def use_device(self) -> None:
        """A message, its stream, and a second reader that listens to it."""
        headers = {"X-Device-ID": str(uuid.uuid4())}
        said = {"content": self._choose_question()}
        async with self._open("POST", "/chat/stream", json=said, headers=headers) as answer:
            listening = asyncio.create_task(self._request("GET", "/chat/stream", {204, 404, 410}, headers=headers))
            try:
                await self._read(answer, Stream())
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
        await self._request("POST", "/chat/", {502, 504}, json=said, headers=headers)

    async def spend_credits(self) -> None:
        """A session of the sessions contract, a confirmed stream, the balance, and the end of the session."""
        login = await self._log_in("user1")
        if login is None:
            return
        made = await self._request("POST", "/chat/sessions", {201}, json={}, headers=login)
        if made.status_code not in (200, 201):
            return
        path = f"/chat/sessions/{made.json()['sessionId']}"
        stream = Stream()
        body = {"message": self._choose_question()}
        async with self._open("POST", f"{path}/stream", {402, 404}, json=body, headers=login) as answer:
            stream.turn_id = answer.headers.get("x-streaming-session-id", "")
            await self._read(answer, stream)
        if stream.turn_id:
            confirmed = {"streamingSessionId": stream.turn_id}
            await self._request("POST", f"{path}/update-stream", {400, 404, 409}, json=confirmed, headers=login)
        await self._request("GET", "/credits/balance", {401}, headers=login)
        await self._request("DELETE", path, {401, 404}, headers=login)
        await self._request("POST", "/auth/logout", {204, 401}, headers=login)

    # --- Keepers, parents and operators

    async def edit_as_keeper(self) -> None:
        """A rule comes and goes, and so does a fact's animal setting."""
        login = await self._log_in("keeper1")
        if login is None:
            return
        name = f"soak-{self._random.randrange(10**9)}"
        rule = {
            "name": name,
            "strength": "NEVER",
            "category": "events",
            "then": "words",
            "keywords": [name],
            "words": {"preschool": "Ask at the desk! says {animal}.", "middle": "The desk knows."},
        }
        path = f"/api/v1/guardrails/rules/{name}"
        put = await self._request("PUT", path, {201}, json=rule, headers=login)
        if "etag" in put.headers:
            await self._request("DELETE", path, {204, 412}, headers={**login, "If-Match": put.headers["etag"]})
        query = {"animalId": "tiger_001"}
        seen = await self._request("GET", "/animal_config", params=query, headers=login)
        if "etag" in seen.headers:
            change = {"temperature": round(self._random.random(), 2)}
            headers = {**login, "If-Match": seen.headers["etag"]}
            await self._request("PATCH", "/animal_config", {412}, params=query, json=change, headers=headers)
        await self._request("POST", "/auth/logout", {204, 401}, headers=login)

    async def export_and_erase(self) -> None:
        await self._request("GET", "/privacy/export")
        self._ledger.forget(self._mine)
        self._mine.clear()
        await self._request("DELETE", "/privacy")

    async def watch_as_operator(self) -> None:
        for path in ("/health", "/ready", "/system_health", "/", "/animal_list", "/models", "/openapi.yaml"):
            await self._request("GET", path)

    async def send_nonsense(self) -> None:
        await self._request("POST", "/convo_turn", {400}, content=b"{", headers={"Content-Type": "application/json"})
        await self._request("POST", "/convo_turn", {404}, json={"message": "Hi", "animalId": "nobody_1"})
        await self._request("GET", f"/visitor/{self._random.randrange(10**9)}", {404})
        await self._request("GET", f"/convo_turn/turn_{uuid.uuid4().hex}", {404})

    # --- Parts of them

    def _choose_question(self) -> str:
        return self._random.choice(QUESTIONS)

    def _ask(self) -> dict[str, Any]:
        return {"message": self._choose_question(), "animalId": self._random.choice(ANIMALS)}

    async def _log_in(self, name: str) -> dict[str, str] | None:
        answer = await self._request("POST", "/auth/login", json={"username": name, "password": f"{name}-demo"})
        if answer.status_code != 200:
            return None
        return {"Authorization": f"Bearer {answer.json()['accessToken']}"}

    async def _request(self, method: str, path: str, allowed: Collection[int] = (), **parts: Any) -> httpx.Response:
        answer = await self._client.request(method, path, **parts)
        await self._note(method, path, answer, allowed)
        return answer

    @asynccontextmanager
    async def _open(
        self, method: str, path: str, allowed: Collection[int] = (), **parts: Any
    ) -> AsyncIterator[httpx.Response]:
        async with self._client.stream(method, path, **parts) as answer:
            await self._note(method, path, answer, allowed)
            yield answer

    @asynccontextmanager
    async def _open_turn(self, body: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        async with self._open("POST", "/convo_turn_stream", json=body) as answer:
            if turn_id := answer.headers.get("x-streaming-session-id"):
                self._mine.append(turn_id)
                self._ledger.accept(turn_id)
            yield answer

    async def _note(self, method: str, path: str, answer: httpx.Response, allowed: Collection[int]) -> None:
        status = answer.status_code
        self._ledger.answers[status] += 1
        if status == 200 or status in allowed:
            return
        if status not in ALWAYS_ALLOWED:
            place = "/".join("..." if any(sign.isdigit() for sign in part) else part for part in path.split("/"))
            problem = describe_problem(await answer.aread())
            self._ledger.unexpected[f"{method} {place}: {status} {problem}".rstrip()] += 1
        if status not in allowed:
            raise Unexpected

    async def _read(self, answer: httpx.Response, stream: Stream, chunks: int = 10**6) -> Stream:
        """Read events, up to the end or that many chunks."""
        stream.turn_id = stream.turn_id or answer.headers.get("x-streaming-session-id", "")
        name = ""
        stream.lines = stream.lines or answer.aiter_lines()
        async for line in stream.lines:
            field_name, _, value = line.partition(": ")
            if field_name == "id":
                stream.last_id = value
            elif field_name == "event":
                name = value
            elif field_name == "data":
                data = stream.events[name] = json.loads(value)
                if name == "chunk" and "content" in data:
                    stream.text += data["content"]
                chunks -= name in ("chunk", "token", "message")
            if chunks <= 0 and not line:
                break
        return stream

    def _note_end(self, stream: Stream) -> None:
        complete = stream.events.get("complete")
        if complete is not None:
            self._ledger.garbled += complete["fullResponse"] != stream.text
            self._ledger.complete(stream.turn_id, complete["fullResponse"])

    def _note_reply(self, answer: dict[str, Any]) -> None:
        self._mine.append(answer["turnId"])
        self._ledger.complete(answer["turnId"], answer["reply"])


# How often each is done, relative to the others.
ACTIONS: dict[Callable[[Visitor], Awaitable[None]], int] = {
    Visitor.read_whole_stream: 10,
    Visitor.leave_and_resume: 8,
    Visitor.leave_for_good: 4,
    Visitor.stop_turn: 3,
    Visitor.talk_and_look_back: 6,
    Visitor.repeat_with_key: 3,
    Visitor.use_platform: 6,
    Visitor.poll_job: 4,
    Visitor.use_chat: 6,
    Visitor.use_device: 6,
    Visitor.spend_credits: 1,
    Visitor.edit_as_keeper: 1,
    Visitor.export_and_erase: 2,
    Visitor.watch_as_operator: 3,
    Visitor.send_nonsense: 3,
}


async def allocate_credits(url: str) -> None:
    """Give user1 enough for hours."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        login = await client.post("/auth/login", json={"username": "admin", "password": "admin-demo"})
        headers = {"Authorization": f"Bearer {login.json()['accessToken']}"}
        given = {"userId": "user1", "credits": CREDITS}
        assert (await client.post("/credits/allocate", json=given, headers=headers)).status_code == 201
