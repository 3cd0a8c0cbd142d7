"""K: what children tell of themselves, what they need help with, and what is left of it when it is over."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from openapi_server.models.turn import AgeGroup
from tests.faults.figures import Figure, expect_none
from tests.faults.front_doors import (
    CHAT,
    CHAT_APIS,
    CONVO,
    DEVICES,
    PLATFORM,
    SESSIONS,
    ApiReply,
    ChatApi,
    Child,
    log_in_child,
)
from tests.faults.minds import QUESTION, run_server_with
from tests.moderation.test_children_in_need import NEED
from tests.moderation.test_pii import TOLD
from tests.support.model_dialects import OpenAIDialect
from tests.support.polling import poll_until
from tests.support.scripted_model import ScriptedModel

AT_ONCE = 8
TTL_S = 1
# Nothing personal, so it is kept as it was said, and easy to find.
KEPT_MESSAGE = "My toy zebra is called Quixolotl"
MARK = "Quixolotl"
# What a client may call its session: the contract of /chat lets in no other characters.
CLIENT_NAMES = ("Mia-Smithson", "mia_smithson_0151-23456789", "Lincoln-Elementary-3b", "12-Oak-Street-Springfield")
# The doors; a history in two roles, a summary, metadata, a title, a first message; and names that clients choose.
CHANNEL_COUNT = len(CHAT_APIS) + 7
_MASK = re.compile(r"\[[a-z -]+\]")


@dataclass(frozen=True, slots=True)
class StoredTexts:
    """Everywhere that something a visitor said could be."""

    folder: Path
    upstream: ScriptedModel

    def read_texts(self) -> dict[str, str]:
        return {
            "store's files": _read_files(self.folder.glob("zoo.sqlite3*")),
            "logs": _read_files(self.folder.glob("*.log")),
            "prompts that the mind got": "\n".join(
                json.dumps(one.body, ensure_ascii=False) for one in self.upstream.requests
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
    """One server: personal data through every door, calls for help, first events, and talks that are deleted."""
    async with (
        ScriptedModel(OpenAIDialect()) as upstream,
        run_server_with(upstream.url, folder, LOG_LEVEL="DEBUG") as client,
    ):
        child, places = await log_in_child(client), StoredTexts(folder, upstream)
        await child.ask(CONVO, QUESTION)
        return [
            # First: it looks for its sessions on the first page of their list.
            *await _delete_sessions(child, places),
            *await _read_introductions(child),
            *await _call_for_help(child, upstream, share),
            *await _tell_everywhere(child, places, share),
        ]


async def read_expired_sessions(folder: Path) -> list[Figure]:
    """Expired sessions that are still stored: the retention job has run once, and runs again in an hour."""
    async with (
        ScriptedModel(OpenAIDialect()) as upstream,
        run_server_with(upstream.url, folder, SESSION_TTL=TTL_S) as client,
    ):
        child, places = await log_in_child(client), StoredTexts(folder, upstream)
        talks = await asyncio.gather(*(_keep_turn(child, door) for door in CHAT_APIS))
        await poll_until(lambda: _is_gone(child, talks), TTL_S + 5)
        asked_before = len(upstream.requests)
        still_there = sum(MARK in row for row in places.read_rows())
        answers = [found for talk in talks for found in await _read_kept(child, talk)]
        for door in (PLATFORM, CHAT, DEVICES):
            await child.ask(door, QUESTION, name="kiosk-7")
        prompts = [json.dumps(one.body) for one in upstream.requests[asked_before:]]
    return [
        expect_none("K", "ways to read an expired session, before any clean-up", sum(answers), len(answers)),
        expect_none(
            "K", "prompts with what an expired session said", sum(MARK in one for one in prompts), len(prompts)
        ),
        Figure("K", "rows with expired words in the store meanwhile", str(still_there), "5 or more", still_there >= 5),
    ]


async def _tell_everywhere(child: Child, places: StoredTexts, share: int) -> list[Figure]:
    """Every format by every way; nothing of it may be anywhere, except what stood there before."""
    before = "\n".join(places.read_texts().values())
    told = TOLD[::share]
    secrets = [secret for text, masked in told for secret in _find_secrets(text, masked) if secret not in before]
    secrets += CLIENT_NAMES
    await _ask_all([way for text, _ in told for way in _list_channels(child, text)])
    await _ask_all([child.ask(CHAT, QUESTION, name=name) for name in CLIENT_NAMES])
    return [
        expect_none(
            "K",
            f"personal data, told in {CHANNEL_COUNT} ways, in the {place}",
            _count_found(secrets, text),
            len(secrets),
        )
        for place, text in places.read_texts().items()
    ]


def _list_channels(child: Child, text: str) -> Iterator[Awaitable[object]]:
    """All that a client can put words into."""
    yield from (child.ask(door, text) for door in CHAT_APIS)
    for role in ("user", "assistant"):
        yield child.ask(PLATFORM, QUESTION, conversation_history=[{"role": role, "content": text}])
    yield child.ask(CONVO, QUESTION, contextSummary=text)
    yield child.ask(CONVO, QUESTION, metadata={"note": text, "more": [text]})
    yield child.create_session(title=text)
    yield child.create_session(initialMessage=text)


async def _call_for_help(child: Child, upstream: ScriptedModel, share: int) -> list[Figure]:
    calls = [text for texts in NEED.values() for text in texts][::share]
    asked_before = len(upstream.requests)
    replies = await _ask_all([child.ask(door, text) for text in calls for door in CHAT_APIS])
    missed = sum("grown-up" not in reply.text for reply in replies)
    return [
        expect_none("K", "calls for help without the fixed words, at all doors", missed, len(replies)),
        expect_none("K", "calls for help that reached the mind", len(upstream.requests) - asked_before, len(replies)),
    ]


async def _read_introductions(child: Child) -> list[Figure]:
    """Of the contracts that have a place for it: the others' first events are the first words."""
    ages = list(AgeGroup)
    replies = [(age, await child.ask(CONVO, QUESTION, ageGroup=age)) for age in ages]
    replies += [(AgeGroup.ELEMENTARY, await child.ask(PLATFORM, QUESTION)) for _ in ages]
    first = [(age, json.dumps(reply.events[0].data)) for age, reply in replies]
    silent = sum("computer program" not in data or f'"{age}"' not in data for age, data in first)
    return [expect_none("K", "first events that do not say: a computer speaks, and for which age", silent, len(first))]


@dataclass(frozen=True, slots=True)
class KeptTurn:
    """Something said at a door, and the session that it was said in."""

    api: ChatApi
    turn_id: str
    session_id: str


async def _keep_turn(child: Child, door: ChatApi) -> KeptTurn:
    reply = await child.ask(door, KEPT_MESSAGE, name="kiosk-7")
    answer = await child.client.get("/conversations/sessions", headers=child.get_headers(door))
    for session in answer.json()["sessions"]:
        session_id = session["sessionId"]
        history = await child.client.get(f"/convo_history?sessionId={session_id}", headers=child.get_headers(door))
        if reply.turn_id in history.text:
            return KeptTurn(door, reply.turn_id, session_id)
    raise AssertionError(f"no session of {door.path} holds its turn")


async def _delete_sessions(child: Child, places: StoredTexts) -> list[Figure]:
    talks = [await _keep_turn(child, door) for door in CHAT_APIS]
    was_kept = sum(MARK in row for row in places.read_rows())
    for talk in talks:
        path = f"/convo_history?sessionId={talk.session_id}"
        assert (await child.client.delete(path, headers=child.get_headers(talk.api))).status_code == 204
    answers = [found for talk in talks for found in await _read_kept(child, talk)]
    marks = [MARK, *(talk.session_id for talk in talks), *(talk.turn_id for talk in talks)]
    rows, logs = "\n".join(places.read_rows()), places.read_texts()["logs"]
    assert was_kept >= len(talks), "there was something to delete"
    return [
        expect_none("K", "ways to read a deleted session, its replay log included", sum(answers), len(answers)),
        expect_none(
            "K", "traces of deleted sessions in any table", _count_found(_drop_charged(marks, talks), rows), len(marks)
        ),
        expect_none("K", "traces of deleted sessions in the logs", _count_found(marks, logs), len(marks)),
    ]


def _drop_charged(marks: Sequence[str], talks: Sequence[KeptTurn]) -> list[str]:
    """What a turn cost stays in the ledger, with its id: money has books of its own."""
    return [mark for mark in marks if mark not in {talk.turn_id for talk in talks if talk.api is SESSIONS}]


async def _read_kept(child: Child, talk: KeptTurn) -> list[bool]:
    """Every way to read it, and whether it told something."""
    turn, session = talk.turn_id, talk.session_id
    paths = [
        f"/convo_turn/{turn}",
        f"/convo_turn/{turn}/stream",
        f"/jobs/{turn.replace('turn_', 'job_')}",
        f"/convo_history?sessionId={session}",
        f"/conversations/sessions/{session}",
        f"/chat/sessions/{session}",
        "/conversations/sessions",
        "/privacy/export",
        "/jobs",
    ]
    headers = {**child.get_headers(talk.api), "X-Device-ID": "kiosk-7"}
    answers = await asyncio.gather(*(child.client.get(path, headers=headers) for path in paths))
    listed = [MARK in answer.text or session in answer.text for answer in answers[6:]]
    return [answer.is_success for answer in answers[:6]] + listed


async def _is_gone(child: Child, talks: Sequence[KeptTurn]) -> bool:
    for talk in talks:
        answer = await child.client.get(f"/convo_turn/{talk.turn_id}", headers=child.get_headers(talk.api))
        if answer.is_success:
            return False
    return True


def _find_secrets(told: str, masked: str) -> Sequence[str]:
    """What the placeholders stand for.

    >>> _secrets("I am Mia Smith of 12 Oak Street", "I am Mia [surname] of [address]")
    ('Smith', '12 Oak Street')
    """
    found = re.fullmatch("(.+?)".join(map(re.escape, _MASK.split(masked))), told, re.DOTALL)
    return found.groups() if found else (told,)


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
