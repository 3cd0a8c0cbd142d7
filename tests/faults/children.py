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
from tests.faults.dialects import OpenAIDialect
from tests.faults.figures import Figure, none_of
from tests.faults.front_doors import CONVO, DEVICES, DOORS, PLATFORM, SESSIONS, TOKENS, Child, Door, Reply, a_child
from tests.faults.minds import QUESTION, server_of
from tests.faults.polling import until
from tests.faults.upstream import Upstream
from tests.moderation.test_in_need import NEED
from tests.moderation.test_personal import TOLD

AT_ONCE = 8
TTL_S = 1
# Nothing personal, so it is kept as it was said, and easy to find.
KEPT = "My toy zebra is called Quixolotl"
MARK = "Quixolotl"
# What a client may call its session: the contract of /chat lets in no other characters.
CHOSEN = ("Mia-Smithson", "mia_smithson_0151-23456789", "Lincoln-Elementary-3b", "12-Oak-Street-Springfield")
# The doors; a history in two roles, a summary, metadata, a title, a first message; and names that clients choose.
WAYS = len(DOORS) + 7
_MASK = re.compile(r"\[[a-z -]+\]")


@dataclass(frozen=True, slots=True)
class Places:
    """Everywhere that something a visitor said could be."""

    folder: Path
    upstream: Upstream

    def texts(self) -> dict[str, str]:
        return {
            "store's files": _read(self.folder.glob("zoo.sqlite3*")),
            "logs": _read(self.folder.glob("*.log")),
            "prompts that the mind got": "\n".join(
                json.dumps(one.body, ensure_ascii=False) for one in self.upstream.asked
            ),
            "audit trail": "\n".join(self.rows("audit")),
        }

    def rows(self, *tables: str) -> Iterator[str]:
        """Every row, of every table when none is named, as text."""
        with closing(sqlite3.connect(self.folder / "zoo.sqlite3")) as db:
            every = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
            for table in tables or [name for (name,) in db.execute(every).fetchall()]:
                yield from (str(row) for row in db.execute(f"SELECT * FROM {table}"))  # noqa: S608 - our own names


async def children(folder: Path, share: int = 1) -> list[Figure]:
    """One server: personal data through every door, calls for help, first events, and talks that are deleted."""
    async with Upstream(OpenAIDialect()) as upstream, server_of(upstream.url, folder, LOG_LEVEL="DEBUG") as client:
        child, places = await a_child(client), Places(folder, upstream)
        await child.ask(CONVO, QUESTION)
        return [
            # First: it looks for its sessions on the first page of their list.
            *await _deleted(child, places),
            *await _introductions(child),
            *await _in_need(child, upstream, share),
            *await _volunteered(child, places, share),
        ]


async def expired(folder: Path) -> list[Figure]:
    """Sessions that are over, while all of it still lies in the store: the first sweep is over, the next in an hour."""
    async with (
        Upstream(OpenAIDialect()) as upstream,
        server_of(upstream.url, folder, SESSION_TTL=TTL_S) as client,
    ):
        child, places = await a_child(client), Places(folder, upstream)
        talks = await asyncio.gather(*(_talk(child, door) for door in DOORS))
        await until(lambda: _is_gone(child, talks), TTL_S + 5)
        asked_before = len(upstream.asked)
        still_there = sum(MARK in row for row in places.rows())
        answers = [found for talk in talks for found in await _reads(child, talk)]
        for door in (PLATFORM, TOKENS, DEVICES):
            await child.ask(door, QUESTION, name="kiosk-7")
        prompts = [json.dumps(one.body) for one in upstream.asked[asked_before:]]
    return [
        none_of("K", "ways to read an expired session, before any clean-up", sum(answers), len(answers)),
        none_of("K", "prompts with what an expired session said", sum(MARK in one for one in prompts), len(prompts)),
        Figure("K", "rows with expired words in the store meanwhile", str(still_there), "5 or more", still_there >= 5),
    ]


async def _volunteered(child: Child, places: Places, share: int) -> list[Figure]:
    """Every format by every way; nothing of it may be anywhere, except what stood there before."""
    before = "\n".join(places.texts().values())
    told = TOLD[::share]
    secrets = [secret for text, masked in told for secret in _secrets(text, masked) if secret not in before]
    secrets += CHOSEN
    await _all([way for text, _ in told for way in _ways(child, text)])
    await _all([child.ask(TOKENS, QUESTION, name=name) for name in CHOSEN])
    return [
        none_of("K", f"personal data, told in {WAYS} ways, in the {place}", _count(secrets, text), len(secrets))
        for place, text in places.texts().items()
    ]


def _ways(child: Child, text: str) -> Iterator[Awaitable[object]]:
    """All that a client can put words into."""
    yield from (child.ask(door, text) for door in DOORS)
    for role in ("user", "assistant"):
        yield child.ask(PLATFORM, QUESTION, conversation_history=[{"role": role, "content": text}])
    yield child.ask(CONVO, QUESTION, contextSummary=text)
    yield child.ask(CONVO, QUESTION, metadata={"note": text, "more": [text]})
    yield child.begin(title=text)
    yield child.begin(initialMessage=text)


async def _in_need(child: Child, upstream: Upstream, share: int) -> list[Figure]:
    calls = [text for texts in NEED.values() for text in texts][::share]
    asked_before = len(upstream.asked)
    replies = await _all([child.ask(door, text) for text in calls for door in DOORS])
    missed = sum("grown-up" not in reply.text for reply in replies)
    return [
        none_of("K", "calls for help without the fixed words, at all doors", missed, len(replies)),
        none_of("K", "calls for help that reached the mind", len(upstream.asked) - asked_before, len(replies)),
    ]


async def _introductions(child: Child) -> list[Figure]:
    """Of the contracts that have a place for it: the others' first events are the first words."""
    ages = list(AgeGroup)
    replies = [(age, await child.ask(CONVO, QUESTION, ageGroup=age)) for age in ages]
    replies += [(AgeGroup.ELEMENTARY, await child.ask(PLATFORM, QUESTION)) for _ in ages]
    first = [(age, json.dumps(reply.events[0].data)) for age, reply in replies]
    silent = sum("computer program" not in data or f'"{age}"' not in data for age, data in first)
    return [none_of("K", "first events that do not say: a computer speaks, and for which age", silent, len(first))]


@dataclass(frozen=True, slots=True)
class Talk:
    """Something said at a door, and the session that it was said in."""

    door: Door
    turn_id: str
    session_id: str


async def _talk(child: Child, door: Door) -> Talk:
    reply = await child.ask(door, KEPT, name="kiosk-7")
    answer = await child.client.get("/conversations/sessions", headers=child.headers_of(door))
    for session in answer.json()["sessions"]:
        session_id = session["sessionId"]
        history = await child.client.get(f"/convo_history?sessionId={session_id}", headers=child.headers_of(door))
        if reply.turn_id in history.text:
            return Talk(door, reply.turn_id, session_id)
    raise AssertionError(f"no session of {door.path} holds its turn")


async def _deleted(child: Child, places: Places) -> list[Figure]:
    talks = [await _talk(child, door) for door in DOORS]
    was_kept = sum(MARK in row for row in places.rows())
    for talk in talks:
        path = f"/convo_history?sessionId={talk.session_id}"
        assert (await child.client.delete(path, headers=child.headers_of(talk.door))).status_code == 204
    answers = [found for talk in talks for found in await _reads(child, talk)]
    marks = [MARK, *(talk.session_id for talk in talks), *(talk.turn_id for talk in talks)]
    rows, logs = "\n".join(places.rows()), places.texts()["logs"]
    assert was_kept >= len(talks), "there was something to delete"
    return [
        none_of("K", "ways to read a deleted session, its replay log included", sum(answers), len(answers)),
        none_of("K", "traces of deleted sessions in any table", _count(_uncharged(marks, talks), rows), len(marks)),
        none_of("K", "traces of deleted sessions in the logs", _count(marks, logs), len(marks)),
    ]


def _uncharged(marks: Sequence[str], talks: Sequence[Talk]) -> list[str]:
    """What a turn cost stays in the ledger, with its id: money has books of its own."""
    return [mark for mark in marks if mark not in {talk.turn_id for talk in talks if talk.door is SESSIONS}]


async def _reads(child: Child, talk: Talk) -> list[bool]:
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
    headers = {**child.headers_of(talk.door), "X-Device-ID": "kiosk-7"}
    answers = await asyncio.gather(*(child.client.get(path, headers=headers) for path in paths))
    listed = [MARK in answer.text or session in answer.text for answer in answers[6:]]
    return [answer.is_success for answer in answers[:6]] + listed


async def _is_gone(child: Child, talks: Sequence[Talk]) -> bool:
    for talk in talks:
        answer = await child.client.get(f"/convo_turn/{talk.turn_id}", headers=child.headers_of(talk.door))
        if answer.is_success:
            return False
    return True


def _secrets(told: str, masked: str) -> Sequence[str]:
    """What the placeholders stand for.

    >>> _secrets("I am Mia Smith of 12 Oak Street", "I am Mia [surname] of [address]")
    ('Smith', '12 Oak Street')
    """
    found = re.fullmatch("(.+?)".join(map(re.escape, _MASK.split(masked))), told, re.DOTALL)
    return found.groups() if found else (told,)


def _count(secrets: Iterable[str], text: str) -> int:
    return sum(secret in text for secret in secrets)


def _read(files: Iterable[Path]) -> str:
    return "\n".join(file.read_bytes().decode(errors="replace") for file in sorted(files))


async def _all(asks: Sequence[Awaitable[object]]) -> list[Reply]:
    """At most so many at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def ask_in_turn(ask: Awaitable[object]) -> object:
        async with places:
            return await ask

    answers = await asyncio.gather(*map(ask_in_turn, asks))
    return [answer for answer in answers if isinstance(answer, Reply)]
