"""Ways to break a server from outside: ASGI middleware around the whole application, and edits of what it sends."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server.http.send_timeout import TRANSPORT_EXTENSION

Mutation = Callable[[ASGIApp], ASGIApp]
Edit = Callable[[bytes], bytes]
# Status, body and content type of an answer.
Answer = tuple[int, bytes, str]

_FRAME = re.compile(rb".*?\n\n", re.DOTALL)


def split_frames(piece: bytes) -> list[bytes]:
    """The events of a piece, each with its blank line. The server never sends a part of an event."""
    return _FRAME.findall(piece)


def is_stream(message: Message) -> bool:
    kind: bytes = dict(message["headers"]).get(b"content-type", b"")
    return kind.startswith(b"text/event-stream")


class StreamMutation:
    """Edits every piece of every event stream; `make_edit` makes a new edit for each answer."""

    def __init__(self, make_edit: Callable[[Scope], Edit]) -> None:
        self._make_edit = make_edit

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def mutated(scope: Scope, receive: Receive, send: Send) -> None:
            edit: Edit | None = None

            async def send_edited(message: Message) -> None:
                nonlocal edit
                if message["type"] == "http.response.start" and is_stream(message):
                    edit = self._make_edit(scope)
                elif edit is not None and message.get("body"):
                    message = {**message, "body": edit(message["body"])}
                await send(message)

            await app(scope, receive, send_edited)

        return mutated


class HeaderMutation:
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
        async def mutated(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_edited(message: Message) -> None:
                if message["type"] == "http.response.start":
                    edited = [(name, self._answer(name, value)) for name, value in message["headers"]]
                    message = {**message, "headers": [header for header in edited if header[1] is not None]}
                await send(message)

            if scope["path"].startswith(self._path):
                headers = [(name, value) for name, value in scope["headers"] if name != self._without]
                scope = {**scope, "headers": headers}
            await app(scope, receive, send_edited)

        return mutated


class AnswerMutation:
    """Edits every answer that is not a stream: the function returns what to send in its place, or None."""

    def __init__(self, edit: Callable[[Scope, int, bytes], Answer | None]) -> None:
        self._edit = edit

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def mutated(scope: Scope, receive: Receive, send: Send) -> None:
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

        return mutated

    async def _send(self, scope: Scope, head: Message, body: bytes, send: Send) -> None:
        edited = self._edit(scope, head["status"], body)
        headers = dict(head["headers"])
        status = head["status"]
        if edited is not None:
            status, body, kind = edited
            headers |= {b"content-type": kind.encode(), b"content-length": str(len(body)).encode()}
        await send({**head, "status": status, "headers": list(headers.items())})
        await send({"type": "http.response.body", "body": body})


def keep_open(app: ASGIApp) -> ASGIApp:
    """Does not close an event stream after its last event."""

    async def mutated(scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def send_most(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or (message["type"] == "http.response.start" and is_stream(message))
            if has_started and message["type"] == "http.response.body" and not message.get("more_body"):
                await asyncio.sleep(30)
            await send(message)

        await app(scope, receive, send_most)

    return mutated


def ignore_disconnects(app: ASGIApp) -> ASGIApp:
    """Never notices that a client has left, neither by `http.disconnect` nor by the state of the connection."""

    async def mutated(scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_most() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                await asyncio.sleep(30)
            return message

        extensions = {name: value for name, value in scope.get("extensions", {}).items() if name != TRANSPORT_EXTENSION}
        await app({**scope, "extensions": extensions}, receive_most, send)

    return mutated


def show_jobs_to_everybody(app: ASGIApp) -> ASGIApp:
    """Shows every job as if the request had the cookie that started it."""
    owners: dict[str, bytes] = {}

    async def mutated(scope: Scope, receive: Receive, send: Send) -> None:
        cookie = dict(scope["headers"]).get(b"cookie", b"")

        async def send_remembered(message: Message) -> None:
            nonlocal cookie
            if message["type"] == "http.response.start":
                given = [value for name, value in message["headers"] if name.lower() == b"set-cookie"]
                cookie = given[0].partition(b";")[0] if given else cookie
            started = re.search(rb'"polling_url": ?"([^"]+)"', message.get("body", b""))
            if started:
                owners[started[1].decode()] = cookie
            await send(message)

        if scope["path"] in owners:
            others = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
            scope = {**scope, "headers": [*others, (b"cookie", owners[scope["path"]])]}
        await app(scope, receive, send_remembered)

    return mutated


class RequestMutation:
    """Adds members to the JSON body of every request to a path, where they are missing."""

    def __init__(self, paths: tuple[str, ...], **members: object) -> None:
        self._paths = paths
        self._members = members

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def mutated(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] not in self._paths or scope["method"] != "POST":
                await app(scope, receive, send)
                return
            message = await receive()
            body = self._edit(message.get("body", b""))
            length = str(len(body)).encode()
            headers = [(name, length if name == b"content-length" else value) for name, value in scope["headers"]]
            edited = iter([{**message, "body": body}])

            async def receive_edited() -> Message:
                return next(edited, None) or await receive()

            await app({**scope, "headers": headers}, receive_edited, send)

        return mutated

    def _edit(self, body: bytes) -> bytes:
        try:
            return json.dumps({**self._members, **json.loads(body)}).encode()
        except (ValueError, TypeError):
            return body


class ListEverything:
    """A list has whatever was ever created, whoever asks. `member`: the list's; `id_member`: that of an item's id."""

    def __init__(self, path: str, created_by: str, member: str, id_member: str) -> None:
        self._path = path
        self._created_by = created_by
        self._member = member
        self._id_member = id_member
        self._items: dict[str, Any] = {}

    def __call__(self, scope: Scope, status: int, body: bytes) -> Answer | None:
        if scope["path"] == self._created_by and scope["method"] == "POST" and status in (200, 201):
            created = json.loads(body)
            self._items.setdefault(created[self._id_member], created)
        if scope["path"] != self._path or scope["method"] != "GET" or status != 200:
            return None
        listed = json.loads(body)
        others = [item for item in self._items.values() if item not in listed[self._member]]
        return make_json_answer(200, {**listed, self._member: listed[self._member] + others})


class ShowObservedToEverybody:
    """Lets whoever is logged in observe: the request is sent on with the administrator's token."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._token = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_remembered(message: Message) -> None:
            body = message.get("body", b"")
            if scope["path"] == "/auth/login" and b'"administrator"' in body:
                self._token = b"Bearer " + json.loads(body)["accessToken"].encode()
            await send(message)

        if scope["path"].endswith("/observe") and b"authorization" in dict(scope["headers"]):
            others = [(name, value) for name, value in scope["headers"] if name != b"authorization"]
            scope = {**scope, "headers": [*others, (b"authorization", self._token)]}
        await self._app(scope, receive, send_remembered)


def leak_expected_id(app: ASGIApp) -> ASGIApp:
    """The refusal of a wrong streaming session id contains the right one."""
    last_streams: dict[str, str] = {}

    async def remembering(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_remembered(message: Message) -> None:
            if message["type"] == "http.response.start" and is_stream(message):
                turn_id = dict(message["headers"])[b"x-streaming-session-id"].decode()
                last_streams[scope["path"].removesuffix("/stream")] = turn_id
            await send(message)

        await app(scope, receive, send_remembered)

    def edit(scope: Scope, status: int, body: bytes) -> Answer | None:
        if not scope["path"].endswith("/update-stream") or status != 400:
            return None
        problem = json.loads(body)
        expected = last_streams[scope["path"].removesuffix("/update-stream")]
        detail = f"{problem['detail']} Expected {expected}."
        return make_json_answer(400, problem | {"detail": detail}, "application/problem+json")

    return AnswerMutation(edit)(remembering)


def make_json_answer(status: int, body: Mapping[str, Any], kind: str = "application/json") -> Answer:
    return status, json.dumps(body).encode(), kind


# Edits of events, and of whole answers.


def swap_first_events(piece: bytes) -> bytes:
    """Swaps the first two events."""
    head, first, rest = piece.partition(b"id: ")
    frames = split_frames(first + rest)
    is_opening = len(frames) > 1 and b"event: metadata" in frames[0]
    return head + b"".join([frames[1], frames[0], *frames[2:]]) if is_opening else piece


def add_ids(piece: bytes) -> bytes:
    """Adds an id to every event that has none."""
    return piece if b"id: " in piece else piece.replace(b"data: ", b"id: turn_a-1\ndata: ")


def add_retry(scope: Scope) -> Edit:
    """Begins every stream with the reconnection time."""
    leads = iter([b"retry: 2000\n"])
    return lambda piece: (b"" if piece.startswith(b"retry") else next(leads, b"")) + piece


def repeat_id(piece: bytes) -> bytes:
    return re.sub(rb"(id: \S+)-9\n", rb"\1-8\n", piece)


def drop_third_chunk(scope: Scope) -> Edit:
    """Drops the third chunk."""
    chunks: Counter[str] = Counter()

    def keep(found: re.Match[bytes]) -> bytes:
        chunks["seen"] += 1
        return b"" if chunks["seen"] == 3 else found[0]

    return lambda piece: re.sub(rb"id: \S+\nevent: chunk\n.*\n\n", keep, piece)


def repeat_on_resume(scope: Scope) -> Edit:
    """Sends the first event of a resumed stream twice."""
    if b"last-event-id" not in dict(scope["headers"]):
        return lambda piece: piece
    times = Counter[str]()

    def repeat(found: re.Match[bytes]) -> bytes:
        times["seen"] += 1
        return found[0] * 2 if times["seen"] == 1 else found[0]

    return lambda piece: re.sub(rb"id: .*\n(?:.+\n)+\n", repeat, piece)


def repeat_end(piece: bytes) -> bytes:
    """Sends the last event again, with the next id."""
    last = re.search(rb"(id: \S+-)(\d+)(\n.*\"is_final\":true.*\n\n)", piece)
    return piece + b"%b%d%b" % (last[1], int(last[2]) + 1, last[3]) if last else piece


def leak_traceback(piece: bytes) -> bytes:
    return piece.replace(b'"detail":"', rb'"detail":"Traceback (most recent call last): ')


class RefuseSecondStop:
    """Refuses the second stop of a turn."""

    def __init__(self) -> None:
        self._stopped: set[str] = set()

    def __call__(self, scope: Scope, status: int, body: bytes) -> Answer | None:
        if not scope["path"].endswith("/stop"):
            return None
        is_again = scope["path"] in self._stopped
        self._stopped.add(scope["path"])
        return make_json_answer(404, {"code": "turn_not_found"}) if is_again else None


class MoveJobBack:
    """A job that was running at the first poll is pending at the second one."""

    def __init__(self) -> None:
        self._polls: Counter[str] = Counter()

    def __call__(self, scope: Scope, status: int, body: bytes) -> Answer | None:
        if not scope["path"].startswith("/jobs/") or status != 200:
            return None
        self._polls[scope["path"]] += 1
        status_shown = {1: "running", 2: "pending"}.get(self._polls[scope["path"]])
        return make_json_answer(200, json.loads(body) | {"status": status_shown}) if status_shown else None


def complete_failed_jobs(scope: Scope, status: int, body: bytes) -> Answer | None:
    """A failed job is at 100 %."""
    job = json.loads(body) if scope["path"].startswith("/jobs/") and status == 200 else {}
    if job.get("status") != "failed":
        return None
    return make_json_answer(200, job | {"latest_progress": {"step": "failed", "message": "Failed", "progress": 100}})


def drop_total_credits(scope: Scope, status: int, body: bytes) -> Answer | None:
    if not scope["path"].endswith("/credits/balance") or status != 200:
        return None
    return make_json_answer(200, {name: value for name, value in json.loads(body).items() if name != "totalCredits"})


def replace_errors_by_pages(scope: Scope, status: int, body: bytes) -> Answer | None:
    """Answers every refused request with an HTML page and status 200."""
    return (200, b"<html><h1>Oops!</h1></html>", "text/html") if status >= 400 else None


def change_content_type(name: bytes, value: bytes) -> bytes:
    return b"text/plain" if value.startswith(b"text/event-stream") else value


def drop_heartbeats(piece: bytes) -> bytes:
    return b"" if b"event: heartbeat" in piece else piece


def lower_progress(piece: bytes) -> bytes:
    """Sends progress 10 in place of 50."""
    return piece.replace(b'"progress":50', b'"progress":10')


def use_crlf(piece: bytes) -> bytes:
    return piece.replace(b"\n", b"\r\n")
