"""K: personal data and calls for help through all five chat APIs, and what remains when a session is over."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import uuid
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from openapi_server.devtools.check.stream_rules import StreamRules
from openapi_server.models.turn import AgeGroup
from openapi_server.spec import load_complete_spec
from tests.faults.figures import Figure, expect_none
from tests.faults.unsafe_models import QUESTION, run_server_with
from tests.moderation.test_children_in_need import NEED
from tests.moderation.test_pii import PERSONAL_TEXTS
from tests.support.contract import SseEvent, check_stream
from tests.support.model_dialects import OpenAIDialect
from tests.support.scripted_model import ScriptedModel
from tests.support.timing import poll_until

COOKIE = "a-cookie-of-the-trial-on-children"
CREDITS = 10_000_000


@dataclass(frozen=True, slots=True)
class ChatApi:
    """One chat API: its path in the spec, the member that holds the message, and what else its clients send."""

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
    """The answer of one API."""

    api: ChatApi
    turn_id: str
    events: tuple[SseEvent, ...]

    @property
    def text(self) -> str:
        return StreamRules.from_spec(load_complete_spec(), self.api.path).join_text(list(self.events))


@dataclass(frozen=True, slots=True)
class Child:
    """Uses every API: with a cookie, and where an account is needed, as a user with many credits."""

    client: httpx.AsyncClient
    account: Mapping[str, str]
    cookie: Mapping[str, str] = field(default_factory=lambda: {"Cookie": f"session_id={COOKIE}"})

    async def ask(self, api: ChatApi, message: str, name: str = "", **members: object) -> ApiReply:
        """`name`: what the client calls its session or device; without it, something new."""
        name = name or str(uuid.uuid4())
        own = {"session_id": name} if api is CHAT else {}
        path = api.path.replace("{sessionId}", await self.create_session()) if api is SESSIONS else api.path
        headers = {**self.get_headers(api), "X-Device-ID": name}
        body = {**api.body, **own, api.member: message, **members}
        answer = await self.client.post(path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        events = check_stream(api.path, answer.content)
        return ApiReply(api, answer.headers["x-streaming-session-id"], tuple(events))

    async def create_session(self, **members: object) -> str:
        """A new session of the chat sessions' contract; its id."""
        answer = await self.client.post("/chat/sessions", json=members, headers=self.account)
        session_id: str = answer.json()["sessionId"]
        return session_id

    def get_headers(self, api: ChatApi) -> Mapping[str, str]:
        return self.account if api is SESSIONS else self.cookie


async def log_in_child(client: httpx.AsyncClient) -> Child:
    """At a server with the demo users."""
    admin, user = [await _log_in(client, name) for name in ("admin", "user1")]
    given = {"userId": "user1", "credits": CREDITS}
    assert (await client.post("/credits/allocate", json=given, headers=admin)).status_code == 201
    return Child(client, user)


async def _log_in(client: httpx.AsyncClient, username: str) -> dict[str, str]:
    answer = await client.post("/auth/login", json={"username": username, "password": f"{username}-demo"})
    return {"Authorization": f"Bearer {answer.json()['accessToken']}"}


AT_ONCE = 8
# On a busy machine a turn and the look at it take seconds.
TTL_S = 5
# Nothing personal, so it is kept as it was said, and easy to find.
KEPT_MESSAGE = "My toy zebra is called Quixolotl"
MARK = "Quixolotl"
# What a client may call its session: the contract of /chat lets in no other characters.
CLIENT_NAMES = ("Mia-Smithson", "mia_smithson_0151-23456789", "Lincoln-Elementary-3b", "12-Oak-Street-Springfield")
# The APIs; a history in two roles, a summary, metadata, a title, a first message; and names that clients choose.
CHANNEL_COUNT = len(CHAT_APIS) + 7
_MASK = re.compile(r"\[[a-z -]+\]")
# Times, and ids of random hexadecimal digits. Among those of one run, a given number of five digits such as a postcode
# is found by chance in one run out of five.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+\d\d:\d\d)?")
# Sixteen digits without a letter may be a payment card.
_ID = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=[a-z]_)[0-9a-f]{8,}|(?<=cookie:)[0-9a-f]{16,}"
    r"|(?=\d*[a-f])[0-9a-f]{16,}"
)


@dataclass(frozen=True, slots=True)
class StoredTexts:
    """Every place where a message could be kept."""

    folder: Path
    model: ScriptedModel

    def read_texts(self) -> dict[str, str]:
        return {
            "store's files": _read_files(self.folder.glob("zoo.sqlite3*")),
            "logs": _read_files(self.folder.glob("*.log")),
            "prompts that the model got": "\n".join(
                json.dumps(one.body, ensure_ascii=False) for one in self.model.requests
            ),
            "audit trail": "\n".join(self.read_rows("audit")),
        }

    def read_rows(self, *tables: str) -> Iterator[str]:
        """Every row, of every table when none is named, as text."""
        with closing(sqlite3.connect(self.folder / "zoo.sqlite3")) as db:
            every = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
            for table in tables or [name for (name,) in db.execute(every).fetchall()]:
                yield from (str(row) for row in db.execute(f"SELECT * FROM {table}"))  # noqa: S608 - our own names


async def tell_personal_data(folder: Path, share: int = 1) -> list[Figure]:
    """One server: personal data through every API, calls for help, introductions, and deleted sessions."""
    async with (
        ScriptedModel(OpenAIDialect()) as model,
        run_server_with(model.url, folder, LOG_LEVEL="DEBUG") as client,
    ):
        child, places = await log_in_child(client), StoredTexts(folder, model)
        await child.ask(CONVO, QUESTION)
        return [
            # First: it looks for its sessions on the first page of their list.
            *await _delete_sessions(child, places),
            *await _read_introductions(child),
            *await _call_for_help(child, model, share),
            *await _tell_everywhere(child, places, share),
        ]


async def read_expired_sessions(folder: Path) -> list[Figure]:
    """Expired sessions that are still stored: the retention job has run once, and runs again in an hour."""
    async with (
        ScriptedModel(OpenAIDialect()) as model,
        run_server_with(model.url, folder, SESSION_TTL=TTL_S) as client,
    ):
        child, places = await log_in_child(client), StoredTexts(folder, model)
        kept = await asyncio.gather(*(_keep_turn(child, api) for api in CHAT_APIS))
        await poll_until(lambda: _is_gone(child, kept), TTL_S + 5)
        asked_before = len(model.requests)
        still_there = sum(MARK in row for row in places.read_rows())
        answers = [found for turn in kept for found in await _read_kept(child, turn)]
        for api in (PLATFORM, CHAT, DEVICES):
            await child.ask(api, QUESTION, name="kiosk-7")
        prompts = [json.dumps(one.body) for one in model.requests[asked_before:]]
    return [
        expect_none("K", "ways to read an expired session, before any clean-up", sum(answers), len(answers)),
        expect_none(
            "K", "prompts with what an expired session said", sum(MARK in one for one in prompts), len(prompts)
        ),
        Figure("K", "rows with expired words in the store meanwhile", str(still_there), "5 or more", still_there >= 5),
    ]


async def _tell_everywhere(child: Child, places: StoredTexts, share: int) -> list[Figure]:
    """Every kind of personal data through every channel: none of it may be found anywhere afterwards."""
    before = remove_generated("\n".join(places.read_texts().values()))
    told = PERSONAL_TEXTS[::share]
    secrets = [secret for text, masked in told for secret in find_secrets(text, masked) if secret not in before]
    secrets += CLIENT_NAMES
    await _ask_all([way for text, _ in told for way in _list_channels(child, text)])
    await _ask_all([child.ask(CHAT, QUESTION, name=name) for name in CLIENT_NAMES])
    return [
        expect_none(
            "K",
            f"personal data, told in {CHANNEL_COUNT} ways, in the {place}",
            _count_found(secrets, remove_generated(text)),
            len(secrets),
        )
        for place, text in places.read_texts().items()
    ]


def _list_channels(child: Child, text: str) -> Iterator[Awaitable[object]]:
    """Every field that can hold free text."""
    yield from (child.ask(api, text) for api in CHAT_APIS)
    for role in ("user", "assistant"):
        yield child.ask(PLATFORM, QUESTION, conversation_history=[{"role": role, "content": text}])
    yield child.ask(CONVO, QUESTION, contextSummary=text)
    yield child.ask(CONVO, QUESTION, metadata={"note": text, "more": [text]})
    yield child.create_session(title=text)
    yield child.create_session(initialMessage=text)


async def _call_for_help(child: Child, model: ScriptedModel, share: int) -> list[Figure]:
    calls = [text for texts in NEED.values() for text in texts][::share]
    asked_before = len(model.requests)
    replies = await _ask_all([child.ask(api, text) for text in calls for api in CHAT_APIS])
    missed = sum("grown-up" not in reply.text for reply in replies)
    return [
        expect_none("K", "calls for help without the fixed words, at all APIs", missed, len(replies)),
        expect_none("K", "calls for help that reached the model", len(model.requests) - asked_before, len(replies)),
    ]


async def _read_introductions(child: Child) -> list[Figure]:
    """Of the APIs that have a field for it: elsewhere the first event is the first text."""
    ages = list(AgeGroup)
    replies = [(age, await child.ask(CONVO, QUESTION, ageGroup=age)) for age in ages]
    replies += [(AgeGroup.ELEMENTARY, await child.ask(PLATFORM, QUESTION)) for _ in ages]
    first = [(age, json.dumps(reply.events[0].data)) for age, reply in replies]
    silent = sum("computer program" not in data or f'"{age}"' not in data for age, data in first)
    return [expect_none("K", "first events that do not say: a computer speaks, and for which age", silent, len(first))]


@dataclass(frozen=True, slots=True)
class KeptTurn:
    """A turn at one API, and its session."""

    api: ChatApi
    turn_id: str
    session_id: str


async def _keep_turn(child: Child, api: ChatApi) -> KeptTurn:
    reply = await child.ask(api, KEPT_MESSAGE, name="kiosk-7")
    answer = await child.client.get("/conversations/sessions", headers=child.get_headers(api))
    for session in answer.json()["sessions"]:
        session_id = session["sessionId"]
        history = await child.client.get(f"/convo_history?sessionId={session_id}", headers=child.get_headers(api))
        if reply.turn_id in history.text:
            return KeptTurn(api, reply.turn_id, session_id)
    raise AssertionError(f"no session of {api.path} holds its turn")


async def _delete_sessions(child: Child, places: StoredTexts) -> list[Figure]:
    kept = [await _keep_turn(child, api) for api in CHAT_APIS]
    was_kept = sum(MARK in row for row in places.read_rows())
    for turn in kept:
        path = f"/convo_history?sessionId={turn.session_id}"
        assert (await child.client.delete(path, headers=child.get_headers(turn.api))).status_code == 204
    answers = [found for turn in kept for found in await _read_kept(child, turn)]
    marks = [MARK, *(turn.session_id for turn in kept), *(turn.turn_id for turn in kept)]
    rows, logs = "\n".join(places.read_rows()), places.read_texts()["logs"]
    assert was_kept >= len(kept), "there was something to delete"
    return [
        expect_none("K", "ways to read a deleted session, its replay log included", sum(answers), len(answers)),
        expect_none(
            "K", "traces of deleted sessions in any table", _count_found(_drop_charged(marks, kept), rows), len(marks)
        ),
        expect_none("K", "traces of deleted sessions in the logs", _count_found(marks, logs), len(marks)),
    ]


def _drop_charged(marks: Sequence[str], kept: Sequence[KeptTurn]) -> list[str]:
    """Without the turns that cost credits: the ledger keeps their ids."""
    return [mark for mark in marks if mark not in {turn.turn_id for turn in kept if turn.api is SESSIONS}]


async def _read_kept(child: Child, turn: KeptTurn) -> list[bool]:
    """For every way to read the turn or its session, whether it returned something of them."""
    turn_id, session = turn.turn_id, turn.session_id
    paths = [
        f"/convo_turn/{turn_id}",
        f"/convo_turn/{turn_id}/stream",
        f"/jobs/{turn_id.replace('turn_', 'job_')}",
        f"/convo_history?sessionId={session}",
        f"/conversations/sessions/{session}",
        f"/chat/sessions/{session}",
        "/conversations/sessions",
        "/privacy/export",
        "/jobs",
    ]
    headers = {**child.get_headers(turn.api), "X-Device-ID": "kiosk-7"}
    answers = await asyncio.gather(*(child.client.get(path, headers=headers) for path in paths))
    listed = [MARK in answer.text or session in answer.text for answer in answers[6:]]
    return [answer.is_success for answer in answers[:6]] + listed


async def _is_gone(child: Child, kept: Sequence[KeptTurn]) -> bool:
    for turn in kept:
        answer = await child.client.get(f"/convo_turn/{turn.turn_id}", headers=child.get_headers(turn.api))
        if answer.is_success:
            return False
    return True


def find_secrets(told: str, masked: str) -> Sequence[str]:
    """What the placeholders stand for.

    >>> find_secrets("I am Mia Smith of 12 Oak Street", "I am Mia [surname] of [address]")
    ('Smith', '12 Oak Street')
    """
    found = re.fullmatch("(.+?)".join(map(re.escape, _MASK.split(masked))), told, re.DOTALL)
    return found.groups() if found else (told,)


def remove_generated(text: str) -> str:
    """The text without the times and ids that the server makes up: what is left came from somewhere else.

    >>> remove_generated("timestamp=2026-11-29T11:49:05.902101Z turn=turn_55e90210 operation=chat note=90210")
    'timestamp= turn=turn_ operation=chat note=90210'
    """
    return _ID.sub("", _TIME.sub("", text))


def _count_found(secrets: Iterable[str], text: str) -> int:
    return sum(secret in text for secret in secrets)


def _read_files(files: Iterable[Path]) -> str:
    return "\n".join(file.read_bytes().decode(errors="replace") for file in sorted(files))


async def _ask_all(asks: Sequence[Awaitable[object]]) -> list[ApiReply]:
    """At most so many at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def ask_in_turn(ask: Awaitable[object]) -> object:
        async with places:
            return await ask

    answers = await asyncio.gather(*map(ask_in_turn, asks))
    return [answer for answer in answers if isinstance(answer, ApiReply)]
