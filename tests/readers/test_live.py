"""Every reader over a real socket: one turn for each contract, and the libraries over connections that break off.

What a turn has told is asked for again, with its key, and parsed by the rules of the conformance tests.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
import requests

from openapi_server.devtools.check.stream_rules import StreamRules
from openapi_server.spec import load_strict_spec
from openapi_server.wire.sse import encode_json
from tests.conftest import find_template
from tests.readers.python_readers import Parsed
from tests.readers.recordings import ENDPOINTS, RESUMABLE
from tests.readers.table import READERS, Reader, read_shown
from tests.support.contract import SseEvent, check_stream
from tests.support.node import NodeProcess
from tests.support.processes import ServerProcess
from tests.support.tcp_proxy import TcpProxy

MESSAGE = "How fast can you run?"
MAX_ATTEMPTS = 5


@dataclass(frozen=True)
class Question:
    """A request that starts a turn, or reads the same turn again."""

    name: str
    path: str
    body: dict[str, Any]
    headers: dict[str, str]

    def read_again(self, server: ServerProcess) -> list[SseEvent]:
        """What the turn has told, held against the contract."""
        answer = httpx.post(f"{server.url}{self.path}", json=self.body, headers=self.headers, timeout=30)
        assert answer.status_code == 200, answer.text
        is_resumable = "onDisconnect" in self.body
        return check_stream(find_template(self.path), answer.content, is_resumable=is_resumable)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the defaults, only quicker; do not stop it."""
    process = ServerProcess(tmp_path_factory.mktemp("server"), OFFLINE_WORDS_PER_S=200)
    try:
        yield process
    finally:
        assert process.stop() == 0


@pytest.fixture(scope="module")
def login(server: ServerProcess) -> dict[str, str]:
    """The header of a user with credits."""
    headers = {}
    for name in ("admin", "user1"):
        login = {"username": name, "password": f"{name}-demo"}
        token = httpx.post(f"{server.url}/auth/login", json=login).json()["accessToken"]
        headers[name] = {"Authorization": f"Bearer {token}"}
    given = {"userId": "user1", "credits": 1_000_000}
    httpx.post(f"{server.url}/credits/allocate", json=given, headers=headers["admin"]).raise_for_status()
    return headers["user1"]


@pytest.fixture
def question(request: pytest.FixtureRequest, server: ServerProcess, login: dict[str, str]) -> Question:
    """A new question for the contract."""
    return make_question(server, login, request.param)


def make_question(server: ServerProcess, login: dict[str, str], name: str) -> Question:
    """A new question, in a session of its own."""
    endpoint, path, headers = ENDPOINTS[name], ENDPOINTS[name].path, {"Idempotency-Key": str(uuid4())}
    body = {**endpoint.body, endpoint.message_field: MESSAGE}
    if name == "sessions":
        headers |= login
        created = httpx.post(f"{server.url}/chat/sessions", json={}, headers=headers).json()
        path = path.replace("{sessionId}", created["sessionId"])
    elif name == "devices":
        headers["X-Device-ID"] = str(uuid4())
    elif "session_id" in body:
        body["session_id"] = str(uuid4())
    return Question(name, path, body, headers)


def show(reader: Reader, events: list[SseEvent]) -> list[Parsed]:
    """What the reader has to show of a stream that was parsed."""
    shown, last_id = [], ""
    for event in events:
        last_id = event.id or last_id
        name = event.event if reader.shows_names else "message"
        if reader.sees(event.raw.decode()):
            shown.append(Parsed(name, encode_json(event.data), last_id if reader.is_library else ""))
    return shown


@pytest.mark.parametrize("question", ENDPOINTS, indirect=True)
@pytest.mark.parametrize("reader", [each for each in READERS.values() if each.python], ids=lambda each: each.name)
def test_a_reader_in_python_shows_the_turn(server: ServerProcess, question: Question, reader: Reader) -> None:
    """Its library makes the request, too."""
    assert reader.python
    shown = list(reader.python.post(f"{server.url}{question.path}", question.body, question.headers))

    assert shown == show(reader, question.read_again(server))


def test_the_readers_in_node_show_the_turn(
    server: ServerProcess, login: dict[str, str], node_readers: NodeProcess
) -> None:
    """All of them over all contracts, with Node's own `fetch`."""
    readers = [each for each in READERS.values() if each.python is None for _ in ENDPOINTS]
    questions = [make_question(server, login, name) for _ in readers[:: len(ENDPOINTS)] for name in ENDPOINTS]
    jobs = [
        reader.make_job(url=f"{server.url}{question.path}", headers=question.headers, body=question.body)
        for reader, question in zip(readers, questions, strict=True)
    ]

    answers = map(read_shown, node_readers.ask(jobs))

    for reader, question, (shown,) in zip(readers, questions, answers, strict=True):
        assert shown == show(reader, question.read_again(server)), (reader.name, question.name)


@pytest.mark.parametrize("question", ENDPOINTS, indirect=True)
def test_grep_finds_every_event(server: ServerProcess, question: Question) -> None:
    """`curl -N ... | grep '^data: '` prints a line for each event, while they come."""
    headers = {"Content-Type": "application/json", **question.headers}
    options = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    curl = ["curl", "-sN", f"{server.url}{question.path}", "-d", json.dumps(question.body), *options]
    with subprocess.Popen(curl, stdout=subprocess.PIPE) as curling:
        grep = ["grep", "--line-buffered", "^data: "]
        found = subprocess.run(grep, stdin=curling.stdout, capture_output=True, timeout=30, check=True)

    told = question.read_again(server)
    assert found.stdout.decode().splitlines() == [f"data: {encode_json(event.data)}" for event in told]


# Connections that break off


def post_until_it_ends(port: int, question: Question, reader: Reader) -> tuple[list[Parsed], int]:
    """Post again with the last id until the turn has ended, as users of these libraries do: events and attempts."""
    rules = StreamRules.from_spec(load_strict_spec(), find_template(question.path))
    seen: list[Parsed] = []
    for attempt in range(1, MAX_ATTEMPTS + 1):
        headers = {**question.headers, **({"Last-Event-ID": seen[-1].id} if seen else {})}
        assert reader.python
        with suppress(requests.RequestException, httpx.HTTPError):
            for event in reader.python.post(f"http://127.0.0.1:{port}{question.path}", question.body, headers):
                seen.append(event)  # noqa: PERF402  # what came before the error counts
        if seen and rules.is_terminal(SseEvent(seen[-1].event, json.loads(seen[-1].data))):
            return seen, attempt
    raise AssertionError(seen)


@pytest.mark.parametrize("question", RESUMABLE, indirect=True)
@pytest.mark.parametrize("where", ["in the first event", "in the middle"])
@pytest.mark.parametrize("name", ["a browser", "sseclient-py", "httpx-sse", "fields of blocks"])
async def test_a_library_in_python_over_a_connection_that_breaks_off(
    server: ServerProcess, question: Question, name: str, where: str
) -> None:
    """The same post with the last id, or with none yet: each event once, and one turn."""
    async with TcpProxy(server.port, find_cut(question, where)) as proxy:
        shown, attempts = await asyncio.to_thread(post_until_it_ends, proxy.port, question, READERS[name])

    assert attempts == 2
    assert shown == show(READERS[name], question.read_again(server))


async def test_libraries_in_node_over_connections_that_break_off(
    server: ServerProcess, login: dict[str, str], node_readers: NodeProcess
) -> None:
    """`eventsource` and `fetch-event-source` come back by themselves, after the time that the stream names."""
    cases = [
        (name, where, make_question(server, login, contract))
        for name in ("eventsource", "fetch-event-source")
        for where in ("in the first event", "in the middle")
        for contract in RESUMABLE
    ]
    async with AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(TcpProxy(server.port, find_cut(question, where)))
            for _, where, question in cases
        ]
        jobs = [
            READERS[name].make_job(
                url=f"http://127.0.0.1:{proxy.port}{question.path}",
                headers=question.headers,
                body=question.body,
                comesBack=True,
            )
            for (name, _, question), proxy in zip(cases, proxies, strict=True)
        ]
        answers = map(read_shown, await asyncio.to_thread(node_readers.ask, jobs))
        assert [proxy.cut_behind for proxy in proxies] == [None] * len(proxies)

    for (name, where, question), (shown,) in zip(cases, answers, strict=True):
        assert shown == show(READERS[name], question.read_again(server)), (name, where, question.name)


def find_cut(question: Question, where: str) -> bytes:
    """Text inside the data of an event."""
    if where == "in the first event":
        return b"data: {"
    return b'"step":"anal' if question.name == "platform" else b"kilome"
