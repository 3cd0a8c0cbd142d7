"""ASGI without a server: requests in parts, applications of a few lines, and the answers as they were sent."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

WAIT_S = 5


@dataclass(frozen=True)
class Answer:
    """What was sent: nothing at all when `status` is None. `is_whole` says that the last part came."""

    status: int | None
    headers: tuple[tuple[str, str], ...]
    body: bytes
    is_whole: bool

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def __getitem__(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    @property
    def problem(self) -> dict[str, Any]:
        assert self["content-type"] == "application/problem+json"
        body: dict[str, Any] = json.loads(self.body)
        assert body["status"] == self.status
        return body


class Arrives:
    """A connection on which these parts of a body arrive; then the client stays, and says nothing more."""

    def __init__(self, *parts: bytes, is_whole: bool = True) -> None:
        self._waiting = list(parts or (b"",))
        self._is_whole = is_whole
        self.taken = 0
        self.was_left_waiting = False

    async def __call__(self) -> Message:
        if not self._waiting:
            self.was_left_waiting = True
            await asyncio.Event().wait()
        self.taken += 1
        body = self._waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self._waiting) or not self._is_whole}


class Leaves(Arrives):
    """A connection whose client goes away after these parts."""

    async def __call__(self) -> Message:
        return await super().__call__() if self._waiting else {"type": "http.disconnect"}


class Echoes:
    """An application that sends back the body, and remembers what it was asked."""

    def __init__(self, status: int = 200, *headers: tuple[str, str]) -> None:
        self._status = status
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers]
        self.scopes: list[Scope] = []
        self.after: Message | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        request = await receive()
        assert request.get("more_body", False) is False
        await send({"type": "http.response.start", "status": self._status, "headers": list(self._headers)})
        await send({"type": "http.response.body", "body": request["body"], "more_body": False})

    def header(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.scopes[-1]["headers"] if key == name]


class Raises:
    """An application that sends some messages and then breaks."""

    def __init__(self, error: BaseException, *before: Message) -> None:
        self._error = error
        self._before = before

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for message in self._before:
            await send(message)
        raise self._error


@dataclass(frozen=True)
class Request:
    """A request's head; the body comes over the connection."""

    method: str = "POST"
    path: str = "/convo_turn"
    query: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def scope(self) -> Scope:
        has_host = any(name.lower() == "host" for name, _ in self.headers)
        given = self.headers if has_host else (("Host", "testserver"), *self.headers)
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given]
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "query_string": self.query,
            "headers": headers,
        }


@dataclass
class Wire:
    """What an application sent, also when it broke in the middle."""

    sent: list[Message] = field(default_factory=list)

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def answer(self) -> Answer:
        start = next((message for message in self.sent if message["type"] == "http.response.start"), None)
        parts = [message for message in self.sent if message["type"] == "http.response.body"]
        headers = start["headers"] if start else ()
        return Answer(
            status=start["status"] if start else None,
            headers=tuple((name.decode().lower(), value.decode("latin-1")) for name, value in headers),
            body=b"".join(part.get("body", b"") for part in parts),
            is_whole=bool(parts) and not parts[-1].get("more_body", False),
        )


async def ask(app: ASGIApp, request: Request, receive: Receive | None = None) -> Answer:
    """The application's answer, or a failed test when it keeps us waiting."""
    wire = Wire()
    async with asyncio.timeout(WAIT_S):
        await app(request.scope, receive or Arrives(), wire.send)
    return wire.answer
