"""E: how long one request holds up all others: the event loop's longest pause, over every text field of every door."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.figures import Figure, expect_at_most, expect_none
from tests.support.model_dialects import OpenAIDialect
from tests.support.processes import ServerProcess
from tests.support.scripted_model import ModelAnswer, ScriptedModel

LINE_MS = 50
# A longer pause is measured again: the machine may have been busy with something else.
ATTEMPTS = 3
PROBE_EVERY_S = 0.001
WAIT_S = 120
MAX_BODY_BYTES = 262_144
# All headers of a request may have 32,768 bytes.
MAX_HEADER_CHARS = 32_000
JSON = "application/json"
TEXT = "TEXT"
"""Stands in a body for the text that is tried."""
LION: Mapping[str, object] = {"animalId": "lion_001"}


# --- Texts


def make_random_text(alphabet: str, length: int) -> str:
    return "".join(random.Random(length).choices(alphabet, k=length))  # noqa: S311 - the same in every run


def repeat(piece: str, length: int) -> str:
    return (piece * (length // len(piece) + 1))[:length]


TEXTS: Mapping[str, Callable[[int], str]] = {
    "100 zeros and a letter": lambda length: repeat("0", min(100, length - 1)) + "a",
    "zeros and a letter": lambda length: repeat("0", length - 1) + "a",
    "my number is, and zeros": lambda length: ("my number is " + repeat("0", length))[: length - 2] + "x ",
    "Aa-": lambda length: repeat("Aa-", length - 1) + "!",
    "digits and signs": lambda length: repeat("1 -.()/", length),
    "blanks inside": lambda length: "a" + " " * (length - 2) + "a",
    "letters with dots": lambda length: repeat("k.i.l.l ", length),
    "names": lambda length: repeat("my name is Leo Miller and ", length),
    "requests": lambda length: repeat("may i talk to the , ", length),
    "Base64": lambda length: repeat("aGVsbG8gbGl0dGxlIGxpb24= ", length),
    "escapes": lambda length: repeat("\\u0041%41&#65;", length),
    "addresses": lambda length: repeat("a@b.c http://x.y/z 12 Oak Street, ", length),
    "media ranges": lambda length: repeat("a/b;q=0.1, */*, ", length),
    "separators": lambda length: repeat(',;= \t"\\*', length),
    "beyond ASCII": lambda length: make_random_text("äßЖ你👍\u200b\u0301ａ０٣", length),
    "letters that stand for many": lambda length: repeat("\ufdfa\u3316\ufb03\U0001f110", length),
    "accents on one letter": lambda length: "a" + repeat("\u0301\u0323", length - 1),
    "mixed": lambda length: make_random_text("ab01 .,-'Ä\n你?\u200b", length),
    "letters": lambda length: make_random_text("abcdefghijklmnopqrstuvwxyz ", length),
}


# --- Doors


@dataclass(frozen=True, slots=True)
class Door:
    """A request with one text field. `limit`: its most characters. `headers`: also `TEXT` for the text."""

    name: str
    path: str
    body: object = None
    limit: int = 4_000
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)

    def make_request(self, text: str) -> Exchange:
        body = _fill(self.body, text)
        headers = {key: _fill(value, text) for key, value in self.headers.items()}
        return Exchange(
            f"{self.name}: {{}}", self.method, self.path, None if body is None else json.dumps(body).encode(), headers
        )


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request as it is sent."""

    name: str
    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def _fill(part: Any, text: str) -> Any:
    if isinstance(part, dict):
        return {key: _fill(value, text) for key, value in part.items()}
    if isinstance(part, list):
        return [_fill(value, text) for value in part]
    return text if part == TEXT else part


def list_doors(token: str, session_id: str) -> list[Door]:
    """Every text field of every contract; keepers' doors with an administrator's token."""
    keeper = {"Authorization": f"Bearer {token}"}
    rule = {"name": "trial-rule", "strength": "DISCOURAGE", "category": "trial", "then": "flag"}
    return [
        Door("convo message", "/convo_turn", {**LION, "message": TEXT}),
        Door("convo message, stream", "/convo_turn_stream", {**LION, "message": TEXT}),
        Door("convo contextSummary", "/convo_turn", {**LION, "message": "Hi", "contextSummary": TEXT}, 2_000),
        Door("convo metadata", "/convo_turn", {**LION, "message": "Hi", "metadata": {"firstName": TEXT}}, 1_000),
        Door("platform query", "/api/v1/stream", {"query": TEXT}),
        Door(
            "platform history",
            "/api/v1/stream?mode=job",
            {"query": "Hi", "conversation_history": [{"role": "user", "content": TEXT}]},
            20_000,
        ),
        Door(
            "platform history of many",
            "/api/v1/stream",
            {"query": "Hi", "conversation_history": 60 * [{"role": "user", "content": TEXT}]},
            500,
        ),
        Door("session message", f"/chat/sessions/{session_id}/stream", {"message": TEXT}, headers=keeper),
        Door("session title", "/chat/sessions", {"title": TEXT}, 200, headers=keeper),
        Door("session initialMessage", "/chat/sessions", {"initialMessage": TEXT}, headers=keeper),
        Door(
            "session confirmation",
            f"/chat/sessions/{session_id}/update-stream",
            {"completeResponse": TEXT, "streamingSessionId": "turn_x"},
            100_000,
            headers=keeper,
        ),
        Door("chat message", "/chat", {"message": TEXT, "session_id": "trial-session"}, 5_000),
        Door("device content", "/chat/", {"content": TEXT}),
        Door("device content, stream", "/chat/stream", {"content": TEXT}),
        Door("login", "/auth/login", {"username": TEXT, "password": "x"}, 64),
        Door(
            "credits notes", "/credits/allocate", {"userId": "nobody", "credits": 1, "notes": TEXT}, 500, "POST", keeper
        ),
        Door("validate message", "/api/v1/guardrails/validate", {"text": TEXT}, headers=keeper),
        Door("validate reply", "/api/v1/guardrails/validate", {"text": TEXT, "direction": "reply"}, headers=keeper),
        Door(
            "validate rule",
            "/api/v1/guardrails/validate",
            {"text": TEXT, "rule": {**rule, "keywords": ["penguin"], "patterns": ["(?:a|aa)+b"]}},
            headers=keeper,
        ),
        Door("rule guidance", "/api/v1/guardrails/rules/trial-rule", {**rule, "guidance": TEXT}, 600, "PUT", keeper),
        Door("animal settings", "/animal_config?animalId=lion_001", {"summary": TEXT}, 2_000, "PATCH", keeper),
        Door("device id", "/chat/", {"content": "Hi"}, 255, headers={"X-Device-ID": TEXT}),
        Door("idempotency key", "/convo_turn", {**LION, "message": "Hi"}, 255, headers={"Idempotency-Key": TEXT}),
        Door("last event id", "/convo_turn_stream", {**LION, "message": "Hi"}, 8_000, headers={"Last-Event-ID": TEXT}),
        Door("prefer", "/convo_turn", {**LION, "message": "Hi"}, MAX_HEADER_CHARS, headers={"Prefer": TEXT}),
        Door(
            "content type", "/convo_turn", {**LION, "message": "Hi"}, MAX_HEADER_CHARS, "POST", {"Content-Type": TEXT}
        ),
        Door("cookie", "/api/v1/stream?mode=job", {"query": "Hi"}, MAX_HEADER_CHARS, headers={"Cookie": TEXT}),
        Door("authorization", "/me", None, MAX_HEADER_CHARS, "GET", {"Authorization": TEXT}),
        Door("if-match", "/animal/lion_001", {}, MAX_HEADER_CHARS, "PUT", {**keeper, "If-Match": TEXT}),
        *(
            Door(f"{header}, {path}", path, None, MAX_HEADER_CHARS, "GET", {header: TEXT})
            for path in ("/animal/lion_001", "/openapi.json", "/ui/")
            for header in ("Accept", "Accept-Encoding", "If-None-Match")
        ),
        *(
            Door(header, "/animal_list", None, MAX_HEADER_CHARS, "GET", {header: TEXT})
            for header in ("Host", "Origin", "Forwarded", "X-Forwarded-For", "X-Request-ID", "traceparent")
        ),
        Door("preflight", "/convo_turn", None, MAX_HEADER_CHARS, "OPTIONS", {"Access-Control-Request-Headers": TEXT}),
    ]


def list_large_bodies() -> Iterator[Exchange]:
    """Bodies of almost `MAX_BODY`, of every shape."""
    most = MAX_BODY_BYTES - 200
    hi: dict[str, object] = {**LION, "message": "Hi"}
    members = {f"k{at}": 1 for at in range(most // 14)}
    shapes: dict[str, object] = {
        "one text": {**LION, "message": "a " * (most // 2)},
        "blanks around": {**LION, "message": f"{' ' * (most // 2)}Hi{' ' * (most // 2 - 50)}"},
        "escapes": {**LION, "message": "\u00e4" * (most // 7)},
        "many members": {**hi, **members},
        "wide metadata": {**hi, "metadata": members},
        "a list of numbers": {**hi, "metadata": {"a": [1] * (most // 3)}},
        "a list of lists": {**hi, "metadata": {"a": [[]] * (most // 4)}},
        "a list of texts": {**hi, "metadata": {"a": ["a"] * (most // 6)}},
        "NUL at the end": {**hi, "metadata": {"a": [*["a"] * (most // 7), "\0"]}},
    }
    bodies = {
        **{name: json.dumps(shape).encode() for name, shape in shapes.items()},
        "deep": b"[" * (most // 2) + b"]" * (most // 2),
        "no JSON": b"{" * most,
        "a long number": b'{"a":' + b"9" * most + b"}",
    }
    yield from (Exchange(f"body: {name}", "POST", "/convo_turn", body) for name, body in bodies.items())
    addresses = json.dumps({"content": "Hi", "media_urls": ["http://a"] * (most // 12)}).encode()
    yield Exchange("body: many addresses", "POST", "/chat/", addresses)
    for name, item in (("small messages", {"role": "user", "content": "a"}), ("wrong messages", 1)):
        count = most // (len(json.dumps(item)) + 2)
        body = json.dumps({"query": "Hi", "conversation_history": [item] * count}).encode()
        yield Exchange(f"body: {name}", "POST", "/api/v1/stream", body)


# --- Replies of a model


REPLIES: Mapping[str, Callable[[], tuple[str, ...]]] = {
    "a letter at a time": lambda: tuple(make_random_text("abcdefghij klmno.", 3_000)),
    "100 zeros and a letter, a character at a time": lambda: tuple("I am Leo. " + "0" * 100 + "a. Roar."),
    "100 zeros and a letter": lambda: ("I am Leo. ", "0" * 100 + "a", ". Roar."),
    "Aa-": lambda: ("I am Leo. ", repeat("Aa-", 4_000) + "! "),
    "one piece of 60,000 characters": lambda: (repeat("I am a lion and I roar. ", 60_000),),
    "60,000 characters without a blank": lambda: (repeat("roar", 60_000),),
    "10 MB in one line": lambda: ("I am Leo. ", "a" * 10_000_000),
    "blanks": lambda: ("I am", " " * 20_000, "Leo."),
    "beyond ASCII": lambda: (make_random_text("äß你👍\u200b\u0301 .", 4_000),),
}


# --- Measuring


@dataclass(frozen=True, slots=True)
class Pause:
    """The longest pause while a request was served, in milliseconds, and the answer's status (0: none)."""

    name: str
    ms: float
    status: int


class Prober:
    """Asks a server process for `/health` again and again; the longest answer is the event loop's longest pause.

    What counts is the lesser of the elapsed time and the processor time that the server used meanwhile: then a machine
    that is busy with something else does not look like a pause.
    """

    def __init__(self, server: ServerProcess) -> None:
        self._port = server.port
        # The processor-time clock of another process: see clock_getcpuclockid(3).
        self._clock = (~server.process.pid << 3) | 2

    def measure(self, exchange: Exchange) -> Pause:
        """The best of some attempts; the first one counts if it is within the line."""
        pauses: list[Pause] = []
        while len(pauses) < ATTEMPTS and (not pauses or pauses[-1].ms > LINE_MS):
            pauses.append(self._measure_once(exchange))
        return min(pauses, key=lambda pause: pause.ms)

    def _measure_once(self, exchange: Exchange) -> Pause:
        pauses_s: list[float] = []
        with self._probe(pauses_s):
            status = self.send(exchange)[0]
        return Pause(exchange.name, max(pauses_s) * 1000, status)

    def send(self, exchange: Exchange) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)
        try:
            # A header has one line, and the bytes of Latin-1.
            values = {name: " ".join(value.split("\n")) for name, value in exchange.headers.items()}
            headers = {name: value.encode("latin-1", "replace") for name, value in values.items()}
            connection.request(exchange.method, exchange.path, exchange.body, {"Content-Type": JSON, **headers})
            response = connection.getresponse()
            return response.status, response.read()
        except (http.client.HTTPException, OSError):
            # The server may close a connection on what it refuses.
            return 0, b""
        finally:
            connection.close()

    @contextmanager
    def _probe(self, pauses_s: list[float]) -> Iterator[None]:
        stopping, has_begun = threading.Event(), threading.Event()

        def ask() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not stopping.is_set():
                began_s, began_cpu_s = time.monotonic(), time.clock_gettime(self._clock)
                connection.request("GET", "/health")
                connection.getresponse().read()
                pauses_s.append(min(time.monotonic() - began_s, time.clock_gettime(self._clock) - began_cpu_s))
                has_begun.set()
                stopping.wait(PROBE_EVERY_S)
            connection.close()

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        assert has_begun.wait(WAIT_S), "the server answers"
        pauses_s.clear()
        try:
            yield
        finally:
            stopping.set()
            thread.join(WAIT_S)
            pauses_s.append(0.0)


async def pause_at_every_door(folder: Path, share: int = 1) -> list[Figure]:
    """E: every text field with every text up to its limit, large bodies, and what is read back of them."""
    async with run_server(folder) as server:
        pauses = await asyncio.to_thread(_measure_doors, server, share)
    return _make_figures("requests", pauses)


async def pause_at_replies(folder: Path, share: int = 1) -> list[Figure]:
    """E: what a model says, streamed, replayed and read as history."""
    pauses: list[Pause] = []
    async with ScriptedModel(OpenAIDialect()) as model:
        settings = {"PROVIDER": "openai", "OPENAI_MODEL": "scripted-1", "OPENAI_BASE_URL": f"{model.url}/v1"}
        limits = {"BREAKER_FAILURES": 1000, "PROVIDER_RETRIES": 0, "FIRST_TOKEN_TIMEOUT": 20}
        async with run_server(folder, OPENAI_API_KEY="sk-nobody", **settings, **limits) as server:
            for name in list(REPLIES)[::share]:
                model.answers = (ModelAnswer(pieces=REPLIES[name]()),)
                pauses += await asyncio.to_thread(_measure_reply, server, name)
    return _make_figures("replies", pauses)


@asynccontextmanager
async def run_server(folder: Path, **settings: object) -> AsyncIterator[ServerProcess]:
    """Without rate limits and response validation, which a visitor does not meet either."""
    given = {"RATE_LIMIT_TURNS": 0, "RATE_LIMIT_STREAMS": 0, "OFFLINE_WORDS_PER_S": 0, "VALIDATE_RESPONSES": "false"}
    server = await asyncio.to_thread(
        lambda: ServerProcess(folder, NO_PROXY="127.0.0.1", LOG_LEVEL="WARNING", **{**given, **settings})
    )
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


def _measure_doors(server: ServerProcess, share: int) -> list[Pause]:
    prober = Prober(server)
    login = json.dumps({"username": "admin", "password": "admin-demo"}).encode()
    token = json.loads(prober.send(Exchange("", "POST", "/auth/login", login))[1])["accessToken"]
    keeper = {"Authorization": f"Bearer {token}"}
    session = json.loads(prober.send(Exchange("", "POST", "/chat/sessions", b"{}", keeper))[1])
    exchanges = [
        Exchange(f"{door.name}: {name}", one.method, one.path, one.body, one.headers)
        for door in list_doors(token, session["sessionId"])
        for name, make_text in TEXTS.items()
        for one in [door.make_request(make_text(door.limit))]
    ]
    exchanges += list_large_bodies()
    exchanges += [
        Exchange("sessions", "GET", "/chat/sessions", headers=keeper),
        Exchange("session", "GET", f"/chat/sessions/{session['sessionId']}", headers=keeper),
        Exchange("export", "GET", "/privacy/export", headers=keeper),
        Exchange("compare", "POST", "/animal/lion_001/draft/compare", b"{}", keeper),
    ]
    return [prober.measure(exchange) for exchange in exchanges[::share]]


def _measure_reply(server: ServerProcess, name: str) -> list[Pause]:
    """The turn, then everything that is made of it afterwards."""
    prober = Prober(server)
    body = json.dumps({**LION, "message": "How fast can you run?"}).encode()
    turn = prober.measure(Exchange(f"reply: {name}", "POST", "/convo_turn_stream", body))
    answer = prober.send(Exchange("", "POST", "/convo_turn_stream", body))[1].decode()
    session_id, turn_id = (answer.split(f'"{key}":"', 1)[1].split('"', 1)[0] for key in ("sessionId", "turnId"))
    summary, again = ({"sessionId": session_id}, {**json.loads(body), "sessionId": session_id})
    later = (
        Exchange(f"replay: {name}", "GET", f"/convo_turn/{turn_id}/stream"),
        Exchange(f"state: {name}", "GET", f"/convo_turn/{turn_id}"),
        Exchange(f"history: {name}", "GET", f"/convo_history?sessionId={session_id}"),
        Exchange(f"summary: {name}", "POST", "/summarize_convo", json.dumps(summary).encode()),
        Exchange(f"next turn: {name}", "POST", "/convo_turn", json.dumps(again).encode()),
    )
    return [turn, *(prober.measure(exchange) for exchange in later)]


def _make_figures(what: str, pauses: list[Pause]) -> list[Figure]:
    worst = max(pauses, key=lambda pause: pause.ms)
    longest = f"longest pause of the event loop, {len(pauses)} {what}; at {worst.name}"
    return [
        expect_at_most("E", longest, worst.ms, LINE_MS, "ms"),
        expect_none("E", f"{what} that end in a 500", sum(one.status >= 500 for one in pauses), len(pauses)),
    ]
