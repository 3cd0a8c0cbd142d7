"""Ways to break a server from outside: ASGI wrappers around the whole application."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.http.disconnect import TRANSPORT_EXTENSION

Breaker = Callable[[ASGIApp], ASGIApp]
Edit = Callable[[bytes], bytes]
# Status, body and content type of an answer.
Answer = tuple[int, bytes, str]

_FRAME = re.compile(rb".*?\n\n", re.DOTALL)


def frames_of(piece: bytes) -> list[bytes]:
    """The events of a piece, each with its blank line; the server never cuts one in two."""
    return _FRAME.findall(piece)


def is_stream(message: Message) -> bool:
    kind: bytes = dict(message["headers"]).get(b"content-type", b"")
    return kind.startswith(b"text/event-stream")


class EditsStreams:
    """Hands each piece of every event stream to an editor, made anew for each answer."""

    def __init__(self, make_edit: Callable[[Scope], Edit]) -> None:
        self._make_edit = make_edit

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            edit: Edit | None = None

            async def send_edited(message: Message) -> None:
                nonlocal edit
                if message["type"] == "http.response.start" and is_stream(message):
                    edit = self._make_edit(scope)
                elif edit is not None and message.get("body"):
                    message = {**message, "body": edit(message["body"])}
                await send(message)

            await app(scope, receive, send_edited)

        return broken


class EditsHeaders:
    """Changes the headers of every answer, or of every request."""

    def __init__(
        self,
        *,
        answer: Callable[[bytes, bytes], bytes | None] = lambda name, value: value,
        without: bytes | None = None,
        path: str = "",
    ) -> None:
        self._answer = answer
        self._without = without
        self._path = path

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_edited(message: Message) -> None:
                if message["type"] == "http.response.start":
                    edited = [(name, self._answer(name, value)) for name, value in message["headers"]]
                    message = {**message, "headers": [header for header in edited if header[1] is not None]}
                await send(message)

            if scope["path"].startswith(self._path):
                kept = [(name, value) for name, value in scope["headers"] if name != self._without]
                scope = {**scope, "headers": kept}
            await app(scope, receive, send_edited)

        return broken


class EditsAnswers:
    """Hands every whole answer that is no stream to a function, which returns what is sent in its place."""

    def __init__(self, edit: Callable[[Scope, int, bytes], Answer | None]) -> None:
        self._edit = edit

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            head: Message | None = None
            body = b""

            async def send_edited(message: Message) -> None:
                nonlocal head, body
                if message["type"] == "http.response.start" and not is_stream(message):
                    head = message
                elif head is None:
                    await send(message)
                else:
                    body += message.get("body", b"")
                    if not message.get("more_body"):
                        await self._send(scope, head, body, send)

            await app(scope, receive, send_edited)

        return broken

    async def _send(self, scope: Scope, head: Message, body: bytes, send: Send) -> None:
        edited = self._edit(scope, head["status"], body)
        headers = dict(head["headers"])
        status = head["status"]
        if edited is not None:
            status, body, kind = edited
            headers |= {b"content-type": kind.encode(), b"content-length": str(len(body)).encode()}
        await send({**head, "status": status, "headers": list(headers.items())})
        await send({"type": "http.response.body", "body": body})


def never_closes(app: ASGIApp) -> ASGIApp:
    """Forgets to end an event stream after its last event."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_most(message: Message) -> None:
            nonlocal has_begun
            has_begun = has_begun or (message["type"] == "http.response.start" and is_stream(message))
            if has_begun and message["type"] == "http.response.body" and not message.get("more_body"):
                await asyncio.sleep(30)
            await send(message)

        await app(scope, receive, send_most)

    return broken


def hears_no_goodbye(app: ASGIApp) -> ASGIApp:
    """Never notices that a client has left, neither by its goodbye nor by the state of the connection."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_most() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                await asyncio.sleep(30)
            return message

        extensions = {name: value for name, value in scope.get("extensions", {}).items() if name != TRANSPORT_EXTENSION}
        await app({**scope, "extensions": extensions}, receive_most, send)

    return broken


def shows_jobs_to_anybody(app: ASGIApp) -> ASGIApp:
    """Every job is shown as if the cookie that began it had come along."""
    owners: dict[str, bytes] = {}

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        cookie = dict(scope["headers"]).get(b"cookie", b"")

        async def send_noted(message: Message) -> None:
            nonlocal cookie
            if message["type"] == "http.response.start":
                given = [value for name, value in message["headers"] if name.lower() == b"set-cookie"]
                cookie = given[0].partition(b";")[0] if given else cookie
            begun = re.search(rb'"polling_url": ?"([^"]+)"', message.get("body", b""))
            if begun:
                owners[begun[1].decode()] = cookie
            await send(message)

        if scope["path"] in owners:
            others = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
            scope = {**scope, "headers": [*others, (b"cookie", owners[scope["path"]])]}
        await app(scope, receive, send_noted)

    return broken


def tells_the_expected_id(app: ASGIApp) -> ASGIApp:
    """The refusal of a wrong streaming session id says which one would be right."""
    last_streams: dict[str, str] = {}

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start" and is_stream(message):
                turn_id = dict(message["headers"])[b"x-streaming-session-id"].decode()
                last_streams[scope["path"].removesuffix("/stream")] = turn_id
            await send(message)

        await app(scope, receive, send_noted)

    def edit(scope: Scope, status: int, body: bytes) -> Answer | None:
        if not scope["path"].endswith("/update-stream") or status != 400:
            return None
        problem = json.loads(body)
        expected = last_streams[scope["path"].removesuffix("/update-stream")]
        detail = f"{problem['detail']} Expected {expected}."
        return json_answer(400, problem | {"detail": detail}, "application/problem+json")

    return EditsAnswers(edit)(noting)


def json_answer(status: int, body: Mapping[str, Any], kind: str = "application/json") -> Answer:
    return status, json.dumps(body).encode(), kind
